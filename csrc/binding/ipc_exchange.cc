// What ts/ipc/exchange.ts calls: opening, the elements' memory, giving back, closing. Queues are in ipc_queue.cc.
#include "binding/ipc_exchange.h"

#include <utility>
#include <vector>

#include "binding/exports.h"
#include "binding/job.h"

namespace faultless::binding {

namespace {

void FinalizeExchange(napi_env env, void* data, void* hint);

class OpenJob final : public Job {
 public:
  OpenJob(std::shared_ptr<Lane> lane, ipc::ExchangeOptions options)
      : Job(std::move(lane)), options_(std::move(options)) {}

 protected:
  Status Execute() override { return ipc::Exchange::Open(options_, &exchange_); }
  napi_value Result(napi_env env) override {
    auto handle = std::make_shared<OpenExchange>();
    handle->exchange = std::move(exchange_);
    handle->path = options_.file.path;
    return NewSharedHandle(env, std::move(handle), kExchangeTag, FinalizeExchange);
  }
  napi_value Failure(napi_env env, const Status& status) override {
    return StatusToJs(env, status, options_.file.path.c_str());
  }

 private:
  const ipc::ExchangeOptions options_;
  std::shared_ptr<ipc::Exchange> exchange_;
};

class DestroyJob final : public Job {
 public:
  DestroyJob(std::shared_ptr<Lane> lane, std::string path) : Job(std::move(lane)), path_(std::move(path)) {}

 protected:
  Status Execute() override { return ipc::Exchange::Destroy(path_); }
  napi_value Failure(napi_env env, const Status& status) override { return StatusToJs(env, status, path_.c_str()); }

 private:
  const std::string path_;
};

class CloseJob final : public Job {
 public:
  CloseJob(std::shared_ptr<Lane> lane, std::shared_ptr<ipc::Exchange> exchange)
      : Job(std::move(lane)), exchange_(std::move(exchange)) {}

 protected:
  Status Execute() override {
    exchange_->Close();
    exchange_.reset();
    return {};
  }

 private:
  std::shared_ptr<ipc::Exchange> exchange_;
};

class ReclaimJob final : public Job {
 public:
  ReclaimJob(std::shared_ptr<Lane> lane, const OpenExchange& handle)
      : Job(std::move(lane)), exchange_(handle.exchange), path_(handle.path) {}

 protected:
  Status Execute() override {
    const Status status = exchange_->Reclaim(&count_);
    exchange_.reset();
    return status;
  }
  napi_value Result(napi_env env) override { return NewNumber(env, static_cast<double>(count_)); }
  napi_value Failure(napi_env env, const Status& status) override { return StatusToJs(env, status, path_.c_str()); }

