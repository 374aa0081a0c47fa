// The store's calls on the JavaScript thread itself: the Sync methods, which may wait, and the try methods, which never
// do. Each open Store has functions of its own, so that a call finds its store and its scratch buffer without asking
// for either. Keys and small values travel in that buffer: the key at its start, a value kScratchValue bytes into it,
// and at its end until when what was read is the newest (WriteFreshness in store_values.h).
#include <cstdlib>

#include "binding/convert.h"
#include "binding/exports.h"
#include "binding/store_handle.h"
#include "binding/store_values.h"

namespace faultless::binding {

namespace {

constexpr size_t kScratchValue = 64 * 1024;
constexpr size_t kScratchFreshness = 2 * kScratchValue;
constexpr size_t kScratchBytes = kScratchFreshness + kFreshnessBytes;
static_assert(store::kMaxKeyBytes < kScratchValue);

// What is answered in place of a value's size.
constexpr double kAnswerAbsent = -1;
constexpr double kAnswerCold = -2;

/** No value of the store is text that could be answered as a string. */
constexpr int32_t kNoText = -2;
/** Every value is text, without a byte before it. */
constexpr int32_t kAllText = -1;

/** What the functions of one Store have in common; released with the last of them. */
class SyncCalls {
 public:
  /** `text_mark`: the byte before a value that is UTF-8 text, or one of the above. */
  SyncCalls(napi_env env, std::shared_ptr<StoreHandle> handle, uint8_t* scratch, napi_ref scratch_owner,
            int32_t text_mark)
      : env_(env),
        handle_(std::move(handle)),
        scratch_(scratch),
        scratch_owner_(scratch_owner),
        text_mark_(text_mark) {}
  ~SyncCalls() { (void)napi_delete_reference(env_, scratch_owner_); }
  SyncCalls(const SyncCalls&) = delete;
  SyncCalls& operator=(const SyncCalls&) = delete;

  StoreHandle* handle() const { return handle_.get(); }
  const char* path() const { return handle_->path().c_str(); }
  uint8_t* scratch() const { return scratch_; }
  uint8_t* scratch_value() const { return scratch_ + kScratchValue; }

  /** Adds a function to `target`. False with a pending exception where that fails. */
  bool Export(napi_value target, const char* name, napi_callback callback) {
    napi_value function = nullptr;
    if (napi_create_function(env_, name, NAPI_AUTO_LENGTH, callback, this, &function) != napi_ok ||
        napi_add_finalizer(env_, function, this, Release, nullptr, nullptr) != napi_ok) {
      return false;
    }
    functions_++;
    return napi_set_named_property(env_, target, name, function) == napi_ok;
  }
  bool has_functions() const { return functions_ > 0; }

  /**
   * The value of so many bytes in the scratch buffer, or its size: text that is ASCII becomes a string here, which
   * saves JavaScript another crossing.
   */
  napi_value ToJs(uint64_t size) const {
    const int32_t mark_bytes = text_mark_ >= 0 ? 1 : 0;
    const uint8_t* const value = scratch_value();
    if (text_mark_ == kNoText || size < static_cast<uint64_t>(mark_bytes) ||
        (mark_bytes == 1 && value[0] != text_mark_) || !IsAscii(value + mark_bytes, size - mark_bytes)) {
      return NewNumber(env_, static_cast<double>(size));
    }
    napi_value text = nullptr;
    const auto* const characters = reinterpret_cast<const char*>(value + mark_bytes);
    return napi_create_string_latin1(env_, characters, size - mark_bytes, &text) == napi_ok ? text : nullptr;
  }

 private:
  static void Release(napi_env /*env*/, void* data, void* /*hint*/) {
    auto* const calls = static_cast<SyncCalls*>(data);
    if (--calls->functions_ == 0) delete calls;
  }

  const napi_env env_;
  const std::shared_ptr<StoreHandle> handle_;
  uint8_t* const scratch_;
  const napi_ref scratch_owner_;
  const int32_t text_mark_;
  int functions_ = 0;
};

/** keyBytes, …: how every one of these functions is called. */
struct KeyCall {
  SyncCalls* calls = nullptr;
  store::Bytes key;
  napi_value more = nullptr;  // the second argument
};

bool ToKeyCall(napi_env env, napi_callback_info info, KeyCall* call) {
  size_t count = 2;
  napi_value arguments[2];
  void* data = nullptr;
  uint32_t key_size;
  if (napi_get_cb_info(env, info, &count, arguments, nullptr, &data) != napi_ok ||
      !ToUint32(env, arguments[0], &key_size)) {
    return false;
  }
  if (key_size > store::kMaxKeyBytes) {
    (void)napi_throw_error(env, nullptr, "faultless: malformed scratch buffer");
    return false;
  }
  call->calls = static_cast<SyncCalls*>(data);
  call->key = store::Bytes(call->calls->scratch(), key_size);
  call->more = arguments[1];
  return true;
}

/** A small value goes into the scratch buffer, a large one into memory of its own. */
class ScratchSink final : public store::ValueSink {
 public:
  explicit ScratchSink(const SyncCalls& calls) : calls_(calls) {}

