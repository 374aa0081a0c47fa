// What ts/ipc/segment.ts calls. A handle is made by segmentOpen; its buffer is given to segmentClose, so that every
// view of it is empty before the memory goes.
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "binding/convert.h"
#include "binding/exports.h"
#include "binding/ipc_waits.h"
#include "binding/job.h"
#include "ipc/segment.h"

namespace faultless::binding {

namespace {

constexpr napi_type_tag kSegmentTag = {0x6c1f0d0a7be14e55, 0x9e1b0c2f4d7a8855};
/** Unmapping more than this takes long enough for a thread of its own. */
constexpr uint64_t kSlowUnmapBytes = uint64_t{16} << 20;

struct OpenSegment {
  std::shared_ptr<ipc::Segment> segment;  // nullptr: closed
  std::string path;
};

/** Lets go of a segment; where nobody else has it that unmaps it. */
void Release(std::shared_ptr<ipc::Segment> segment) {
  if (segment == nullptr || segment.use_count() > 1 || segment->size_bytes() <= kSlowUnmapBytes) return;
  auto owned = std::make_unique<std::shared_ptr<ipc::Segment>>(std::move(segment));
  const auto release = [](void* data) { delete static_cast<std::shared_ptr<ipc::Segment>*>(data); };
  if (os::StartThread(release, owned.get()).ok()) static_cast<void>(owned.release());
}

void FinalizeSegment(napi_env /*env*/, void* data, void* /*hint*/) {
  const std::unique_ptr<std::shared_ptr<OpenSegment>> handle(static_cast<std::shared_ptr<OpenSegment>*>(data));
  Release(std::move((*handle)->segment));
}

/** The buffer was collected or detached, or the environment ends. */
void FinalizeBuffer(napi_env /*env*/, void* /*data*/, void* hint) {
  const std::unique_ptr<std::shared_ptr<ipc::Segment>> owner(static_cast<std::shared_ptr<ipc::Segment>*>(hint));
  Release(std::move(*owner));
}

napi_value NewSegmentHandle(napi_env env, std::shared_ptr<ipc::Segment> segment, std::string path) {
  auto handle = std::make_shared<OpenSegment>();
  handle->segment = std::move(segment);
  handle->path = std::move(path);
  return NewSharedHandle(env, std::move(handle), kSegmentTag, FinalizeSegment);
}

class OpenJob final : public Job {
 public:
  OpenJob(std::shared_ptr<Lane> lane, ipc::SegmentOptions options)
      : Job(std::move(lane)), options_(std::move(options)) {}

 protected:
  Status Execute() override { return ipc::Segment::Open(options_, &segment_); }
  napi_value Result(napi_env env) override { return NewSegmentHandle(env, std::move(segment_), options_.file.path); }
  napi_value Failure(napi_env env, const Status& status) override {
    return StatusToJs(env, status, options_.file.path.c_str());
  }

 private:
  const ipc::SegmentOptions options_;
  std::shared_ptr<ipc::Segment> segment_;
};

class DestroyJob final : public Job {
 public:
  DestroyJob(std::shared_ptr<Lane> lane, std::string path) : Job(std::move(lane)), path_(std::move(path)) {}

 protected:
  Status Execute() override { return ipc::Segment::Destroy(path_); }
  napi_value Failure(napi_env env, const Status& status) override { return StatusToJs(env, status, path_.c_str()); }

