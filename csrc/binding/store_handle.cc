// Opening, closing and describing stores.
#include "binding/store_handle.h"

#include <atomic>
#include <mutex>
#include <utility>

#include "binding/convert.h"
#include "binding/exports.h"
#include "os/os.h"

namespace faultless::binding {

namespace {

constexpr napi_type_tag kStoreTag = {0x6661756c746c6573, 0x73746f72652e6831};
constexpr uint32_t kBlockedPauseUs = 1'000;
constexpr uint64_t kLockTimeoutNs = uint64_t{kLockTimeoutMs} * 1'000'000;
constexpr Status kGivenUp = {Code::kBusy, "a lock is held by a process that does not let go"};

void Pause() {
  static const std::atomic<uint32_t> never_changes{0};
  os::WaitOnWord(&never_changes, 0, kBlockedPauseUs);
}

/** What a store is opened with, and what came of it. */
struct Opening {
  store::OpenOptions options;
  std::shared_ptr<store::Store> engine;
  uint64_t device = Gate::kUnknownDevice;
  bool may_stall = true;
};

/**
 * How a recovery goes on: taken in on the thread that does it, told on the JavaScript thread. What is told is where it
 * stands by then.
 */
class Progress {
 public:
  explicit Progress(napi_env env) : env_(env) {}
  ~Progress() {
    if (callback_ != nullptr) (void)napi_delete_reference(env_, callback_);
  }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /** onProgress of openOptions: a function that does not throw, or undefined. */
  bool Init(napi_value callback) {
    napi_valuetype type = napi_undefined;
    if (napi_typeof(env_, callback, &type) != napi_ok || type != napi_function) return true;
    return napi_create_reference(env_, callback, 1, &callback_) == napi_ok;
  }
  bool IsWanted() const { return callback_ != nullptr; }

  /** On any thread. Whether there is enough news to tell it: kSteps times in a recovery, and at its end. */
  bool TakeIn(uint64_t done, uint64_t total) {
    const std::lock_guard lock(mutex_);
    if (any_ && done == done_) return false;
    if (any_ && done != total && done - done_ < total / kSteps) return false;
    any_ = true;
    done_ = done;
    total_ = total;
    return true;
  }
  /** On the JavaScript thread. */
  void Tell() {
    uint64_t done;
    uint64_t total;
    {
      const std::lock_guard lock(mutex_);
      done = done_;
      total = total_;
    }
    napi_value callback = nullptr;
    if (napi_get_reference_value(env_, callback_, &callback) != napi_ok || callback == nullptr) return;
    const napi_value arguments[2] = {NewNumber(env_, static_cast<double>(done)),
                                     NewNumber(env_, static_cast<double>(total))};
    // It fails where the environment is being terminated.
    if (napi_call_function(env_, Undefined(env_), callback, 2, arguments, nullptr) == napi_pending_exception) {
      napi_value exception = nullptr;
      (void)napi_get_and_clear_last_exception(env_, &exception);
    }
  }

 private:
  static constexpr uint64_t kSteps = 32;

