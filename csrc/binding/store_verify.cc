// Verification of a store, step by step.
#include <utility>

#include "binding/exports.h"
#include "binding/store_step.h"
#include "store/verify.h"

namespace faultless::binding {

namespace {

constexpr napi_type_tag kVerificationTag = {0x6661756c746c6573, 0x7665726966792e31};

using Verifying = Stepping<store::Verification>;

class VerifyJob final : public StepJob<store::Verification> {
 public:
  using StepJob::StepJob;

 protected:
  std::shared_ptr<store::Verification> Begin(store::Store& store) override { return store.Verify(); }

  void OnStepped(const store::Verification& verification) override {
    if (verification.done()) report_ = verification.Report();
  }

  /** records, bytes, damaged: [offset, reason, …] */
  bool AddOutcome(napi_env env, napi_value result) override {
    napi_value damaged = nullptr;
    if (napi_create_array(env, &damaged) != napi_ok) return false;
    uint32_t index = 0;
    for (const auto& [offset, reason] : report_.damaged) {
      if (napi_set_element(env, damaged, index++, NewNumber(env, static_cast<double>(offset))) != napi_ok ||
          napi_set_element(env, damaged, index++, NewString(env, reason)) != napi_ok) {
        return false;
      }
    }
    SetProperty(env, result, "records", NewNumber(env, static_cast<double>(report_.records)));
    SetProperty(env, result, "bytes", NewNumber(env, static_cast<double>(report_.bytes)));
    SetProperty(env, result, "damaged", damaged);
    return true;
  }

 private:
  store::VerifyReport report_{};
};

/** storeVerification(handle): Verification */
napi_value StoreVerification(napi_env env, napi_callback_info info) {
  napi_value argument;
  std::shared_ptr<StoreHandle> handle;
  if (!GetArguments(env, info, 1, &argument) || !ToStoreHandle(env, argument, &handle)) return nullptr;
  return NewSharedHandle(env, std::make_shared<Verifying>(std::move(handle)), kVerificationTag);
}

/** storeVerifyStep(verification): Promise<VerifyStep>: about 10 ms of work. */
napi_value StoreVerifyStep(napi_env env, napi_callback_info info) {
  napi_value argument;
  std::shared_ptr<Verifying> verifying;
  if (!GetArguments(env, info, 1, &argument) || !ToShared(env, argument, kVerificationTag, &verifying)) return nullptr;
  return Job::Start(env, std::make_unique<VerifyJob>(std::move(verifying)));
}

}  // namespace

bool InitStoreVerify(napi_env env, napi_value exports) {
  return Export(env, exports, "storeVerification", StoreVerification) &&
         Export(env, exports, "storeVerifyStep", StoreVerifyStep);
}

}  // namespace faultless::binding
