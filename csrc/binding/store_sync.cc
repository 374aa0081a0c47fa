// The store's calls on the JavaScript thread itself: the Sync methods, which may wait, and the try methods, which never
// do. Keys and small values travel in one scratch buffer of the caller: the key at its start, a value kScratchValue
// bytes into it.
#include <cstdlib>

#include "binding/convert.h"
#include "binding/exports.h"
#include "binding/store_handle.h"
#include "binding/store_values.h"

namespace faultless::binding {

namespace {

constexpr size_t kScratchValue = 64 * 1024;
constexpr size_t kScratchBytes = 2 * kScratchValue;
static_assert(store::kMaxKeyBytes < kScratchValue);

// What is answered in place of a value's size.
constexpr double kAnswerAbsent = -1;
constexpr double kAnswerCold = -2;

/** handle, scratch, keyBytes: how every one of these functions is called. */
struct KeyCall {
  std::shared_ptr<StoreHandle> handle;
  uint8_t* scratch = nullptr;
  store::Bytes key;
};

bool ToKeyCall(napi_env env, const napi_value* arguments, KeyCall* call) {
  const std::byte* data = nullptr;
  size_t size = 0;
  uint32_t key_size;
  if (!ToStoreHandle(env, arguments[0], &call->handle) || !ToBytes(env, arguments[1], &data, &size) ||
      !ToUint32(env, arguments[2], &key_size)) {
    return false;
  }
  if (size != kScratchBytes || key_size > store::kMaxKeyBytes) {
    (void)napi_throw_error(env, nullptr, "faultless: malformed scratch buffer");
    return false;
  }
  call->scratch = reinterpret_cast<uint8_t*>(const_cast<std::byte*>(data));
  call->key = store::Bytes(call->scratch, key_size);
  return true;
}

/** A small value goes into the scratch buffer, a large one into memory of its own. */
class ScratchSink final : public store::ValueSink {
 public:
  explicit ScratchSink(uint8_t* scratch) : scratch_(scratch) {}

  uint8_t* Allocate(uint64_t size) override {
    size_ = size;
    own_.reset();
    if (size <= kScratchBytes - kScratchValue) return scratch_ + kScratchValue;
    own_.reset(static_cast<uint8_t*>(std::malloc(size)));
    return own_.get();
  }
  /** The size of a value in the scratch buffer, or a Buffer. */
  napi_value ToJs(napi_env env) {
    if (own_ == nullptr) return NewNumber(env, static_cast<double>(size_));
    napi_value buffer = nullptr;
    const auto release = [](napi_env /*env*/, void* bytes, void* /*hint*/) { std::free(bytes); };
    if (napi_create_external_buffer(env, size_, own_.get(), release, nullptr, &buffer) == napi_ok) {
      (void)own_.release();
      return buffer;
    }
    return napi_create_buffer_copy(env, size_, own_.get(), nullptr, &buffer) == napi_ok ? buffer : nullptr;
  }

