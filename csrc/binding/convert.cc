#include "binding/convert.h"

#include <cstring>
#include <limits>

namespace faultless::binding {

namespace {

/** What a handle is to JavaScript: an external, which a call gets at without looking up a property as a wrapped object
 * needs. */
struct HandleBox {
  napi_type_tag tag;
  void* object;
  napi_finalize finalize;
};

constexpr double kMaxSafeInteger = 9007199254740991.0;

bool ThrowKind(napi_env env, const char* expected) {
  bool pending = false;
  if (napi_is_exception_pending(env, &pending) == napi_ok && !pending) {
    (void)napi_throw_type_error(env, nullptr, expected);
  }
  return false;
}

bool ToIntegerWithin(napi_env env, napi_value value, double lowest, double highest, double* result) {
  if (!ToDouble(env, value, result)) return false;
  // Written so that NaN fails.
  if (!(*result >= lowest && *result <= highest)) return ThrowKind(env, "faultless: integer out of range");
  return true;
}

}  // namespace

bool Export(napi_env env, napi_value exports, const char* name, napi_callback callback) {
  napi_value function = nullptr;
  if (napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, nullptr, &function) == napi_ok &&
      napi_set_named_property(env, exports, name, function) == napi_ok) {
    return true;
  }
  return ThrowKind(env, "faultless: export failed");
}

bool GetArguments(napi_env env, napi_callback_info info, size_t count, napi_value* arguments) {
  size_t given = count;
  if (napi_get_cb_info(env, info, &given, arguments, nullptr, nullptr) == napi_ok) return true;
  return ThrowKind(env, "faultless: no arguments");
}

bool ToBool(napi_env env, napi_value value, bool* result) {
  return napi_get_value_bool(env, value, result) == napi_ok || ThrowKind(env, "faultless: boolean expected");
}

bool ToDouble(napi_env env, napi_value value, double* result) {
  return napi_get_value_double(env, value, result) == napi_ok || ThrowKind(env, "faultless: number expected");
}

bool ToUint64(napi_env env, napi_value value, uint64_t* result) {
  double number;
  if (!ToIntegerWithin(env, value, 0, kMaxSafeInteger, &number)) return false;
  *result = static_cast<uint64_t>(number);
  return true;
}

bool ToUint32(napi_env env, napi_value value, uint32_t* result) {
  double number;
  if (!ToIntegerWithin(env, value, 0, std::numeric_limits<uint32_t>::max(), &number)) return false;
  *result = static_cast<uint32_t>(number);
  return true;
}

bool ToInt32(napi_env env, napi_value value, int32_t* result) {
  double number;
  if (!ToIntegerWithin(env, value, std::numeric_limits<int32_t>::min(), std::numeric_limits<int32_t>::max(), &number)) {
    return false;
  }
  *result = static_cast<int32_t>(number);
  return true;
}

bool ToString(napi_env env, napi_value value, std::string* result) {
  size_t size = 0;
  if (napi_get_value_string_utf8(env, value, nullptr, 0, &size) != napi_ok) {
    return ThrowKind(env, "faultless: string expected");
  }
  result->resize(size);
  // The terminating NUL goes where std::string keeps its own.
  if (napi_get_value_string_utf8(env, value, result->data(), size + 1, &size) == napi_ok) return true;
  return ThrowKind(env, "faultless: string expected");
}

bool ToBytes(napi_env env, napi_value value, const std::byte** data, size_t* size) {
  bool is_typed_array = false;
  napi_typedarray_type type = napi_int8_array;
  void* bytes = nullptr;
  if (napi_is_typedarray(env, value, &is_typed_array) != napi_ok || !is_typed_array ||
      napi_get_typedarray_info(env, value, &type, size, &bytes, nullptr, nullptr) != napi_ok ||
      type != napi_uint8_array) {
    return ThrowKind(env, "faultless: Uint8Array expected");
  }
  *data = static_cast<const std::byte*>(bytes);
  return true;
}

bool ToDoubles(napi_env env, napi_value value, const double** data, size_t* count) {
  bool is_typed_array = false;
  napi_typedarray_type type = napi_int8_array;
  void* elements = nullptr;
  if (napi_is_typedarray(env, value, &is_typed_array) != napi_ok || !is_typed_array ||
      napi_get_typedarray_info(env, value, &type, count, &elements, nullptr, nullptr) != napi_ok ||
      type != napi_float64_array) {
    return ThrowKind(env, "faultless: Float64Array expected");
  }
  *data = static_cast<const double*>(elements);
  return true;
}

