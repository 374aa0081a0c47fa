// What ts/mapped-file.ts calls. Handles are made by mapOpen and mapAdopt; lists of numbers come as Float64Arrays; a
// length or size that was not given comes as -1.
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "binding/convert.h"
#include "binding/exports.h"
#include "binding/mapped_file_handle.h"
#include "os/os.h"

namespace faultless::binding {

namespace {

// ───────────────────────────────────────────────────────────── jobs

class CloseJob final : public MapJob {
 public:
  explicit CloseJob(Map map) : MapJob(std::move(map), Mode::kExclusive) {}

 protected:
  Status Execute() override {
    file().Close();
    return {};
  }
};

/** The handle was collected, or the environment ends. */
void FinalizeMap(napi_env env, void* data, void* /*hint*/) {
  const std::unique_ptr<Map> map(static_cast<Map*>(data));
  if ((*map)->close_issued) return;
  const Environment* environment = Environment::Of(env);
  // Unmapping and closing may wait, so that they have no place in the middle of garbage collection. At the end of
  // the environment there are no jobs any more; whoever lets go last closes.
  if (environment == nullptr || environment->ending()) return;
  (*map)->close_issued = true;
  Job::StartDetached(env, std::make_unique<CloseJob>(*map));
}

class OpenJob final : public Job {
 public:
  OpenJob(std::shared_ptr<Lane> lane, map::MapOptions options, std::string path, int fd)
      : Job(std::move(lane)), options_(options), path_(std::move(path)), fd_(fd) {}
  ~OpenJob() override { os::CloseFile(fd_); }  // its own duplicate, of a job that was dropped

 protected:
  Status Execute() override {
    if (fd_ < 0) return map::MappedFile::Open(path_, options_, &file_);
    return map::MappedFile::OpenDescriptor(std::exchange(fd_, -1), options_, &file_);
  }

  napi_value Result(napi_env env) override {
    auto lane = std::make_shared<Lane>(file_->device(), /*may_stall=*/!file_->in_ram());
    auto map = std::make_shared<OpenMap>();
    map->file = std::move(file_);
    map->lane = std::move(lane);
    map->path = path_;
    return NewSharedHandle(env, std::move(map), kMapTag, FinalizeMap);
  }

  napi_value Failure(napi_env env, const Status& status) override {
    return StatusToJs(env, status, path_.empty() ? nullptr : path_.c_str());
  }

 private:
  const map::MapOptions options_;
  const std::string path_;
  int fd_;  // -1: by path
  std::shared_ptr<map::MappedFile> file_;
};

/** Bytes captured at the call. */
struct CapturedPart {
  uint64_t position;
  size_t size;
  std::unique_ptr<std::byte, decltype(&std::free)> data{nullptr, &std::free};
};

class WriteJob final : public MapJob {
 public:
  WriteJob(Map map, std::vector<CapturedPart> parts)
      : MapJob(std::move(map), Mode::kShared, static_cast<uint32_t>(parts.size())), parts_(std::move(parts)) {}

 protected:
  Status Execute() override {
    std::vector<map::WritePart> parts;
    parts.reserve(parts_.size());
    for (const CapturedPart& part : parts_) parts.push_back({part.position, part.size, part.data.get()});
    return file().Write(parts);
  }

 private:
  const std::vector<CapturedPart> parts_;
};

class ResizeJob final : public MapJob {
 public:
  ResizeJob(Map map, uint64_t size) : MapJob(std::move(map), Mode::kExclusive), size_(size) {}

 protected:
  Status Execute() override { return file().Resize(size_); }

 private:
  const uint64_t size_;
};

struct Range {
  uint64_t position;
  uint64_t length;
};

/** flush, lock, unlock: what takes a range and answers nothing. */
class RangeJob final : public MapJob {
 public:
  using Method = Status (map::MappedFile::*)(uint64_t position, uint64_t length);
  RangeJob(Map map, Method method, Range range) : MapJob(std::move(map)), method_(method), range_(range) {}

 protected:
  Status Execute() override { return (file().*method_)(range_.position, range_.length); }

