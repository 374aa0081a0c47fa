// The control region as JavaScript sees it: what lies in its version slots says whether a copy kept there is still the
// newest. Nothing in ts/ writes to it. The memory is mapped from the file and locked, so that reading it never waits; a
// page that a fault has replaced reads as ones, which is no version.
#include <thread>

#include "binding/convert.h"
#include "binding/exports.h"
#include "binding/store_handle.h"

namespace faultless::binding {

namespace {

/** Lets go of the mapping. Where nobody else has it, that unmaps and closes a file, which is nothing to wait for here.
 */
void ReleaseOwner(napi_env /*env*/, void* /*data*/, void* hint) {
  std::unique_ptr<std::shared_ptr<const void>> owner(static_cast<std::shared_ptr<const void>*>(hint));
  if (owner->use_count() > 1) return;
  std::thread([last = std::move(owner)] {}).detach();
}

/**
 * storeVersions(handle): {buffer: ArrayBuffer, epochWord, firstSlotWord} | undefined: 32-bit words. undefined where the
 * region is not locked into memory, or the platform has no external ArrayBuffers. To be given to storeForgetVersions
 * before the store is closed.
 */
napi_value StoreVersions(napi_env env, napi_callback_info info) {
  napi_value argument;
  std::shared_ptr<StoreHandle> handle;
  if (!GetArguments(env, info, 1, &argument) || !ToStoreHandle(env, argument, &handle)) return nullptr;
  const StoreUse use(handle.get());
  if (use.engine() == nullptr) return ThrowStatus(env, Code::kClosed, handle->path().c_str());
  store::VersionTable table = use.engine()->Versions();
  if (table.base == nullptr) return Undefined(env);
  auto owner = std::make_unique<std::shared_ptr<const void>>(std::move(table.owner));
  napi_value buffer = nullptr;
  napi_value result = nullptr;
  if (napi_create_external_arraybuffer(env, const_cast<std::byte*>(table.base), table.size_bytes, ReleaseOwner,
                                       owner.get(), &buffer) != napi_ok) {
    return Undefined(env);
  }
  (void)owner.release();
  if (napi_create_object(env, &result) != napi_ok) return nullptr;
  SetProperty(env, result, "buffer", buffer);
  SetProperty(env, result, "epochWord", NewNumber(env, static_cast<double>(table.epoch_word)));
  SetProperty(env, result, "firstSlotWord", NewNumber(env, static_cast<double>(table.first_slot_word)));
  return result;
}

/** storeForgetVersions(buffer): its views are empty from now on. */
napi_value StoreForgetVersions(napi_env env, napi_callback_info info) {
  napi_value buffer;
  if (!GetArguments(env, info, 1, &buffer)) return nullptr;
  (void)napi_detach_arraybuffer(env, buffer);
  return Undefined(env);
}

}  // namespace

bool InitStoreVersions(napi_env env, napi_value exports) {
  return Export(env, exports, "storeVersions", StoreVersions) &&
         Export(env, exports, "storeForgetVersions", StoreForgetVersions);
}

}  // namespace faultless::binding
