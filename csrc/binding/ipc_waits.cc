#include "binding/ipc_waits.h"

#include <mutex>
#include <utility>

#include "binding/convert.h"
#include "binding/exports.h"

namespace faultless::binding {

namespace {

/** Which environment has which; entries go with their environments. */
struct Registry {
  std::mutex mutex;
  std::unordered_map<napi_env, Waits*> waits;
};

Registry& TheRegistry() {
  static Registry& all = *new Registry;
  return all;
}

}  // namespace

void Pending::Tell() {
  // Under the waiting thread's mutex: the hub is there as long as its environment has not dropped this.
  waits_->told_.push_back(id_);
  if (waits_->told_.size() == 1) (void)napi_call_threadsafe_function(waits_->wake_, nullptr, napi_tsfn_nonblocking);
}

WordPending::WordPending(std::shared_ptr<const void> owner, const format::HalfWord* shared_word, uint32_t value,
                         uint64_t timeout_ns)
    : owner_(std::move(owner)) {
  word = shared_word;
  expected = value;
  if (timeout_ns != ipc::kNever) deadline_ns = os::MonotonicNs() + timeout_ns;
}

Status WordPending::Start() {
  ipc::WaitingThread& thread = ipc::WaitingThread::OfProcess();
  const auto lock = thread.Lock();
  return thread.Add(this);
}

void WordPending::OnWake() {
  told_ = true;
  ipc::WaitingThread::OfProcess().Remove(this);
  Tell();
}

napi_value WordPending::Result(napi_env env) { return Undefined(env); }

bool WordPending::Drop() {
  ipc::WaitingThread& thread = ipc::WaitingThread::OfProcess();
  const auto lock = thread.Lock();
  thread.Remove(this);
  return !told_;
}

Waits* Waits::Of(napi_env env) {
  Registry& all = TheRegistry();
  {
    const std::lock_guard guard(all.mutex);
    const auto found = all.waits.find(env);
    if (found != all.waits.end()) return found->second;
  }
  auto* waits = new Waits(env);
  napi_value name = nullptr;
  // The clean-up hook comes after the thread-safe function, so that it runs before that one's own.
  if (napi_create_string_utf8(env, "faultless.waits", NAPI_AUTO_LENGTH, &name) != napi_ok ||
      napi_create_threadsafe_function(env, nullptr, nullptr, name, 0, 1, nullptr, nullptr, waits, OnWake,
                                      &waits->wake_) != napi_ok ||
      napi_unref_threadsafe_function(env, waits->wake_) != napi_ok ||
      napi_add_env_cleanup_hook(env, OnCleanup, waits) != napi_ok) {
    napi_throw_error(env, nullptr, "faultless: nothing can be waited for in this environment");
    return nullptr;
  }
  const std::lock_guard guard(all.mutex);
  all.waits[env] = waits;
  return waits;
}

void Waits::Count() {
  const bool wanted = !pending_.empty();
  if (wanted == referenced_ || ended_) return;
  referenced_ = wanted;
  if (wanted) {
    (void)napi_ref_threadsafe_function(env_, wake_);
  } else {
    (void)napi_unref_threadsafe_function(env_, wake_);
  }
}

napi_value Waits::Begin(std::unique_ptr<Pending> pending) {
  napi_value promise = nullptr;
  if (ended_ || napi_create_promise(env_, &pending->deferred_, &promise) != napi_ok) {
    (void)napi_throw_error(env_, nullptr, "faultless: no promise");
    return nullptr;
  }
  pending->waits_ = this;
  pending->id_ = ++last_id_;
  pending_[last_id_] = std::move(pending);
  Count();
  return promise;
}

napi_value Waits::WaitForWord(std::shared_ptr<const void> owner, const format::HalfWord* word, uint32_t expected,
                              uint64_t timeout_ns) {
  auto pending = std::make_unique<WordPending>(std::move(owner), word, expected, timeout_ns);
  WordPending* const wait = pending.get();
  napi_value promise = Begin(std::move(pending));
  if (promise == nullptr) return nullptr;
  const Status status = wait->Start();
  if (status.ok()) return promise;
  Undo();
  return ThrowStatus(env_, status, nullptr);
}

void Waits::Undo() {
  // The promise has to be settled, or its memory stays: nobody has it.
  const auto found = pending_.find(last_id_);
  (void)napi_resolve_deferred(env_, found->second->deferred_, Undefined(env_));
  pending_.erase(found);
  Count();
}

bool Waits::Cancel(uint64_t id, Code code) {
  const auto found = pending_.find(id);
  if (found == pending_.end() || !found->second->Drop()) return false;
  const std::unique_ptr<Pending> pending = std::move(found->second);
  pending_.erase(found);
  Count();
  napi_value reason = code == Code::kOk ? AbortedToJs(env_) : StatusToJs(env_, code, nullptr);
  (void)napi_reject_deferred(env_, pending->deferred_, reason == nullptr ? Undefined(env_) : reason);
  return true;
}

void Waits::OnWake(napi_env env, napi_value /*callback*/, void* context, void* /*data*/) {
  if (env == nullptr) return;
  auto* waits = static_cast<Waits*>(context);
  std::vector<uint64_t> told;
  {
    const auto lock = ipc::WaitingThread::OfProcess().Lock();
    told.swap(waits->told_);
  }
  for (const uint64_t id : told) {
    const auto found = waits->pending_.find(id);
    if (found == waits->pending_.end()) continue;
    const std::unique_ptr<Pending> pending = std::move(found->second);
    waits->pending_.erase(found);
    napi_value value = pending->Result(env);
    (void)napi_resolve_deferred(env, pending->deferred_, value == nullptr ? Undefined(env) : value);
  }
  waits->Count();
}

void Waits::End() {
  ended_ = true;
  for (auto& [id, pending] : pending_) (void)pending->Drop();
  // Those that were told before are in told_, which nobody looks at any more.
  pending_.clear();
  Registry& all = TheRegistry();
  const std::lock_guard guard(all.mutex);
  all.waits.erase(env_);
  // Leaked: the thread-safe function points here until it has been cleaned up itself.
}

void Waits::OnCleanup(void* data) { static_cast<Waits*>(data)->End(); }

namespace {

/** ipcLastWait(): number: of the wait begun last in this environment, for ipcCancelWait. */
napi_value LastWait(napi_env env, napi_callback_info /*info*/) {
  const Waits* waits = Waits::Of(env);
  return waits == nullptr ? nullptr : NewNumber(env, static_cast<double>(waits->last_id()));
}

/** ipcCancelWait(id: number, closed: boolean): boolean: its promise rejects, with ERR_CLOSED or ABORTED. */
napi_value CancelWait(napi_env env, napi_callback_info info) {
  napi_value arguments[2];
  uint64_t id;
  bool closed;
  if (!GetArguments(env, info, 2, arguments) || !ToUint64(env, arguments[0], &id) ||
      !ToBool(env, arguments[1], &closed)) {
    return nullptr;
  }
  Waits* waits = Waits::Of(env);
  return waits == nullptr ? nullptr : NewBool(env, waits->Cancel(id, closed ? Code::kClosed : Code::kOk));
}

}  // namespace

bool InitIpcWaits(napi_env env, napi_value exports) {
  return Export(env, exports, "ipcLastWait", LastWait) && Export(env, exports, "ipcCancelWait", CancelWait);
}

bool InitIpc(napi_env env, napi_value exports) {
  return InitIpcWaits(env, exports) && InitIpcSegment(env, exports) && InitIpcExchange(env, exports) &&
         InitIpcQueue(env, exports) && InitIpcLog(env, exports);
}

}  // namespace faultless::binding
