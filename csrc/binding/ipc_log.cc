// What ts/ipc/log.ts calls. None of it waits but for the log's lock, which is held for moments (ipc/log.h).
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "binding/convert.h"
#include "binding/exports.h"
#include "binding/ipc_waits.h"
#include "binding/job.h"
#include "ipc/log.h"

namespace faultless::binding {

namespace {

constexpr napi_type_tag kLogTag = {0x5d9a2c4471e0b8f3, 0xb06f18d2e3a7c954};
/** Lines that fit need no memory of their own on their way. */
constexpr size_t kShortLineBytes = 4096;
/** A writer that was killed before it could wake whoever sleeps is made up for by a look once in so long. */
constexpr uint64_t kLookAgainNs = 1'000'000'000;
/** The death of the one that reads is told by nobody. */
constexpr uint64_t kTryReadingAgainNs = 200'000'000;

struct OpenLog {
  std::shared_ptr<ipc::Log> log;  // nullptr: closed
  std::string path;
  uint32_t thread;
};

class OpenJob final : public Job {
 public:
  OpenJob(std::shared_ptr<Lane> lane, ipc::LogOptions options, uint32_t thread)
      : Job(std::move(lane)), options_(std::move(options)), thread_(thread) {}

 protected:
  Status Execute() override { return ipc::Log::Open(options_, &log_); }
  napi_value Result(napi_env env) override {
    auto handle = std::make_shared<OpenLog>();
    handle->log = std::move(log_);
    handle->path = options_.file.path;
    handle->thread = thread_;
    return NewSharedHandle(env, std::move(handle), kLogTag);
  }
  napi_value Failure(napi_env env, const Status& status) override {
    return StatusToJs(env, status, options_.file.path.c_str());
  }

 private:
  const ipc::LogOptions options_;
  const uint32_t thread_;
  std::shared_ptr<ipc::Log> log_;
};

class DestroyJob final : public Job {
 public:
  DestroyJob(std::shared_ptr<Lane> lane, std::string path) : Job(std::move(lane)), path_(std::move(path)) {}

 protected:
  Status Execute() override { return ipc::Log::Destroy(path_); }
  napi_value Failure(napi_env env, const Status& status) override { return StatusToJs(env, status, path_.c_str()); }

