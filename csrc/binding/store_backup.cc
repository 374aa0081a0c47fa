// Backup of a store, step by step, and its end: the file gets its name, or is gone.
#include <string>
#include <utility>

#include "binding/exports.h"
#include "binding/store_step.h"
#include "store/backup.h"

namespace faultless::binding {

namespace {

constexpr napi_type_tag kBackupTag = {0x6661756c746c6573, 0x6261636b75702e31};

struct BackingUp {
  explicit BackingUp(std::shared_ptr<StoreHandle> handle, std::string to)
      : stepping(new Stepping<store::Backup>(std::move(handle))), path(std::move(to)) {}
  BackingUp(const BackingUp&) = delete;
  BackingUp& operator=(const BackingUp&) = delete;
  /** Letting go of a large file may wait, and this is an event loop: a thread of its own does it, where no job has. */
  ~BackingUp();

  const std::shared_ptr<Stepping<store::Backup>> stepping;
  const std::string path;
};

void LetGo(void* argument) {
  const std::unique_ptr<std::shared_ptr<Stepping<store::Backup>>> stepping(
      static_cast<std::shared_ptr<Stepping<store::Backup>>*>(argument));
  const std::lock_guard guard((*stepping)->mutex);
  (*stepping)->ended = true;
  (*stepping)->work.reset();
}

BackingUp::~BackingUp() {
  {
    // No job is left that could hold it.
    const std::lock_guard guard(stepping->mutex);
    if (stepping->work == nullptr) return;
  }
  auto* const last = new std::shared_ptr<Stepping<store::Backup>>(stepping);
  if (!os::StartThread(LetGo, last).ok()) LetGo(last);
}

napi_value FailureToJs(napi_env env, const Status& status, const BackingUp& backing_up, bool at_target) {
  const std::string& path = at_target ? backing_up.path : backing_up.stepping->handle->path();
  return StatusToJs(env, status, path.c_str());
}

class BackupJob final : public StepJob<store::Backup> {
 public:
  explicit BackupJob(std::shared_ptr<BackingUp> backing_up)
      : StepJob(backing_up->stepping), backing_up_(std::move(backing_up)) {}

 protected:
  std::shared_ptr<store::Backup> Begin(store::Store& store) override { return store.BackupTo(backing_up_->path); }
  void OnStepped(const store::Backup& backup) override { failed_at_target_ = backup.failed_at_target(); }
  napi_value Failure(napi_env env, const Status& status) override {
    return FailureToJs(env, status, *backing_up_, failed_at_target_);
  }

 private:
  bool failed_at_target_ = false;
  const std::shared_ptr<BackingUp> backing_up_;
};

/** The last job of a backup: waits for a step that still runs. */
class EndJob final : public Job {
 public:
  EndJob(std::shared_ptr<BackingUp> backing_up, bool publish)
      : Job(backing_up->stepping->handle->lane()), backing_up_(std::move(backing_up)), publish_(publish) {}

 protected:
  Status Execute() override {
    Stepping<store::Backup>& stepping = *backing_up_->stepping;
    const std::lock_guard guard(stepping.mutex);
    stepping.ended = true;
    if (stepping.work == nullptr) return Code::kOk;
    const Status status = publish_ ? stepping.work->Publish() : Status();
    stepping.work.reset();
    return status;
  }
  napi_value Failure(napi_env env, const Status& status) override {
    return FailureToJs(env, status, *backing_up_, true);
  }

 private:
  const std::shared_ptr<BackingUp> backing_up_;
  const bool publish_;
};

/** storeBackup(handle, path): Backup */
napi_value StoreBackup(napi_env env, napi_callback_info info) {
  napi_value arguments[2];
  std::shared_ptr<StoreHandle> handle;
  std::string path;
  if (!GetArguments(env, info, 2, arguments) || !ToStoreHandle(env, arguments[0], &handle) ||
      !ToString(env, arguments[1], &path)) {
    return nullptr;
  }
  return NewSharedHandle(env, std::make_shared<BackingUp>(std::move(handle), std::move(path)), kBackupTag);
}

/** storeBackupStep(backup): Promise<WorkStep>: about 10 ms of work. */
napi_value StoreBackupStep(napi_env env, napi_callback_info info) {
  napi_value argument;
  std::shared_ptr<BackingUp> backing_up;
  if (!GetArguments(env, info, 1, &argument) || !ToShared(env, argument, kBackupTag, &backing_up)) return nullptr;
  return Job::Start(env, std::make_unique<BackupJob>(std::move(backing_up)));
}

/** storeBackupEnd(backup, publish): Promise<void> */
napi_value StoreBackupEnd(napi_env env, napi_callback_info info) {
  napi_value arguments[2];
  std::shared_ptr<BackingUp> backing_up;
  bool publish;
  if (!GetArguments(env, info, 2, arguments) || !ToShared(env, arguments[0], kBackupTag, &backing_up) ||
      !ToBool(env, arguments[1], &publish)) {
    return nullptr;
  }
  return Job::Start(env, std::make_unique<EndJob>(std::move(backing_up), publish));
}

}  // namespace

bool InitStoreBackup(napi_env env, napi_value exports) {
  return Export(env, exports, "storeBackup", StoreBackup) && Export(env, exports, "storeBackupStep", StoreBackupStep) &&
         Export(env, exports, "storeBackupEnd", StoreBackupEnd);
}

}  // namespace faultless::binding