 private:
  uint8_t* const scratch_;
  MallocBytes own_;
  uint64_t size_ = 0;
};

napi_value Get(napi_env env, napi_callback_info info, store::ReadMode mode) {
  napi_value arguments[3];
  KeyCall call;
  if (!GetArguments(env, info, 3, arguments) || !ToKeyCall(env, arguments, &call)) return nullptr;
  const StoreUse use(call.handle.get());
  if (use.engine() == nullptr) return ThrowStatus(env, Code::kClosed, call.handle->path().c_str());
  ScratchSink sink(call.scratch);
  const Status status = mode == store::ReadMode::kResidentOnly
                            ? use.engine()->Get(call.key, &sink, mode)
                            : RepeatWhileBlocked([&] { return use.engine()->Get(call.key, &sink, mode); });
  if (status.ok()) return sink.ToJs(env);
  if (status.code() == Code::kAbsent) return NewNumber(env, kAnswerAbsent);
  if (mode == store::ReadMode::kResidentOnly && (status.code() == Code::kCold || status.code() == Code::kWouldBlock)) {
    return NewNumber(env, kAnswerCold);
  }
  return ThrowStatus(env, status, call.handle->path().c_str());
}

napi_value Has(napi_env env, napi_callback_info info, store::ReadMode mode) {
  napi_value arguments[3];
  KeyCall call;
  if (!GetArguments(env, info, 3, arguments) || !ToKeyCall(env, arguments, &call)) return nullptr;
  const StoreUse use(call.handle.get());
  if (use.engine() == nullptr) return ThrowStatus(env, Code::kClosed, call.handle->path().c_str());
  const Status status = mode == store::ReadMode::kResidentOnly
                            ? use.engine()->Has(call.key, mode)
                            : RepeatWhileBlocked([&] { return use.engine()->Has(call.key, mode); });
  if (status.ok()) return NewNumber(env, 0);
  if (status.code() == Code::kAbsent) return NewNumber(env, kAnswerAbsent);
  if (mode == store::ReadMode::kResidentOnly && (status.code() == Code::kCold || status.code() == Code::kWouldBlock)) {
    return NewNumber(env, kAnswerCold);
  }
  return ThrowStatus(env, status, call.handle->path().c_str());
}

/** storeGetSync(handle, scratch, keyBytes): number | Buffer: value bytes in the scratch buffer, -1: absent. Waits. */
napi_value StoreGetSync(napi_env env, napi_callback_info info) { return Get(env, info, store::ReadMode::kMayFault); }

/** storeTryGet(handle, scratch, keyBytes): number | Buffer: as storeGetSync, -2: cold. Never waits. */
napi_value StoreTryGet(napi_env env, napi_callback_info info) { return Get(env, info, store::ReadMode::kResidentOnly); }

/** storeHasSync(handle, scratch, keyBytes): number: 0: there, -1: absent. Waits. */
napi_value StoreHasSync(napi_env env, napi_callback_info info) { return Has(env, info, store::ReadMode::kMayFault); }

/** storeTryHas(handle, scratch, keyBytes): number: 0: there, -1: absent, -2: cold. Never waits. */
napi_value StoreTryHas(napi_env env, napi_callback_info info) { return Has(env, info, store::ReadMode::kResidentOnly); }

/** storeSetSync(handle, scratch, keyBytes, value: number | Uint8Array): a number: bytes of it in the scratch buffer.
 * Waits. */
napi_value StoreSetSync(napi_env env, napi_callback_info info) {
  napi_value arguments[4];
  KeyCall call;
  if (!GetArguments(env, info, 4, arguments) || !ToKeyCall(env, arguments, &call)) return nullptr;
  store::Bytes value;
  napi_valuetype type = napi_undefined;
  if (napi_typeof(env, arguments[3], &type) == napi_ok && type == napi_number) {
    uint32_t size;
    if (!ToUint32(env, arguments[3], &size)) return nullptr;
    if (size > kScratchBytes - kScratchValue) {
      (void)napi_throw_error(env, nullptr, "faultless: malformed scratch buffer");
      return nullptr;
    }
    value = store::Bytes(call.scratch + kScratchValue, size);
  } else {
    const std::byte* data = nullptr;
    size_t size = 0;
    if (!ToBytes(env, arguments[3], &data, &size)) return nullptr;
    value = store::Bytes(reinterpret_cast<const uint8_t*>(data), size);
  }
  const StoreUse use(call.handle.get());
  if (use.engine() == nullptr) return ThrowStatus(env, Code::kClosed, call.handle->path().c_str());
  const Status status = RepeatWhileBlocked([&] { return use.engine()->Set(call.key, value, store::WriteOptions{}); });
  return status.ok() ? Undefined(env) : ThrowStatus(env, status, call.handle->path().c_str());
}

/** storeDeleteSync(handle, scratch, keyBytes): boolean: whether it was there. Waits. */
napi_value StoreDeleteSync(napi_env env, napi_callback_info info) {
  napi_value arguments[3];
  KeyCall call;
  if (!GetArguments(env, info, 3, arguments) || !ToKeyCall(env, arguments, &call)) return nullptr;
  const StoreUse use(call.handle.get());
  if (use.engine() == nullptr) return ThrowStatus(env, Code::kClosed, call.handle->path().c_str());
  bool existed = false;
  const Status status = RepeatWhileBlocked([&] { return use.engine()->Delete(call.key, &existed); });
  return status.ok() ? NewBool(env, existed) : ThrowStatus(env, status, call.handle->path().c_str());
}

/** storeClearSync(handle). Waits. */
napi_value StoreClearSync(napi_env env, napi_callback_info info) {
  napi_value argument;
  std::shared_ptr<StoreHandle> handle;
  if (!GetArguments(env, info, 1, &argument) || !ToStoreHandle(env, argument, &handle)) return nullptr;
  const StoreUse use(handle.get());
  if (use.engine() == nullptr) return ThrowStatus(env, Code::kClosed, handle->path().c_str());
  uint32_t next_shard = 0;
  const Status status = RepeatWhileBlocked([&] { return use.engine()->Clear(&next_shard); });
  return status.ok() ? Undefined(env) : ThrowStatus(env, status, handle->path().c_str());
}

}  // namespace

bool InitStoreSync(napi_env env, napi_value exports) {
  return Export(env, exports, "storeGetSync", StoreGetSync) && Export(env, exports, "storeTryGet", StoreTryGet) &&
         Export(env, exports, "storeHasSync", StoreHasSync) && Export(env, exports, "storeTryHas", StoreTryHas) &&
         Export(env, exports, "storeSetSync", StoreSetSync) &&
         Export(env, exports, "storeDeleteSync", StoreDeleteSync) &&
         Export(env, exports, "storeClearSync", StoreClearSync);
}

}  // namespace faultless::binding
