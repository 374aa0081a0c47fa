// Purpose: from JavaScript values to plain data and back. ts/ has checked types and ranges before it calls: a value of
// the wrong kind here is a mistake of ours and throws a plain TypeError, it never crashes. Thread safety: the
// environment's JavaScript thread only. Why plain N-API: while an environment is being torn down any call may fail, and
// here a failed call is a status that can be let go.
#pragma once

#include <node_api.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "base/status.h"

namespace faultless::binding {

/** Adds a function to the exports. False with a pending exception where that fails. */
bool Export(napi_env env, napi_value exports, const char* name, napi_callback callback);

// ───────────────────────────────────────────────────────────── to C++

/** The first `count` arguments; missing ones are undefined. False with a pending exception where that fails. */
bool GetArguments(napi_env env, napi_callback_info info, size_t count, napi_value* arguments);

// Each answers false with a pending TypeError where the value is of another kind.
bool ToBool(napi_env env, napi_value value, bool* result);
bool ToDouble(napi_env env, napi_value value, double* result);
/** A safe integer >= 0. */
bool ToUint64(napi_env env, napi_value value, uint64_t* result);
bool ToUint32(napi_env env, napi_value value, uint32_t* result);
bool ToInt32(napi_env env, napi_value value, int32_t* result);
/** UTF-8; may hold NUL bytes. */
bool ToString(napi_env env, napi_value value, std::string* result);
/** The bytes of any Uint8Array (also of a Buffer, and over a SharedArrayBuffer). Valid until JavaScript runs again:
 * copy them. */
bool ToBytes(napi_env env, napi_value value, const std::byte** data, size_t* size);
/** The elements of a Float64Array: how lists of numbers come in. Valid until JavaScript runs again: copy them. */
bool ToDoubles(napi_env env, napi_value value, const double** data, size_t* count);

/** Whether text of these bytes is the same as UTF-8 and as Latin-1. */
bool IsAscii(const uint8_t* bytes, size_t size);

/** The object behind a handle made by NewHandle. */
bool ToHandlePointer(napi_env env, napi_value value, const napi_type_tag& tag, void** result);
/** The object behind a handle made by NewSharedHandle<T>. */
template <typename T>
bool ToShared(napi_env env, napi_value value, const napi_type_tag& tag, std::shared_ptr<T>* object) {
  void* data = nullptr;
  if (!ToHandlePointer(env, value, tag, &data)) return false;
  *object = *static_cast<std::shared_ptr<T>*>(data);
  return true;
}

// ───────────────────────────────────────────────────────────── to JavaScript: nullptr where that fails

napi_value Undefined(napi_env env);
napi_value NewNumber(napi_env env, double value);
napi_value NewBool(napi_env env, bool value);
napi_value NewString(napi_env env, const char* text);
/** Sets a property of an object just made; failures show at the next use of the environment. */
void SetProperty(napi_env env, napi_value object, const char* name, napi_value value);

/**
 * An object that only we can look into, finalized by `finalize` when it is collected or the environment ends. Carries
 * `tag`, so that a handle of another kind is told apart.
 */
napi_value NewHandle(napi_env env, void* object, const napi_type_tag& tag, napi_finalize finalize);

template <typename T>
void ReleaseShared(napi_env /*env*/, void* data, void* /*hint*/) {
  delete static_cast<std::shared_ptr<T>*>(data);
}
/** The same for an object that jobs share: `finalize` is given a std::shared_ptr<T>*, which it deletes. */
template <typename T>
napi_value NewSharedHandle(napi_env env, std::shared_ptr<T> object, const napi_type_tag& tag,
                           napi_finalize finalize = ReleaseShared<T>) {
  auto* owned = new std::shared_ptr<T>(std::move(object));
  napi_value handle = NewHandle(env, owned, tag, finalize);
  if (handle == nullptr) delete owned;
  return handle;
}

/**
 * What a promise rejects with or a function throws: {code, message?, errno?, syscall?, path?, offset?}, to be made a
 * FaultlessError by ts/errors.ts. errno is negative as everywhere in Node.
 */
napi_value StatusToJs(napi_env env, const Status& status, const char* path);
/** The descriptor of a job that was cancelled while it waited: {code: 'ABORTED'}. */
napi_value AbortedToJs(napi_env env);
/** Throws StatusToJs(…); answers nullptr, so that a callback can return it. */
napi_value ThrowStatus(napi_env env, const Status& status, const char* path);

/** 'ERR_…' of the public contract. */
const char* CodeName(Code code);

}  // namespace faultless::binding
