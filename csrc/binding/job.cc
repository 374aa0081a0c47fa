#include "binding/job.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "binding/convert.h"
#include "os/os.h"

namespace faultless::binding {

namespace {

/** A thread takes at most this many jobs in a row … */
constexpr size_t kMaxJobsPerTurn = 32;
/** … and starts none of them later than this after the first: whatever is slow has a turn of its own. */
constexpr uint64_t kMaxTurnNs = 200'000;

}  // namespace

/** Jobs of one lane that a thread takes in a row, under one permit. */
struct Environment::Turn {
  Turn(Environment* environment, Gate::Device* device) : environment(environment), device(device) {}
  Environment* const environment;
  Gate::Device* const device;
  napi_async_work work = nullptr;
  std::vector<Job*> jobs;
  size_t executed = 0;  // of `jobs`, from the first on
};

// ───────────────────────────────────────────────────────────── Lane

bool Lane::CanStartNext() const {
  if (first_ == nullptr || exclusive_running_) return false;
  return first_->mode_ == Job::Mode::kShared || stats_.running == 0;
}

void Lane::PushBack(Job* job) { InsertBefore(job, nullptr); }

Job* Lane::PlaceAgain(const Job* job) const {
  if (job->mode_ == Job::Mode::kExclusive) return first_;
  if (exclusive_waiting_ == 0) return nullptr;
  Job* next = first_;
  while (next->mode_ != Job::Mode::kExclusive) next = next->next_;
  return next;
}

void Lane::InsertBefore(Job* job, Job* next) {
  Job* previous = next == nullptr ? last_ : next->previous_;
  job->previous_ = previous;
  job->next_ = next;
  (previous == nullptr ? first_ : previous->next_) = job;
  (next == nullptr ? last_ : next->previous_) = job;
  stats_.waiting++;
  if (job->mode_ == Job::Mode::kExclusive) exclusive_waiting_++;
}

void Lane::Unlink(Job* job) {
  (job->previous_ == nullptr ? first_ : job->previous_->next_) = job->next_;
  (job->next_ == nullptr ? last_ : job->next_->previous_) = job->previous_;
  job->previous_ = nullptr;
  job->next_ = nullptr;
  stats_.waiting--;
  if (job->mode_ == Job::Mode::kExclusive) exclusive_waiting_--;
}

// ───────────────────────────────────────────────────────────── Job

napi_value Job::Start(napi_env env, std::unique_ptr<Job> job) {
  napi_value promise = nullptr;
  if (napi_create_promise(env, &job->deferred_, &promise) != napi_ok) return nullptr;
  Environment::Of(env)->Enqueue(std::move(job));
  return promise;
}

void Job::StartDetached(napi_env env, std::unique_ptr<Job> job) { Environment::Of(env)->Enqueue(std::move(job)); }

void Job::Notify() {
  if (!noticed_.exchange(true)) environment_->Notify(this);
}

void Job::OnNotice(napi_env /*env*/) {}

napi_value Job::Result(napi_env env) { return Undefined(env); }

napi_value Job::Failure(napi_env env, const Status& status) { return StatusToJs(env, status, nullptr); }

// ───────────────────────────────────────────────────────────── Environment

Environment::Environment(napi_env env) : env_(env) {}

const std::shared_ptr<Lane>& Environment::OpeningLane(const std::string& path) {
  // Asked on the JavaScript thread, so by the mount table: looking the path up could wait for the device.
  os::Mount mount{Gate::kUnknownDevice, os::FilesystemKind::kDisk};
  if (path.empty() || !os::MountOfPath(path.c_str(), &mount)) mount.device = Gate::kUnknownDevice;
  std::shared_ptr<Lane>& lane = opening_lanes_[mount.device];
  if (!lane) lane = std::make_shared<Lane>(mount.device, mount.filesystem != os::FilesystemKind::kRam);
  return lane;
}

bool Environment::Create(napi_env env) {
  auto* environment = new Environment(env);
  napi_value name = nullptr;
  bool ok = napi_create_string_utf8(env, "faultless.wake", NAPI_AUTO_LENGTH, &name) == napi_ok &&
            napi_create_threadsafe_function(env, nullptr, nullptr, name, 0, 1, nullptr, nullptr, environment, OnWake,
                                            &environment->wake_) == napi_ok &&
            napi_unref_threadsafe_function(env, environment->wake_) == napi_ok;
  // After the thread-safe function, so that it runs before that one's own clean-up: nobody wakes it any more then.
  ok = ok && napi_add_env_cleanup_hook(env, OnCleanup, environment) == napi_ok;
  if (!ok) {
    // The thread-safe function may point here: leaked rather than freed under it.
    napi_throw_error(env, nullptr, "faultless: the environment's state could not be made");
    return false;
  }
  Gate::OfProcess().Add(environment);
  if (napi_set_instance_data(env, environment, OnFinalize, nullptr) != napi_ok) {
    napi_throw_error(env, nullptr, "faultless: the environment's state could not be kept");
    return false;
  }
  return true;
}

Environment* Environment::Of(napi_env env) {
  void* data = nullptr;
  if (napi_get_instance_data(env, &data) != napi_ok) return nullptr;
  return static_cast<Environment*>(data);
}

void Environment::Wake() {
  if (wake_pending_.exchange(true)) return;
  // Any failure means that the function is closing with its environment: nobody there waits any more.
  (void)napi_call_threadsafe_function(wake_, nullptr, napi_tsfn_nonblocking);
}

void Environment::OnWake(napi_env env, napi_value /*callback*/, void* context, void* /*data*/) {
  if (env == nullptr) return;
  auto* environment = static_cast<Environment*>(context);
  environment->wake_pending_.store(false);
  environment->TellNotices();
  environment->Pump();
}

void Environment::Notify(Job* job) {
  const std::lock_guard<std::mutex> guard(notices_mutex_);
  if (!takes_notices_) return;
  notices_.push_back(job);
  Wake();
}

void Environment::TellNotices() {
  for (;;) {
    Job* job;
    {
      const std::lock_guard<std::mutex> guard(notices_mutex_);
      if (notices_.empty()) return;
      job = notices_.back();
      notices_.pop_back();
    }
    // One that waits for its next turn could be cancelled by the JavaScript that hears of it: that is told at its end.
    if (ending_ || waiting_jobs_.contains(job->id_)) continue;
    job->noticed_.store(false);
    job->OnNotice(env_);
  }
}

void Environment::ForgetNotice(const Job* job) {
  if (!job->noticed_.load()) return;
  const std::lock_guard<std::mutex> guard(notices_mutex_);
  std::erase(notices_, job);
}

void Environment::CountWaiting(int change) {
  const size_t before = waiting_jobs_.size() - static_cast<size_t>(change);
  if (before == 0 && change > 0) (void)napi_ref_threadsafe_function(env_, wake_);
  if (before > 0 && waiting_jobs_.empty()) (void)napi_unref_threadsafe_function(env_, wake_);
}

void Environment::Enqueue(std::unique_ptr<Job> owned) {
  if (ending_) return;
  Job* job = owned.release();
  const std::shared_ptr<Lane> keep = job->lane_;  // a job that ends at once may be the last to hold it
  Lane* lane = keep.get();
  job->environment_ = this;
  job->id_ = ++last_job_id_;
  job->queued_ns_ = os::MonotonicNs();
  lane->PushBack(job);
  // Where others wait before it, nothing has changed for the first of them: it is started when something does.
  if (lane->first_ == job && TryStartNext(lane) == Gate::Answer::kGranted) return;
  if (lane->first_ == job) lanes_.push_back(lane);
  waiting_jobs_.emplace(job->id_, job);
  CountWaiting(+1);
}

Gate::Answer Environment::TryStartNext(Lane* lane) {
  // kDeviceBusy: what holds this lane up is its own, and ends with a job of its own, which pumps.
  if (!lane->CanStartNext()) return Gate::Answer::kDeviceBusy;
  Gate& gate = Gate::OfProcess();
  const Gate::Answer answer = gate.TryAcquire(lane->device_, this);
  if (answer != Gate::Answer::kGranted) return answer;

  auto turn = std::make_unique<Turn>(this, lane->device_);
  // A fair share of what waits, so that further threads find something to do.
  const size_t share = std::clamp<size_t>(lane->stats_.waiting / gate.limit(), 1, kMaxJobsPerTurn);
  do {
    Job* job = lane->first_;
    lane->Unlink(job);
    lane->stats_.running++;
    lane->stats_.requests++;
    lane->stats_.operations += job->operations_;
    if (job->mode_ == Job::Mode::kExclusive) lane->exclusive_running_ = true;
    if (waiting_jobs_.erase(job->id_) > 0) CountWaiting(-1);
    turn->jobs.push_back(job);
  } while (turn->jobs.size() < share && lane->CanStartNext());

  napi_value name = nullptr;
  if (napi_create_string_utf8(env_, "faultless.job", NAPI_AUTO_LENGTH, &name) == napi_ok &&
      napi_create_async_work(env_, nullptr, name, OnExecute, OnComplete, turn.get(), &turn->work) == napi_ok &&
      napi_queue_async_work(env_, turn->work) == napi_ok) {
    (void)turn.release();  // to OnComplete
    return answer;
  }
  // Only an environment that is going away refuses work.
  gate.Release(lane->device_, this);
  if (turn->work != nullptr) (void)napi_delete_async_work(env_, turn->work);
  for (Job* job : turn->jobs) {
    job->status_ = Status(Code::kClosed, "the environment is going away");
    Finish(job);
  }
  return answer;
}

void Environment::Pump() {
  size_t refused = 0;
  while (!ending_ && refused < lanes_.size()) {
    Lane* lane = lanes_.front();
    // The job about to start may hold the last reference to the lane, and may even end at once.
    const std::shared_ptr<Lane> keep = lane->first_->lane_;
    const Gate::Answer answer = TryStartNext(lane);
    if (answer == Gate::Answer::kAllBusy) return;
    if (ending_) return;
    lanes_.pop_front();
    if (lane->first_ != nullptr) lanes_.push_back(lane);
    refused = answer == Gate::Answer::kGranted ? 0 : refused + 1;
  }
}

void Environment::OnExecute(napi_env /*env*/, void* data) {
  auto* turn = static_cast<Turn*>(data);
  const uint64_t turn_start_ns = os::MonotonicNs();
  uint64_t now_ns = turn_start_ns;
  for (Job* job : turn->jobs) {
    // The others are given back: none waits behind one that waits for a device.
    if (now_ns - turn_start_ns > kMaxTurnNs) break;
    const uint64_t start_ns = now_ns;
    job->status_ = job->Execute();
    turn->executed++;
    now_ns = os::MonotonicNs();
    job->waited_ns_ = start_ns - job->queued_ns_;
    job->worked_ns_ = now_ns - start_ns;
  }
  // Here and not when the loop hears of it: a loop that is busy must not hold a permit that others wait for.
  Gate::OfProcess().Release(turn->device, turn->environment);
}

void Environment::OnComplete(napi_env env, napi_status status, void* data) {
  const std::unique_ptr<Turn> turn(static_cast<Turn*>(data));
  Environment* environment = turn->environment;
  // Nobody cancels works of ours; if somebody did, nothing was executed and the permit is still held.
  if (status == napi_cancelled) Gate::OfProcess().Release(turn->device, environment);
  (void)napi_delete_async_work(env, turn->work);
  // Backwards, because each goes before those that wait.
  for (size_t i = turn->jobs.size(); i > turn->executed; --i) environment->GiveBack(turn->jobs[i - 1]);
  for (size_t i = 0; i < turn->executed; ++i) environment->Finish(turn->jobs[i]);
  environment->Pump();
}

void Environment::LeaveThread(Job* job) {
  Lane* lane = job->lane_.get();
  lane->stats_.running--;
  if (job->mode_ == Job::Mode::kExclusive) lane->exclusive_running_ = false;
}

void Environment::GiveBack(Job* job) {
  LeaveThread(job);
  if (ending_) {
    delete job;
    return;
  }
  EnqueueAgain(job, job->lane_->first_);
}

void Environment::EnqueueAgain(Job* job, Job* next) {
  Lane* lane = job->lane_.get();
  // One request, however many turns it takes.
  lane->stats_.requests--;
  lane->stats_.operations -= job->operations_;
  if (lane->first_ == nullptr) lanes_.push_back(lane);
  lane->InsertBefore(job, next);
  waiting_jobs_.emplace(job->id_, job);
  CountWaiting(+1);
}

void Environment::Finish(Job* job) {
  LeaveThread(job);
  LaneStats& stats = job->lane_->stats_;
  stats.waited_ns += job->waited_ns_;
  stats.worked_ns += job->worked_ns_;
  if (ending_) {
    delete job;
    return;
  }
  if (job->status_.code() == Code::kWouldBlock) {
    job->queued_ns_ = os::MonotonicNs();
    EnqueueAgain(job, job->lane_->PlaceAgain(job));
    return;
  }
  ForgetNotice(job);
  if (job->noticed_.load()) job->OnNotice(env_);
  Settle(job);
  delete job;
}

void Environment::Settle(Job* job) {
  if (job->deferred_ == nullptr) return;
  napi_status settled;
  napi_value value = nullptr;
  if (job->status_.ok()) {
    value = job->Result(env_);
    bool pending = false;
    if (napi_is_exception_pending(env_, &pending) == napi_ok && pending) {
      (void)napi_get_and_clear_last_exception(env_, &value);
      settled = value == nullptr ? napi_generic_failure : napi_reject_deferred(env_, job->deferred_, value);
    } else {
      settled = napi_resolve_deferred(env_, job->deferred_, value == nullptr ? Undefined(env_) : value);
    }
  } else {
    value = job->Failure(env_, job->status_);
    settled = napi_reject_deferred(env_, job->deferred_, value == nullptr ? Undefined(env_) : value);
  }
  // JavaScript cannot be called any more: this environment is being terminated, its clean-up hook has not run yet.
  if (settled != napi_ok) End();
}

bool Environment::Cancel(uint64_t job_id) {
  const auto found = waiting_jobs_.find(job_id);
  if (found == waiting_jobs_.end()) return false;
  Job* job = found->second;
  const std::shared_ptr<Lane> lane = job->lane_;
  waiting_jobs_.erase(found);
  CountWaiting(-1);
  // An exclusive job held back what came after it.
  const bool held_others = job->mode_ == Job::Mode::kExclusive;
  lane->Unlink(job);
  ForgetNotice(job);
  if (lane->first_ == nullptr) std::erase(lanes_, lane.get());
  if (job->deferred_ != nullptr) {
    napi_value value = AbortedToJs(env_);
    (void)napi_reject_deferred(env_, job->deferred_, value == nullptr ? Undefined(env_) : value);
  }
  delete job;
  if (held_others) Pump();
  return true;
}

void Environment::DropWaiting() {
  for (const auto& [id, job] : waiting_jobs_) {
    job->lane_->Unlink(job);
    delete job;
  }
  waiting_jobs_.clear();
  lanes_.clear();
}

void Environment::End() {
  if (ending_) return;
  ending_ = true;
  Gate::OfProcess().Remove(this);
  {
    const std::lock_guard<std::mutex> guard(notices_mutex_);
    takes_notices_ = false;
    notices_.clear();
  }
  DropWaiting();
}

void Environment::OnCleanup(void* data) { static_cast<Environment*>(data)->End(); }

void Environment::OnFinalize(napi_env /*env*/, void* data, void* /*hint*/) {
  auto* environment = static_cast<Environment*>(data);
  environment->End();
  delete environment;
}

}  // namespace faultless::binding
