// The mapped file for bytes, without Node: windows, resizing, truncation under the map, concurrent use.
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "harness.h"
#include "map/mapped_file.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define UNDER_SANITIZER 1
#else
#define UNDER_SANITIZER 0
#endif

namespace faultless::map {
namespace {

using File = std::shared_ptr<MappedFile>;

MapOptions Writable() {
  MapOptions options;
  options.read_only = false;
  return options;
}

MapOptions Creating(uint64_t size) {
  MapOptions options = Writable();
  options.create = true;
  options.size_bytes = size;
  return options;
}

Status WriteText(const File& file, uint64_t position, const std::string& text) {
  const WritePart part{position, text.size(), reinterpret_cast<const std::byte*>(text.data())};
  return file->Write({&part, 1});
}

/** Up to `length` bytes; the status of the read in *status. */
std::string ReadText(const File& file, uint64_t position, uint64_t length, Status* status) {
  std::string text(file->Clip(position, length), '?');
  ReadRange range{position, length, reinterpret_cast<std::byte*>(text.data())};
  *status = file->Read({&range, 1});
  text.resize(range.length);
  return text;
}

std::string ReadText(const File& file, uint64_t position, uint64_t length) {
  Status status;
  std::string text = ReadText(file, position, length, &status);
  EXPECT_OK(status);
  return text;
}

Status TryReadText(const File& file, uint64_t position, uint64_t length, std::string* text) {
  text->assign(file->Clip(position, length), '?');
  ReadRange range{position, length, reinterpret_cast<std::byte*>(text->data())};
  return file->TryRead(&range);
}

void Store(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

std::string Contents(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(stream), {});
}

std::string Pattern(size_t size) {
  std::string bytes(size, '\0');
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>('a' + (i * 7 + i / 251) % 26);
  return bytes;
}

uint64_t FileSize(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0 ? static_cast<uint64_t>(info.st_size) : 0;
}

// ───────────────────────────────────────────────────────────── opening

TEST(MappedFile, CreatesWithSizeAndExactPermissions) {
  harness::TemporaryDirectory directory;
  const mode_t mask = umask(0077);
  MapOptions options = Creating(5'000);
  options.permissions = 0664;
  File file;
  const Status status = MappedFile::Open(directory.File("new"), options, &file);
  umask(mask);
  ASSERT_OK(status);
  EXPECT_EQ(file->size(), 5'000);
  EXPECT_EQ(ReadText(file, 0, 10'000), std::string(5'000, '\0'));
  struct stat info;
  ASSERT_EQ(stat(directory.File("new").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0664);
  EXPECT_EQ(info.st_size, 5'000);
  // The space is there before anybody stores to the map.
  EXPECT_GE(info.st_blocks * 512, 5'000);
}

TEST(MappedFile, TellsWhyItDoesNotOpen) {
  harness::TemporaryDirectory directory;
  const std::string there = directory.File("there");
  Store(there, "0123456789");
  ASSERT_EQ(mkfifo(directory.File("pipe").c_str(), 0600), 0);
  File file;
  EXPECT_CODE(MappedFile::Open(directory.File("absent"), {}, &file), Code::kNotFound);
  EXPECT_CODE(MappedFile::Open(directory.File("no/such/directory"), Creating(1), &file), Code::kNotFound);
  EXPECT_CODE(MappedFile::Open(directory.path(), {}, &file), Code::kUnsupported);
  EXPECT_CODE(MappedFile::Open(directory.path(), Writable(), &file), Code::kUnsupported);
  EXPECT_CODE(MappedFile::Open(directory.File("pipe"), {}, &file), Code::kUnsupported);
  EXPECT_CODE(MappedFile::Open("/dev/zero", {}, &file), Code::kUnsupported);
  MapOptions exclusive = Creating(1);
  exclusive.exclusive = true;
  EXPECT_CODE(MappedFile::Open(there, exclusive, &file), Code::kExists);
  MapOptions larger;
  larger.size_bytes = 11;
  EXPECT_CODE(MappedFile::Open(there, larger, &file), Code::kReadOnly);
  MapOptions window;
  window.offset = 11;
  EXPECT_CODE(MappedFile::Open(there, window, &file), Code::kOutOfRange);
  window.offset = 4;
  window.length = 7;
  EXPECT_CODE(MappedFile::Open(there, window, &file), Code::kOutOfRange);
  EXPECT_EQ(Contents(there), "0123456789");
  ASSERT_EQ(symlink(directory.File("nowhere").c_str(), directory.File("dangling").c_str()), 0);
  EXPECT_CODE(MappedFile::Open(directory.File("dangling"), Creating(1), &file), Code::kExists);
  EXPECT_TRUE(file == nullptr);
}

TEST(MappedFile, ManyCreateOneFile) {
  harness::TemporaryDirectory directory;
  constexpr int kThreads = 8;
  std::vector<File> files(kThreads);
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] { EXPECT_OK(MappedFile::Open(directory.File("one"), Creating(100), &files[i])); });
  }
  for (std::thread& thread : threads) thread.join();
  for (int i = 0; i < kThreads; ++i)
    ASSERT_OK(WriteText(files[i], i * 10, std::string(10, static_cast<char>('0' + i))));
  for (int i = 0; i < kThreads; ++i) EXPECT_EQ(ReadText(files[0], i * 10, 10), std::string(10, '0' + i));
}

TEST(MappedFile, WindowsNeedNoAlignment) {
  harness::TemporaryDirectory directory;
  const std::string path = directory.File("file");
  std::string bytes = Pattern(20'000);
  Store(path, bytes);
  for (const uint64_t offset : {0u, 1u, 4'095u, 4'096u, 4'097u, 12'345u, 19'999u, 20'000u}) {
    MapOptions options = Writable();
    options.offset = offset;
    File file;
    ASSERT_OK(MappedFile::Open(path, options, &file));
    EXPECT_EQ(file->size(), bytes.size() - offset);
    EXPECT_EQ(ReadText(file, 0, 100'000), bytes.substr(offset));
    EXPECT_EQ(ReadText(file, 5, 10), offset + 5 <= bytes.size() ? bytes.substr(offset + 5, 10) : "");
    options.length = std::min<uint64_t>(300, bytes.size() - offset);
    ASSERT_OK(MappedFile::Open(path, options, &file));
    EXPECT_EQ(ReadText(file, 0, 1'000), bytes.substr(offset, 300));
    if (*options.length < 300) continue;
    ASSERT_OK(WriteText(file, 290, "0123456789"));
    bytes.replace(offset + 290, 10, "0123456789");
    EXPECT_CODE(WriteText(file, 291, "0123456789"), Code::kOutOfRange);
    EXPECT_CODE(file->Resize(400), Code::kUnsupported);
    EXPECT_EQ(Contents(path), bytes);
  }
}

TEST(MappedFile, ADescriptorIsMappedAsItIsOpen) {
  harness::TemporaryDirectory directory;
  const std::string path = directory.File("file");
  Store(path, "0123456789");
  File file;
  ASSERT_OK(MappedFile::OpenDescriptor(open(path.c_str(), O_RDONLY), {}, &file));
  EXPECT_EQ(ReadText(file, 3, 4), "3456");
  EXPECT_CODE(WriteText(file, 0, "x"), Code::kReadOnly);
  EXPECT_CODE(MappedFile::OpenDescriptor(open(path.c_str(), O_RDONLY), Writable(), &file), Code::kAccess);
  EXPECT_CODE(MappedFile::OpenDescriptor(open(path.c_str(), O_WRONLY), {}, &file), Code::kAccess);
  EXPECT_CODE(MappedFile::OpenDescriptor(open(directory.path().c_str(), O_RDONLY), {}, &file), Code::kUnsupported);
  // Private stores need no permission to write the file.
  MapOptions options = Writable();
  options.shared = false;
  ASSERT_OK(MappedFile::OpenDescriptor(open(path.c_str(), O_RDONLY), options, &file));
  ASSERT_OK(WriteText(file, 0, "abc"));
  EXPECT_EQ(ReadText(file, 0, 5), "abc34");
  EXPECT_EQ(Contents(path), "0123456789");
}

// ───────────────────────────────────────────────────────────── reading and writing

TEST(MappedFile, ReadsEndWithTheMap) {
  harness::TemporaryDirectory directory;
  Store(directory.File("file"), "0123456789");
  File file;
  ASSERT_OK(MappedFile::Open(directory.File("file"), {}, &file));
  EXPECT_EQ(ReadText(file, 8, 100), "89");
  EXPECT_EQ(ReadText(file, 10, 1), "");
  EXPECT_EQ(ReadText(file, MappedFile::kMaxFileBytes, MappedFile::kMaxFileBytes), "");
  EXPECT_EQ(ReadText(file, 0, UINT64_MAX), "0123456789");
  Store(directory.File("empty"), "");
  ASSERT_OK(MappedFile::Open(directory.File("empty"), {}, &file));
  EXPECT_EQ(file->size(), 0);
  EXPECT_EQ(ReadText(file, 0, 10), "");
}

TEST(MappedFile, WritesNothingWhereAPartDoesNotFit) {
  harness::TemporaryDirectory directory;
  File file;
  ASSERT_OK(MappedFile::Open(directory.File("file"), Creating(10), &file));
  const auto* bytes = reinterpret_cast<const std::byte*>("abcdef");
  const WritePart parts[] = {{0, 3, bytes}, {8, 3, bytes}};
  EXPECT_CODE(file->Write(parts), Code::kOutOfRange);
  const WritePart overflowing[] = {{0, 3, bytes}, {UINT64_MAX, 2, bytes}};
  EXPECT_CODE(file->Write(overflowing), Code::kOutOfRange);
  EXPECT_EQ(ReadText(file, 0, 10), std::string(10, '\0'));
  EXPECT_CODE(WriteText(file, 11, ""), Code::kOutOfRange);
  EXPECT_OK(WriteText(file, 10, ""));
  const WritePart fitting[] = {{0, 3, bytes}, {2, 6, bytes}};
  EXPECT_OK(file->Write(fitting));
  EXPECT_EQ(ReadText(file, 0, 8), "ababcdef");
}

TEST(MappedFile, PositionsBeyondFourGibibytes) {
  harness::TemporaryDirectory directory;
  const std::string path = directory.File("sparse");
  const uint64_t size = (uint64_t{5} << 30) + 17;
  Store(path, "");
  ASSERT_EQ(truncate(path.c_str(), static_cast<off_t>(size)), 0);
  File file;
  ASSERT_OK(MappedFile::Open(path, Writable(), &file));
  EXPECT_EQ(file->size(), size);
  const uint64_t far = (uint64_t{1} << 32) + 4'093;
  ASSERT_OK(WriteText(file, far, "across the page"));
  ASSERT_OK(WriteText(file, size - 3, "end"));
  EXPECT_EQ(ReadText(file, far, 15), "across the page");
  EXPECT_EQ(ReadText(file, far & UINT32_MAX, 15), std::string(15, '\0'));
  EXPECT_EQ(ReadText(file, size - 4, 100), std::string("\0end", 4));
  ASSERT_OK(file->Flush(far, 15));
}

TEST(MappedFile, PrivateStoresStayHere) {
  harness::TemporaryDirectory directory;
  const std::string path = directory.File("file");
  Store(path, Pattern(10'000));
  MapOptions options = Writable();
  options.shared = false;
  File file;
  ASSERT_OK(MappedFile::Open(path, options, &file));
  ASSERT_OK(WriteText(file, 4'090, "0123456789"));
  EXPECT_EQ(ReadText(file, 4'090, 10), "0123456789");
  std::string text;
  ASSERT_OK(TryReadText(file, 4'090, 10, &text));
  EXPECT_EQ(text, "0123456789");
  ASSERT_OK(file->Advise(os::Advice::kDontNeed, 0, UINT64_MAX));
  ASSERT_OK(file->Flush(0, UINT64_MAX));
  EXPECT_EQ(ReadText(file, 4'090, 10), "0123456789");
  EXPECT_EQ(Contents(path), Pattern(10'000));
  EXPECT_CODE(file->Resize(20'000), Code::kUnsupported);
}

TEST(MappedFile, TryReadAnswersWhatIsInMemoryOnly) {
  harness::TemporaryDirectory directory;
  File file;
  ASSERT_OK(MappedFile::Open(directory.File("file"), Creating(1 << 20), &file));
  const std::string bytes = Pattern(1 << 20);
  ASSERT_OK(WriteText(file, 0, bytes));
  ASSERT_OK(file->Flush(0, UINT64_MAX));
  std::string text;
  ASSERT_OK(TryReadText(file, 1'000, 500'000, &text));
  EXPECT_EQ(text, bytes.substr(1'000, 500'000));
  if (file->in_ram()) return harness::Skip("the temporary directory is in memory: nothing there is ever cold");
  ASSERT_OK(file->Advise(os::Advice::kDontNeed, 0, UINT64_MAX));
  double share = 1;
  ASSERT_OK(file->Residency(0, UINT64_MAX, &share));
  ASSERT_LT(share, 0.01);
  EXPECT_CODE(TryReadText(file, 0, 10, &text), Code::kCold);
  EXPECT_CODE(TryReadText(file, 500'000, 100'000, &text), Code::kCold);
  EXPECT_EQ(ReadText(file, 600'000, 10), bytes.substr(600'000, 10));
  ASSERT_OK(TryReadText(file, 600'000, 10, &text));
  EXPECT_EQ(text, bytes.substr(600'000, 10));
}

// ───────────────────────────────────────────────────────────── the file changes under the map

TEST(MappedFile, AFileCutShortIsAnErrorOfTheOperation) {
  harness::TemporaryDirectory directory;
  const std::string path = directory.File("file");
  const std::string bytes = Pattern(100'000);
  Store(path, bytes);
  Store(directory.File("other"), bytes);
  MapOptions options = Writable();
  options.offset = 77;
  File file;
  File other;
  ASSERT_OK(MappedFile::Open(path, options, &file));
  ASSERT_OK(MappedFile::Open(directory.File("other"), {}, &other));
  EXPECT_EQ(harness::Child::Fork([&] { EXPECT_EQ(truncate(path.c_str(), 9'000), 0); }).Wait(), 0);

  Status status;
  ReadText(file, 50'000, 10, &status);
  EXPECT_CODE(status, Code::kIo);
  EXPECT_EQ(status.offset(), 50'077);
  EXPECT_CODE(WriteText(file, 50'000, "lost"), Code::kIo);
  // The rest of the last page neither faults nor is there.
  ReadText(file, 9'000 - 77 - 5, 10, &status);
  EXPECT_CODE(status, Code::kIo);
  EXPECT_CODE(WriteText(file, 9'000 - 77, "lost"), Code::kIo);
  std::string text;
  EXPECT_CODE(TryReadText(file, 50'000, 10, &text), Code::kCold);
  EXPECT_CODE(TryReadText(file, 9'000 - 77 - 5, 10, &text), Code::kCold);
  EXPECT_CODE(file->Flush(50'000, 10), Code::kIo);
  EXPECT_EQ(ReadText(file, 0, 9'000 - 77), bytes.substr(77, 9'000 - 77));
  EXPECT_EQ(ReadText(other, 0, 100'000), bytes);

  ASSERT_EQ(truncate(path.c_str(), 100'000), 0);
  EXPECT_EQ(ReadText(file, 0, 100'000), bytes.substr(77, 9'000 - 77) + std::string(91'000, '\0'));
  ASSERT_OK(WriteText(file, 50'000, "found"));
  EXPECT_EQ(ReadText(file, 49'999, 7), std::string("\0found\0", 7));
  EXPECT_EQ(Contents(path).substr(50'077, 5), "found");
  ASSERT_OK(file->Flush(0, UINT64_MAX));
}

TEST(MappedFile, LongReadsOfACutFileMeetFewFaults) {
  harness::TemporaryDirectory directory;
  const std::string path = directory.File("file");
  const uint64_t size = uint64_t{64} << 20;
  File file;
  Store(path, "");
  ASSERT_EQ(truncate(path.c_str(), static_cast<off_t>(size)), 0);
  ASSERT_OK(MappedFile::Open(path, Writable(), &file));
  ASSERT_EQ(truncate(path.c_str(), 0), 0);
  const uint64_t faults_before = os::ThreadFaultCount();
  Status status;
  ReadText(file, 0, size, &status);
  EXPECT_CODE(status, Code::kIo);
  EXPECT_LE(os::ThreadFaultCount() - faults_before, 128);
  ASSERT_EQ(truncate(path.c_str(), static_cast<off_t>(size)), 0);
  EXPECT_EQ(ReadText(file, 0, size), std::string(size, '\0'));
}

CHILD_PROCESS(AFullDiskIsNoSpace) {
  harness::TemporaryDirectory directory;
  if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
      mount("small", directory.path().c_str(), "tmpfs", 0, "size=256k") != 0) {
    _exit(77);
  }
  const std::string path = directory.File("sparse");
  Store(path, "");
  EXPECT_EQ(truncate(path.c_str(), 1 << 20), 0);
  File file;
  EXPECT_OK(MappedFile::Open(path, Writable(), &file));
  EXPECT_CODE(WriteText(file, 0, std::string(1 << 20, 'x')), Code::kNoSpace);
  EXPECT_OK(WriteText(file, 0, "still there"));
  EXPECT_EQ(ReadText(file, 0, 11), "still there");
  EXPECT_CODE(file->Resize(2 << 20), Code::kNoSpace);
  EXPECT_EQ(FileSize(path), 1 << 20);
  EXPECT_EQ(file->size(), 1 << 20);
  EXPECT_CODE(MappedFile::Open(directory.File("new"), Creating(1 << 20), &file), Code::kNoSpace);
  EXPECT_NE(access(directory.File("new").c_str(), F_OK), 0);
  file.reset();
  umount2(directory.path().c_str(), MNT_DETACH);
}

TEST(MappedFile, AFullDiskIsNoSpace) {
  const int result = harness::Child::Start("AFullDiskIsNoSpace").Wait();
  if (result == 77) return harness::Skip("mounting a small filesystem needs privileges");
  EXPECT_EQ(result, 0);
}

// ───────────────────────────────────────────────────────────── resizing, locking, closing

TEST(MappedFile, GrowsAndShrinks) {
  harness::TemporaryDirectory directory;
  const std::string path = directory.File("file");
  Store(path, Pattern(5'000));
  MapOptions options = Writable();
  options.offset = 1'000;
  File file;
  ASSERT_OK(MappedFile::Open(path, options, &file));
  ASSERT_OK(file->Resize(9'000));
  EXPECT_EQ(file->size(), 9'000);
  EXPECT_EQ(FileSize(path), 10'000);
  EXPECT_EQ(ReadText(file, 0, 10'000), Pattern(5'000).substr(1'000) + std::string(5'000, '\0'));
  ASSERT_OK(WriteText(file, 8'990, "0123456789"));
  ASSERT_OK(file->Resize(100));
  EXPECT_EQ(FileSize(path), 1'100);
  EXPECT_EQ(ReadText(file, 0, 10'000), Pattern(5'000).substr(1'000, 100));
  EXPECT_CODE(WriteText(file, 95, "0123456789"), Code::kOutOfRange);
  // What was cut off does not come back.
  ASSERT_OK(file->Resize(9'000));
  EXPECT_EQ(ReadText(file, 100, 10'000), std::string(8'900, '\0'));
  ASSERT_OK(file->Resize(0));
  EXPECT_EQ(file->size(), 0);
  EXPECT_EQ(FileSize(path), 1'000);
  EXPECT_CODE(file->Resize(MappedFile::kMaxFileBytes), Code::kOutOfRange);
  ASSERT_OK(file->Flush(0, UINT64_MAX));
  File reader;
  ASSERT_OK(MappedFile::Open(path, {}, &reader));
  EXPECT_CODE(reader->Resize(10), Code::kReadOnly);
}

TEST(MappedFile, GrowingWithinALongerFileCutsNothing) {
  harness::TemporaryDirectory directory;
  const std::string path = directory.File("file");
  Store(path, "0123456789");
  File file;
  ASSERT_OK(MappedFile::Open(path, Writable(), &file));
  ASSERT_EQ(truncate(path.c_str(), 50'000), 0);
  ASSERT_OK(file->Resize(20'000));
  EXPECT_EQ(file->size(), 20'000);
  EXPECT_EQ(FileSize(path), 50'000);
}

CHILD_PROCESS(MovesWhereAddressSpaceIsShort) {
  rlimit limit{uint64_t{4} << 30, uint64_t{4} << 30};
  EXPECT_EQ(setrlimit(RLIMIT_AS, &limit), 0);
  harness::TemporaryDirectory directory;
  File file;
  EXPECT_OK(MappedFile::Open(directory.File("file"), Creating(5'000), &file));
  EXPECT_OK(WriteText(file, 0, Pattern(5'000)));
  EXPECT_OK(file->Lock(100, 200));
  EXPECT_OK(file->Resize(8 << 20));
  EXPECT_EQ(ReadText(file, 0, 5'000), Pattern(5'000));
  EXPECT_OK(WriteText(file, (8 << 20) - 4, "here"));
  EXPECT_EQ(ReadText(file, (8 << 20) - 4, 10), "here");
  std::ifstream status("/proc/self/status");
  std::string line;
  while (std::getline(status, line) && line.rfind("VmLck:", 0) != 0) {
  }
  EXPECT_TRUE(line.find(" 4 kB") != std::string::npos) << line;
  file.reset();
}

TEST(MappedFile, MovesWhereAddressSpaceIsShort) {
  if (UNDER_SANITIZER) return;  // sanitizers need the address space themselves
  const int result = harness::Child::Start("MovesWhereAddressSpaceIsShort").Wait();
  EXPECT_EQ(result, 0);
}

TEST(MappedFile, LocksAndUnlocksParts) {
  harness::TemporaryDirectory directory;
  File file;
  ASSERT_OK(MappedFile::Open(directory.File("file"), Creating(40'960), &file));
  ASSERT_OK(file->Lock(0, 20'000));
  ASSERT_OK(file->Lock(5'000, 100));
  ASSERT_OK(file->Unlock(4'096, 4'096));
  ASSERT_OK(file->Unlock(0, UINT64_MAX));
  ASSERT_OK(file->Unlock(0, UINT64_MAX));
  ASSERT_OK(file->Lock(100'000, 10));
  double share = 0;
  ASSERT_OK(file->Residency(0, 20'000, &share));
  if (!UNDER_SANITIZER) {  // sanitizers lock nothing
    EXPECT_EQ(share, 1.0);
  }
  ASSERT_OK(file->Residency(40'960, 10, &share));
  EXPECT_EQ(share, 1.0);
}

TEST(MappedFile, AnswersClosedAfterClose) {
  harness::TemporaryDirectory directory;
  File file;
  ASSERT_OK(MappedFile::Open(directory.File("file"), Creating(100), &file));
  file->Close();
  file->Close();
  std::byte byte;
  ReadRange range{0, 1, &byte};
  EXPECT_CODE(file->Read({&range, 1}), Code::kClosed);
  EXPECT_CODE(file->TryRead(&range), Code::kClosed);
  EXPECT_CODE(WriteText(file, 0, ""), Code::kClosed);
  EXPECT_CODE(file->Resize(10), Code::kClosed);
  EXPECT_CODE(file->Flush(0, 10), Code::kClosed);
  EXPECT_CODE(file->Lock(0, 10), Code::kClosed);
  EXPECT_CODE(file->Unlock(0, 10), Code::kClosed);
  EXPECT_CODE(file->Advise(os::Advice::kNormal, 0, 10), Code::kClosed);
  double share;
  EXPECT_CODE(file->Residency(0, 10, &share), Code::kClosed);
  EXPECT_EQ(file->size(), 0);
}

// Readers believe nothing that was never in the file, while it is cut, grown, resized and finally closed under them.
TEST(MappedFile, ConcurrentUseWhileTheFileChanges) {
  harness::TemporaryDirectory directory;
  const std::string path = directory.File("file");
  constexpr uint64_t kSize = 64 * 4096;
  File file;
  ASSERT_OK(MappedFile::Open(path, Creating(kSize), &file));
  File writer;
  ASSERT_OK(MappedFile::Open(path, Writable(), &writer));
  std::atomic<bool> stop{false};
  std::atomic<int> answered{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&, i] {
      std::vector<char> bytes(8 * 4096);
      for (uint64_t round = 0; !stop.load(std::memory_order_relaxed); ++round) {
        const uint64_t position = (round * 7 + static_cast<uint64_t>(i) * 13) % 56 * 4096 + 100;
        ReadRange range{position, bytes.size(), reinterpret_cast<std::byte*>(bytes.data())};
        const Status status = i == 2 ? file->TryRead(&range) : file->Read({&range, 1});
        if (status.ok()) {
          answered.fetch_add(1, std::memory_order_relaxed);
        } else if (status.code() != Code::kIo && status.code() != Code::kCold && status.code() != Code::kOutOfRange) {
          EXPECT_CODE(status, Code::kClosed);
          return;
        }
      }
    });
  }
  for (int round = 0; round < 60; ++round) {
    // Never while the file is short under a store: what a store to a cut page means is not the question here.
    ASSERT_EQ(truncate(path.c_str(), 4096 * (round % 60)), 0);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    ASSERT_EQ(truncate(path.c_str(), kSize), 0);
    EXPECT_OK(file->Resize(kSize / 2));
    EXPECT_OK(file->Resize(kSize));
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  file->Close();
  stop = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_GT(answered.load(), 0);
}

}  // namespace
}  // namespace faultless::map