bool IsAscii(const uint8_t* bytes, size_t size) {
  uint64_t all = 0;
  for (; size >= 8; bytes += 8, size -= 8) {
    uint64_t word;
    std::memcpy(&word, bytes, 8);
    all |= word;
  }
  for (; size > 0; bytes++, size--) all |= *bytes;
  return (all & 0x8080'8080'8080'8080) == 0;
}

bool ToHandlePointer(napi_env env, napi_value value, const napi_type_tag& tag, void** result) {
  napi_valuetype type = napi_undefined;
  void* data = nullptr;
  // Externals never leave ts/, so each is a box of ours.
  if (napi_typeof(env, value, &type) == napi_ok && type == napi_external &&
      napi_get_value_external(env, value, &data) == napi_ok) {
    const auto* box = static_cast<const HandleBox*>(data);
    if (box->tag.lower == tag.lower && box->tag.upper == tag.upper) {
      *result = box->object;
      return true;
    }
  }
  return ThrowKind(env, "faultless: handle of another kind");
}

napi_value Undefined(napi_env env) {
  napi_value value = nullptr;
  return napi_get_undefined(env, &value) == napi_ok ? value : nullptr;
}

napi_value NewNumber(napi_env env, double number) {
  napi_value value = nullptr;
  return napi_create_double(env, number, &value) == napi_ok ? value : nullptr;
}

napi_value NewBool(napi_env env, bool boolean) {
  napi_value value = nullptr;
  return napi_get_boolean(env, boolean, &value) == napi_ok ? value : nullptr;
}

napi_value NewString(napi_env env, const char* text) {
  napi_value value = nullptr;
  return napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &value) == napi_ok ? value : nullptr;
}

void SetProperty(napi_env env, napi_value object, const char* name, napi_value value) {
  if (object != nullptr && value != nullptr) (void)napi_set_named_property(env, object, name, value);
}

napi_value NewHandle(napi_env env, void* object, const napi_type_tag& tag, napi_finalize finalize) {
  const auto release = [](napi_env released_env, void* data, void* /*hint*/) {
    auto* box = static_cast<HandleBox*>(data);
    box->finalize(released_env, box->object, nullptr);
    delete box;
  };
  auto* box = new HandleBox{tag, object, finalize};
  napi_value handle = nullptr;
  if (napi_create_external(env, box, release, nullptr, &handle) == napi_ok) return handle;
  delete box;
  return nullptr;
}

napi_value StatusToJs(napi_env env, const Status& status, const char* path) {
  napi_value descriptor = nullptr;
  if (napi_create_object(env, &descriptor) != napi_ok) return nullptr;
  SetProperty(env, descriptor, "code", NewString(env, CodeName(status.code())));
  if (status.message() != nullptr) SetProperty(env, descriptor, "message", NewString(env, status.message()));
  if (status.error() != 0) SetProperty(env, descriptor, "errno", NewNumber(env, -status.error()));
  if (status.syscall() != nullptr) SetProperty(env, descriptor, "syscall", NewString(env, status.syscall()));
  if (path != nullptr) SetProperty(env, descriptor, "path", NewString(env, path));
  if (status.has_offset()) {
    SetProperty(env, descriptor, "offset", NewNumber(env, static_cast<double>(status.offset())));
  }
  return descriptor;
}

napi_value AbortedToJs(napi_env env) {
  napi_value descriptor = nullptr;
  if (napi_create_object(env, &descriptor) != napi_ok) return nullptr;
  SetProperty(env, descriptor, "code", NewString(env, "ABORTED"));
  return descriptor;
}

napi_value ThrowStatus(napi_env env, const Status& status, const char* path) {
  napi_value descriptor = StatusToJs(env, status, path);
  if (descriptor != nullptr) (void)napi_throw(env, descriptor);
  return nullptr;
}

const char* CodeName(Code code) {
  switch (code) {
    case Code::kClosed:
      return "ERR_CLOSED";
    case Code::kReadOnly:
      return "ERR_READ_ONLY";
    case Code::kInvalidArgType:
      return "ERR_INVALID_ARG_TYPE";
    case Code::kInvalidArgValue:
      return "ERR_INVALID_ARG_VALUE";
    case Code::kOutOfRange:
      return "ERR_OUT_OF_RANGE";
    case Code::kKeyEmpty:
      return "ERR_KEY_EMPTY";
    case Code::kKeyTooLong:
      return "ERR_KEY_TOO_LONG";
    case Code::kValueTooLarge:
      return "ERR_VALUE_TOO_LARGE";
    case Code::kNotANumber:
      return "ERR_NOT_A_NUMBER";
    case Code::kNotFound:
      return "ERR_NOT_FOUND";
    case Code::kExists:
      return "ERR_EXISTS";
    case Code::kAccess:
      return "ERR_ACCESS";
    case Code::kFormat:
      return "ERR_FORMAT";
    case Code::kCorrupt:
      return "ERR_CORRUPT";
    case Code::kIo:
      return "ERR_IO";
    case Code::kNoSpace:
      return "ERR_NO_SPACE";
    case Code::kStoreFull:
      return "ERR_STORE_FULL";
    case Code::kMemlock:
      return "ERR_MEMLOCK";
    case Code::kUnsupported:
      return "ERR_UNSUPPORTED";
    case Code::kBusy:
    case Code::kWouldBlock:
      return "ERR_BUSY";
    case Code::kOk:
    case Code::kAbsent:
    case Code::kCold:
      break;  // answers, not errors: a job that rejects with one of them is a mistake of ours
  }
  return "ERR_IO";
}

}  // namespace faultless::binding
