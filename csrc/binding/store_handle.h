// Purpose: one open store of one environment, and how everything that touches its engine makes sure that it stays open
// meanwhile.
//
// Thread safety: Enter, Leave and Close may be called from any thread; the lane and the path belong to the
// environment's JavaScript thread.
// Invariants: the engine is called only between a successful Enter() and its Leave(); Close() calls the engine's
// Close() once, after the last Leave(), and no Enter() succeeds once it has begun.
// Ownership: shared by the JavaScript handle and by every job and scan of the store. A handle that is dropped without
// Close() drops the engine like a kill would: harmless, and it never waits.
#pragma once

#include <node_api.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/status.h"
#include "binding/job.h"
#include "store/store.h"

namespace faultless::binding {

/** How long an operation goes on asking for a lock whose holder lives and does not move: then it is kBusy. */
constexpr uint32_t kLockTimeoutMs = 5'000;

class StoreHandle {
 public:
  StoreHandle(std::shared_ptr<store::Store> engine, std::shared_ptr<Lane> lane, std::string path)
      : engine_(std::move(engine)),
        lane_(std::move(lane)),
        path_(std::move(path)),
        tells_residency_(engine_->GetStats().fast_path) {}
  StoreHandle(const StoreHandle&) = delete;
  StoreHandle& operator=(const StoreHandle&) = delete;

  /** False once Close() has begun. */
  bool Enter() {
    if ((users_.fetch_add(1, std::memory_order_acquire) & kClosing) == 0) return true;
    Leave();
    return false;
  }
  void Leave() {
    if (users_.fetch_sub(1, std::memory_order_acq_rel) == (kClosing | 1)) users_.notify_all();
  }
  /** May wait: for whoever has entered, then for the device. Later calls answer ok at once. */
  Status Close();

  /** Whether Close() has begun. */
  bool is_closing() const { return (users_.load(std::memory_order_relaxed) & kClosing) != 0; }

  /** Only between Enter() and Leave(). */
  store::Store* engine() const { return engine_.get(); }
  const std::shared_ptr<Lane>& lane() const { return lane_; }
  const std::string& path() const { return path_; }
  /** Whether reads that must not wait can answer at all. */
  bool tells_residency() const { return tells_residency_; }

 private:
  static constexpr uint32_t kClosing = 0x8000'0000;

  const std::shared_ptr<store::Store> engine_;
  const std::shared_ptr<Lane> lane_;
  const std::string path_;
  const bool tells_residency_;
  std::atomic<uint32_t> users_{0};
};

/** Enter() and Leave() as a scope. */
class StoreUse {
 public:
  explicit StoreUse(StoreHandle* handle) : handle_(handle->Enter() ? handle : nullptr) {}
  ~StoreUse() {
    if (handle_ != nullptr) handle_->Leave();
  }
  StoreUse(const StoreUse&) = delete;
  StoreUse& operator=(const StoreUse&) = delete;

  /** nullptr: the store is closed. */
  store::Store* engine() const { return handle_ == nullptr ? nullptr : handle_->engine(); }

 private:
  StoreHandle* const handle_;
};

/** May wait, in short sleeps: repeats `attempt` while it answers kWouldBlock, for kLockTimeoutMs; then kBusy. */
Status KeepRepeating(const std::function<Status()>& attempt);
/** The same, beginning at once. */
template <typename Attempt>
Status RepeatWhileBlocked(const Attempt& attempt) {
  const Status status = attempt();
  return status.code() == Code::kWouldBlock ? KeepRepeating(attempt) : status;
}

/**
 * For jobs: passes an answer on; where it is kWouldBlock, after a short pause, so that the job is queued anew without a
 * thread, and as kBusy once that has gone on for kLockTimeoutMs. `blocked_since_ns` begins as 0.
 */
Status YieldWhileBlocked(Status status, uint64_t* blocked_since_ns);

/** The handle behind the first argument of every store… function. False with a pending exception. */
bool ToStoreHandle(napi_env env, napi_value value, std::shared_ptr<StoreHandle>* handle);

}  // namespace faultless::binding
