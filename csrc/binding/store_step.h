// Purpose: long work on a store that goes on in steps (store/verify.h, store/backup.h): each job of about 10 ms takes
// some of them, so that no thread is held for long, and a step that is not asked for is not done.
// Thread safety: the handle's members belong to who holds its mutex; ts/ asks for the next job only after the one
// before, but an abort leaves one behind that may still run. Ownership: the handle is shared by JavaScript and the
// jobs.
#pragma once

#include <memory>
#include <mutex>
#include <utility>

#include "binding/convert.h"
#include "binding/job.h"
#include "binding/store_handle.h"
#include "os/os.h"

namespace faultless::binding {

/** What JavaScript holds. Work: store::Verification or its like. */
template <typename Work>
struct Stepping {
  explicit Stepping(std::shared_ptr<StoreHandle> store) : handle(std::move(store)) {}

  const std::shared_ptr<StoreHandle> handle;
  std::mutex mutex;
  std::shared_ptr<Work> work;  // from the first step on
  bool ended = false;          // no step is to begin any more
};

template <typename Work>
class StepJob : public Job {
 public:
  explicit StepJob(std::shared_ptr<Stepping<Work>> stepping)
      : Job(stepping->handle->lane()), stepping_(std::move(stepping)) {}

 protected:
  /** On a pool thread. */
  virtual std::shared_ptr<Work> Begin(store::Store& store) = 0;
  /** On a pool thread, after some steps: what Result and Failure are to tell is copied. The mutex is held. */
  virtual void OnStepped(const Work& /*work*/) {}
  /** What it came to, once it is over; false with a pending exception. */
  virtual bool AddOutcome(napi_env /*env*/, napi_value /*result*/) { return true; }

  Status Execute() override {
    const StoreUse use(stepping_->handle.get());
    if (use.engine() == nullptr) return Code::kClosed;
    const std::lock_guard guard(stepping_->mutex);
    if (stepping_->ended) return Code::kClosed;
    auto& work = stepping_->work;
    if (work == nullptr) work = Begin(*use.engine());
    const uint64_t begin_ns = os::MonotonicNs();
    Status status;
    while (status.ok() && !work->done() && os::MonotonicNs() - begin_ns < kStepNs) {
      status = work->Step();
      if (status.ok()) blocked_since_ns_ = 0;
    }
    work->Progress(&done_, &total_);
    over_ = work->done();
    OnStepped(*work);
    return YieldWhileBlocked(status, &blocked_since_ns_);
  }

  /** {done, total, over}, with the outcome where it is over. */
  napi_value Result(napi_env env) override {
    napi_value result = nullptr;
    if (napi_create_object(env, &result) != napi_ok) return nullptr;
    SetProperty(env, result, "done", NewNumber(env, static_cast<double>(done_)));
    SetProperty(env, result, "total", NewNumber(env, static_cast<double>(total_)));
    SetProperty(env, result, "over", NewBool(env, over_));
    return !over_ || AddOutcome(env, result) ? result : nullptr;
  }

  napi_value Failure(napi_env env, const Status& status) override {
    return StatusToJs(env, status, stepping_->handle->path().c_str());
  }

  const std::shared_ptr<Stepping<Work>> stepping_;

 private:
  static constexpr uint64_t kStepNs = 10'000'000;
  uint64_t blocked_since_ns_ = 0;
  uint64_t done_ = 0;
  uint64_t total_ = 0;
  bool over_ = false;
};

}  // namespace faultless::binding