 private:
  std::shared_ptr<ipc::Exchange> exchange_;
  const std::string path_;
  uint64_t count_ = 0;
};

/** The handle was collected, or the environment ends. */
void FinalizeExchange(napi_env env, void* data, void* /*hint*/) {
  const std::unique_ptr<std::shared_ptr<OpenExchange>> handle(static_cast<std::shared_ptr<OpenExchange>*>(data));
  if ((*handle)->exchange == nullptr) return;
  Environment* environment = Environment::Of(env);
  // Giving back may wait for locks. At the end of the environment there are no jobs any more: then here.
  if (environment == nullptr || environment->ending()) return;
  const auto& lane = environment->OpeningLane((*handle)->path);
  Job::StartDetached(env, std::make_unique<CloseJob>(lane, std::move((*handle)->exchange)));
}

void FinalizeBuffer(napi_env /*env*/, void* /*data*/, void* hint) {
  delete static_cast<std::shared_ptr<ipc::Exchange>*>(hint);
}

bool ToStrings(napi_env env, napi_value value, std::vector<std::string>* result) {
  uint32_t length = 0;
  if (napi_get_array_length(env, value, &length) != napi_ok) {
    (void)napi_throw_type_error(env, nullptr, "faultless: array expected");
    return false;
  }
  for (uint32_t i = 0; i < length; i++) {
    napi_value element;
    std::string text;
    if (napi_get_element(env, value, i, &element) != napi_ok || !ToString(env, element, &text)) return false;
    result->push_back(std::move(text));
  }
  return true;
}

/** exchangeOpen(path, readOnly, create, exclusive, permissions, elements, elementSize, queues, reclaimTo) */
napi_value Open(napi_env env, napi_callback_info info) {
  napi_value arguments[9];
  ipc::ExchangeOptions options;
  ipc::SharedFileOptions& file = options.file;
  std::string reclaim_to;
  if (!GetArguments(env, info, 9, arguments) || !ToString(env, arguments[0], &file.path) ||
      !ToBool(env, arguments[1], &file.read_only) || !ToBool(env, arguments[2], &file.create) ||
      !ToBool(env, arguments[3], &file.exclusive) || !ToUint32(env, arguments[4], &file.permissions) ||
      !ToUint32(env, arguments[5], &options.elements) || !ToUint32(env, arguments[6], &options.element_bytes) ||
      !ToStrings(env, arguments[7], &options.queues) || !ToString(env, arguments[8], &reclaim_to)) {
    return nullptr;
  }
  if (!reclaim_to.empty()) options.reclaim_to = std::move(reclaim_to);
  const auto& lane = Environment::Of(env)->OpeningLane(file.path);
  return Job::Start(env, std::make_unique<OpenJob>(lane, std::move(options)));
}

/** exchangeDestroy(path): Promise<void> */
napi_value Destroy(napi_env env, napi_callback_info info) {
  napi_value argument;
  std::string path;
  if (!GetArguments(env, info, 1, &argument) || !ToString(env, argument, &path)) return nullptr;
  const auto& lane = Environment::Of(env)->OpeningLane(path);
  return Job::Start(env, std::make_unique<DestroyJob>(lane, std::move(path)));
}

/** exchangeInfo(handle): {elements, elementSize, stride, queues: string[]} */
napi_value Info(napi_env env, napi_callback_info info) {
  napi_value argument;
  std::shared_ptr<OpenExchange> handle;
  napi_value result = nullptr;
  napi_value names = nullptr;
  if (!GetArguments(env, info, 1, &argument) || !ToExchange(env, argument, &handle)) return nullptr;
  const format::ExchangeGeometry& geometry = handle->exchange->geometry();
  if (napi_create_object(env, &result) != napi_ok) return nullptr;
  if (napi_create_array_with_length(env, geometry.queues, &names) != napi_ok) return nullptr;
  for (uint32_t i = 0; i < geometry.queues; i++) {
    (void)napi_set_element(env, names, i, NewString(env, handle->exchange->queue_name(i).c_str()));
  }
  SetProperty(env, result, "elements", NewNumber(env, geometry.elements));
  SetProperty(env, result, "elementSize", NewNumber(env, geometry.element_bytes));
  SetProperty(env, result, "stride", NewNumber(env, static_cast<double>(geometry.stride_bytes())));
  SetProperty(env, result, "queues", names);
  return result;
}

/** exchangeBuffer(handle): ArrayBuffer: all elements. To be called once: an address must not have two. */
napi_value Buffer(napi_env env, napi_callback_info info) {
  napi_value argument;
  std::shared_ptr<OpenExchange> handle;
  if (!GetArguments(env, info, 1, &argument) || !ToExchange(env, argument, &handle)) return nullptr;
  auto owner = std::make_unique<std::shared_ptr<ipc::Exchange>>(handle->exchange);
  napi_value buffer = nullptr;
  if (napi_create_external_arraybuffer(env, (*owner)->elements(), (*owner)->geometry().elements_bytes(), FinalizeBuffer,
                                       owner.get(), &buffer) == napi_ok) {
    (void)owner.release();
    return buffer;
  }
  bool pending = false;
  if (napi_is_exception_pending(env, &pending) == napi_ok && pending) return nullptr;
  const Status refused(Code::kUnsupported, "this runtime has no ArrayBuffers over memory of others");
  return ThrowStatus(env, refused, handle->path.c_str());
}

/** exchangeReclaim(handle): Promise<number> */
napi_value Reclaim(napi_env env, napi_callback_info info) {
  napi_value argument;
  std::shared_ptr<OpenExchange> handle;
  if (!GetArguments(env, info, 1, &argument) || !ToExchange(env, argument, &handle)) return nullptr;
  const auto& lane = Environment::Of(env)->OpeningLane(handle->path);
  return Job::Start(env, std::make_unique<ReclaimJob>(lane, *handle));
}

/** exchangeClose(handle, buffer | undefined): Promise<void>. Views of the buffer are empty from now on. */
napi_value Close(napi_env env, napi_callback_info info) {
  napi_value arguments[2];
  std::shared_ptr<OpenExchange> handle;
  if (!GetArguments(env, info, 2, arguments) || !ToExchange(env, arguments[0], &handle)) return nullptr;
  bool is_buffer = false;
  if (napi_is_arraybuffer(env, arguments[1], &is_buffer) == napi_ok && is_buffer) {
    (void)napi_detach_arraybuffer(env, arguments[1]);
  }
  const auto& lane = Environment::Of(env)->OpeningLane(handle->path);
  return Job::Start(env, std::make_unique<CloseJob>(lane, std::move(handle->exchange)));
}

}  // namespace

bool ToExchange(napi_env env, napi_value value, std::shared_ptr<OpenExchange>* handle) {
  if (!ToShared(env, value, kExchangeTag, handle)) return false;
  if ((*handle)->exchange != nullptr) return true;
  (void)ThrowStatus(env, Code::kClosed, (*handle)->path.c_str());
  return false;
}

bool InitIpcExchange(napi_env env, napi_value exports) {
  return Export(env, exports, "exchangeOpen", Open) && Export(env, exports, "exchangeDestroy", Destroy) &&
         Export(env, exports, "exchangeInfo", Info) && Export(env, exports, "exchangeBuffer", Buffer) &&
         Export(env, exports, "exchangeReclaim", Reclaim) && Export(env, exports, "exchangeClose", Close);
}

}  // namespace faultless::binding
