#include "ipc/log.h"

#include <algorithm>
#include <climits>
#include <cstring>

#include "base/fail_point.h"

namespace faultless::ipc {
namespace {

using format::LogHeader;
using format::LogRecord;

constexpr Status kTornLog(Code::kCorrupt, "the log's positions cannot be: its lines have been skipped");

Status Build(int fd, uint64_t capacity_bytes) {
  FAULTLESS_TRY(os::ReserveSpace(fd, 0, format::kLogOffset + capacity_bytes));
  LogHeader header{};
  header.magic = format::kLogMagic;
  header.version = format::kIpcVersion;
  header.capacity_bytes = capacity_bytes;
  return os::WriteAt(fd, &header, sizeof header, 0);
}

Status CheckFile(int fd, uint64_t file_bytes, uint64_t* capacity_bytes) {
  constexpr Status kNotOurs(Code::kFormat, "not a log of faultless");
  LogHeader header;
  if (file_bytes < sizeof header) return kNotOurs;
  FAULTLESS_TRY(os::ReadAt(fd, &header, sizeof header, 0));
  if (header.magic != format::kLogMagic) return kNotOurs;
  if (header.version != format::kIpcVersion) return {Code::kFormat, "a log of another version"};
  if (header.capacity_bytes < format::kLogLeastBytes || header.capacity_bytes > format::kLogMostBytes ||
      header.capacity_bytes % format::kIpcPageBytes != 0 || format::kLogOffset + header.capacity_bytes != file_bytes) {
    return Status::Corrupt("the log's size is not that of its file", 0);
  }
  *capacity_bytes = header.capacity_bytes;
  return {};
}

/** Wakes who sleeps on the event, if anybody has announced to. */
void RingBell(format::HalfWord* sleeps, format::HalfWord* event) {
  if (sleeps->load(std::memory_order_seq_cst) == 0) return;
  sleeps->store(0, std::memory_order_seq_cst);
  event->fetch_add(1, std::memory_order_seq_cst);
  os::WakeWord(event, INT_MAX);
}

uint32_t Announce(format::HalfWord* sleeps, const format::HalfWord& event) {
  const uint32_t seen = event.load(std::memory_order_seq_cst);
  sleeps->store(1, std::memory_order_seq_cst);
  return seen;
}

}  // namespace

Status Log::Open(const LogOptions& options, std::shared_ptr<Log>* log) {
  if (options.file.read_only) return {Code::kUnsupported, "a log cannot be opened for reading only"};
  std::shared_ptr<Log> opened(new Log);
  const uint64_t wanted = options.capacity_bytes == 0 ? kLogDefaultBytes : options.capacity_bytes;
  if (wanted > format::kLogMostBytes) return {Code::kOutOfRange, "capacity"};
  const uint64_t capacity = (wanted + format::kIpcPageBytes - 1) / format::kIpcPageBytes * format::kIpcPageBytes;
  FAULTLESS_TRY(opened->file_.Open(options.file, [&](int fd) { return Build(fd, capacity); }));
  FAULTLESS_TRY(CheckFile(opened->file_.fd(), opened->file_.size_bytes(), &opened->capacity_));
  if (options.capacity_bytes != 0 && opened->capacity_ != capacity) {
    return {Code::kFormat, "the log was created with another capacity"};
  }
  FAULTLESS_TRY(opened->file_.Map());
  std::byte* const base = opened->file_.base();
  opened->header_ = reinterpret_cast<LogHeader*>(base);
  opened->ring_ = base + format::kLogOffset;
  FAULTLESS_TRY(
      opened->opener_.Take(opened->file_.fd(), reinterpret_cast<format::IpcOpener*>(base + format::kIpcPageBytes)));
  *log = std::move(opened);
  return {};
}

Status Log::Destroy(const std::string& path) {
  SharedFile file;
  SharedFileOptions options;
  options.path = path;
  options.create = false;
  options.read_only = true;
  FAULTLESS_TRY(file.Open(options, nullptr));
  uint64_t capacity;
  const Status status = CheckFile(file.fd(), file.size_bytes(), &capacity);
  if (!status.ok() && status.code() != Code::kCorrupt) return status;
  return os::Unlink(path.c_str());
}

void Log::Close() {
  if (header_ == nullptr) return;
  StopReading();
  opener_.Release();
  header_ = nullptr;
  file_.Close();
}

// ───────────────────────────────────────────────────────────── writing

void Log::CopyIn(uint64_t position, const void* source, uint64_t length) const {
  FAULTLESS_FAIL_POINT();
  if (length == 0) return;  // an empty line may be at no address at all
  const auto* bytes = static_cast<const std::byte*>(source);
  const uint64_t at = position % capacity_;
  const uint64_t first = std::min(length, capacity_ - at);
  std::memcpy(ring_ + at, bytes, first);
  FAULTLESS_FAIL_POINT();
  std::memcpy(ring_, bytes + first, length - first);
}

void Log::CopyOut(uint64_t position, void* target, uint64_t length) const {
  if (length == 0) return;
  auto* bytes = static_cast<std::byte*>(target);
  const uint64_t at = position % capacity_;
  const uint64_t first = std::min(length, capacity_ - at);
  std::memcpy(bytes, ring_ + at, first);
  std::memcpy(bytes + first, ring_, length - first);
}

Status Log::Write(std::string_view line, uint32_t thread) {
  if (line.size() > capacity_ || format::LogRecordBytes(line.size()) > capacity_) {
    return {Code::kValueTooLarge, "the line is longer than the log"};
  }
  const uint64_t bytes = format::LogRecordBytes(line.size());
  uint32_t dead_holder;
  // Nothing to be settled after a death: what has not moved the tail has not happened.
  FAULTLESS_TRY(format::AcquireLock(&header_->lock, opener_, kLogWaitNs, &dead_holder));
  const uint64_t tail = header_->tail.load(std::memory_order_relaxed);
  const uint64_t used = tail - header_->head.load(std::memory_order_acquire);
  if (used > capacity_ || bytes > capacity_ - used) {
    format::ReleaseLock(&header_->lock);
    return used > capacity_ ? kTornLog : Status(Code::kWouldBlock);
  }
  const LogRecord record{line.size(), os::WallClockNs(), os::ProcessId(), thread};
  CopyIn(tail, &record, sizeof record);
  CopyIn(tail + sizeof record, line.data(), line.size());
  header_->tail.store(tail + bytes, std::memory_order_seq_cst);
  format::ReleaseLock(&header_->lock);
  RingBell(&header_->reader_sleeps, &header_->lines_event);
  return {};
}

void Log::CountDropped(int change) {
  header_->dropped.fetch_add(static_cast<uint64_t>(static_cast<int64_t>(change)), std::memory_order_relaxed);
}

bool Log::HasRoom(uint64_t line_bytes) const {
  if (line_bytes > capacity_) return false;
  const uint64_t head = header_->head.load(std::memory_order_seq_cst);
  const uint64_t used = header_->tail.load(std::memory_order_seq_cst) - head;
  return used <= capacity_ && format::LogRecordBytes(line_bytes) <= capacity_ - used;
}

uint32_t Log::AnnounceWriter() const { return Announce(&header_->writer_sleeps, header_->room_event); }
uint32_t Log::AnnounceReader() const { return Announce(&header_->reader_sleeps, header_->lines_event); }

// ───────────────────────────────────────────────────────────── reading

Status Log::TryBecomeReader(bool* reading) {
  *reading = false;
  if (reading_) return {};  // another one of ours, who has to stop first
  FAULTLESS_TRY(os::TryLockByte(file_.fd(), format::kLogReaderByte, true, &reading_));
  *reading = reading_;
  return {};
}

void Log::StopReading() {
  if (!reading_) return;
  reading_ = false;
  static_cast<void>(os::UnlockByte(file_.fd(), format::kLogReaderByte));
  header_->reader_event.fetch_add(1, std::memory_order_seq_cst);
  os::WakeWord(&header_->reader_event, INT_MAX);
}

Status Log::Skip(uint64_t tail) {
  header_->head.store(tail, std::memory_order_seq_cst);
  RingBell(&header_->writer_sleeps, &header_->room_event);
  return kTornLog;
}

Status Log::Read(uint64_t from, uint64_t most_bytes, std::vector<char>* bytes, std::vector<LogLine>* lines) {
  bytes->clear();
  lines->clear();
  const uint64_t head = header_->head.load(std::memory_order_relaxed);
  const uint64_t tail = header_->tail.load(std::memory_order_seq_cst);
  if (tail - head > capacity_) return Skip(tail);
  // What this one has read and not done with yet lies before `from`.
  uint64_t position = from - head <= tail - head ? from : head;
  while (position != tail && bytes->size() < most_bytes) {
    LogRecord record;
    if (tail - position < sizeof record) return Skip(tail);
    CopyOut(position, &record, sizeof record);
    if (record.length > capacity_ || format::LogRecordBytes(record.length) > tail - position) return Skip(tail);
    const uint64_t offset = bytes->size();
    bytes->resize(offset + record.length);
    CopyOut(position + sizeof record, bytes->data() + offset, record.length);
    position += format::LogRecordBytes(record.length);
    lines->push_back({record.time_ns, record.process_id, record.thread, offset, record.length, position});
  }
  return {};
}

void Log::Done(uint64_t position) {
  if (!reading_) return;
  const uint64_t head = header_->head.load(std::memory_order_relaxed);
  const uint64_t tail = header_->tail.load(std::memory_order_acquire);
  if (position - head > tail - head) return;
  header_->head.store(position, std::memory_order_seq_cst);
  RingBell(&header_->writer_sleeps, &header_->room_event);
}

}  // namespace faultless::ipc
