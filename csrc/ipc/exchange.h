// Purpose: elements of a fixed size in memory that processes share, and named queues that hand them on by reference. An
// element is in one queue or held by one opener, always; its bytes are never copied. The protocol is in
// docs/concurrency.md.
//
// Thread safety: any thread, but for Close, after which nothing but elements() may be called. Locks of queues are held
// for moments; who waits for one gives up after kQueueWaitNs (kBusy), as a process that is stopped in such a moment
// keeps it. One that died there does not: the lock is taken over, and what it was doing finished or undone. Invariants:
// numbers read from the file are checked before they are used as indexes. Ownership: descriptor and mapping.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "ipc/openers.h"
#include "ipc/shared_file.h"
#include "ipc/waiting_thread.h"

namespace faultless::ipc {

constexpr uint64_t kQueueWaitNs = 100'000'000;

struct ExchangeOptions {
  SharedFileOptions file;
  // Needed to create it; kFormat where it is there with others.
  uint32_t elements = 0;       // 0: not given
  uint32_t element_bytes = 0;  // 0: not given
  std::vector<std::string> queues;
  std::optional<std::string> reclaim_to;  // a name of `queues`; by default the first
};

class Exchange final : private Watch, public std::enable_shared_from_this<Exchange> {
 public:
  /** May wait. kNotFound also where it could not be created for want of options; kFormat, kCorrupt, kBusy, kNoSpace. */
  static Status Open(const ExchangeOptions& options, std::shared_ptr<Exchange>* exchange);
  /** May wait. kNotFound; kFormat for what is no exchange, which is left alone. */
  static Status Destroy(const std::string& path);
  ~Exchange() override { Close(); }

  const format::ExchangeGeometry& geometry() const { return geometry_; }
  std::byte* elements() const { return file_.base() + geometry_.elements_offset(); }
  std::string queue_name(uint32_t queue) const { return names_[queue]; }

  /**
   * Puts elements that this opener holds at the end of the queue, in their order, all or none. kOutOfRange: there is no
   * such element; kInvalidArgValue: one is not held here (or comes twice); kBusy, kCorrupt.
   */
  Status Push(uint32_t queue, std::span<const uint32_t> ids);
  /** Takes up to as many from the begin of the queue as `ids` has room for. kBusy, kCorrupt. */
  Status Pull(uint32_t queue, std::span<uint32_t> ids, size_t* pulled);
  /** Elements in the queue, at some moment. */
  uint32_t Length(uint32_t queue) const;

  /**
   * Before a pull, by who will sleep where that finds nothing: answers what `event` is to be expected to be. A push
   * after this moves it.
   */
  uint32_t Announce(uint32_t queue) const;
  const format::HalfWord& event(uint32_t queue) const { return At(queue).event; }

  /**
   * May wait, for each queue's lock kQueueWaitNs. Gives back what dead openers held. *reclaimed: how many that were,
   * and how many it were since the last call that this process gave back by itself.
   */
  Status Reclaim(uint64_t* reclaimed);
  /** May wait likewise. Gives back what this opener holds. The memory stays until this is destroyed. */
  void Close();

 private:
  class Lock;

  Exchange() = default;
  Status Attach(const ExchangeOptions& options);
  Status CheckOptions(const ExchangeOptions& options) const;
  format::ExchangeQueue& At(uint32_t queue) const { return queues_[queue]; }
  format::HalfWord& RingAt(uint32_t queue, uint64_t position) const {
    return rings_[uint64_t{queue} * geometry_.elements + position % geometry_.elements];
  }
  /** Under its lock: finishes or undoes what a dead holder left. kCorrupt. */
  Status Settle(uint32_t queue) const;
  /** Under its lock. kCorrupt where its numbers cannot be. */
  Status Check(uint32_t queue) const;
  Status SetOwners(uint32_t queue, uint64_t from, uint64_t to, uint32_t owner) const;
  /** Under its lock, behind tail and what was appended: the caller moves the tail. */
  void Append(uint32_t queue, uint32_t id, uint64_t position) const;
  void RingBell(uint32_t queue) const;
  /** Moves elements whose owner is among these (ascending) to the reclaim queue. */
  Status GiveBack(const std::vector<uint32_t>& owners, uint64_t* count) const;
  Status ReclaimOnce(uint64_t* count);  // under maintenance_
  std::vector<uint32_t> FindDead() const;
  void OnWake() override;

  SharedFile file_;
  format::ExchangeGeometry geometry_{};
  uint32_t reclaim_queue_ = 0;
  std::vector<std::string> names_;
  format::ExchangeQueue* queues_ = nullptr;
  format::HalfWord* owners_ = nullptr;
  format::HalfWord* rings_ = nullptr;
  Opener opener_;
  std::mutex maintenance_;  // held to give back, and to close
  std::atomic<bool> open_{false};
  std::atomic<bool> reclaiming_{false};
  std::atomic<uint64_t> reclaimed_by_itself_{0};
};

}  // namespace faultless::ipc
