// Logs below JavaScript: writers in threads and processes, one reader, kills in the middle of lines, hostile bytes.
#include <map>
#include <thread>

#include "ipc/log.h"
#include "ipc_fixture.h"

namespace {

using namespace ipc_test;
using faultless::ipc::Log;
using faultless::ipc::LogLine;
using faultless::ipc::LogOptions;

std::shared_ptr<Log> OpenLog(const std::string& path, uint64_t capacity = 8192) {
  LogOptions options;
  options.file.path = path;
  options.capacity_bytes = capacity;
  std::shared_ptr<Log> log;
  EXPECT_OK(Log::Open(options, &log));
  return log;
}

/** All lines from `from` on, not done with. */
std::vector<std::string> ReadAll(Log& log, uint64_t* end = nullptr) {
  std::vector<char> bytes;
  std::vector<LogLine> lines;
  std::vector<std::string> texts;
  EXPECT_OK(log.Read(0, uint64_t{1} << 30, &bytes, &lines));
  for (const LogLine& line : lines) texts.emplace_back(bytes.data() + line.offset, line.length);
  if (end != nullptr && !lines.empty()) *end = lines.back().end;
  return texts;
}

/** A line that tells whether it is whole. */
std::string MakeLine(uint64_t writer, uint64_t number) {
  const std::string head = std::to_string(writer) + ":" + std::to_string(number) + ":";
  return head + std::string(number * 7 % 90, static_cast<char>('a' + number % 26));
}

TEST(Log, LinesInOrderUntilTheyAreDoneWith) {
  const harness::TemporaryDirectory directory;
  const auto log = OpenLog(directory.File("log"));
  const auto other = OpenLog(directory.File("log"));
  for (uint64_t i = 0; i < 10; i++) ASSERT_OK((i % 2 == 0 ? log : other)->Write(MakeLine(i % 2, i), 7));
  bool reading = false;
  ASSERT_OK(log->TryBecomeReader(&reading));
  ASSERT_TRUE(reading);
  ASSERT_OK(other->TryBecomeReader(&reading));
  EXPECT_FALSE(reading);
  std::vector<char> bytes;
  std::vector<LogLine> lines;
  ASSERT_OK(log->Read(0, 1, &bytes, &lines));
  ASSERT_EQ(lines.size(), 1);
  EXPECT_EQ(lines[0].process_id, ::getpid());
  EXPECT_EQ(lines[0].thread, 7);
  EXPECT_LE(faultless::os::WallClockNs() - lines[0].time_ns, 60'000'000'000u);
  log->Done(lines[0].end);
  ASSERT_OK(log->Read(lines[0].end, 1 << 20, &bytes, &lines));
  ASSERT_EQ(lines.size(), 9);
  // Nothing of it is done with: the next reader finds all nine.
  log->StopReading();
  ASSERT_OK(other->TryBecomeReader(&reading));
  ASSERT_TRUE(reading);
  const std::vector<std::string> texts = ReadAll(*other);
  ASSERT_EQ(texts.size(), 9);
  for (uint64_t i = 1; i < 10; i++) EXPECT_EQ(texts[i - 1], MakeLine(i % 2, i));
}

TEST(Log, FullAndRoundTheRing) {
  const harness::TemporaryDirectory directory;
  const auto log = OpenLog(directory.File("log"), 4096);
  bool reading;
  ASSERT_OK(log->TryBecomeReader(&reading));
  EXPECT_CODE(log->Write(std::string(4096 - 23, 'x'), 0), Code::kValueTooLarge);
  uint64_t next = 0;
  uint64_t expected = 0;
  for (int round = 0; round < 200; round++) {
    while (log->Write(MakeLine(0, next), 0).ok()) next++;
    EXPECT_FALSE(log->HasRoom(MakeLine(0, next).size()));
    uint64_t end = 0;
    for (const std::string& text : ReadAll(*log, &end)) EXPECT_EQ(text, MakeLine(0, expected++));
    log->Done(end);
    EXPECT_EQ(expected, next);
    EXPECT_TRUE(log->HasRoom(4096 - 24));
  }
}

TEST(Log, WritersAndAReader) {
  const harness::TemporaryDirectory directory;
  const uint64_t each = kSanitized ? 2'000 : 20'000;
  const auto log = OpenLog(directory.File("log"));
  bool reading;
  ASSERT_OK(log->TryBecomeReader(&reading));
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 3; t++) {
    threads.emplace_back([&, t] {
      const auto own = OpenLog(directory.File("log"));
      for (uint64_t i = 0; i < each;) {
        const Status status = own->Write(MakeLine(t, i), static_cast<uint32_t>(t));
        if (status.ok()) {
          i++;
        } else {
          EXPECT_CODE(status, Code::kWouldBlock);
          std::this_thread::yield();
        }
      }
    });
  }
  std::map<uint64_t, uint64_t> next;
  for (uint64_t count = 0; count < 3 * each;) {
    uint64_t end = 0;
    const std::vector<std::string> texts = ReadAll(*log, &end);
    for (const std::string& text : texts) {
      const uint64_t writer = std::stoull(text);
      EXPECT_EQ(text, MakeLine(writer, next[writer]++));
    }
    if (!texts.empty()) log->Done(end);
    count += texts.size();
  }
  for (std::thread& thread : threads) thread.join();
}

/** Path, point (0: count), file for the sites, what. */
CHILD_PROCESS(Victim) {
  VictimPoints points(arguments);
  const auto log = OpenLog(arguments[0]);
  bool reading = true;
  uint64_t end = 0;
  if (arguments[3] == "read") {
    ASSERT_OK(log->TryBecomeReader(&reading));
    ReadAll(*log, &end);
  }
  ASSERT_TRUE(reading);
  points.Arm();
  Status status;
  if (arguments[3] == "write") status = log->Write("the victim's line, of some length", 1);
  if (arguments[3] == "read") {
    log->Done(end);
    log->StopReading();
  }
  if (arguments[3] == "open") {
    log->Close();
    OpenLog(arguments[0]);
  }
  points.Disarm();
  ASSERT_OK(status);
  ::_exit(0);
}

TEST(LogKills, ALineIsThereWholeOrNotAtAll) {
  const harness::TemporaryDirectory directory;
  for (const std::string what : {"write", "read", "open"}) {
    const std::string path = directory.File(what);
    const auto log = OpenLog(path);
    const uint64_t count = CountPoints(path, directory.File("sites"), {what});
    ASSERT_GT(count, 1) << what;
    for (uint64_t point = 1; point <= count + 1; point++) {
      bool reading = false;
      uint64_t end = 0;
      ASSERT_OK(log->TryBecomeReader(&reading));
      ASSERT_TRUE(reading) << "the dead reader still reads";
      if (!ReadAll(*log, &end).empty()) log->Done(end);
      log->StopReading();
      ASSERT_OK(log->Write("before", 0));
      KillAt(path, point, directory.File("sites"), {what});
      ASSERT_OK(log->Write("after", 0));
      std::vector<std::string> texts = ReadAll(*log);
      ASSERT_GE(texts.size(), 1);
      EXPECT_EQ(texts.back(), "after");
      texts.pop_back();
      if (what != "read" || !texts.empty()) {
        ASSERT_GE(texts.size(), 1) << point;
        EXPECT_EQ(texts[0], "before");
      }
      if (texts.size() == 2) {
        EXPECT_EQ(texts[1], "the victim's line, of some length");
      }
      EXPECT_LE(texts.size(), 2);
    }
  }
}

TEST(Log, HostileBytesCrashNobody) {
  const harness::TemporaryDirectory directory;
  const std::string path = directory.File("log");
  uint64_t random = 88172645463325252;
  const auto next = [&] {
    random ^= random << 13;
    random ^= random >> 7;
    return random ^= random << 17;
  };
  for (int round = 0; round < 300; round++) {
    const auto log = OpenLog(path);
    for (uint64_t i = 0; i < 20; i++) ASSERT_OK(log->Write(MakeLine(0, i), 0));
    const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
    for (int i = 0; i < 1 + round % 10; i++) {
      const uint64_t value = next() % 2 == 0 ? next() : next() % 256;
      const uint64_t at = next() % 2 == 0 ? 64 + next() % 96 : faultless::format::kLogOffset + next() % 1000;
      ASSERT_EQ(::pwrite(fd, &value, 8, static_cast<off_t>(at)), 8);
    }
    ::close(fd);
    bool reading;
    std::vector<char> bytes;
    std::vector<LogLine> lines;
    ASSERT_OK(log->TryBecomeReader(&reading));
    static_cast<void>(log->Read(next() % 300, 100'000, &bytes, &lines));
    for (const LogLine& line : lines) EXPECT_LE(line.offset + line.length, bytes.size());
    log->Done(next() % 3000);
    static_cast<void>(log->Write("a line", 0));
    static_cast<void>(log->Read(0, 100'000, &bytes, &lines));
    ASSERT_OK(Log::Destroy(path));
  }
}

}  // namespace
