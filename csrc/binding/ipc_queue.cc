// What ts/ipc/queue.ts calls. None of it waits but for a queue's lock, which is held for moments (ipc/exchange.h).
#include <span>

#include "binding/exports.h"
#include "binding/ipc_exchange.h"
#include "binding/ipc_waits.h"

namespace faultless::binding {

namespace {

/** The first two arguments of everything here. */
bool ToQueue(napi_env env, const napi_value* arguments, std::shared_ptr<OpenExchange>* handle, uint32_t* queue) {
  if (!ToExchange(env, arguments[0], handle) || !ToUint32(env, arguments[1], queue)) return false;
  if (*queue < (*handle)->exchange->geometry().queues) return true;
  (void)ThrowStatus(env, Code::kOutOfRange, (*handle)->path.c_str());
  return false;
}

bool ToIds(napi_env env, napi_value value, std::span<uint32_t>* ids) {
  napi_typedarray_type type = napi_int8_array;
  void* data = nullptr;
  size_t length = 0;
  if (napi_get_typedarray_info(env, value, &type, &length, &data, nullptr, nullptr) != napi_ok ||
      type != napi_uint32_array) {
    (void)napi_throw_type_error(env, nullptr, "faultless: Uint32Array expected");
    return false;
  }
  *ids = {static_cast<uint32_t*>(data), length};
  return true;
}

/** queuePush(exchange, queue, id) */
napi_value Push(napi_env env, napi_callback_info info) {
  napi_value arguments[3];
  std::shared_ptr<OpenExchange> handle;
  uint32_t queue;
  uint32_t id;
  if (!GetArguments(env, info, 3, arguments) || !ToQueue(env, arguments, &handle, &queue) ||
      !ToUint32(env, arguments[2], &id)) {
    return nullptr;
  }
  const Status status = handle->exchange->Push(queue, {&id, 1});
  return status.ok() ? Undefined(env) : ThrowStatus(env, status, handle->path.c_str());
}

/** queuePull(exchange, queue): number; -1: it is empty */
napi_value Pull(napi_env env, napi_callback_info info) {
  napi_value arguments[2];
  std::shared_ptr<OpenExchange> handle;
  uint32_t queue;
  uint32_t id;
  size_t pulled;
  if (!GetArguments(env, info, 2, arguments) || !ToQueue(env, arguments, &handle, &queue)) return nullptr;
  const Status status = handle->exchange->Pull(queue, {&id, 1}, &pulled);
  if (!status.ok()) return ThrowStatus(env, status, handle->path.c_str());
  return NewNumber(env, pulled == 0 ? -1 : static_cast<double>(id));
}

/** queuePushMany(exchange, queue, ids: Uint32Array) */
napi_value PushMany(napi_env env, napi_callback_info info) {
  napi_value arguments[3];
  std::shared_ptr<OpenExchange> handle;
  uint32_t queue;
  std::span<uint32_t> ids;
  if (!GetArguments(env, info, 3, arguments) || !ToQueue(env, arguments, &handle, &queue) ||
      !ToIds(env, arguments[2], &ids)) {
    return nullptr;
  }
  const Status status = handle->exchange->Push(queue, ids);
  return status.ok() ? Undefined(env) : ThrowStatus(env, status, handle->path.c_str());
}

/** queuePullMany(exchange, queue, into: Uint32Array): number */
napi_value PullMany(napi_env env, napi_callback_info info) {
  napi_value arguments[3];
  std::shared_ptr<OpenExchange> handle;
  uint32_t queue;
  std::span<uint32_t> ids;
  size_t pulled;
  if (!GetArguments(env, info, 3, arguments) || !ToQueue(env, arguments, &handle, &queue) ||
      !ToIds(env, arguments[2], &ids)) {
    return nullptr;
  }
  const Status status = handle->exchange->Pull(queue, ids, &pulled);
  if (!status.ok()) return ThrowStatus(env, status, handle->path.c_str());
  return NewNumber(env, static_cast<double>(pulled));
}

/** queueLength(exchange, queue): number */
napi_value Length(napi_env env, napi_callback_info info) {
  napi_value arguments[2];
  std::shared_ptr<OpenExchange> handle;
  uint32_t queue;
  if (!GetArguments(env, info, 2, arguments) || !ToQueue(env, arguments, &handle, &queue)) return nullptr;
  return NewNumber(env, handle->exchange->Length(queue));
}

/** queueAnnounce(exchange, queue): number: what queueWait is to be given, if a pull that comes now finds nothing. */
napi_value Announce(napi_env env, napi_callback_info info) {
  napi_value arguments[2];
  std::shared_ptr<OpenExchange> handle;
  uint32_t queue;
  if (!GetArguments(env, info, 2, arguments) || !ToQueue(env, arguments, &handle, &queue)) return nullptr;
  return NewNumber(env, handle->exchange->Announce(queue));
}

/** queueWait(exchange, queue, announced: number): Promise<void>: something has been pushed since. */
napi_value Wait(napi_env env, napi_callback_info info) {
  napi_value arguments[3];
  std::shared_ptr<OpenExchange> handle;
  uint32_t queue;
  uint32_t announced;
  if (!GetArguments(env, info, 3, arguments) || !ToQueue(env, arguments, &handle, &queue) ||
      !ToUint32(env, arguments[2], &announced)) {
    return nullptr;
  }
  Waits* waits = Waits::Of(env);
  if (waits == nullptr) return nullptr;
  return waits->WaitForWord(handle->exchange, &handle->exchange->event(queue), announced);
}

}  // namespace

bool InitIpcQueue(napi_env env, napi_value exports) {
  return Export(env, exports, "queuePush", Push) && Export(env, exports, "queuePull", Pull) &&
         Export(env, exports, "queuePushMany", PushMany) && Export(env, exports, "queuePullMany", PullMany) &&
         Export(env, exports, "queueLength", Length) && Export(env, exports, "queueAnnounce", Announce) &&
         Export(env, exports, "queueWait", Wait);
}

}  // namespace faultless::binding
