// Purpose: how work leaves the JavaScript thread and comes back: a Job is plain data that one of libuv's threads
// executes (napi async work) and whose outcome settles a promise. Environment is this addon's state in one Node
// environment (main thread or worker).
//
// How to add a job
//   1. Derive from Job. In the N-API callback convert everything from JavaScript into plain members
//   (binding/convert.h): Execute() must
//      not see a napi_value, and nothing that JavaScript may change or free meanwhile.
//   2. Execute() runs on a pool thread: it may wait for a device, and must not call N-API. It returns a Status.
//   kWouldBlock means "a lock is
//      held": the job goes back to the end of its lane's queue without a thread and Execute() is called again later;
//      wait a little (about 1 ms) inside Execute() before answering so, or the loop spins.
//   3. Result() runs on the JavaScript thread after an ok Execute() and turns the outcome into the promise's value.
//   4. `return Job::Start(env, std::make_unique<MyJob>(lane, …));` answers the promise. It rejects with a plain
//   descriptor
//      (binding/convert.h, StatusToJs) that ts/errors.ts makes a FaultlessError of.
//   5. Export the callback in an `Init…(napi_env, napi_value exports)` of your file with Export() from
//   binding/convert.h, and call
//      that Init from binding/addon.cc.
//
// Lanes: every open file or store (per environment) has a Lane. Its jobs start in the order they were issued, as
// permits of the process-wide Gate allow; lanes take turns. Shared jobs of one lane run side by side, an exclusive one
// (close, resize) after all earlier ones have ended and before any later one starts.
//
// Where many small jobs wait in a lane, one thread takes several in a row (each still with an outcome of its own) for
// as long as they are quick: a round trip through the event loop costs more than most of them.
//
// Thread safety: everything here belongs to the environment's JavaScript thread, except Execute().
// Ownership: a job owns its data and keeps its lane alive; the environment owns the jobs. A job is deleted on the
// JavaScript thread: whatever may wait when released (the last reference to a file) has to be let go in Execute().
// Teardown: when the environment ends, jobs that wait are dropped, those that run finish, and nothing is settled any
// more.
#pragma once

#include <node_api.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/status.h"
#include "binding/gate.h"

namespace faultless::binding {

class Environment;
class Job;

/** What StoreStats.queue tells of one lane. */
struct LaneStats {
  uint64_t waiting = 0;     // jobs without a thread
  uint64_t running = 0;     // jobs that have a thread, or are queued for one
  uint64_t requests = 0;    // jobs started so far
  uint64_t operations = 0;  // what those jobs carried: gets, sets, reads …
  uint64_t waited_ns = 0;   // from issue to start on a thread, summed over jobs
  uint64_t worked_ns = 0;   // on a thread, summed over jobs
};

class Lane {
 public:
  /** device: st_dev of the file; may_stall: false where the filesystem is memory. */
  Lane(uint64_t device, bool may_stall) : device_(Gate::OfProcess().DeviceOf(device, may_stall)) {}
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;

  const LaneStats& stats() const { return stats_; }

 private:
  friend class Environment;
  friend class Job;

  bool CanStartNext() const;
  void PushBack(Job* job);
  /**
   * Before which one a job goes that has to run again (nullptr: last): behind the other waiting jobs, but before any
   * exclusive one, which waits for what was issued before it.
   */
  Job* PlaceAgain(const Job* job) const;
  void InsertBefore(Job* job, Job* next);
  void Unlink(Job* job);

  Gate::Device* const device_;
  Job* first_ = nullptr;  // doubly linked, so that an aborted job leaves at once with all its data
  Job* last_ = nullptr;
  uint32_t exclusive_waiting_ = 0;
  bool exclusive_running_ = false;
  LaneStats stats_;
};

class Job {
 public:
  enum class Mode : uint8_t { kShared, kExclusive };

  explicit Job(std::shared_ptr<Lane> lane, Mode mode = Mode::kShared, uint32_t operations = 1)
      : lane_(std::move(lane)), operations_(operations), mode_(mode) {}
  virtual ~Job() = default;
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;

  /** Queues the job and answers its promise; nullptr with a pending exception where not even that can be had. */
  static napi_value Start(napi_env env, std::unique_ptr<Job> job);
  /** Queues the job without a promise: its outcome interests nobody (closing what was garbage collected). */
  static void StartDetached(napi_env env, std::unique_ptr<Job> job);

