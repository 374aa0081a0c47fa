// Compaction of a store, step by step.
#include <utility>

#include "binding/exports.h"
#include "binding/store_step.h"
#include "store/compaction.h"

namespace faultless::binding {

namespace {

constexpr napi_type_tag kCompactionTag = {0x6661756c746c6573, 0x636f6d7061637431};

using Compacting = Stepping<store::Compaction>;

class CompactJob final : public StepJob<store::Compaction> {
 public:
  using StepJob::StepJob;

 protected:
  std::shared_ptr<store::Compaction> Begin(store::Store& store) override { return store.Compact(); }

  void OnStepped(const store::Compaction& compaction) override { freed_bytes_ = compaction.freed_bytes(); }

  /** freedBytes */
  bool AddOutcome(napi_env env, napi_value result) override {
    SetProperty(env, result, "freedBytes", NewNumber(env, static_cast<double>(freed_bytes_)));
    return true;
  }

 private:
  uint64_t freed_bytes_ = 0;
};

/** storeCompaction(handle): Compaction */
napi_value StoreCompaction(napi_env env, napi_callback_info info) {
  napi_value argument;
  std::shared_ptr<StoreHandle> handle;
  if (!GetArguments(env, info, 1, &argument) || !ToStoreHandle(env, argument, &handle)) return nullptr;
  return NewSharedHandle(env, std::make_shared<Compacting>(std::move(handle)), kCompactionTag);
}

/** storeCompactStep(compaction): Promise<CompactStep>: about 10 ms of work, or a flush. */
napi_value StoreCompactStep(napi_env env, napi_callback_info info) {
  napi_value argument;
  std::shared_ptr<Compacting> compacting;
  if (!GetArguments(env, info, 1, &argument) || !ToShared(env, argument, kCompactionTag, &compacting)) return nullptr;
  return Job::Start(env, std::make_unique<CompactJob>(std::move(compacting)));
}

}  // namespace

bool InitStoreCompact(napi_env env, napi_value exports) {
  return Export(env, exports, "storeCompaction", StoreCompaction) &&
         Export(env, exports, "storeCompactStep", StoreCompactStep);
}

}  // namespace faultless::binding