 private:
  const std::string path_;
};

/** (path, readOnly, create, exclusive, permissions, size), size -1: not given */
bool ToOptions(napi_env env, napi_callback_info info, ipc::SegmentOptions* options) {
  napi_value arguments[6];
  double size;
  ipc::SharedFileOptions& file = options->file;
  if (!GetArguments(env, info, 6, arguments) || !ToString(env, arguments[0], &file.path) ||
      !ToBool(env, arguments[1], &file.read_only) || !ToBool(env, arguments[2], &file.create) ||
      !ToBool(env, arguments[3], &file.exclusive) || !ToUint32(env, arguments[4], &file.permissions) ||
      !ToDouble(env, arguments[5], &size)) {
    return false;
  }
  if (size > 0) options->size_bytes = static_cast<uint64_t>(size);
  return true;
}

bool ToSegment(napi_env env, napi_value value, std::shared_ptr<OpenSegment>* handle) {
  if (!ToShared(env, value, kSegmentTag, handle)) return false;
  if ((*handle)->segment != nullptr) return true;
  (void)ThrowStatus(env, Code::kClosed, (*handle)->path.c_str());
  return false;
}

/** segmentOpen(path, …options): Promise<SegmentHandle> */
napi_value Open(napi_env env, napi_callback_info info) {
  ipc::SegmentOptions options;
  if (!ToOptions(env, info, &options)) return nullptr;
  const auto& lane = Environment::Of(env)->OpeningLane(options.file.path);
  return Job::Start(env, std::make_unique<OpenJob>(lane, std::move(options)));
}

/** segmentOpenSync(path, …options): SegmentHandle. May wait. */
napi_value OpenSync(napi_env env, napi_callback_info info) {
  ipc::SegmentOptions options;
  std::shared_ptr<ipc::Segment> segment;
  if (!ToOptions(env, info, &options)) return nullptr;
  const Status status = ipc::Segment::Open(options, &segment);
  if (!status.ok()) return ThrowStatus(env, status, options.file.path.c_str());
  return NewSegmentHandle(env, std::move(segment), options.file.path);
}

/** segmentDestroy(path): Promise<void> */
napi_value Destroy(napi_env env, napi_callback_info info) {
  napi_value argument;
  std::string path;
  if (!GetArguments(env, info, 1, &argument) || !ToString(env, argument, &path)) return nullptr;
  const auto& lane = Environment::Of(env)->OpeningLane(path);
  return Job::Start(env, std::make_unique<DestroyJob>(lane, std::move(path)));
}

/** segmentBuffer(handle): ArrayBuffer. To be called once: an address must not have two. */
napi_value Buffer(napi_env env, napi_callback_info info) {
  napi_value argument;
  std::shared_ptr<OpenSegment> handle;
  if (!GetArguments(env, info, 1, &argument) || !ToSegment(env, argument, &handle)) return nullptr;
  auto owner = std::make_unique<std::shared_ptr<ipc::Segment>>(handle->segment);
  napi_value buffer = nullptr;
  const napi_status made = napi_create_external_arraybuffer(env, (*owner)->data(), (*owner)->size_bytes(),
                                                            FinalizeBuffer, owner.get(), &buffer);
  if (made == napi_ok) {
    (void)owner.release();
    return buffer;
  }
  bool pending = false;
  if (napi_is_exception_pending(env, &pending) == napi_ok && pending) return nullptr;
  // napi_no_external_buffers_allowed: a runtime whose pointers are in a cage, such as Electron's.
  const Status refused(Code::kUnsupported, "this runtime has no ArrayBuffers over memory of others");
  return ThrowStatus(env, refused, handle->path.c_str());
}

/** segmentInfo(handle): [size, created] */
napi_value Info(napi_env env, napi_callback_info info) {
  napi_value argument;
  std::shared_ptr<OpenSegment> handle;
  if (!GetArguments(env, info, 1, &argument) || !ToSegment(env, argument, &handle)) return nullptr;
  napi_value result = nullptr;
  if (napi_create_array_with_length(env, 2, &result) != napi_ok) return nullptr;
  const auto size = static_cast<double>(handle->segment->size_bytes());
  (void)napi_set_element(env, result, 0, NewNumber(env, size));
  (void)napi_set_element(env, result, 1, NewBool(env, handle->segment->created()));
  return result;
}

class SegmentPending final : public Pending, public ipc::SegmentWait {
 public:
  explicit SegmentPending(std::shared_ptr<ipc::Segment> segment) : segment_(std::move(segment)) {}

  void OnOutcome(ipc::WaitOutcome outcome) override {
    outcome_ = outcome;
    Tell();
  }

 protected:
  napi_value Result(napi_env env) override { return NewNumber(env, static_cast<double>(outcome_)); }
  bool Drop() override { return segment_->Cancel(this); }