  uint8_t* Allocate(uint64_t size) override {
    size_ = size;
    if (size <= kScratchFreshness - kScratchValue) {
      own_.reset();
      return calls_.scratch_value();
    }
    own_.reset(static_cast<uint8_t*>(std::malloc(size)));
    return own_.get();
  }
  /** The value in the scratch buffer (its size, or a string), or a Buffer. */
  napi_value ToJs(napi_env env) {
    if (own_ == nullptr) return calls_.ToJs(size_);
    napi_value buffer = nullptr;
    const auto release = [](napi_env /*env*/, void* bytes, void* /*hint*/) { std::free(bytes); };
    if (napi_create_external_buffer(env, size_, own_.get(), release, nullptr, &buffer) == napi_ok) {
      (void)own_.release();
      return buffer;
    }
    return napi_create_buffer_copy(env, size_, own_.get(), nullptr, &buffer) == napi_ok ? buffer : nullptr;
  }

 private:
  const SyncCalls& calls_;
  MallocBytes own_;
  uint64_t size_ = 0;
};

/** What Get and Has answer where they have found nothing. */
napi_value AnswerWithoutValue(napi_env env, const Status& status, store::ReadMode mode, const SyncCalls& calls) {
  if (status.code() == Code::kAbsent) return NewNumber(env, kAnswerAbsent);
  if (mode == store::ReadMode::kResidentOnly && (status.code() == Code::kCold || status.code() == Code::kWouldBlock)) {
    return NewNumber(env, kAnswerCold);
  }
  return ThrowStatus(env, status, calls.path());
}

napi_value Get(napi_env env, napi_callback_info info, store::ReadMode mode) {
  KeyCall call;
  if (!ToKeyCall(env, info, &call)) return nullptr;
  const SyncCalls& calls = *call.calls;
  const StoreUse use(calls.handle());
  if (use.engine() == nullptr) return ThrowStatus(env, Code::kClosed, calls.path());
  ScratchSink sink(calls);
  store::Freshness freshness;
  const auto get = [&] { return use.engine()->Get(call.key, &sink, mode, &freshness); };
  const Status status = mode == store::ReadMode::kResidentOnly ? get() : RepeatWhileBlocked(get);
  WriteFreshness(freshness, calls.scratch() + kScratchFreshness);
  return status.ok() ? sink.ToJs(env) : AnswerWithoutValue(env, status, mode, calls);
}

napi_value Has(napi_env env, napi_callback_info info, store::ReadMode mode) {
  KeyCall call;
  if (!ToKeyCall(env, info, &call)) return nullptr;
  const SyncCalls& calls = *call.calls;
  const StoreUse use(calls.handle());
  if (use.engine() == nullptr) return ThrowStatus(env, Code::kClosed, calls.path());
  const Status status = mode == store::ReadMode::kResidentOnly
                            ? use.engine()->Has(call.key, mode)
                            : RepeatWhileBlocked([&] { return use.engine()->Has(call.key, mode); });
  return status.ok() ? NewNumber(env, 0) : AnswerWithoutValue(env, status, mode, calls);
}

/** get(keyBytes): number | string | Buffer: value bytes in the scratch buffer, or the value; -1: absent. Waits. */
napi_value GetSync(napi_env env, napi_callback_info info) { return Get(env, info, store::ReadMode::kMayFault); }

/** tryGet(keyBytes): as get, -2: cold. Never waits. */
napi_value TryGet(napi_env env, napi_callback_info info) { return Get(env, info, store::ReadMode::kResidentOnly); }

/** has(keyBytes): number: 0: there, -1: absent. Waits. */
napi_value HasSync(napi_env env, napi_callback_info info) { return Has(env, info, store::ReadMode::kMayFault); }

/** tryHas(keyBytes): number: 0: there, -1: absent, -2: cold. Never waits. */
napi_value TryHas(napi_env env, napi_callback_info info) { return Has(env, info, store::ReadMode::kResidentOnly); }

/** set(keyBytes, value: number | Uint8Array): a number: bytes of it in the scratch buffer. Waits. */
napi_value SetSync(napi_env env, napi_callback_info info) {
  KeyCall call;
  if (!ToKeyCall(env, info, &call)) return nullptr;
  const SyncCalls& calls = *call.calls;
  store::Bytes value;
  napi_valuetype type = napi_undefined;
  if (napi_typeof(env, call.more, &type) == napi_ok && type == napi_number) {
    uint32_t size;
    if (!ToUint32(env, call.more, &size)) return nullptr;
    if (size > kScratchFreshness - kScratchValue) {
      (void)napi_throw_error(env, nullptr, "faultless: malformed scratch buffer");
      return nullptr;
    }
    value = store::Bytes(calls.scratch_value(), size);
  } else {
    const std::byte* data = nullptr;
    size_t size = 0;
    if (!ToBytes(env, call.more, &data, &size)) return nullptr;
    value = store::Bytes(reinterpret_cast<const uint8_t*>(data), size);
  }
  const StoreUse use(calls.handle());
  if (use.engine() == nullptr) return ThrowStatus(env, Code::kClosed, calls.path());
  const Status status = RepeatWhileBlocked([&] { return use.engine()->Set(call.key, value, store::WriteOptions{}); });
  return status.ok() ? Undefined(env) : ThrowStatus(env, status, calls.path());
}

/** delete(keyBytes): boolean: whether it was there. Waits. */
napi_value DeleteSync(napi_env env, napi_callback_info info) {
  KeyCall call;
  if (!ToKeyCall(env, info, &call)) return nullptr;
  const SyncCalls& calls = *call.calls;
  const StoreUse use(calls.handle());
  if (use.engine() == nullptr) return ThrowStatus(env, Code::kClosed, calls.path());
  bool existed = false;
  const Status status = RepeatWhileBlocked([&] { return use.engine()->Delete(call.key, &existed); });
  return status.ok() ? NewBool(env, existed) : ThrowStatus(env, status, calls.path());
}

/**
 * storeSync(handle, scratch, textMark): {get, tryGet, has, tryHas, set, delete}. textMark: the byte before values that
 * are UTF-8 text; -1: all are, without one; -2: none is to be answered as a string.
 */
napi_value StoreSync(napi_env env, napi_callback_info info) {
  napi_value arguments[3];
  std::shared_ptr<StoreHandle> handle;
  const std::byte* data = nullptr;
  size_t size = 0;
  int32_t text_mark;
  if (!GetArguments(env, info, 3, arguments) || !ToStoreHandle(env, arguments[0], &handle) ||
      !ToBytes(env, arguments[1], &data, &size) || !ToInt32(env, arguments[2], &text_mark)) {
    return nullptr;
  }
  if (size != kScratchBytes || text_mark < kNoText || text_mark > 255) {
    (void)napi_throw_error(env, nullptr, "faultless: malformed scratch buffer");
    return nullptr;
  }
  napi_ref scratch_owner = nullptr;
  napi_value functions = nullptr;
  if (napi_create_object(env, &functions) != napi_ok ||
      napi_create_reference(env, arguments[1], 1, &scratch_owner) != napi_ok) {
    return nullptr;
  }
  auto* const scratch = reinterpret_cast<uint8_t*>(const_cast<std::byte*>(data));
  auto calls = std::make_unique<SyncCalls>(env, std::move(handle), scratch, scratch_owner, text_mark);
  const bool exported = calls->Export(functions, "get", GetSync) && calls->Export(functions, "tryGet", TryGet) &&
                        calls->Export(functions, "has", HasSync) && calls->Export(functions, "tryHas", TryHas) &&
                        calls->Export(functions, "set", SetSync) && calls->Export(functions, "delete", DeleteSync);
  if (calls->has_functions()) (void)calls.release();  // the functions have it
  return exported ? functions : nullptr;
}

/** storeClearSync(handle). Waits. */
napi_value StoreClearSync(napi_env env, napi_callback_info info) {
  napi_value argument;
  std::shared_ptr<StoreHandle> handle;
  if (!GetArguments(env, info, 1, &argument) || !ToStoreHandle(env, argument, &handle)) return nullptr;
  const StoreUse use(handle.get());
  if (use.engine() == nullptr) return ThrowStatus(env, Code::kClosed, handle->path().c_str());
  store::ClearProgress progress;
  const Status status = RepeatWhileBlocked([&] { return use.engine()->Clear(&progress); });
  return status.ok() ? Undefined(env) : ThrowStatus(env, status, handle->path().c_str());
}

}  // namespace

bool InitStoreSync(napi_env env, napi_value exports) {
  return Export(env, exports, "storeSync", StoreSync) && Export(env, exports, "storeClearSync", StoreClearSync);
}

}  // namespace faultless::binding
