// Purpose: memory that processes share, as one piece of bytes without a header, and waiting for words in it across
// processes. The shape is that of Atomics.wait and Atomics.notify; the protocol is in docs/concurrency.md.
//
// How a wait works: what waits is written down in a table behind the memory, with a ticket; a notification takes the
// oldest tickets of its word, marks them and rings the doorbell of the openers that they belong to; the waiting thread
// of their process (waiting_thread.h) finds what is marked. So a notification is never lost, counts exactly, and an
// opening needs one doorbell however much waits.
//
// Thread safety: any thread, but for Close, after which nothing but data() may be called. Invariants: nothing here
// waits for another process: all changes of the table are single compare-and-swaps. Waits of the dead count for
// nothing. Ownership: owns descriptor and mapping; sinks of waits are their owners', who cancel them first.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "ipc/openers.h"
#include "ipc/shared_file.h"
#include "ipc/waiting_thread.h"

namespace faultless::ipc {

struct SegmentOptions {
  SharedFileOptions file;
  std::optional<uint64_t> size_bytes;  // to create it; kFormat where it is there with another one
};

enum class WaitOutcome : uint8_t { kOk, kNotEqual, kTimedOut, kPending };

/** A pending wait of this process. */
class SegmentWait {
 public:
  virtual ~SegmentWait() = default;
  /** On the waiting thread, under its mutex, once. */
  virtual void OnOutcome(WaitOutcome outcome) = 0;

 private:
  friend class Segment;
  uint32_t waiter_ = 0;
  uint64_t place_ = 0;
  uint64_t waiting_state_ = 0;
  uint64_t deadline_ns_ = kNever;
};

class Segment final : private Watch {
 public:
  /** May wait (for memory to be reserved). kNotFound also where it could not be created for want of a size; kFormat. */
  static Status Open(const SegmentOptions& options, std::shared_ptr<Segment>* segment);
  /** May wait. kNotFound; kFormat for what is no segment, which is left alone. */
  static Status Destroy(const std::string& path);
  /** May take milliseconds for each GiB: unmaps. */
  ~Segment() override { Close(); }

  std::byte* data() const { return file_.base(); }
  uint64_t size_bytes() const { return size_bytes_; }
  bool created() const { return file_.created(); }
  bool read_only() const { return read_only_; }

  /**
   * Never waits. Where the 32 bits at `place` are not `expected`: kNotEqual. Else kPending: `wait` is told later,
   * unless it is cancelled. timeout_ns 0: kTimedOut; kNever: none. kReadOnly; kBusy, kNoSpace: too many waits.
   */
  Status Wait(uint64_t place, uint32_t expected, uint64_t timeout_ns, SegmentWait* wait, WaitOutcome* outcome);
  /** Never waits. False where it has been told an outcome; else it never will be. */
  bool Cancel(SegmentWait* wait);
  /** Never waits. How many waits on the word have been ended, the oldest first. kReadOnly. */
  Status Notify(uint64_t place, uint32_t count, uint32_t* notified);

  /** Others see it as closed from now on; the memory stays until this is destroyed. All waits must be over. */
  void Close();

 private:
  Segment() = default;
  Status Attach(const SegmentOptions& options);
  format::SegmentHeader& header() const { return *header_; }
  uint32_t WaitersEnd() const;
  /** A free waiter, which becomes ours. */
  Status Claim(uint32_t* waiter);
  bool TryClaim(uint32_t waiter);
  /** Sets waiters free whose openers are dead. */
  void SweepDead();
  /** Sets one free whose owner is dead; `state` was read before the owner. False: it is another wait's by now. */
  static bool Free(format::SegmentWaiter* waiter, uint64_t state, uint32_t owner);
  Status ReserveMore(uint32_t reserved);
  void OnWake() override;
  /** Ends a wait that was not notified: kOk if it just has been. */
  WaitOutcome Leave(const SegmentWait& wait, WaitOutcome otherwise);

  SharedFile file_;
  uint64_t size_bytes_ = 0;
  bool read_only_ = false;
  format::SegmentHeader* header_ = nullptr;
  format::SegmentWaiter* waiters_ = nullptr;
  uint64_t waiters_offset_ = 0;
  Opener opener_;
  std::atomic<uint32_t> next_free_{0};  // a hint for Claim
  std::vector<SegmentWait*> waits_;     // guarded by the waiting thread's mutex
};

}  // namespace faultless::ipc