 private:
  const Method method_;
  const Range range_;
};

class AdviseJob final : public MapJob {
 public:
  AdviseJob(Map map, os::Advice advice, Range range) : MapJob(std::move(map)), advice_(advice), range_(range) {}

 protected:
  Status Execute() override { return file().Advise(advice_, range_.position, range_.length); }

 private:
  const os::Advice advice_;
  const Range range_;
};

class ResidencyJob final : public MapJob {
 public:
  ResidencyJob(Map map, Range range) : MapJob(std::move(map)), range_(range) {}

 protected:
  Status Execute() override { return file().Residency(range_.position, range_.length, &share_); }
  napi_value Result(napi_env env) override { return NewNumber(env, share_); }

 private:
  const Range range_;
  double share_ = 0;
};

// ───────────────────────────────────────────────────────────── opening

constexpr size_t kOptionCount = 8;

/** (readOnly, create, exclusive, permissions, size, offset, length, shared) */
bool ToOptions(napi_env env, const napi_value* arguments, map::MapOptions* options) {
  double size;
  double length;
  if (!ToBool(env, arguments[0], &options->read_only) || !ToBool(env, arguments[1], &options->create) ||
      !ToBool(env, arguments[2], &options->exclusive) || !ToUint32(env, arguments[3], &options->permissions) ||
      !ToDouble(env, arguments[4], &size) || !ToUint64(env, arguments[5], &options->offset) ||
      !ToDouble(env, arguments[6], &length) || !ToBool(env, arguments[7], &options->shared)) {
    return false;
  }
  if (size >= 0) options->size_bytes = static_cast<uint64_t>(size);
  if (length >= 0) options->length = static_cast<uint64_t>(length);
  return true;
}

/** mapOpen(path, …options): Promise<MapHandle> */
napi_value Open(napi_env env, napi_callback_info info) {
  napi_value arguments[1 + kOptionCount];
  std::string path;
  map::MapOptions options;
  if (!GetArguments(env, info, 1 + kOptionCount, arguments) || !ToString(env, arguments[0], &path) ||
      !ToOptions(env, arguments + 1, &options)) {
    return nullptr;
  }
  const auto& lane = Environment::Of(env)->OpeningLane(path);
  return Job::Start(env, std::make_unique<OpenJob>(lane, options, std::move(path), -1));
}

/** mapAdopt(fd, …options): Promise<MapHandle>. The descriptor is duplicated during the call. */
napi_value Adopt(napi_env env, napi_callback_info info) {
  napi_value arguments[1 + kOptionCount];
  int32_t fd;
  map::MapOptions options;
  if (!GetArguments(env, info, 1 + kOptionCount, arguments) || !ToInt32(env, arguments[0], &fd) ||
      !ToOptions(env, arguments + 1, &options)) {
    return nullptr;
  }
  int copy = -1;
  const Status status = os::Duplicate(fd, &copy);
  if (status.error() == EBADF) {
    return ThrowStatus(env, Status::WithErrno(Code::kInvalidArgValue, EBADF, "fcntl"), nullptr);
  }
  if (!status.ok()) return ThrowStatus(env, status, nullptr);
  const auto& lane = Environment::Of(env)->OpeningLane(std::string());
  return Job::Start(env, std::make_unique<OpenJob>(lane, options, std::string(), copy));
}

/** mapClose(handle): Promise<void>. Waits for what was issued before it. To be called once. */
napi_value Close(napi_env env, napi_callback_info info) {
  napi_value argument;
  Map map;
  if (!GetArguments(env, info, 1, &argument) || !ToMap(env, argument, &map)) return nullptr;
  map->close_issued = true;
  return Job::Start(env, std::make_unique<CloseJob>(std::move(map)));
}

/** mapSize(handle): number */
napi_value Size(napi_env env, napi_callback_info info) {
  napi_value argument;
  Map map;
  if (!GetArguments(env, info, 1, &argument) || !ToMap(env, argument, &map)) return nullptr;
  return NewNumber(env, static_cast<double>(map->file->size()));
}

// ───────────────────────────────────────────────────────────── reading

/** (handle, target: Uint8Array, position) */
bool ToDirectRead(napi_env env, napi_callback_info info, Map* map, map::ReadRange* range) {
  napi_value arguments[3];
  const std::byte* target;
  size_t size;
  if (!GetArguments(env, info, 3, arguments) || !ToMap(env, arguments[0], map) ||
      !ToBytes(env, arguments[1], &target, &size) || !ToUint64(env, arguments[2], &range->position)) {
    return false;
  }
  range->length = size;
  range->target = const_cast<std::byte*>(target);
  return true;
}

/** mapTryRead(handle, target, position): number of bytes read; -1: cold */
napi_value TryRead(napi_env env, napi_callback_info info) {
  Map map;
  map::ReadRange range;
  if (!ToDirectRead(env, info, &map, &range)) return nullptr;
  const Status status = map->file->TryRead(&range);
  if (status.code() == Code::kCold) return NewNumber(env, -1);
  if (!status.ok()) return ThrowStatus(env, status, map->path_or_null());
  return NewNumber(env, static_cast<double>(range.length));
}

/** mapReadSync(handle, target, position): number of bytes read. May block. */
napi_value ReadSync(napi_env env, napi_callback_info info) {
  Map map;
  map::ReadRange range;
  if (!ToDirectRead(env, info, &map, &range)) return nullptr;
  const Status status = map->file->Read({&range, 1});
  if (!status.ok()) return ThrowStatus(env, status, map->path_or_null());
  return NewNumber(env, static_cast<double>(range.length));
}

// ───────────────────────────────────────────────────────────── writing

/** mapWrite(handle, parts: Uint8Array[], positions: Float64Array): Promise<void>. The bytes are copied during the call.
 */
napi_value Write(napi_env env, napi_callback_info info) {
  napi_value arguments[3];
  Map map;
  const double* positions;
  size_t count;
  if (!GetArguments(env, info, 3, arguments) || !ToMap(env, arguments[0], &map) ||
      !ToDoubles(env, arguments[2], &positions, &count)) {
    return nullptr;
  }
  std::vector<CapturedPart> parts;
  parts.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    napi_handle_scope scope;  // of thousands of parts none needs to be kept
    if (napi_open_handle_scope(env, &scope) != napi_ok) return nullptr;
    napi_value element = nullptr;
    const std::byte* source = nullptr;
    CapturedPart part{static_cast<uint64_t>(positions[i]), 0};
    const bool ok = napi_get_element(env, arguments[1], static_cast<uint32_t>(i), &element) == napi_ok &&
                    ToBytes(env, element, &source, &part.size);
    if (ok && part.size > 0) {
      part.data.reset(static_cast<std::byte*>(std::malloc(part.size)));
      if (part.data != nullptr) std::memcpy(part.data.get(), source, part.size);
    }
    (void)napi_close_handle_scope(env, scope);
    if (!ok) return nullptr;
    if (part.size > 0 && part.data == nullptr) {
      return ThrowStatus(env, Status::FromErrno(ENOMEM, "malloc"), map->path_or_null());
    }
    parts.push_back(std::move(part));
  }
  return Job::Start(env, std::make_unique<WriteJob>(std::move(map), std::move(parts)));
}

/** mapWriteSync(handle, data: Uint8Array, position): void. May block. */
napi_value WriteSync(napi_env env, napi_callback_info info) {
  napi_value arguments[3];
  Map map;
  const std::byte* source;
  size_t size;
  uint64_t position;
  if (!GetArguments(env, info, 3, arguments) || !ToMap(env, arguments[0], &map) ||
      !ToBytes(env, arguments[1], &source, &size) || !ToUint64(env, arguments[2], &position)) {
    return nullptr;
  }
  const map::WritePart part{position, size, source};
  const Status status = map->file->Write({&part, 1});
  if (!status.ok()) return ThrowStatus(env, status, map->path_or_null());
  return Undefined(env);
}

// ───────────────────────────────────────────────────────────── the map as a whole

/** mapResize(handle, size): Promise<void>. After what was issued before it, before what comes after. */
napi_value Resize(napi_env env, napi_callback_info info) {
  napi_value arguments[2];
  Map map;
  uint64_t size;
  if (!GetArguments(env, info, 2, arguments) || !ToMap(env, arguments[0], &map) ||
      !ToUint64(env, arguments[1], &size)) {
    return nullptr;
  }
  return Job::Start(env, std::make_unique<ResizeJob>(std::move(map), size));
}

/** (handle, position, length) */
bool ToRange(napi_env env, const napi_value* arguments, Map* map, Range* range) {
  return ToMap(env, arguments[0], map) && ToUint64(env, arguments[1], &range->position) &&
         ToUint64(env, arguments[2], &range->length);
}

napi_value StartRangeJob(napi_env env, napi_callback_info info, RangeJob::Method method) {
  napi_value arguments[3];
  Map map;
  Range range;
  if (!GetArguments(env, info, 3, arguments) || !ToRange(env, arguments, &map, &range)) return nullptr;
  return Job::Start(env, std::make_unique<RangeJob>(std::move(map), method, range));
}

/** mapFlush(handle, position, length): Promise<void> */
napi_value Flush(napi_env env, napi_callback_info info) { return StartRangeJob(env, info, &map::MappedFile::Flush); }
/** mapLock(handle, position, length): Promise<void> */
napi_value Lock(napi_env env, napi_callback_info info) { return StartRangeJob(env, info, &map::MappedFile::Lock); }
/** mapUnlock(handle, position, length): Promise<void> */
napi_value Unlock(napi_env env, napi_callback_info info) { return StartRangeJob(env, info, &map::MappedFile::Unlock); }

/** mapResidency(handle, position, length): Promise<number> */
napi_value Residency(napi_env env, napi_callback_info info) {
  napi_value arguments[3];
  Map map;
  Range range;
  if (!GetArguments(env, info, 3, arguments) || !ToRange(env, arguments, &map, &range)) return nullptr;
  return Job::Start(env, std::make_unique<ResidencyJob>(std::move(map), range));
}

/** mapAdvise(handle, position, length, advice: number, in the order of os::Advice): Promise<void> */
napi_value Advise(napi_env env, napi_callback_info info) {
  napi_value arguments[4];
  Map map;
  Range range;
  uint32_t advice;
  if (!GetArguments(env, info, 4, arguments) || !ToRange(env, arguments, &map, &range) ||
      !ToUint32(env, arguments[3], &advice)) {
    return nullptr;
  }
  return Job::Start(env, std::make_unique<AdviseJob>(std::move(map), static_cast<os::Advice>(advice), range));
}

/** mapQueue(handle): the queue's figures, as StoreStats.queue */
napi_value Queue(napi_env env, napi_callback_info info) {
  napi_value argument;
  Map map;
  if (!GetArguments(env, info, 1, &argument) || !ToMap(env, argument, &map)) return nullptr;
  return LaneStatsToJs(env, *map->lane);
}

}  // namespace

bool InitMappedFile(napi_env env, napi_value exports) {
  return InitMappedFileRead(env, exports) && Export(env, exports, "mapOpen", Open) &&
         Export(env, exports, "mapAdopt", Adopt) && Export(env, exports, "mapClose", Close) &&
         Export(env, exports, "mapSize", Size) && Export(env, exports, "mapTryRead", TryRead) &&
         Export(env, exports, "mapReadSync", ReadSync) && Export(env, exports, "mapWrite", Write) &&
         Export(env, exports, "mapWriteSync", WriteSync) && Export(env, exports, "mapResize", Resize) &&
         Export(env, exports, "mapFlush", Flush) && Export(env, exports, "mapLock", Lock) &&
         Export(env, exports, "mapUnlock", Unlock) && Export(env, exports, "mapResidency", Residency) &&
         Export(env, exports, "mapAdvise", Advise) && Export(env, exports, "mapQueue", Queue);
}

}  // namespace faultless::binding
