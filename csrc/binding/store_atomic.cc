// The store's calls on the JavaScript thread itself that need more than a key and a value: writes that expire or depend
// on what the key holds. All but storeNow may wait.
#include "binding/convert.h"
#include "binding/exports.h"
#include "binding/store_handle.h"
#include "binding/store_values.h"

namespace faultless::binding {

namespace {

/** handle, key: how every one of these functions is called; then what is its own. */
constexpr size_t kMostArguments = 6;

class Call {
 public:
  Call(napi_env env, napi_callback_info info) : env_(env) {
    ready_ = GetArguments(env, info, kMostArguments, arguments_) && ToStoreHandle(env, arguments_[0], &handle_) &&
             Bytes(1, &key_);
  }
  bool ready() const { return ready_; }
  store::Bytes key() const { return key_; }

  bool Bytes(size_t index, store::Bytes* bytes) const {
    const std::byte* data = nullptr;
    size_t size = 0;
    if (!ToBytes(env_, arguments_[index], &data, &size)) return false;
    *bytes = store::Bytes(reinterpret_cast<const uint8_t*>(data), size);
    return true;
  }
  /** Bytes, or undefined: false in *given. */
  bool OptionalBytes(size_t index, store::Bytes* bytes, bool* given) const {
    napi_valuetype type = napi_undefined;
    *given = napi_typeof(env_, arguments_[index], &type) == napi_ok && type != napi_undefined;
    return !*given || Bytes(index, bytes);
  }
  bool Double(size_t index, double* value) const { return ToDouble(env_, arguments_[index], value); }
  bool Options(size_t index) {
    double ttl_ms;
    if (!Double(index, &ttl_ms) || !ToBool(env_, arguments_[index + 1], &keep_expiry_)) return false;
    ttl_ms_ = ToTtl(ttl_ms);
    return true;
  }

  /** Runs write(engine, options) until no lock is in its way. False with a pending exception where it fails. */
  template <typename Write>
  bool Run(const Write& write) {
    const StoreUse use(handle_.get());
    store::Store* const engine = use.engine();
    if (engine == nullptr) return Throw(Code::kClosed);
    const Status status = RepeatWhileBlocked([&] {
      return write(engine, store::WriteOptions{engine->ExpiryAfter(ttl_ms_), keep_expiry_});
    });
    return status.ok() || Throw(status);
  }

 private:
  bool Throw(const Status& status) const {
    (void)ThrowStatus(env_, status, handle_->path().c_str());
    return false;
  }

  const napi_env env_;
  napi_value arguments_[kMostArguments] = {};
  std::shared_ptr<StoreHandle> handle_;
  store::Bytes key_;
  uint64_t ttl_ms_ = 0;
  bool keep_expiry_ = false;
  bool ready_ = false;
};

/** storeSetTtlSync(handle, key, value, ttl, keepTtl). ttl 0: none. Waits. */
napi_value StoreSetTtlSync(napi_env env, napi_callback_info info) {
  Call call(env, info);
  store::Bytes value;
  if (!call.ready() || !call.Bytes(2, &value) || !call.Options(3)) return nullptr;
  const auto write = [&](store::Store* engine, const store::WriteOptions& options) {
    return engine->Set(call.key(), value, options);
  };
  return call.Run(write) ? Undefined(env) : nullptr;
}

/** storeCompareAndSetSync(handle, key, expected, value, ttl, keepTtl): boolean. Waits. */
napi_value StoreCompareAndSetSync(napi_env env, napi_callback_info info) {
  Call call(env, info);
  store::Bytes expected;
  store::Bytes value;
  bool expects;
  bool sets;
  if (!call.ready() || !call.OptionalBytes(2, &expected, &expects) || !call.OptionalBytes(3, &value, &sets) ||
      !call.Options(4)) {
    return nullptr;
  }
  bool done = false;
  const auto write = [&](store::Store* engine, const store::WriteOptions& options) {
    return engine->CompareAndSet(call.key(), expects ? &expected : nullptr, sets ? &value : nullptr, options, &done);
  };
  return call.Run(write) ? NewBool(env, done) : nullptr;
}

/** storeIncrementSync(handle, key, by, ttl, keepTtl): number. Waits. */
napi_value StoreIncrementSync(napi_env env, napi_callback_info info) {
  Call call(env, info);
  double by;
  if (!call.ready() || !call.Double(2, &by) || !call.Options(3)) return nullptr;
  double sum = 0;
  const auto write = [&](store::Store* engine, const store::WriteOptions& options) {
    return engine->Increment(call.key(), by, options, &sum);
  };
  return call.Run(write) ? NewNumber(env, sum) : nullptr;
}

/** storeReadSync(handle, key): Buffer | undefined: the bytes of the value. Waits. */
napi_value StoreReadSync(napi_env env, napi_callback_info info) {
  Call call(env, info);
  if (!call.ready()) return nullptr;
  bool there = false;
  ValueArena arena;
  const auto read = [&](store::Store* engine, const store::WriteOptions&) -> Status {
    const Status status = engine->Get(call.key(), &arena, store::ReadMode::kMayFault);
    there = status.ok();
    return status.code() == Code::kAbsent ? Status() : status;
  };
  if (!call.Run(read)) return nullptr;
  if (!there) return Undefined(env);
  (void)arena.Keep();
  napi_value slabs = arena.ToJs(env);
  napi_value bytes = nullptr;
  return slabs != nullptr && napi_get_element(env, slabs, 0, &bytes) == napi_ok ? bytes : nullptr;
}

/** storeNow(handle): number: the store's clock, milliseconds since 1970. Never waits. */
napi_value StoreNow(napi_env env, napi_callback_info info) {
  napi_value argument;
  std::shared_ptr<StoreHandle> handle;
  if (!GetArguments(env, info, 1, &argument) || !ToStoreHandle(env, argument, &handle)) return nullptr;
  const StoreUse use(handle.get());
  if (use.engine() == nullptr) return ThrowStatus(env, Code::kClosed, handle->path().c_str());
  return NewNumber(env, static_cast<double>(use.engine()->NowMs()));
}

}  // namespace

bool InitStoreAtomic(napi_env env, napi_value exports) {
  return Export(env, exports, "storeSetTtlSync", StoreSetTtlSync) &&
         Export(env, exports, "storeCompareAndSetSync", StoreCompareAndSetSync) &&
         Export(env, exports, "storeIncrementSync", StoreIncrementSync) &&
         Export(env, exports, "storeReadSync", StoreReadSync) && Export(env, exports, "storeNow", StoreNow);
}

}  // namespace faultless::binding