  const napi_env env_;
  napi_ref callback_ = nullptr;
  std::mutex mutex_;  // guards the rest
  bool any_ = false;
  uint64_t done_ = 0;
  uint64_t total_ = 0;
};

/**
 * openOptions: {path, readOnly, create, exclusive, permissions, pin, salvage, allowRemote, temporary, maxBytes, onFull
 * (0: not given, 1: error, 2: evict), codec, onProgress}
 */
bool ToOpening(napi_env env, napi_value value, Opening* opening, Progress* progress) {
  const auto property = [&](const char* name) {
    napi_value result = nullptr;
    return napi_get_named_property(env, value, name, &result) == napi_ok ? result : nullptr;
  };
  store::OpenOptions& options = opening->options;
  uint32_t on_full;
  if (!ToUint32(env, property("onFull"), &on_full)) return false;
  using OnFull = store::KeptOptions::OnFull;
  options.kept.on_full = on_full == 0 ? OnFull::kNotGiven : on_full == 1 ? OnFull::kError : OnFull::kEvict;
  return ToString(env, property("path"), &options.path) && ToBool(env, property("readOnly"), &options.read_only) &&
         ToBool(env, property("create"), &options.create) && ToBool(env, property("exclusive"), &options.exclusive) &&
         ToUint32(env, property("permissions"), &options.permissions) && ToBool(env, property("pin"), &options.pin) &&
         ToBool(env, property("salvage"), &options.salvage) &&
         ToBool(env, property("allowRemote"), &options.allow_remote) &&
         ToBool(env, property("temporary"), &options.temporary) &&
         ToUint64(env, property("maxBytes"), &options.kept.max_bytes) &&
         ToString(env, property("codec"), &options.kept.codec) && progress->Init(property("onProgress"));
}

/** May wait. Repeatable while it answers kWouldBlock. */
Status Open(Opening* opening) {
  FAULTLESS_TRY(store::Store::Open(opening->options, &opening->engine));
  os::FileInfo info;
  // Only which threads it may hold hangs on this: a file that was unlinked just now counts as on an unknown device.
  if (os::StatPath(opening->options.path.c_str(), &info).ok()) {
    opening->device = info.device;
    opening->may_stall = info.filesystem != os::FilesystemKind::kRam;
  }
  return Code::kOk;
}

/** A call of the whole store that answers nothing or a number. */
class WholeJob final : public Job {
 public:
  using Call = Status (*)(StoreHandle* handle, double* answer);

  WholeJob(std::shared_ptr<StoreHandle> handle, Mode mode, Call call, bool answers)
      : Job(handle->lane(), mode), handle_(std::move(handle)), call_(call), answers_(answers) {}

 protected:
  Status Execute() override { return YieldWhileBlocked(call_(handle_.get(), &answer_), &blocked_since_ns_); }
  napi_value Result(napi_env env) override { return answers_ ? NewNumber(env, answer_) : Undefined(env); }
  napi_value Failure(napi_env env, const Status& status) override {
    return StatusToJs(env, status, handle_->path().c_str());
  }

 private:
  const std::shared_ptr<StoreHandle> handle_;
  const Call call_;
  const bool answers_;
  double answer_ = 0;
  uint64_t blocked_since_ns_ = 0;
};

Status CloseWhole(StoreHandle* handle, double* /*answer*/) { return handle->Close(); }

/** The handle was collected, or the environment ends. */
void FinalizeStore(napi_env env, void* data, void* /*hint*/) {
  const std::unique_ptr<std::shared_ptr<StoreHandle>> handle(static_cast<std::shared_ptr<StoreHandle>*>(data));
  if ((*handle)->is_closing()) return;
  const Environment* environment = Environment::Of(env);
  // Closing may wait, so that it has no place in the middle of garbage collection. At the end of the environment there
  // are no jobs any more: whoever lets go last leaves the store as a kill would.
  if (environment == nullptr || environment->ending()) return;
  Job::StartDetached(env, std::make_unique<WholeJob>(*handle, Job::Mode::kExclusive, CloseWhole, /*answers=*/false));
}

napi_value NewStoreHandle(napi_env env, Opening opening) {
  auto lane = std::make_shared<Lane>(opening.device, opening.may_stall);
  auto handle =
      std::make_shared<StoreHandle>(std::move(opening.engine), std::move(lane), std::move(opening.options.path));
  return NewSharedHandle(env, std::move(handle), kStoreTag, FinalizeStore);
}

class OpenJob final : public Job {
 public:
  OpenJob(std::shared_ptr<Lane> lane, Opening opening, std::unique_ptr<Progress> progress)
      : Job(std::move(lane)), opening_(std::move(opening)), progress_(std::move(progress)) {
    if (!progress_->IsWanted()) return;
    opening_.options.on_progress = [this](uint64_t done, uint64_t total) {
      if (progress_->TakeIn(done, total)) Notify();
    };
  }

