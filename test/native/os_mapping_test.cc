// Mapped memory: past the end of the file, populated, locked, resident, advised.
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>

#include "os/posix/faults.h"
#include "os_fixture.h"

namespace faultless::os {
namespace {

using harness::Child;

struct PlainMapping {
  std::byte* base = nullptr;
  uint64_t length;
  PlainMapping(int fd, uint64_t length, Access access = Access::kReadWrite, bool shared = true) : length(length) {
    EXPECT_OK(MapFile(fd, 0, length, access, shared, &base));
  }
  PlainMapping(const PlainMapping&) = delete;
  ~PlainMapping() { EXPECT_OK(UnmapFile(base, length)); }
  volatile uint8_t& operator[](uint64_t offset) const { return reinterpret_cast<volatile uint8_t*>(base)[offset]; }
};

// ───────────────────────────────────────────────────────────── mapping

TEST(Mapping, ATebibyteOverAShortFileSeesItGrow) {
  constexpr uint64_t kTebibyte = uint64_t{1} << 40;
  TestFile file(64 << 10);
  PlainMapping mapping(file.fd, kTebibyte);
  EXPECT_EQ(mapping[0], 'A');
  EXPECT_EQ(mapping[(64 << 10) - 1], 'A');
  const uint64_t far = uint64_t{100} << 30;
  const int result = Child::Fork([&] {
                       int fd = -1;
                       ASSERT_OK(OpenFile(file.path.c_str(), Access::kReadWrite, &fd));
                       ASSERT_OK(WriteAt(fd, "far", 3, far));
                     }).Wait();
  EXPECT_EQ(result, 0);
  EXPECT_EQ(mapping[far], 'f');
  EXPECT_EQ(mapping[far + 2], 'r');
  EXPECT_EQ(mapping[64 << 10], 0);
  mapping[far + 1] = 'u';
  ASSERT_OK(SyncMapped(mapping.base + far + 1, 1));
  char byte = 0;
  ASSERT_OK(ReadAt(file.fd, &byte, 1, far + 1));
  EXPECT_EQ(byte, 'u');
}

TEST(Mapping, APrivateCopyGoesOnBehindTheFileAndNeverReachesIt) {
  TestFile file(Pages(2) + 100);
  int fd = -1;
  ASSERT_OK(OpenFile(file.path.c_str(), Access::kReadOnly, &fd));
  std::byte* base = nullptr;
  constexpr uint64_t kLength = uint64_t{1} << 40;
  ASSERT_OK(MapPrivateCopy(fd, Pages(2) + 100, kLength, &base));
  auto* const bytes = reinterpret_cast<volatile uint8_t*>(base);
  EXPECT_EQ(bytes[Pages(2) + 99], 'A');
  EXPECT_EQ(bytes[Pages(2) + 100], 0);
  for (const uint64_t offset : {uint64_t{0}, Pages(2) + 50, Pages(2) + 200, Pages(3), kLength - 1}) {
    bytes[offset] = 'P';
    EXPECT_EQ(bytes[offset], 'P');
  }
  EXPECT_EQ(bytes[1], 'A');
  CloseFile(fd);
  uint8_t content[200];
  ASSERT_OK(ReadAt(file.fd, content, 100, Pages(2)));
  EXPECT_EQ(content[50], 'A');
  FileInfo info{};
  ASSERT_OK(StatFile(file.fd, &info));
  EXPECT_EQ(info.size_bytes, Pages(2) + 100);
  ASSERT_OK(UnmapFile(base, kLength));
}

TEST(Mapping, PrivateStoresStayPrivate) {
  TestFile file(Pages(1));
  PlainMapping mapping(file.fd, Pages(1), Access::kReadWrite, false);
  mapping[0] = 'P';
  char byte = 0;
  ASSERT_OK(ReadAt(file.fd, &byte, 1, 0));
  EXPECT_EQ(byte, 'A');
  // Advice never throws them away.
  ASSERT_OK(Advise(file.fd, 0, mapping.base, Pages(1), Advice::kDontNeed, false));
  EXPECT_EQ(mapping[0], 'P');
}

TEST(Mapping, WhatCannotBeMappedIsAnError) {
  TestFile file(Pages(1));
  int read_only = -1;
  ASSERT_OK(OpenFile(file.path.c_str(), Access::kReadOnly, &read_only));
  std::byte* base = nullptr;
  EXPECT_CODE(MapFile(read_only, 0, Pages(1), Access::kReadWrite, true, &base), Code::kAccess);
  CloseFile(read_only);
  int pipe_ends[2];
  ASSERT_EQ(pipe(pipe_ends), 0);
  EXPECT_FALSE(MapFile(pipe_ends[0], 0, Pages(1), Access::kReadOnly, true, &base).ok());
  close(pipe_ends[0]);
  close(pipe_ends[1]);
  EXPECT_FALSE(MapFile(file.fd, 1, Pages(1), Access::kReadOnly, true, &base).ok());
}

// ───────────────────────────────────────────────────────────── populating

TEST(Mapping, PopulatesWithoutASignal) {
  TestFile file(Pages(4));
  ASSERT_OK(SetFileSize(file.fd, Pages(8)));  // a hole
  TestMapping mapping(file.fd, Pages(16));
  EXPECT_OK(PopulateRead(mapping.base, Pages(8)));
  EXPECT_OK(PopulateWrite(mapping.base + 1, Pages(8) - 1));
  EXPECT_OK(PopulateRead(mapping.base + Pages(2) + 5, 1));
  EXPECT_OK(PopulateWrite(mapping.base, 0));
  EXPECT_EQ(mapping[Pages(3)], 'A');
  EXPECT_EQ(mapping[Pages(7)], 0);
  EXPECT_EQ(ThreadFaultCount(), 0);
  EXPECT_FALSE(HasSubstitutes(mapping.id));

  EXPECT_CODE(PopulateRead(mapping.base + Pages(7), Pages(2)), Code::kIo);
  EXPECT_CODE(PopulateWrite(mapping.base + Pages(12), Pages(1)), Code::kIo);
  if (!kPortable) {
    EXPECT_EQ(ThreadFaultCount(), 0);
    EXPECT_FALSE(HasSubstitutes(mapping.id));
  }
  ASSERT_OK(SetFileSize(file.fd, Pages(16)));
  EXPECT_EQ(RestoreSubstitutes(mapping.id), 0);
  EXPECT_OK(PopulateRead(mapping.base, Pages(16)));
  EXPECT_OK(PopulateWrite(mapping.base, Pages(16)));
}

// On kernels without MADV_POPULATE_READ.
TEST(Mapping, PopulatesByTouching) {
  TestFile file(Pages(4));
  TestMapping mapping(file.fd, Pages(8));
  EXPECT_OK(PopulateReadByTouch(mapping.base + 9, Pages(4) - 9));
  EXPECT_OK(PopulateWriteByTouch(mapping.base, Pages(4)));
  EXPECT_EQ(mapping[Pages(4) - 1], 'A');
  EXPECT_CODE(PopulateWriteByTouch(mapping.base + Pages(4), Pages(1)), Code::kIo);
  EXPECT_CODE(PopulateReadByTouch(mapping.base + Pages(4), Pages(2)), Code::kIo);
  EXPECT_CODE(PopulateReadByTouch(mapping.base + Pages(4), Pages(5)), Code::kUnsupported);  // not all registered
  TestMapping read_only(file.fd, Pages(4), 0, Access::kReadOnly);
  EXPECT_OK(PopulateReadByTouch(read_only.base, Pages(4)));
  EXPECT_CODE(PopulateWriteByTouch(read_only.base, Pages(4)), Code::kUnsupported);
}

TEST(Mapping, PopulatingUnregisteredMemoryNeverKills) {
  TestFile file(Pages(1));
  PlainMapping mapping(file.fd, Pages(2));
  const Status status = PopulateRead(mapping.base, Pages(2));
  EXPECT_CODE(status, kPortable ? Code::kUnsupported : Code::kIo);
}

TEST(Mapping, PopulatingLeavesOtherStoresAlone) {
  TestFile file(Pages(1));
  TestMapping mapping(file.fd, Pages(1));
  mapping[0] = 200;
  ASSERT_OK(PopulateWrite(mapping.base, Pages(1)));
  EXPECT_EQ(mapping[0], 200);
}

// ───────────────────────────────────────────────────────────── residency and advice

TEST(Mapping, ResidencyTellsWhatIsInMemory) {
  TestFile file(Pages(64));
  ASSERT_OK(SyncFile(file.fd));
  PlainMapping mapping(file.fd, Pages(64));
  std::vector<uint8_t> resident(64, 7);
  if (kPortable) {
    EXPECT_CODE(Residency(mapping.base, Pages(64), resident.data()), Code::kUnsupported);
    EXPECT_FALSE(ResidencyIsTruthful(file.fd));
    return;
  }
  EXPECT_TRUE(ResidencyIsTruthful(file.fd));
  ASSERT_OK(PopulateRead(mapping.base, Pages(64)));
  ASSERT_OK(Residency(mapping.base, Pages(64), resident.data()));
  for (int page = 0; page < 64; ++page) EXPECT_EQ(resident[page], 1) << page;
  // Odd ranges: one byte each for the pages they touch.
  std::fill(resident.begin(), resident.end(), 7);
  ASSERT_OK(Residency(mapping.base + Pages(1) - 1, 2, resident.data()));
  EXPECT_EQ(resident[0], 1);
  EXPECT_EQ(resident[1], 1);
  EXPECT_EQ(resident[2], 7);

  FileInfo info{};
  ASSERT_OK(StatFile(file.fd, &info));
  if (info.filesystem != FilesystemKind::kDisk) return harness::Skip("the temporary directory is not on a disk");
  ASSERT_OK(Advise(file.fd, 0, mapping.base, Pages(64), Advice::kDontNeed));
  ASSERT_OK(Residency(mapping.base, Pages(64), resident.data()));
  int count = 0;
  for (uint8_t byte : resident) count += byte;
  EXPECT_EQ(count, 0);
  EXPECT_EQ(mapping[Pages(9)], 'A');  // and back
  ASSERT_OK(Residency(mapping.base + Pages(9), 1, resident.data()));
  EXPECT_EQ(resident[0], 1);
}

TEST(Mapping, ResidencyIsTruthfulForOwnersAndWriters) {
  if (kPortable) return;
  if (!IsRoot()) return harness::Skip("becoming another user needs root");
  TestFile file(Pages(1));
  ASSERT_EQ(chmod(file.directory.path().c_str(), 0777), 0);
  ASSERT_EQ(chmod(file.path.c_str(), 0644), 0);
  const int result = Child::Fork([&] {
                       BecomeNobody();
                       int fd = -1;
                       ASSERT_OK(OpenFile(file.path.c_str(), Access::kReadOnly, &fd));
                       EXPECT_FALSE(ResidencyIsTruthful(fd));
                       const std::string own = file.directory.File("own");
                       std::string aside;
                       int own_fd = -1;
                       ASSERT_OK(CreateAside(own.c_str(), 0400, &own_fd, &aside));
                       ASSERT_OK(PublishFile(own_fd, aside, own.c_str()));
                       EXPECT_TRUE(ResidencyIsTruthful(own_fd));
                     }).Wait();
  EXPECT_EQ(result, 0);
  ASSERT_EQ(chmod(file.path.c_str(), 0666), 0);
  const int writer = Child::Fork([&] {
                       BecomeNobody();
                       int fd = -1;
                       ASSERT_OK(OpenFile(file.path.c_str(), Access::kReadOnly, &fd));
                       EXPECT_TRUE(ResidencyIsTruthful(fd));
                     }).Wait();
  EXPECT_EQ(writer, 0);
}

TEST(Mapping, AdviceIsTaken) {
  TestFile file(Pages(8));
  PlainMapping mapping(file.fd, Pages(8));
  for (Advice advice : {Advice::kNormal, Advice::kSequential, Advice::kRandom, Advice::kWillNeed, Advice::kDontNeed}) {
    EXPECT_OK(Advise(file.fd, 0, mapping.base, Pages(8), advice));
    EXPECT_OK(Advise(file.fd, Pages(1) + 3, mapping.base + Pages(1) + 3, 10, advice));
    EXPECT_OK(Advise(-1, 0, mapping.base, Pages(8), advice));
    EXPECT_OK(Advise(file.fd, 0, mapping.base, 0, advice));
  }
  // What was stored and not yet synced is not lost.
  mapping[5] = 'n';
  ASSERT_OK(Advise(file.fd, 0, mapping.base, Pages(8), Advice::kDontNeed));
  EXPECT_EQ(mapping[5], 'n');
}

// ───────────────────────────────────────────────────────────── locked pages

TEST(Mapping, LocksWithinTheLimitAndNotBeyond) {
  if (kSanitized) return;  // a sanitizer makes mlock do nothing
  constexpr uint64_t kLimit = 64 << 10;
  TestFile file(1 << 20);
  ASSERT_EQ(chmod(file.directory.path().c_str(), 0755), 0);
  TestMapping mapping(file.fd, 2 << 20);
  const int result = Child::Fork([&] {
                       const rlimit limit{kLimit, kLimit};
                       ASSERT_EQ(setrlimit(RLIMIT_MEMLOCK, &limit), 0);
                       if (IsRoot()) {
                         EXPECT_EQ(LockLimitBytes(), kPortable ? kLimit : UINT64_MAX);
                         BecomeNobody();
                       }
                       EXPECT_EQ(LockLimitBytes(), kLimit);
                       EXPECT_OK(LockPages(mapping.base + 100, kLimit - 200));
                       EXPECT_CODE(LockPages(mapping.base + kLimit, PageSize()), Code::kMemlock);
                       EXPECT_OK(UnlockPages(mapping.base + 100, kLimit - 200));
                       EXPECT_CODE(LockPages(mapping.base, 1 << 20), Code::kMemlock);
                       EXPECT_OK(LockPages(mapping.base + kLimit, PageSize()));
                       EXPECT_OK(UnlockPages(mapping.base + kLimit, PageSize()));
                       EXPECT_CODE(LockPages(mapping.base + (1 << 20), PageSize()), Code::kIo);  // past the end
                       EXPECT_OK(LockPages(mapping.base, kLimit));  // which counted for nothing
                     }).Wait();
  EXPECT_EQ(result, 0);
}

TEST(Mapping, SyncsStoresOfARange) {
  TestFile file(Pages(4));
  PlainMapping mapping(file.fd, Pages(4));
  mapping[Pages(2) + 1] = 'x';
  EXPECT_OK(SyncMapped(mapping.base + Pages(2) + 1, 1));
  EXPECT_OK(SyncMapped(mapping.base, Pages(4)));
  EXPECT_OK(SyncMapped(mapping.base, 0));
}

}  // namespace
}  // namespace faultless::os
