// Purpose: the list of what binding files export. Each file with callbacks has one Init… here that adds its own
// functions (Export in binding/convert.h); addon.cc calls them all. An Init answers false with a pending exception
// where it fails. Thread safety: called once per environment on its JavaScript thread.
#pragma once

#include <node_api.h>

namespace faultless::binding {

class Lane;

bool InitIpc(napi_env env, napi_value exports);
bool InitIpcExchange(napi_env env, napi_value exports);
bool InitIpcLog(napi_env env, napi_value exports);
bool InitIpcQueue(napi_env env, napi_value exports);
bool InitIpcSegment(napi_env env, napi_value exports);
bool InitIpcWaits(napi_env env, napi_value exports);
bool InitMappedFile(napi_env env, napi_value exports);
bool InitMappedFileRead(napi_env env, napi_value exports);
bool InitQueue(napi_env env, napi_value exports);
bool InitStore(napi_env env, napi_value exports);
bool InitStoreAtomic(napi_env env, napi_value exports);
bool InitStoreBackup(napi_env env, napi_value exports);
bool InitStoreCompact(napi_env env, napi_value exports);
bool InitStoreWarm(napi_env env, napi_value exports);
bool InitStoreRequest(napi_env env, napi_value exports);
bool InitStoreScan(napi_env env, napi_value exports);
bool InitStoreSync(napi_env env, napi_value exports);
bool InitStoreVerify(napi_env env, napi_value exports);
bool InitStoreVersions(napi_env env, napi_value exports);
bool InitStoreWatch(napi_env env, napi_value exports);

/** StoreStats.queue of one lane. */
napi_value LaneStatsToJs(napi_env env, const Lane& lane);

}  // namespace faultless::binding
