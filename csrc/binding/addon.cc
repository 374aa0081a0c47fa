// Purpose: the entry point of the addon: what JavaScript gets when it loads the binary.
// Thread safety: Node calls Init once per environment (main thread, worker_threads), each on its own thread; nothing is
// shared between them but the registries that say so.
#include <node_api.h>

#include "binding/convert.h"
#include "binding/exports.h"
#include "binding/job.h"

NAPI_MODULE_INIT(/* napi_env env, napi_value exports */) {
  using namespace faultless::binding;
  if (!Environment::Create(env)) return nullptr;
  SetProperty(env, exports, "version", NewString(env, "0.1.0"));
  if (!InitQueue(env, exports) || !InitMappedFile(env, exports)) return nullptr;
  if (!InitStore(env, exports) || !InitStoreRequest(env, exports)) return nullptr;
  if (!InitStoreScan(env, exports) || !InitStoreSync(env, exports)) return nullptr;
  if (!InitStoreVerify(env, exports) || !InitStoreCompact(env, exports)) return nullptr;
  if (!InitStoreWarm(env, exports)) return nullptr;
  if (!InitStoreBackup(env, exports) || !InitStoreVersions(env, exports)) return nullptr;
  if (!InitStoreAtomic(env, exports) || !InitStoreWatch(env, exports)) return nullptr;
  if (!InitIpc(env, exports)) return nullptr;
  return exports;
}
