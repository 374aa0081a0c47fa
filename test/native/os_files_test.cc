// Files, process and time: names that appear whole, space that is reserved, limits that raise no signal.
#include <sys/resource.h>
#include <sys/stat.h>

#include <filesystem>
#include <set>
#include <thread>

#include "os/posix/aside.h"
#include "os_fixture.h"

namespace faultless::os {
namespace {

using harness::Child;

uint32_t PermissionsOf(const std::string& path) {
  struct stat info {};
  EXPECT_EQ(stat(path.c_str(), &info), 0);
  return info.st_mode & 07777;
}

size_t EntriesIn(const std::string& directory) {
  size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(directory)) ++count;
  return count;
}

// ───────────────────────────────────────────────────────────── opening

TEST(Files, OpensWhatIsThere) {
  TestFile file(10, 'x');
  int fd = -1;
  ASSERT_OK(OpenFile(file.path.c_str(), Access::kReadWrite, &fd));
  EXPECT_TRUE((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
  EXPECT_EQ(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
  bool readable = false;
  bool writable = false;
  ASSERT_OK(DescriptorAccess(fd, &readable, &writable));
  EXPECT_TRUE(readable && writable);
  CloseFile(fd);
  ASSERT_OK(OpenFile(file.path.c_str(), Access::kReadOnly, &fd));
  ASSERT_OK(DescriptorAccess(fd, &readable, &writable));
  EXPECT_TRUE(readable && !writable);
  int copy = -1;
  ASSERT_OK(Duplicate(fd, &copy));
  EXPECT_NE(copy, fd);
  EXPECT_TRUE((fcntl(copy, F_GETFD) & FD_CLOEXEC) != 0);
  CloseFile(fd);
  char byte = 0;
  EXPECT_OK(ReadAt(copy, &byte, 1, 9));
  EXPECT_EQ(byte, 'x');
  CloseFile(copy);
  CloseFile(-1);
  EXPECT_CODE(OpenFile(file.directory.File("none").c_str(), Access::kReadOnly, &fd), Code::kNotFound);
  EXPECT_CODE(OpenFile((file.path + "/x").c_str(), Access::kReadOnly, &fd), Code::kNotFound);
}

TEST(Files, AFifoDoesNotHoldTheThread) {
  harness::TemporaryDirectory directory;
  const std::string path = directory.File("fifo");
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  int fd = -1;
  ASSERT_OK(OpenFile(path.c_str(), Access::kReadOnly, &fd));
  FileInfo info{};
  ASSERT_OK(StatFile(fd, &info));
  EXPECT_FALSE(info.regular);
  CloseFile(fd);
}

TEST(Files, WithoutPermissionIsAccess) {
  if (!IsRoot()) return harness::Skip("becoming another user needs root");
  TestFile file(1);
  const int result = Child::Fork([&] {
                       BecomeNobody();
                       int fd = -1;
                       EXPECT_CODE(OpenFile(file.path.c_str(), Access::kReadOnly, &fd), Code::kAccess);
                       std::string aside;
                       EXPECT_CODE(CreateAside(file.path.c_str(), 0600, &fd, &aside), Code::kAccess);
                     }).Wait();
  EXPECT_EQ(result, 0);
}

TEST(Files, StatTellsByNameAndByDescriptor) {
  TestFile file(5000);
  FileInfo by_fd{};
  FileInfo by_path{};
  ASSERT_OK(StatFile(file.fd, &by_fd));
  ASSERT_OK(StatPath(file.path.c_str(), &by_path));
  EXPECT_EQ(by_fd.device, by_path.device);
  EXPECT_EQ(by_fd.inode, by_path.inode);
  EXPECT_EQ(by_fd.size_bytes, 5000);
  EXPECT_TRUE(by_fd.regular && by_path.regular);
  EXPECT_CODE(StatPath(file.directory.File("none").c_str(), &by_path), Code::kNotFound);
  ASSERT_OK(StatPath(file.directory.path().c_str(), &by_path));
  EXPECT_FALSE(by_path.regular);
  if (!kPortable) {
    ASSERT_OK(StatPath("/dev/shm", &by_path));
    EXPECT_TRUE(by_path.filesystem == FilesystemKind::kRam);
  }
}

TEST(Files, UnlinkAndSyncDirectory) {
  TestFile file(1);
  EXPECT_OK(SyncDirectoryOf(file.path.c_str()));
  EXPECT_OK(SyncDirectoryOf("a-name-in-the-current-directory"));
  EXPECT_CODE(SyncDirectoryOf(file.directory.File("none/x").c_str()), Code::kNotFound);
  EXPECT_OK(Unlink(file.path.c_str()));
  EXPECT_CODE(Unlink(file.path.c_str()), Code::kNotFound);
}

// ───────────────────────────────────────────────────────────── files that appear whole

TEST(Files, APublishedFileAppearsWholeWithExactPermissions) {
  for (const mode_t mask : {0000, 0077, 0777}) {
    for (const uint32_t permissions : {0600u, 0644u, 0666u, 0400u}) {
      harness::TemporaryDirectory directory;
      const std::string path = directory.File("new");
      const mode_t earlier = umask(mask);
      int fd = -1;
      std::string aside = "left over";
      ASSERT_OK(CreateAside(path.c_str(), permissions, &fd, &aside));
      umask(earlier);
      EXPECT_EQ(access(path.c_str(), F_OK), -1);
      ASSERT_OK(WriteAt(fd, "whole", 5, 0));
      ASSERT_OK(PublishFile(fd, aside, path.c_str()));
      EXPECT_EQ(PermissionsOf(path), permissions) << "umask" << mask;
      char text[5];
      ASSERT_OK(ReadAt(fd, text, 5, 0));  // also where its permissions would not allow a second open
      FileInfo by_fd{};
      FileInfo by_path{};
      ASSERT_OK(StatFile(fd, &by_fd));
      ASSERT_OK(StatPath(path.c_str(), &by_path));
      EXPECT_EQ(by_fd.inode, by_path.inode);
      EXPECT_EQ(EntriesIn(directory.path()), 1);
      CloseFile(fd);
    }
  }
}

TEST(Files, PublishingNeverReplaces) {
  TestFile there(3, 'o');
  int fd = -1;
  std::string aside;
  ASSERT_OK(CreateAside(there.path.c_str(), 0600, &fd, &aside));
  EXPECT_CODE(PublishFile(fd, aside, there.path.c_str()), Code::kExists);
  AbandonAside(aside);
  CloseFile(fd);
  EXPECT_EQ(there.Size(), 3);
  EXPECT_EQ(EntriesIn(there.directory.path()), 1);

  // Nor what is there only as a name: a symbolic link to nowhere.
  const std::string dangling = there.directory.File("dangling");
  ASSERT_EQ(symlink("nowhere", dangling.c_str()), 0);
  ASSERT_OK(CreateAside(dangling.c_str(), 0600, &fd, &aside));
  EXPECT_CODE(PublishFile(fd, aside, dangling.c_str()), Code::kExists);
  AbandonAside(aside);
  CloseFile(fd);
  EXPECT_EQ(EntriesIn(there.directory.path()), 2);
}

// Where the filesystem has no files without a name.
TEST(Files, ATemporaryNameIsPublishedAlike) {
  TestFile there(3, 'o');
  const std::string path = there.directory.File("new");
  int fd = -1;
  std::string aside;
  ASSERT_OK(CreateNamedAside(path.c_str(), 0640, &fd, &aside));
  EXPECT_EQ(PermissionsOf(aside), 0640);
  EXPECT_EQ(aside.find(there.directory.File(".new.")), 0);
  EXPECT_CODE(PublishFile(fd, aside, there.path.c_str()), Code::kExists);
  EXPECT_EQ(access(aside.c_str(), F_OK), 0);
  ASSERT_OK(PublishFile(fd, aside, path.c_str()));
  EXPECT_EQ(PermissionsOf(path), 0640);
  EXPECT_EQ(access(aside.c_str(), F_OK), -1);
  CloseFile(fd);
  ASSERT_OK(CreateNamedAside(path.c_str(), 0640, &fd, &aside));
  AbandonAside(aside);
  CloseFile(fd);
  EXPECT_EQ(EntriesIn(there.directory.path()), 2);
}

TEST(Files, OfSeveralThatPublishOneWins) {
  harness::TemporaryDirectory directory;
  const std::string path = directory.File("contended");
  std::atomic<int> won{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      int fd = -1;
      std::string aside;
      EXPECT_OK(CreateAside(path.c_str(), 0600, &fd, &aside));
      const Status status = PublishFile(fd, aside, path.c_str());
      if (status.ok()) {
        won.fetch_add(1);
      } else {
        EXPECT_CODE(status, Code::kExists);
        AbandonAside(aside);
      }
      CloseFile(fd);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(won.load(), 1);
  EXPECT_EQ(EntriesIn(directory.path()), 1);
}

TEST(Files, AbandonedFilesLeaveNothing) {
  harness::TemporaryDirectory directory;
  const std::string long_name(255, 'n');  // the temporary name has to fit, too
  for (const std::string& name : {std::string("short"), long_name}) {
    int fd = -1;
    std::string aside;
    ASSERT_OK(CreateAside(directory.File(name).c_str(), 0600, &fd, &aside));
    AbandonAside(aside);
    CloseFile(fd);
  }
  EXPECT_EQ(EntriesIn(directory.path()), 0);
  int fd = -1;
  std::string aside;
  EXPECT_CODE(CreateAside(directory.File("none/x").c_str(), 0600, &fd, &aside), Code::kNotFound);
}

// ───────────────────────────────────────────────────────────── bytes and space

TEST(Files, ReadsAndWritesExactly) {
  TestFile file(10, 'a');
  char text[10];
  EXPECT_OK(ReadAt(file.fd, text, 10, 0));
  const Status status = ReadAt(file.fd, text, 10, 5);
  EXPECT_CODE(status, Code::kIo);
  EXPECT_EQ(status.offset(), 10);
  EXPECT_OK(WriteAt(file.fd, "zz", 2, 100));
  EXPECT_EQ(file.Size(), 102);
  EXPECT_OK(ReadAt(file.fd, text, 10, 92));
  EXPECT_EQ(text[0], 0);
  EXPECT_EQ(text[9], 'z');
  EXPECT_OK(SyncFile(file.fd));
  EXPECT_OK(SetFileSize(file.fd, 1));
  EXPECT_EQ(file.Size(), 1);
}

TEST(Files, ReservedSpaceIsThere) {
  TestFile file(100, 'k');
  ASSERT_OK(ReserveSpace(file.fd, 0, 1 << 20));
  EXPECT_EQ(file.Size(), 1 << 20);
  EXPECT_GE(file.Allocated(), uint64_t{1} << 20);
  char text[101];
  ASSERT_OK(ReadAt(file.fd, text, 101, 0));
  EXPECT_EQ(text[0], 'k');
  EXPECT_EQ(text[99], 'k');
  EXPECT_EQ(text[100], 0);
  ASSERT_OK(ReserveSpace(file.fd, 0, 4096));  // never shorter
  EXPECT_EQ(file.Size(), 1 << 20);
  ASSERT_OK(ReserveSpace(file.fd, 1 << 20, 0));
  EXPECT_EQ(file.Size(), 1 << 20);
}

TEST(Files, PunchedHolesReadAsZeros) {
  TestFile file(Pages(16));
  ASSERT_OK(SyncFile(file.fd));
  const Status status = PunchHole(file.fd, Pages(4), Pages(8));
  if (kPortable) {
    EXPECT_CODE(status, Code::kUnsupported);
    return;
  }
  ASSERT_OK(status);
  EXPECT_EQ(file.Size(), Pages(16));
  EXPECT_LE(file.Allocated(), Pages(8) + 4096);
  char byte = 0;
  ASSERT_OK(ReadAt(file.fd, &byte, 1, Pages(4)));
  EXPECT_EQ(byte, 0);
  ASSERT_OK(ReadAt(file.fd, &byte, 1, Pages(12)));
  EXPECT_EQ(byte, 'A');
}

TEST(Files, ARangeIsCopiedToTheSamePlace) {
  TestFile source(Pages(16), 's');
  TestFile target(Pages(4), 't');
  const Status status = CopyRange(source.fd, target.fd, Pages(2) + 5, Pages(6));
  if (kPortable || status.code() == Code::kUnsupported) {
    EXPECT_CODE(status, Code::kUnsupported);
    return;
  }
  ASSERT_OK(status);
  EXPECT_EQ(target.Size(), Pages(8) + 5);
  std::string text(Pages(8) + 5, '-');
  ASSERT_OK(ReadAt(target.fd, text.data(), text.size(), 0));
  EXPECT_TRUE(text == std::string(Pages(2) + 5, 't') + std::string(Pages(6), 's'));
  // What is not there cannot be copied: no success with less.
  EXPECT_TRUE(!CopyRange(source.fd, target.fd, Pages(15), Pages(2)).ok());
}

TEST(Files, AFullFilesystemLeavesTheFileAsItWas) {
  if (!IsRoot()) return harness::Skip("mounting a small tmpfs needs root");
  harness::TemporaryDirectory directory;
  const int result = Child::Fork([&] {
                       ASSERT_TRUE(MountSmallTmpfs(directory.path(), "1m"));
                       int fd = -1;
                       std::string aside;
                       const std::string path = directory.File("file");
                       ASSERT_OK(CreateAside(path.c_str(), 0600, &fd, &aside));
                       ASSERT_OK(PublishFile(fd, aside, path.c_str()));
                       ASSERT_OK(ReserveSpace(fd, 0, 256 << 10));
                       FileInfo before{};
                       ASSERT_OK(StatFile(fd, &before));
                       EXPECT_TRUE(kPortable || before.filesystem == FilesystemKind::kRam);
                       EXPECT_CODE(ReserveSpace(fd, 256 << 10, 4 << 20), Code::kNoSpace);
                       FileInfo after{};
                       ASSERT_OK(StatFile(fd, &after));
                       EXPECT_EQ(after.size_bytes, before.size_bytes);
                       EXPECT_EQ(after.allocated_bytes, before.allocated_bytes);
                       const std::string bytes(2 << 20, 'x');
                       EXPECT_CODE(WriteAt(fd, bytes.data(), bytes.size(), 0), Code::kNoSpace);
                     }).Wait();
  EXPECT_EQ(result, 0);
}

TEST(Files, WhereSpaceCannotBeReservedZerosAreWritten) {
  if (!IsRoot()) return harness::Skip("mounting a ramfs needs root");
  harness::TemporaryDirectory directory;
  const int result = Child::Fork([&] {
                       ASSERT_EQ(unshare(CLONE_NEWNS), 0);
                       ASSERT_EQ(mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
                       ASSERT_EQ(mount("ramfs", directory.path().c_str(), "ramfs", 0, nullptr), 0);
                       const int fd = open(directory.File("file").c_str(), O_RDWR | O_CREAT, 0600);
                       ASSERT_OK(WriteAt(fd, "kept", 4, 0));
                       ASSERT_OK(ReserveSpace(fd, 0, 300'000));
                       FileInfo info{};
                       ASSERT_OK(StatFile(fd, &info));
                       EXPECT_EQ(info.size_bytes, 300'000);
                       EXPECT_TRUE(kPortable || info.filesystem == FilesystemKind::kRam);
                       std::string text(300'000, 'x');
                       ASSERT_OK(ReadAt(fd, text.data(), text.size(), 0));
                       EXPECT_TRUE(text == "kept" + std::string(299'996, '\0'));
                       ASSERT_OK(ReserveSpace(fd, 0, 1000));
                       ASSERT_OK(ReadAt(fd, text.data(), 4, 0));
                       EXPECT_TRUE(text.starts_with("kept"));
                     }).Wait();
  EXPECT_EQ(result, 0);
}

TEST(Files, TheFileSizeLimitRaisesNoSignal) {
  TestFile file;
  const int result = Child::Fork([&] {
                       signal(SIGXFSZ, SIG_DFL);
                       const rlimit limit{64 << 10, 64 << 10};
                       ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
                       EXPECT_CODE(SetFileSize(file.fd, 1 << 20), Code::kNoSpace);
                       EXPECT_CODE(ReserveSpace(file.fd, 0, 1 << 20), Code::kNoSpace);
                       const std::string bytes(1 << 20, 'x');
                       EXPECT_CODE(WriteAt(file.fd, bytes.data(), bytes.size(), 0), Code::kNoSpace);
                       sigset_t mask;
                       pthread_sigmask(SIG_SETMASK, nullptr, &mask);
                       EXPECT_EQ(sigismember(&mask, SIGXFSZ), 0);
                       EXPECT_EQ(sigismember(&mask, SIGTERM), 0);
                     }).Wait();
  EXPECT_EQ(result, 0);
}

TEST(Files, ReadIfResidentReadsWhatIsInMemory) {
  constexpr size_t kSize = 16 << 20;
  TestFile file(kSize, 'm');
  std::string text(kSize + 100, '-');
  size_t got = 7;
  const Status status = ReadIfResident(file.fd, text.data(), 1000, 0, &got);
  if (kPortable || status.code() == Code::kUnsupported) {
    EXPECT_CODE(status, Code::kUnsupported);
    EXPECT_EQ(got, 0);
    return;
  }
  ASSERT_OK(status);
  EXPECT_EQ(got, 1000);
  EXPECT_TRUE(text.starts_with(std::string(1000, 'm') + "-"));
  ASSERT_OK(ReadIfResident(file.fd, text.data(), 1000, kSize - 1, &got));
  EXPECT_EQ(got, 1);  // up to the end of the file
  FileInfo info{};
  ASSERT_OK(StatFile(file.fd, &info));
  if (info.filesystem != FilesystemKind::kDisk) return;
  // Out of memory with it: then it cannot be had without waiting. The attempt starts reading it in, which a fast device
  // may have done for a part before the system looks again.
  ASSERT_OK(SyncFile(file.fd));
  bool refused = false;
  for (int tries = 0; tries < 20 && !refused; ++tries) {
    ASSERT_EQ(posix_fadvise(file.fd, 0, 0, POSIX_FADV_DONTNEED), 0);
    ASSERT_OK(ReadIfResident(file.fd, text.data(), kSize, 0, &got));
    refused = got < kSize;
  }
  EXPECT_TRUE(refused);
}

// ───────────────────────────────────────────────────────────── process and time

TEST(Process, KnowsItself) {
  EXPECT_EQ(PageSize(), sysconf(_SC_PAGESIZE));
  EXPECT_EQ(ProcessId(), getpid());
  const uint64_t before_ns = MonotonicNs();
  EXPECT_LE(before_ns, MonotonicNs());
  EXPECT_GT(WallClockMs(), 1'700'000'000'000);
  const BootId id = CurrentBootId();
  EXPECT_EQ(id.words[0] == 0 && id.words[1] == 0, kPortable);
  EXPECT_EQ(CurrentBootId().words[1], id.words[1]);
}

TEST(Process, RandomBytesDiffer) {
  std::set<uint64_t> seen;
  for (int i = 0; i < 100; ++i) {
    uint64_t word = 0;
    ASSERT_OK(RandomBytes(&word, sizeof word));
    seen.insert(word);
  }
  EXPECT_EQ(seen.size(), 100);
  std::vector<uint8_t> many(1001);  // in several pieces, the last one filled as well
  ASSERT_OK(RandomBytes(many.data(), 1000));
  EXPECT_EQ(many[1000], 0);
  EXPECT_TRUE(std::set<uint8_t>(many.begin() + 900, many.end() - 1).size() > 20);
}

TEST(Process, AForkedChildKnowsThatItIsOne) {
  EXPECT_FALSE(InForkedChild());
  EXPECT_EQ(Child::Fork([] { EXPECT_TRUE(InForkedChild()); }).Wait(), 0);
  EXPECT_FALSE(InForkedChild());
}

}  // namespace
}  // namespace faultless::os
