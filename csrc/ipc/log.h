// Purpose: lines of many processes in one order, through a ring in memory that they share; one of them reads the lines
// out. The protocol is in docs/concurrency.md.
//
// Thread safety: any thread, but for Close, after which nothing may be called; reading by one thread at a time.
// Invariants: a line is there whole or not at all, whenever its writer dies: the tail moves behind what is complete. It
// leaves the ring only when the reader is done with it. Numbers read from the file are checked before they are used.
// Ownership: owns descriptor and mapping.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "ipc/openers.h"
#include "ipc/shared_file.h"

namespace faultless::ipc {

constexpr uint64_t kLogWaitNs = 100'000'000;
constexpr uint64_t kLogDefaultBytes = uint64_t{4} << 20;

struct LogOptions {
  SharedFileOptions file;
  uint64_t capacity_bytes = 0;  // 0: as it is, or kLogDefaultBytes; rounded up to 4,096
};

struct LogLine {
  uint64_t time_ns;  // wall clock
  uint32_t process_id;
  uint32_t thread;
  uint64_t offset;  // in the bytes that came with it
  uint64_t length;
  uint64_t end;  // position to give to Done when it is done with
};

class Log final {
 public:
  /** May wait. kFormat, kCorrupt, kBusy, kNoSpace, kOutOfRange. */
  static Status Open(const LogOptions& options, std::shared_ptr<Log>* log);
  /** May wait. kNotFound; kFormat for what is no log, which is left alone. */
  static Status Destroy(const std::string& path);
  ~Log() { Close(); }

  uint64_t capacity_bytes() const { return capacity_; }

  /**
   * kWouldBlock: it is full, or a process that is stopped in the middle of writing keeps it. kValueTooLarge: the line
   * and its header do not fit at all.
   */
  Status Write(std::string_view line, uint32_t thread);
  uint64_t dropped() const { return header_->dropped.load(std::memory_order_relaxed); }
  void CountDropped(int change);

  /** Whether a line of so many bytes has room. */
  bool HasRoom(uint64_t line_bytes) const;
  /** Before a look, by who will sleep: what the event is to be expected to be. */
  uint32_t AnnounceWriter() const;
  uint32_t AnnounceReader() const;
  const format::HalfWord& room_event() const { return header_->room_event; }
  const format::HalfWord& lines_event() const { return header_->lines_event; }

  /** Never waits. Becomes the one that reads; *reading: false: another opening does, which lives. */
  Status TryBecomeReader(bool* reading);
  const format::HalfWord& reader_event() const { return header_->reader_event; }
  /** Lines from `from` on (0: the oldest), up to about `most_bytes`, without doing away with them. kCorrupt: all is
   * skipped. */
  Status Read(uint64_t from, uint64_t most_bytes, std::vector<char>* bytes, std::vector<LogLine>* lines);
  /** The lines before this position are done with. */
  void Done(uint64_t position);
  void StopReading();

  void Close();

 private:
  Log() = default;
  Status Attach(const LogOptions& options);
  void CopyIn(uint64_t position, const void* source, uint64_t length) const;
  void CopyOut(uint64_t position, void* target, uint64_t length) const;
  Status Skip(uint64_t tail);

  SharedFile file_;
  uint64_t capacity_ = 0;
  format::LogHeader* header_ = nullptr;
  std::byte* ring_ = nullptr;
  Opener opener_;
  bool reading_ = false;
};

}  // namespace faultless::ipc