 private:
  const std::string path_;
};

bool ToLog(napi_env env, napi_value value, std::shared_ptr<OpenLog>* handle) {
  if (!ToShared(env, value, kLogTag, handle)) return false;
  if ((*handle)->log != nullptr) return true;
  (void)ThrowStatus(env, Code::kClosed, (*handle)->path.c_str());
  return false;
}

/** The only argument, or the first of two of which the second is a number. */
bool ToLogAndNumber(napi_env env, napi_callback_info info, std::shared_ptr<OpenLog>* handle, uint64_t* number) {
  napi_value arguments[2];
  return GetArguments(env, info, 2, arguments) && ToLog(env, arguments[0], handle) &&
         ToUint64(env, arguments[1], number);
}

bool ToLogAlone(napi_env env, napi_callback_info info, std::shared_ptr<OpenLog>* handle) {
  napi_value argument;
  return GetArguments(env, info, 1, &argument) && ToLog(env, argument, handle);
}

/** logOpen(path, readOnly, create, exclusive, permissions, capacity, thread): Promise<LogHandle>; capacity 0: not given
 */
napi_value Open(napi_env env, napi_callback_info info) {
  napi_value arguments[7];
  ipc::LogOptions options;
  ipc::SharedFileOptions& file = options.file;
  uint32_t thread;
  if (!GetArguments(env, info, 7, arguments) || !ToString(env, arguments[0], &file.path) ||
      !ToBool(env, arguments[1], &file.read_only) || !ToBool(env, arguments[2], &file.create) ||
      !ToBool(env, arguments[3], &file.exclusive) || !ToUint32(env, arguments[4], &file.permissions) ||
      !ToUint64(env, arguments[5], &options.capacity_bytes) || !ToUint32(env, arguments[6], &thread)) {
    return nullptr;
  }
  const auto& lane = Environment::Of(env)->OpeningLane(file.path);
  return Job::Start(env, std::make_unique<OpenJob>(lane, std::move(options), thread));
}

/** logDestroy(path): Promise<void> */
napi_value Destroy(napi_env env, napi_callback_info info) {
  napi_value argument;
  std::string path;
  if (!GetArguments(env, info, 1, &argument) || !ToString(env, argument, &path)) return nullptr;
  const auto& lane = Environment::Of(env)->OpeningLane(path);
  return Job::Start(env, std::make_unique<DestroyJob>(lane, std::move(path)));
}

/** logWrite(log, line: string | Uint8Array): number: -1 it is written, else the bytes that there is no room for */
napi_value Write(napi_env env, napi_callback_info info) {
  napi_value arguments[2];
  std::shared_ptr<OpenLog> handle;
  napi_valuetype type = napi_undefined;
  if (!GetArguments(env, info, 2, arguments) || !ToLog(env, arguments[0], &handle)) return nullptr;
  char text[kShortLineBytes];
  std::string long_text;
  std::string_view line;
  if (napi_typeof(env, arguments[1], &type) == napi_ok && type == napi_string) {
    size_t size = 0;
    if (napi_get_value_string_utf8(env, arguments[1], text, sizeof text, &size) != napi_ok) return nullptr;
    line = {text, size};
    // A character has 4 bytes at most: closer to the end than that it may have been cut.
    if (size + 4 >= sizeof text) {
      if (!ToString(env, arguments[1], &long_text)) return nullptr;
      line = long_text;
    }
  } else {
    const std::byte* data;
    size_t size;
    if (!ToBytes(env, arguments[1], &data, &size)) return nullptr;
    line = {reinterpret_cast<const char*>(data), size};
  }
  const Status status = handle->log->Write(line, handle->thread);
  if (status.ok()) return NewNumber(env, -1);
  if (status.code() == Code::kWouldBlock) return NewNumber(env, static_cast<double>(line.size()));
  return ThrowStatus(env, status, handle->path.c_str());
}

/** logCountDropped(log, change: 1 | 0): one more, or one less */
napi_value CountDropped(napi_env env, napi_callback_info info) {
  std::shared_ptr<OpenLog> handle;
  uint64_t more;
  if (!ToLogAndNumber(env, info, &handle, &more)) return nullptr;
  handle->log->CountDropped(more == 1 ? 1 : -1);
  return Undefined(env);
}

/** logDropped(log): number */
napi_value Dropped(napi_env env, napi_callback_info info) {
  std::shared_ptr<OpenLog> handle;
  if (!ToLogAlone(env, info, &handle)) return nullptr;
  return NewNumber(env, static_cast<double>(handle->log->dropped()));
}

/** logHasRoom(log, bytes): boolean */
napi_value HasRoom(napi_env env, napi_callback_info info) {
  std::shared_ptr<OpenLog> handle;
  uint64_t bytes;
  if (!ToLogAndNumber(env, info, &handle, &bytes)) return nullptr;
  return NewBool(env, handle->log->HasRoom(bytes));
}

/** logTryReading(log): boolean */
napi_value TryReading(napi_env env, napi_callback_info info) {
  std::shared_ptr<OpenLog> handle;
  bool reading;
  if (!ToLogAlone(env, info, &handle)) return nullptr;
  const Status status = handle->log->TryBecomeReader(&reading);
  return status.ok() ? NewBool(env, reading) : ThrowStatus(env, status, handle->path.c_str());
}

/** logStopReading(log) */
napi_value StopReading(napi_env env, napi_callback_info info) {
  std::shared_ptr<OpenLog> handle;
  if (!ToLogAlone(env, info, &handle)) return nullptr;
  handle->log->StopReading();
  return Undefined(env);
}

enum class Event : uint32_t { kRoom, kLines, kReader };

/** logAnnounce(log, event): number: for logWait, if a look that comes now finds nothing */
napi_value Announce(napi_env env, napi_callback_info info) {
  std::shared_ptr<OpenLog> handle;
  uint64_t event;
  if (!ToLogAndNumber(env, info, &handle, &event)) return nullptr;
  const ipc::Log& log = *handle->log;
  switch (static_cast<Event>(event)) {
    case Event::kRoom:
      return NewNumber(env, log.AnnounceWriter());
    case Event::kLines:
      return NewNumber(env, log.AnnounceReader());
    case Event::kReader:
      break;
  }
  return NewNumber(env, log.reader_event().load(std::memory_order_seq_cst));
}

/** logWait(log, event, announced): Promise<void>: it may have happened since */
napi_value Wait(napi_env env, napi_callback_info info) {
  napi_value arguments[3];
  std::shared_ptr<OpenLog> handle;
  uint32_t event;
  uint32_t announced;
  if (!GetArguments(env, info, 3, arguments) || !ToLog(env, arguments[0], &handle) ||
      !ToUint32(env, arguments[1], &event) || !ToUint32(env, arguments[2], &announced)) {
    return nullptr;
  }
  Waits* waits = Waits::Of(env);
  if (waits == nullptr) return nullptr;
  const ipc::Log& log = *handle->log;
  switch (static_cast<Event>(event)) {
    case Event::kRoom:
      return waits->WaitForWord(handle->log, &log.room_event(), announced, kLookAgainNs);
    case Event::kLines:
      return waits->WaitForWord(handle->log, &log.lines_event(), announced, kLookAgainNs);
    case Event::kReader:
      break;
  }
  return waits->WaitForWord(handle->log, &log.reader_event(), announced, kTryReadingAgainNs);
}

/** The numbers of one line, as ts/ipc/log.ts takes them. */
constexpr size_t kNumbersPerLine = 5;

/**
 * logRead(log, from, mostBytes): [bytes: Buffer, times: BigUint64Array, numbers: Float64Array] | undefined: nothing is
 * there. Numbers of each line: pid, thread, offset and length in bytes, position to give to logDone.
 */
napi_value Read(napi_env env, napi_callback_info info) {
  napi_value arguments[3];
  std::shared_ptr<OpenLog> handle;
  uint64_t from;
  uint64_t most_bytes;
  if (!GetArguments(env, info, 3, arguments) || !ToLog(env, arguments[0], &handle) ||
      !ToUint64(env, arguments[1], &from) || !ToUint64(env, arguments[2], &most_bytes)) {
    return nullptr;
  }
  std::vector<char> bytes;
  std::vector<ipc::LogLine> lines;
  const Status status = handle->log->Read(from, most_bytes, &bytes, &lines);
  if (!status.ok()) return ThrowStatus(env, status, handle->path.c_str());
  if (lines.empty()) return Undefined(env);
  napi_value buffer = nullptr;
  napi_value memory[2];
  napi_value times = nullptr;
  napi_value numbers = nullptr;
  napi_value result = nullptr;
  void* data[2];
  if (napi_create_buffer_copy(env, bytes.size(), bytes.data(), nullptr, &buffer) != napi_ok ||
      napi_create_arraybuffer(env, lines.size() * 8, &data[0], &memory[0]) != napi_ok ||
      napi_create_arraybuffer(env, lines.size() * kNumbersPerLine * 8, &data[1], &memory[1]) != napi_ok ||
      napi_create_typedarray(env, napi_biguint64_array, lines.size(), memory[0], 0, &times) != napi_ok ||
      napi_create_typedarray(env, napi_float64_array, lines.size() * kNumbersPerLine, memory[1], 0, &numbers) !=
          napi_ok ||
      napi_create_array_with_length(env, 3, &result) != napi_ok) {
    return nullptr;
  }
  auto* time = static_cast<uint64_t*>(data[0]);
  auto* number = static_cast<double*>(data[1]);
  for (const ipc::LogLine& line : lines) {
    *time++ = line.time_ns;
    *number++ = line.process_id;
    *number++ = line.thread;
    *number++ = static_cast<double>(line.offset);
    *number++ = static_cast<double>(line.length);
    *number++ = static_cast<double>(line.end);
  }
  (void)napi_set_element(env, result, 0, buffer);
  (void)napi_set_element(env, result, 1, times);
  (void)napi_set_element(env, result, 2, numbers);
  return result;
}

/** logDone(log, position) */
napi_value Done(napi_env env, napi_callback_info info) {
  std::shared_ptr<OpenLog> handle;
  uint64_t position;
  if (!ToLogAndNumber(env, info, &handle, &position)) return nullptr;
  handle->log->Done(position);
  return Undefined(env);
}

/** logClose(log). Waits have been cancelled before. */
napi_value Close(napi_env env, napi_callback_info info) {
  std::shared_ptr<OpenLog> handle;
  if (!ToLogAlone(env, info, &handle)) return nullptr;
  // A wait that has just been told and not yet settled keeps the memory of its word.
  handle->log->StopReading();
  handle->log.reset();
  return Undefined(env);
}

}  // namespace

bool InitIpcLog(napi_env env, napi_value exports) {
  return Export(env, exports, "logOpen", Open) && Export(env, exports, "logDestroy", Destroy) &&
         Export(env, exports, "logWrite", Write) && Export(env, exports, "logCountDropped", CountDropped) &&
         Export(env, exports, "logDropped", Dropped) && Export(env, exports, "logHasRoom", HasRoom) &&
         Export(env, exports, "logTryReading", TryReading) && Export(env, exports, "logStopReading", StopReading) &&
         Export(env, exports, "logAnnounce", Announce) && Export(env, exports, "logWait", Wait) &&
         Export(env, exports, "logRead", Read) && Export(env, exports, "logDone", Done) &&
         Export(env, exports, "logClose", Close);
}

}  // namespace faultless::binding