 protected:
  /** On a pool thread, may wait. See the head of this file. */
  virtual Status Execute() = 0;
  /**
   * From Execute(): has OnNotice called on the JavaScript thread soon, once for all calls until then, and in any case
   * before Result or Failure.
   */
  void Notify();
  /** On the JavaScript thread, possibly during Execute(). May run JavaScript; leaves no exception pending. */
  virtual void OnNotice(napi_env env);
  /** On the JavaScript thread. nullptr: undefined, or the exception that is pending. */
  virtual napi_value Result(napi_env env);
  /** On the JavaScript thread: what the promise rejects with. By default StatusToJs(env, status, nullptr). */
  virtual napi_value Failure(napi_env env, const Status& status);
  /** In Result and Failure: of the last turn, without a thread and on one. */
  uint64_t waited_ns() const { return waited_ns_; }
  uint64_t worked_ns() const { return worked_ns_; }

 private:
  friend class Environment;
  friend class Lane;

  const std::shared_ptr<Lane> lane_;
  Environment* environment_ = nullptr;
  napi_deferred deferred_ = nullptr;
  Job* previous_ = nullptr;
  Job* next_ = nullptr;
  uint64_t id_ = 0;
  uint64_t queued_ns_ = 0;
  uint64_t waited_ns_ = 0;  // of this turn
  uint64_t worked_ns_ = 0;  // of this turn
  Status status_;
  std::atomic<bool> noticed_{false};
  const uint32_t operations_;
  const Mode mode_;
};

/** State of the addon in one environment; made when the addon is loaded there, gone with the environment. */
class Environment final : private Gate::Waiter {
 public:
  /** Makes the state and ties it to `env`. False with a pending exception where that fails. */
  static bool Create(napi_env env);
  static Environment* Of(napi_env env);

  /** For work on files whose device is not known yet: opening them. */
  /** The lane for opening and removing files on the device of `path`; empty: a device that nothing tells yet. */
  const std::shared_ptr<Lane>& OpeningLane(const std::string& path);
  /** True once the environment is going away: no JavaScript can be called, and no job be started. */
  bool ending() const { return ending_; }

  /** Of the job issued last in this environment. */
  uint64_t last_job_id() const { return last_job_id_; }
  /**
   * Removes a job that still waits for a permit: its promise rejects with a descriptor of code ABORTED. False where the
   * job runs or is done: it is left to finish.
   */
  bool Cancel(uint64_t job_id);

 private:
  friend class Job;

  explicit Environment(napi_env env);
  ~Environment() = default;

  void Wake() override;
  void Notify(Job* job);
  void TellNotices();
  void ForgetNotice(const Job* job);
  void Enqueue(std::unique_ptr<Job> job);
  /** Starts waiting jobs, lanes in turn, as far as permits go. */
  void Pump();
  /** Gives the lane's next job or jobs to a thread if they may start. kGranted: they were started, or failed at once.
   */
  Gate::Answer TryStartNext(Lane* lane);
  void Finish(Job* job);
  /** A job that its thread did not come to. */
  void GiveBack(Job* job);
  void LeaveThread(Job* job);
  void EnqueueAgain(Job* job, Job* next);
  void Settle(Job* job);
  void CountWaiting(int change);
  void DropWaiting();
  void End();

  struct Turn;
  static void OnExecute(napi_env env, void* data);
  static void OnComplete(napi_env env, napi_status status, void* data);
  static void OnWake(napi_env env, napi_value callback, void* context, void* data);
  static void OnCleanup(void* data);
  static void OnFinalize(napi_env env, void* data, void* hint);

  const napi_env env_;
  napi_threadsafe_function wake_ = nullptr;  // referenced exactly while jobs wait: pending calls keep the process alive
  std::atomic<bool> wake_pending_{false};
  std::mutex notices_mutex_;                                 // guards the next two
  std::vector<Job*> notices_;                                // jobs that have something to tell before they end
  bool takes_notices_ = true;                                // false: the environment ends, and wake_ with it
  std::map<uint64_t, std::shared_ptr<Lane>> opening_lanes_;  // by device
  std::deque<Lane*> lanes_;                                  // those with waiting jobs, whose turn it is first
  std::unordered_map<uint64_t, Job*> waiting_jobs_;          // by id, for Cancel
  uint64_t last_job_id_ = 0;
  bool ending_ = false;
};

}  // namespace faultless::binding
