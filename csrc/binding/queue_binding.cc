// What JavaScript may ask about jobs themselves: which one was issued last, removing one that waits, and the gate's
// limit.
#include "binding/convert.h"
#include "binding/exports.h"
#include "binding/gate.h"
#include "binding/job.h"

namespace faultless::binding {

namespace {

/** lastJobId(): number */
napi_value LastJobId(napi_env env, napi_callback_info /*info*/) {
  return NewNumber(env, static_cast<double>(Environment::Of(env)->last_job_id()));
}

/** cancelJob(id: number): boolean */
napi_value CancelJob(napi_env env, napi_callback_info info) {
  napi_value argument;
  uint64_t id;
  if (!GetArguments(env, info, 1, &argument) || !ToUint64(env, argument, &id)) return nullptr;
  return NewBool(env, Environment::Of(env)->Cancel(id));
}

/** setConcurrency(threads: number): number: of the whole process; answers what it is now. */
napi_value SetConcurrency(napi_env env, napi_callback_info info) {
  napi_value argument;
  uint32_t limit;
  if (!GetArguments(env, info, 1, &argument) || !ToUint32(env, argument, &limit)) return nullptr;
  return NewNumber(env, Gate::OfProcess().SetLimit(limit));
}

/** gate(): {threads, limit, running} of the whole process. */
napi_value GateState(napi_env env, napi_callback_info /*info*/) {
  napi_value state = nullptr;
  if (napi_create_object(env, &state) != napi_ok) return nullptr;
  const Gate& gate = Gate::OfProcess();
  SetProperty(env, state, "threads", NewNumber(env, gate.threads()));
  SetProperty(env, state, "limit", NewNumber(env, gate.limit()));
  SetProperty(env, state, "running", NewNumber(env, gate.running()));
  return state;
}

}  // namespace

bool InitQueue(napi_env env, napi_value exports) {
  return Export(env, exports, "lastJobId", LastJobId) && Export(env, exports, "cancelJob", CancelJob) &&
         Export(env, exports, "setConcurrency", SetConcurrency) && Export(env, exports, "gate", GateState);
}

napi_value LaneStatsToJs(napi_env env, const Lane& lane) {
  napi_value queue = nullptr;
  if (napi_create_object(env, &queue) != napi_ok) return nullptr;
  const LaneStats& stats = lane.stats();
  SetProperty(env, queue, "waiting", NewNumber(env, static_cast<double>(stats.waiting)));
  SetProperty(env, queue, "running", NewNumber(env, static_cast<double>(stats.running)));
  SetProperty(env, queue, "requests", NewNumber(env, static_cast<double>(stats.requests)));
  SetProperty(env, queue, "operations", NewNumber(env, static_cast<double>(stats.operations)));
  SetProperty(env, queue, "waitedMs", NewNumber(env, static_cast<double>(stats.waited_ns) / 1e6));
  SetProperty(env, queue, "workedMs", NewNumber(env, static_cast<double>(stats.worked_ns) / 1e6));
  return queue;
}

}  // namespace faultless::binding
