// Bringing keys of a store into memory, step by step.
#include <utility>
#include <vector>

#include "binding/exports.h"
#include "binding/store_step.h"
#include "store/warm.h"

namespace faultless::binding {

namespace {

constexpr napi_type_tag kWarmingTag = {0x6661756c746c6573, 0x7761726d696e6731};

struct KeysToWarm : Stepping<store::Warming> {
  using Stepping::Stepping;
  std::vector<uint8_t> packed;
};

class WarmJob final : public StepJob<store::Warming> {
 public:
  explicit WarmJob(const std::shared_ptr<KeysToWarm>& keys) : StepJob(keys), keys_(keys) {}

 protected:
  std::shared_ptr<store::Warming> Begin(store::Store& store) override { return store.Warm(std::move(keys_->packed)); }

 private:
  const std::shared_ptr<KeysToWarm> keys_;
};

/** storeWarming(handle, packed): Warming. `packed`: of each key its length in 4 bytes, little-endian, then its bytes.
 */
napi_value StoreWarming(napi_env env, napi_callback_info info) {
  napi_value arguments[2];
  std::shared_ptr<StoreHandle> handle;
  const std::byte* data = nullptr;
  size_t size = 0;
  if (!GetArguments(env, info, 2, arguments) || !ToStoreHandle(env, arguments[0], &handle) ||
      !ToBytes(env, arguments[1], &data, &size)) {
    return nullptr;
  }
  auto keys = std::make_shared<KeysToWarm>(std::move(handle));
  const auto* const bytes = reinterpret_cast<const uint8_t*>(data);
  keys->packed.assign(bytes, bytes + size);
  return NewSharedHandle(env, std::move(keys), kWarmingTag);
}

/** storeWarmStep(warming): Promise<WorkStep>: about 10 ms of work, or what the device takes for some hundred keys. */
napi_value StoreWarmStep(napi_env env, napi_callback_info info) {
  napi_value argument;
  std::shared_ptr<KeysToWarm> keys;
  if (!GetArguments(env, info, 1, &argument) || !ToShared(env, argument, kWarmingTag, &keys)) return nullptr;
  return Job::Start(env, std::make_unique<WarmJob>(keys));
}

}  // namespace

bool InitStoreWarm(napi_env env, napi_value exports) {
  return Export(env, exports, "storeWarming", StoreWarming) && Export(env, exports, "storeWarmStep", StoreWarmStep);
}

}  // namespace faultless::binding