 protected:
  Status Execute() override { return YieldWhileBlocked(Open(&opening_), &blocked_since_ns_); }
  void OnNotice(napi_env /*env*/) override { progress_->Tell(); }
  napi_value Result(napi_env env) override { return NewStoreHandle(env, std::move(opening_)); }
  napi_value Failure(napi_env env, const Status& status) override {
    return StatusToJs(env, status, opening_.options.path.c_str());
  }

 private:
  Opening opening_;
  const std::unique_ptr<Progress> progress_;
  uint64_t blocked_since_ns_ = 0;
};

class DestroyJob final : public Job {
 public:
  DestroyJob(std::shared_ptr<Lane> lane, std::string path) : Job(std::move(lane)), path_(std::move(path)) {}

 protected:
  Status Execute() override { return YieldWhileBlocked(store::Store::Destroy(path_), &blocked_since_ns_); }
  napi_value Failure(napi_env env, const Status& status) override { return StatusToJs(env, status, path_.c_str()); }

 private:
  const std::string path_;
  uint64_t blocked_since_ns_ = 0;
};

Status FlushWhole(StoreHandle* handle, double* /*answer*/) {
  const StoreUse use(handle);
  if (use.engine() == nullptr) return Code::kClosed;
  return use.engine()->Flush();
}

Status ResidencyWhole(StoreHandle* handle, double* answer) {
  const StoreUse use(handle);
  if (use.engine() == nullptr) return Code::kClosed;
  return use.engine()->Residency(answer);
}

napi_value StartWhole(napi_env env, napi_callback_info info, Job::Mode mode, WholeJob::Call call, bool answers) {
  napi_value argument;
  std::shared_ptr<StoreHandle> handle;
  if (!GetArguments(env, info, 1, &argument) || !ToStoreHandle(env, argument, &handle)) return nullptr;
  return Job::Start(env, std::make_unique<WholeJob>(std::move(handle), mode, call, answers));
}

napi_value CallWhole(napi_env env, napi_callback_info info, WholeJob::Call call) {
  napi_value argument;
  std::shared_ptr<StoreHandle> handle;
  if (!GetArguments(env, info, 1, &argument) || !ToStoreHandle(env, argument, &handle)) return nullptr;
  double answer;
  const Status status = RepeatWhileBlocked([&] { return call(handle.get(), &answer); });
  return status.ok() ? Undefined(env) : ThrowStatus(env, status, handle->path().c_str());
}

/** storeOpen(openOptions): Promise<StoreHandle> */
napi_value StoreOpen(napi_env env, napi_callback_info info) {
  napi_value argument;
  Opening opening;
  auto progress = std::make_unique<Progress>(env);
  if (!GetArguments(env, info, 1, &argument) || !ToOpening(env, argument, &opening, progress.get())) return nullptr;
  const auto& lane = Environment::Of(env)->OpeningLane(opening.options.path);
  return Job::Start(env, std::make_unique<OpenJob>(lane, std::move(opening), std::move(progress)));
}

/** storeOpenSync(openOptions): StoreHandle. Waits. */
napi_value StoreOpenSync(napi_env env, napi_callback_info info) {
  napi_value argument;
  Opening opening;
  Progress progress(env);
  if (!GetArguments(env, info, 1, &argument) || !ToOpening(env, argument, &opening, &progress)) return nullptr;
  if (progress.IsWanted()) {
    opening.options.on_progress = [&progress](uint64_t done, uint64_t total) {
      if (progress.TakeIn(done, total)) progress.Tell();
    };
  }
  const Status status = RepeatWhileBlocked([&] { return Open(&opening); });
  if (!status.ok()) return ThrowStatus(env, status, opening.options.path.c_str());
  return NewStoreHandle(env, std::move(opening));
}

/** storeDestroy(path): Promise<void> */
napi_value StoreDestroy(napi_env env, napi_callback_info info) {
  napi_value argument;
  std::string path;
  if (!GetArguments(env, info, 1, &argument) || !ToString(env, argument, &path)) return nullptr;
  const auto& lane = Environment::Of(env)->OpeningLane(path);
  return Job::Start(env, std::make_unique<DestroyJob>(lane, std::move(path)));
}

/** storeClose(handle): Promise<void>, after every job issued before it. */
napi_value StoreClose(napi_env env, napi_callback_info info) {
  return StartWhole(env, info, Job::Mode::kExclusive, CloseWhole, /*answers=*/false);
}

/** storeCloseSync(handle). Waits for the jobs that run; those that wait find the store closed. */
napi_value StoreCloseSync(napi_env env, napi_callback_info info) { return CallWhole(env, info, CloseWhole); }

/** storeFlush(handle): Promise<void> */
napi_value StoreFlush(napi_env env, napi_callback_info info) {
  return StartWhole(env, info, Job::Mode::kShared, FlushWhole, /*answers=*/false);
}

/** storeFlushSync(handle). Waits. */
napi_value StoreFlushSync(napi_env env, napi_callback_info info) { return CallWhole(env, info, FlushWhole); }

/** storeResidency(handle): Promise<number> */
napi_value StoreResidency(napi_env env, napi_callback_info info) {
  return StartWhole(env, info, Job::Mode::kShared, ResidencyWhole, /*answers=*/true);
}

class CarryJob final : public Job {
 public:
  CarryJob(std::shared_ptr<StoreHandle> handle, std::vector<uint32_t> tags)
      : Job(handle->lane(), Mode::kShared), handle_(std::move(handle)), tags_(std::move(tags)) {}

