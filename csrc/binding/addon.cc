// Purpose: the entry point of the addon: what JavaScript gets when it loads the binary.
// Thread safety: Node calls Init once per environment (main thread, worker_threads), each on its own thread.
#include <napi.h>

namespace {

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  exports.Set("version", Napi::String::New(env, "0.1.0"));
  return exports;
}

}  // namespace

NODE_API_MODULE(faultless, Init)
