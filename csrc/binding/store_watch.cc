// Following the changes of a store: each step is a job that copies what is new; where there was nothing new, the
// process's waiting thread sleeps on the store's bell, and no thread of libuv's is held.
#include <algorithm>
#include <vector>

#include "binding/convert.h"
#include "binding/exports.h"
#include "binding/ipc_waits.h"
#include "binding/scan_column.h"
#include "binding/store_handle.h"
#include "store/watch.h"

namespace faultless::binding {

namespace {

constexpr napi_type_tag kWatchTag = {0x6661756c746c6573, 0x77617463682e6831};

/** What a step collects: (kind, slab, offset, size of the key, slab, offset, size of the value) per change. */
class StepSink final : public store::ChangeSink {
 public:
  void Begin() {
    keys_.Begin(/*text=*/true);
    values_.Begin(/*text=*/false);
    table_.clear();
    out_of_memory_ = false;
  }

  bool Change(store::ChangeKind kind, store::Bytes key, store::Bytes value) override {
    ValuePlace places[2];
    if (!keys_.Append(key, &places[0]) || !values_.Append(value, &places[1])) {
      out_of_memory_ = true;
      return false;
    }
    table_.push_back(static_cast<uint32_t>(kind));
    for (const ValuePlace& place : places) table_.insert(table_.end(), {place.slab, place.offset, place.size});
    return true;
  }

  bool out_of_memory() const { return out_of_memory_; }

  /** Adds {table: Uint32Array, keySlabs: (string | Buffer)[], valueSlabs: Buffer[]}. */
  bool AddTo(napi_env env, napi_value result) {
    napi_value memory = nullptr;
    napi_value table = nullptr;
    void* words = nullptr;
    napi_value key_slabs = keys_.ToJs(env);
    napi_value value_slabs = values_.ToJs(env);
    if (key_slabs == nullptr || value_slabs == nullptr ||
        napi_create_arraybuffer(env, table_.size() * sizeof(uint32_t), &words, &memory) != napi_ok) {
      return false;
    }
    if (!table_.empty()) std::copy(table_.begin(), table_.end(), static_cast<uint32_t*>(words));
    if (napi_create_typedarray(env, napi_uint32_array, table_.size(), memory, 0, &table) != napi_ok) return false;
    SetProperty(env, result, "table", table);
    SetProperty(env, result, "keySlabs", key_slabs);
    SetProperty(env, result, "valueSlabs", value_slabs);
    return true;
  }

 private:
  ScanColumn keys_;
  ScanColumn values_;
  std::vector<uint32_t> table_;
  bool out_of_memory_ = false;
};

/** One watcher; its steps never overlap (ts/ asks for the next one only after the one before). */
struct Watch {
  std::shared_ptr<StoreHandle> handle;
  std::shared_ptr<store::Watching> watching;
};

class ReadJob final : public Job {
 public:
  explicit ReadJob(std::shared_ptr<Watch> watch) : Job(watch->handle->lane()), watch_(std::move(watch)) {}

 protected:
  Status Execute() override {
    const StoreUse use(watch_->handle.get());
    if (use.engine() == nullptr) return Code::kClosed;
    sink_.Begin();
    FAULTLESS_TRY(watch_->watching->Read(&sink_));
    return sink_.out_of_memory() ? Status(Code::kValueTooLarge, "no memory for the change") : Status();
  }
  /** {table, keySlabs, valueSlabs, idle, bell, waitMs} */
  napi_value Result(napi_env env) override {
    napi_value result = nullptr;
    if (napi_create_object(env, &result) != napi_ok || !sink_.AddTo(env, result)) return nullptr;
    const store::Watching& watching = *watch_->watching;
    SetProperty(env, result, "idle", NewBool(env, watching.idle()));
    SetProperty(env, result, "bell", NewNumber(env, watching.bell()));
    SetProperty(env, result, "waitMs", NewNumber(env, static_cast<double>(watching.wait_ms())));
    return result;
  }
  napi_value Failure(napi_env env, const Status& status) override {
    return StatusToJs(env, status, watch_->handle->path().c_str());
  }

 private:
  const std::shared_ptr<Watch> watch_;
  StepSink sink_;
};

/** So that what expires before the first step is told. */
class RenewJob final : public Job {
 public:
  explicit RenewJob(const std::shared_ptr<StoreHandle>& handle) : Job(handle->lane()), handle_(handle) {}

 protected:
  Status Execute() override {
    const StoreUse use(handle_.get());
    if (use.engine() != nullptr) use.engine()->RenewWatch();
    return Code::kOk;
  }

 private:
  const std::shared_ptr<StoreHandle> handle_;
};

/** storeWatch(handle, prefix: Uint8Array): Watch, of what is committed from now on. Never waits. */
napi_value StoreWatch(napi_env env, napi_callback_info info) {
  napi_value arguments[2];
  std::shared_ptr<StoreHandle> handle;
  const std::byte* prefix = nullptr;
  size_t prefix_size = 0;
  if (!GetArguments(env, info, 2, arguments) || !ToStoreHandle(env, arguments[0], &handle) ||
      !ToBytes(env, arguments[1], &prefix, &prefix_size)) {
    return nullptr;
  }
  const StoreUse use(handle.get());
  if (use.engine() == nullptr) return ThrowStatus(env, Code::kClosed, handle->path().c_str());
  auto watch = std::make_shared<Watch>();
  watch->watching = use.engine()->Watch({reinterpret_cast<const uint8_t*>(prefix), prefix_size});
  watch->handle = handle;
  if (!use.engine()->read_only()) Job::StartDetached(env, std::make_unique<RenewJob>(handle));
  return NewSharedHandle(env, std::move(watch), kWatchTag);
}

/** storeWatchRead(watch): Promise<ChangeStep> */
napi_value StoreWatchRead(napi_env env, napi_callback_info info) {
  napi_value argument;
  std::shared_ptr<Watch> watch;
  if (!GetArguments(env, info, 1, &argument) || !ToShared(env, argument, kWatchTag, &watch)) return nullptr;
  return Job::Start(env, std::make_unique<ReadJob>(std::move(watch)));
}

/** storeWatchWait(watch, bell, waitMs): Promise<void>: the bell is not `bell` any more, or so much time has passed. */
napi_value StoreWatchWait(napi_env env, napi_callback_info info) {
  napi_value arguments[3];
  std::shared_ptr<Watch> watch;
  uint32_t bell;
  uint32_t wait_ms;
  if (!GetArguments(env, info, 3, arguments) || !ToShared(env, arguments[0], kWatchTag, &watch) ||
      !ToUint32(env, arguments[1], &bell) || !ToUint32(env, arguments[2], &wait_ms)) {
    return nullptr;
  }
  const StoreUse use(watch->handle.get());
  if (use.engine() == nullptr) return ThrowStatus(env, Code::kClosed, watch->handle->path().c_str());
  Waits* const waits = Waits::Of(env);
  if (waits == nullptr) return nullptr;
  store::WatchBell word = use.engine()->Bell();
  return waits->WaitForWord(std::move(word.owner), word.word, bell, uint64_t{wait_ms} * 1'000'000);
}

}  // namespace

bool InitStoreWatch(napi_env env, napi_value exports) {
  return Export(env, exports, "storeWatch", StoreWatch) && Export(env, exports, "storeWatchRead", StoreWatchRead) &&
         Export(env, exports, "storeWatchWait", StoreWatchWait);
}

}  // namespace faultless::binding
