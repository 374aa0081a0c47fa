// Verification: each step is a job of its own, so that no thread is held for long and a step that is not asked for is
// not done.
#include <utility>

#include "binding/convert.h"
#include "binding/exports.h"
#include "binding/store_handle.h"
#include "os/os.h"
#include "store/verify.h"

namespace faultless::binding {

namespace {

constexpr napi_type_tag kVerificationTag = {0x6661756c746c6573, 0x7665726966792e31};
constexpr uint64_t kStepNs = 10'000'000;

/** One verification; its steps never overlap (ts/ asks for the next one only after the one before). */
struct Verifying {
  std::shared_ptr<StoreHandle> handle;
  std::shared_ptr<store::Verification> verification;
};

class VerifyJob final : public Job {
 public:
  explicit VerifyJob(std::shared_ptr<Verifying> verifying)
      : Job(verifying->handle->lane()), verifying_(std::move(verifying)) {}

 protected:
  Status Execute() override {
    const StoreUse use(verifying_->handle.get());
    if (use.engine() == nullptr) return Code::kClosed;
    auto& verification = verifying_->verification;
    if (verification == nullptr) verification = use.engine()->Verify();
    const uint64_t begin_ns = os::MonotonicNs();
    Status status;
    while (status.ok() && !verification->done() && os::MonotonicNs() - begin_ns < kStepNs) {
      status = verification->Step();
      if (status.ok()) blocked_since_ns_ = 0;
    }
    return YieldWhileBlocked(status, &blocked_since_ns_);
  }

  /** {done, total}, with {records, bytes, damaged: [offset, reason, …]} where it is over. */
  napi_value Result(napi_env env) override {
    napi_value result = nullptr;
    if (napi_create_object(env, &result) != napi_ok) return nullptr;
    const auto set = [&](const char* name, uint64_t value) {
      SetProperty(env, result, name, NewNumber(env, static_cast<double>(value)));
    };
    uint64_t done;
    uint64_t total;
    verifying_->verification->Progress(&done, &total);
    set("done", done);
    set("total", total);
    if (!verifying_->verification->done()) return result;
    const store::VerifyReport report = verifying_->verification->Report();
    napi_value damaged = nullptr;
    if (napi_create_array(env, &damaged) != napi_ok) return nullptr;
    uint32_t index = 0;
    for (const auto& [offset, reason] : report.damaged) {
      if (napi_set_element(env, damaged, index++, NewNumber(env, static_cast<double>(offset))) != napi_ok ||
          napi_set_element(env, damaged, index++, NewString(env, reason)) != napi_ok) {
        return nullptr;
      }
    }
    set("records", report.records);
    set("bytes", report.bytes);
    SetProperty(env, result, "damaged", damaged);
    return result;
  }

  napi_value Failure(napi_env env, const Status& status) override {
    return StatusToJs(env, status, verifying_->handle->path().c_str());
  }

 private:
  const std::shared_ptr<Verifying> verifying_;
  uint64_t blocked_since_ns_ = 0;
};

void FinalizeVerification(napi_env /*env*/, void* data, void* /*hint*/) {
  delete static_cast<std::shared_ptr<Verifying>*>(data);
}

/** storeVerification(handle): Verification */
napi_value StoreVerification(napi_env env, napi_callback_info info) {
  napi_value argument;
  auto verifying = std::make_shared<Verifying>();
  if (!GetArguments(env, info, 1, &argument) || !ToStoreHandle(env, argument, &verifying->handle)) return nullptr;
  auto* owned = new std::shared_ptr<Verifying>(std::move(verifying));
  napi_value result = NewHandle(env, owned, kVerificationTag, FinalizeVerification);
  if (result == nullptr) delete owned;
  return result;
}

/** storeVerifyStep(verification): Promise<VerifyStep>: about 10 ms of work. */
napi_value StoreVerifyStep(napi_env env, napi_callback_info info) {
  napi_value argument;
  void* data = nullptr;
  if (!GetArguments(env, info, 1, &argument) || !ToHandlePointer(env, argument, kVerificationTag, &data)) {
    return nullptr;
  }
  return Job::Start(env, std::make_unique<VerifyJob>(*static_cast<std::shared_ptr<Verifying>*>(data)));
}

}  // namespace

bool InitStoreVerify(napi_env env, napi_value exports) {
  return Export(env, exports, "storeVerification", StoreVerification) &&
         Export(env, exports, "storeVerifyStep", StoreVerifyStep);
}

}  // namespace faultless::binding