 private:
  const std::shared_ptr<ipc::Segment> segment_;
  ipc::WaitOutcome outcome_ = ipc::WaitOutcome::kPending;
};

bool Contains(const ipc::Segment& segment, uint64_t place) {
  return place % 4 == 0 && segment.size_bytes() >= 4 && place <= segment.size_bytes() - 4;
}

/**
 * segmentWait(handle, place, value, timeoutMs): number | Promise<number>: 0 ok, 1 not equal, 2 timed out; timeoutMs -1:
 * none.
 */
napi_value Wait(napi_env env, napi_callback_info info) {
  napi_value arguments[4];
  std::shared_ptr<OpenSegment> handle;
  uint64_t place;
  int32_t value;
  double timeout_ms;
  if (!GetArguments(env, info, 4, arguments) || !ToSegment(env, arguments[0], &handle) ||
      !ToUint64(env, arguments[1], &place) || !ToInt32(env, arguments[2], &value) ||
      !ToDouble(env, arguments[3], &timeout_ms)) {
    return nullptr;
  }
  if (!Contains(*handle->segment, place)) return ThrowStatus(env, Code::kOutOfRange, handle->path.c_str());
  constexpr double kLongestMs = 1e12;  // some 30 years
  const uint64_t timeout_ns =
      timeout_ms < 0 || timeout_ms > kLongestMs ? ipc::kNever : static_cast<uint64_t>(timeout_ms * 1e6);
  Waits* waits = Waits::Of(env);
  if (waits == nullptr) return nullptr;
  auto pending = std::make_unique<SegmentPending>(handle->segment);
  SegmentPending* const wait = pending.get();
  napi_value promise = waits->Begin(std::move(pending));
  if (promise == nullptr) return nullptr;
  ipc::WaitOutcome outcome;
  const Status status = handle->segment->Wait(place, static_cast<uint32_t>(value), timeout_ns, wait, &outcome);
  if (status.ok() && outcome == ipc::WaitOutcome::kPending) return promise;
  waits->Undo();
  if (!status.ok()) return ThrowStatus(env, status, handle->path.c_str());
  return NewNumber(env, static_cast<double>(outcome));
}

/** segmentNotify(handle, place, count): number */
napi_value Notify(napi_env env, napi_callback_info info) {
  napi_value arguments[3];
  std::shared_ptr<OpenSegment> handle;
  uint64_t place;
  uint32_t count;
  if (!GetArguments(env, info, 3, arguments) || !ToSegment(env, arguments[0], &handle) ||
      !ToUint64(env, arguments[1], &place) || !ToUint32(env, arguments[2], &count)) {
    return nullptr;
  }
  if (!Contains(*handle->segment, place)) return ThrowStatus(env, Code::kOutOfRange, handle->path.c_str());
  uint32_t notified = 0;
  const Status status = handle->segment->Notify(place, count, &notified);
  return status.ok() ? NewNumber(env, notified) : ThrowStatus(env, status, handle->path.c_str());
}

/** segmentClose(handle, buffer | undefined): its views are empty from now on. Waits have been cancelled before. */
napi_value Close(napi_env env, napi_callback_info info) {
  napi_value arguments[2];
  std::shared_ptr<OpenSegment> handle;
  if (!GetArguments(env, info, 2, arguments) || !ToShared(env, arguments[0], kSegmentTag, &handle)) return nullptr;
  bool is_buffer = false;
  if (napi_is_arraybuffer(env, arguments[1], &is_buffer) == napi_ok && is_buffer) {
    (void)napi_detach_arraybuffer(env, arguments[1]);
  }
  // The memory goes with the last who holds the buffer's: an operation of Node that still runs may be among them.
  if (handle->segment != nullptr) handle->segment->Close();
  Release(std::move(handle->segment));
  return Undefined(env);
}

}  // namespace

bool InitIpcSegment(napi_env env, napi_value exports) {
  return Export(env, exports, "segmentOpen", Open) && Export(env, exports, "segmentOpenSync", OpenSync) &&
         Export(env, exports, "segmentDestroy", Destroy) && Export(env, exports, "segmentBuffer", Buffer) &&
         Export(env, exports, "segmentInfo", Info) && Export(env, exports, "segmentWait", Wait) &&
         Export(env, exports, "segmentNotify", Notify) && Export(env, exports, "segmentClose", Close);
}

}  // namespace faultless::binding