 protected:
  Status Execute() override {
    const StoreUse use(handle_.get());
    if (use.engine() == nullptr) return Code::kClosed;
    use.engine()->CarryUses(tags_);
    return Code::kOk;
  }
  napi_value Failure(napi_env env, const Status& status) override {
    return StatusToJs(env, status, handle_->path().c_str());
  }

 private:
  const std::shared_ptr<StoreHandle> handle_;
  const std::vector<uint32_t> tags_;
};

/** storeCarryUses(handle, tags: Uint32Array): Promise<void> */
napi_value StoreCarryUses(napi_env env, napi_callback_info info) {
  napi_value arguments[2];
  std::shared_ptr<StoreHandle> handle;
  napi_typedarray_type type;
  size_t count = 0;
  void* data = nullptr;
  if (!GetArguments(env, info, 2, arguments) || !ToStoreHandle(env, arguments[0], &handle)) return nullptr;
  if (napi_get_typedarray_info(env, arguments[1], &type, &count, &data, nullptr, nullptr) != napi_ok ||
      type != napi_uint32_array) {
    (void)napi_throw_error(env, nullptr, "faultless: tags must be a Uint32Array");
    return nullptr;
  }
  const auto* const tags = static_cast<const uint32_t*>(data);
  std::vector<uint32_t> copied(tags, tags + count);
  return Job::Start(env, std::make_unique<CarryJob>(std::move(handle), std::move(copied)));
}

/** storeCountsUses(handle): boolean. Never waits. */
napi_value StoreCountsUses(napi_env env, napi_callback_info info) {
  napi_value argument;
  std::shared_ptr<StoreHandle> handle;
  if (!GetArguments(env, info, 1, &argument) || !ToStoreHandle(env, argument, &handle)) return nullptr;
  const StoreUse use(handle.get());
  if (use.engine() == nullptr) return ThrowStatus(env, Code::kClosed, handle->path().c_str());
  return NewBool(env, use.engine()->evicts() && !use.engine()->read_only());
}

/** storeSize(handle): number. Never waits. */
napi_value StoreSize(napi_env env, napi_callback_info info) {
  napi_value argument;
  std::shared_ptr<StoreHandle> handle;
  if (!GetArguments(env, info, 1, &argument) || !ToStoreHandle(env, argument, &handle)) return nullptr;
  const StoreUse use(handle.get());
  if (use.engine() == nullptr) return ThrowStatus(env, Code::kClosed, handle->path().c_str());
  return NewNumber(env, static_cast<double>(use.engine()->Size()));
}

/** storeStats(handle): what StoreStats says of the file, and the lane's queue. Never waits. */
napi_value StoreStats(napi_env env, napi_callback_info info) {
  napi_value argument;
  std::shared_ptr<StoreHandle> handle;
  if (!GetArguments(env, info, 1, &argument) || !ToStoreHandle(env, argument, &handle)) return nullptr;
  const StoreUse use(handle.get());
  if (use.engine() == nullptr) return ThrowStatus(env, Code::kClosed, handle->path().c_str());
  napi_value result = nullptr;
  if (napi_create_object(env, &result) != napi_ok) return nullptr;
  const store::Stats stats = use.engine()->GetStats();
  const auto set = [&](const char* name, uint64_t value) {
    SetProperty(env, result, name, NewNumber(env, static_cast<double>(value)));
  };
  set("keys", stats.keys);
  set("liveBytes", stats.live_bytes);
  set("garbageBytes", stats.garbage_bytes);
  set("fileBytes", stats.file_bytes);
  set("freeBytes", stats.free_bytes);
  set("maxBytes", stats.max_bytes);
  set("shards", stats.shards);
  set("buckets", stats.buckets);
  set("maxBuckets", stats.max_buckets);
  set("evictions", stats.evictions);
  SetProperty(env, result, "loadFactor", NewNumber(env, stats.load_factor));
  SetProperty(env, result, "maxLoadFactor", NewNumber(env, stats.max_load_factor));
  SetProperty(env, result, "queue", LaneStatsToJs(env, *handle->lane()));
  set("lockedBytes", stats.locked_bytes);
  SetProperty(env, result, "fastPath", NewBool(env, stats.fast_path));
  return result;
}

}  // namespace

Status StoreHandle::Close() {
  uint32_t users = users_.fetch_or(kClosing, std::memory_order_acq_rel);
  if ((users & kClosing) != 0) return Code::kOk;
  for (users |= kClosing; users != kClosing; users = users_.load(std::memory_order_acquire)) {
    users_.wait(users, std::memory_order_acquire);
  }
  return engine_->Close();
}

Status KeepRepeating(const std::function<Status()>& attempt) {
  const uint64_t deadline_ns = os::MonotonicNs() + kLockTimeoutNs;
  for (;;) {
    Pause();
    const Status status = attempt();
    if (status.code() != Code::kWouldBlock) return status;
    if (os::MonotonicNs() >= deadline_ns) return kGivenUp;
  }
}

Status YieldWhileBlocked(Status status, uint64_t* blocked_since_ns) {
  if (status.code() != Code::kWouldBlock) return status;
  const uint64_t now_ns = os::MonotonicNs();
  if (*blocked_since_ns == 0) *blocked_since_ns = now_ns;
  if (now_ns - *blocked_since_ns >= kLockTimeoutNs) return kGivenUp;
  Pause();
  return status;
}

bool ToStoreHandle(napi_env env, napi_value value, std::shared_ptr<StoreHandle>* handle) {
  return ToShared(env, value, kStoreTag, handle);
}

bool InitStore(napi_env env, napi_value exports) {
  SetProperty(env, exports, "storeMinMaxBytes", NewNumber(env, static_cast<double>(store::kMinMaxBytes)));
  SetProperty(env, exports, "storeLargestMaxBytes", NewNumber(env, static_cast<double>(store::kLargestMaxBytes)));
  return Export(env, exports, "storeOpen", StoreOpen) && Export(env, exports, "storeOpenSync", StoreOpenSync) &&
         Export(env, exports, "storeDestroy", StoreDestroy) && Export(env, exports, "storeClose", StoreClose) &&
         Export(env, exports, "storeCloseSync", StoreCloseSync) && Export(env, exports, "storeFlush", StoreFlush) &&
         Export(env, exports, "storeFlushSync", StoreFlushSync) &&
         Export(env, exports, "storeResidency", StoreResidency) && Export(env, exports, "storeSize", StoreSize) &&
         Export(env, exports, "storeCarryUses", StoreCarryUses) &&
         Export(env, exports, "storeCountsUses", StoreCountsUses) && Export(env, exports, "storeStats", StoreStats);
}

}  // namespace faultless::binding
