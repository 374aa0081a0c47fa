// Faults on mapped memory: substitutes, the note of them, the way back, and faults that are not ours.
#include <errno.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <atomic>
#include <thread>

#include "os_fixture.h"

namespace faultless::os {
namespace {

using harness::Child;

// ───────────────────────────────────────────────────────────── one thread

TEST(Faults, TruncatedPagesReadAsZerosOrOnes) {
  TestFile file(Pages(16));
  TestMapping mapping(file.fd, Pages(16), Pages(2));
  const uint64_t before = ThreadFaultCount();
  EXPECT_EQ(mapping[Pages(5)], 'A');
  EXPECT_EQ(ThreadFaultCount(), before);
  EXPECT_FALSE(HasSubstitutes(mapping.id));

  ASSERT_OK(SetFileSize(file.fd, 0));
  errno = 1234;
  for (uint64_t i : {uint64_t{0}, uint64_t{1}, Pages(1), Pages(2) - 1}) EXPECT_EQ(mapping[i], 0xFF) << i;
  for (uint64_t i : {Pages(2), Pages(5), Pages(6) - 1}) EXPECT_EQ(mapping[i], 0) << i;
  EXPECT_EQ(errno, 1234);
  EXPECT_EQ(ThreadFaultCount(), before + 4);  // one for each page
  EXPECT_TRUE(HasSubstitutes(mapping.id));
  for (uint64_t page : {0, 1, 2, 5}) EXPECT_TRUE(mapping.IsPageSubstituted(page)) << page;
  for (uint64_t page : {3, 4, 6, 15}) EXPECT_FALSE(mapping.IsPageSubstituted(page)) << page;
  EXPECT_TRUE(IsSubstituted(mapping.id, mapping.base + Pages(3), Pages(3)));
  EXPECT_FALSE(IsSubstituted(mapping.id, mapping.base + Pages(3), Pages(2)));
  EXPECT_TRUE(IsSubstituted(mapping.id, mapping.base + Pages(5) - 1, 2));
  EXPECT_FALSE(IsSubstituted(mapping.id, mapping.base + Pages(6), 0));

  mapping[Pages(5) + 7] = 42;  // a store to a substitute is kept, and reaches no file
  EXPECT_EQ(mapping[Pages(5) + 7], 42);
  EXPECT_EQ(file.Size(), 0);
}

TEST(Faults, AStoreThatFaultsGoesOn) {
  TestFile file(Pages(2));
  TestMapping mapping(file.fd, Pages(2), Pages(1));
  ASSERT_OK(SetFileSize(file.fd, 0));
  const uint64_t before = ThreadFaultCount();
  mapping[3] = 7;
  mapping[Pages(1) + 3] = 8;
  EXPECT_EQ(ThreadFaultCount(), before + 2);
  EXPECT_EQ(mapping[3], 7);
  EXPECT_EQ(mapping[2], 0xFF);
  EXPECT_EQ(mapping[Pages(1) + 3], 8);
  EXPECT_EQ(mapping[Pages(1) + 2], 0);
}

TEST(Faults, RestoreMapsTheFileBackWhereItCanBeRead) {
  TestFile file(Pages(8));
  TestMapping mapping(file.fd, Pages(8), Pages(1));
  ASSERT_OK(SetFileSize(file.fd, 0));
  for (uint64_t page = 0; page < 8; ++page) mapping[Pages(page)] = 'S';
  EXPECT_EQ(RestoreSubstitutes(mapping.id), 8);  // still past the end
  EXPECT_EQ(mapping[Pages(3)], 'S');

  file.Fill(Pages(3) + 1, 'B');  // page 3 has one byte now: its start is below the end of file
  EXPECT_EQ(RestoreSubstitutes(mapping.id), 4);
  for (uint64_t page = 0; page < 4; ++page) {
    EXPECT_FALSE(mapping.IsPageSubstituted(page)) << page;
    EXPECT_EQ(mapping[Pages(page)], 'B') << page;
  }
  EXPECT_EQ(mapping[Pages(3) + 1], 0);
  EXPECT_EQ(mapping[Pages(4)], 'S');
  EXPECT_TRUE(mapping.IsPageSubstituted(4));

  file.Fill(Pages(8), 'C');
  EXPECT_EQ(RestoreSubstitutes(mapping.id), 0);
  EXPECT_FALSE(HasSubstitutes(mapping.id));
  const uint64_t before = ThreadFaultCount();
  EXPECT_EQ(mapping[Pages(7)], 'C');
  mapping[Pages(7)] = 'D';  // shared with the file again
  char byte = 0;
  ASSERT_OK(ReadAt(file.fd, &byte, 1, Pages(7)));
  EXPECT_EQ(byte, 'D');
  EXPECT_EQ(ThreadFaultCount(), before);
  EXPECT_EQ(RestoreSubstitutes(mapping.id), 0);
}

TEST(Faults, APrivateMappingStaysPrivate) {
  TestFile file(Pages(2));
  TestMapping mapping(file.fd, Pages(2), 0, Access::kReadWrite, false);
  ASSERT_OK(SetFileSize(file.fd, 0));
  EXPECT_EQ(mapping[0], 0);
  file.Fill(Pages(2), 'B');
  EXPECT_EQ(RestoreSubstitutes(mapping.id), 0);
  EXPECT_EQ(mapping[0], 'B');
  mapping[0] = 'X';
  char byte = 0;
  ASSERT_OK(ReadAt(file.fd, &byte, 1, 0));
  EXPECT_EQ(byte, 'B');
}

TEST(Faults, AMappingFromTheMiddleOfTheFileRestoresItsOwnPages) {
  TestFile file(Pages(4));
  std::byte* base = nullptr;
  MappingId id;
  ASSERT_OK(MapFile(file.fd, Pages(2), Pages(2), Access::kReadOnly, true, &base));
  ASSERT_OK(RegisterMapping(base, Pages(2), 0, file.fd, Pages(2), Access::kReadOnly, true, &id));
  ASSERT_OK(SetFileSize(file.fd, Pages(1)));
  EXPECT_EQ(*reinterpret_cast<volatile uint8_t*>(base + Pages(1)), 0);
  EXPECT_EQ(RestoreSubstitutes(id), 1);
  ASSERT_OK(WriteAt(file.fd, "Z", 1, Pages(3)));
  EXPECT_EQ(RestoreSubstitutes(id), 0);
  EXPECT_EQ(*reinterpret_cast<volatile uint8_t*>(base + Pages(1)), 'Z');
  UnregisterMapping(id);
  EXPECT_OK(UnmapFile(base, Pages(2)));
}

TEST(Faults, SubstitutesOfAReadOnlyMappingCannotBeWritten) {
  for (uint64_t ones_length : {uint64_t{0}, Pages(1)}) {
    TestFile file(Pages(1));
    TestMapping mapping(file.fd, Pages(1), ones_length, Access::kReadOnly);
    ASSERT_OK(SetFileSize(file.fd, 0));
    EXPECT_EQ(mapping[0], ones_length == 0 ? 0 : 0xFF);
    const int result = Child::Fork([&] {
                         signal(SIGSEGV, SIG_DFL);
                         mapping[0] = 1;
                       }).Wait();
    EXPECT_EQ(result, -SIGSEGV);
  }
}

TEST(Faults, AFullFilesystemIsAFaultLikeAnyOther) {
  if (!IsRoot()) return harness::Skip("mounting a small tmpfs needs root");
  harness::TemporaryDirectory directory;
  const int result = Child::Fork([&] {
                       ASSERT_TRUE(MountSmallTmpfs(directory.path(), "64k"));
                       const int fd = open(directory.File("sparse").c_str(), O_RDWR | O_CREAT, 0600);
                       ASSERT_GE(fd, 0);
                       ASSERT_OK(SetFileSize(fd, Pages(64)));
                       TestMapping mapping(fd, Pages(64));
                       for (uint64_t page = 0; page < 64; ++page) mapping[Pages(page)] = 1;
                       EXPECT_GT(ThreadFaultCount(), 0);
                       EXPECT_FALSE(mapping.IsPageSubstituted(0));
                       EXPECT_TRUE(mapping.IsPageSubstituted(63));
                       for (uint64_t page = 0; page < 64; ++page) EXPECT_EQ(mapping[Pages(page)], 1);
                     }).Wait();
  EXPECT_EQ(result, 0);
}

// ───────────────────────────────────────────────────────────── limits

TEST(Faults, TooManySubstitutesCondemnTheMapping) {
  const uint64_t pages = kMaxSubstitutes + 20;
  TestFile file;
  ASSERT_OK(SetFileSize(file.fd, Pages(pages)));
  TestMapping mapping(file.fd, Pages(pages), Pages(2));
  ASSERT_OK(SetFileSize(file.fd, 0));
  EXPECT_EQ(mapping[0], 0xFF);
  for (uint64_t page = 2; page < 2 + kMaxSubstitutes; ++page) mapping[Pages(page)] = 1;
  EXPECT_FALSE(mapping.IsPageSubstituted(pages - 1));  // the list is full, and no more than that
  EXPECT_EQ(mapping[Pages(2)], 1);
  EXPECT_EQ(mapping[Pages(pages - 2)], 0);
  EXPECT_TRUE(mapping.IsPageSubstituted(pages - 1));
  EXPECT_EQ(mapping[Pages(pages - 1)], 0);
  EXPECT_EQ(mapping[Pages(1)], 0xFF);  // as ever in the range of ones
  file.Fill(Pages(4), 'B');
  EXPECT_GT(RestoreSubstitutes(mapping.id), 0);
  EXPECT_TRUE(mapping.IsPageSubstituted(pages - 1));
  EXPECT_TRUE(HasSubstitutes(mapping.id));
  EXPECT_EQ(mapping[0], 'B');
}

TEST(Faults, AnAddressSpaceInTooManyPiecesIsSurvived) {
  if (kSanitized) return;  // a sanitizer maps memory of its own, and cannot do without
  TestFile file(Pages(64));
  TestMapping mapping(file.fd, Pages(64), Pages(2));
  ASSERT_OK(SetFileSize(file.fd, 0));
  const int result = Child::Fork([&] {
                       // Neighbours of different protection do not become one piece.
                       std::vector<void*> pieces;
                       for (int i = 0; i < 4'000'000; ++i) {
                         void* piece = mmap(nullptr, PageSize(), i % 2 == 0 ? PROT_READ : PROT_NONE,
                                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
                         if (piece == MAP_FAILED) break;
                         pieces.push_back(piece);
                       }
                       ASSERT_EQ(errno, ENOMEM);
                       ASSERT_EQ(munmap(pieces.back(), PageSize()), 0);
                       EXPECT_EQ(mapping[Pages(32)], 0);
                       EXPECT_TRUE(mapping.IsPageSubstituted(63));  // given up as a whole
                       EXPECT_EQ(mapping[Pages(63)], 0);
                       mapping[Pages(63)] = 3;
                       EXPECT_EQ(mapping[Pages(63)], 3);
                     }).Wait();
  EXPECT_EQ(result, 0);
}

TEST(Faults, TheNextRegistrationStartsClean) {
  TestFile file(Pages(2));
  for (int round = 0; round < 3; ++round) {
    file.Fill(Pages(2), 'A');
    TestMapping mapping(file.fd, Pages(2), Pages(1));
    EXPECT_FALSE(HasSubstitutes(mapping.id));
    ASSERT_OK(SetFileSize(file.fd, 0));
    EXPECT_EQ(mapping[0], 0xFF);
    EXPECT_EQ(mapping[Pages(1)], 0);
    EXPECT_TRUE(mapping.IsPageSubstituted(0) && mapping.IsPageSubstituted(1));
  }
}

TEST(Faults, RegistrationsAreLimited) {
  TestFile file(Pages(1));
  std::byte* base = nullptr;
  ASSERT_OK(MapFile(file.fd, 0, Pages(kMaxMappings + 1), Access::kReadWrite, true, &base));
  std::vector<MappingId> ids(kMaxMappings);
  for (size_t i = 0; i < kMaxMappings; ++i) {
    ASSERT_OK(RegisterMapping(base + Pages(i), Pages(1), 0, file.fd, Pages(i), Access::kReadWrite, true, &ids[i]));
  }
  MappingId extra;
  const auto register_extra = [&] {
    return RegisterMapping(base + Pages(kMaxMappings), Pages(1), 0, file.fd, 0, Access::kReadWrite, true, &extra);
  };
  EXPECT_CODE(register_extra(), Code::kUnsupported);
  // The last entry is found like the first.
  EXPECT_EQ(reinterpret_cast<volatile uint8_t*>(base)[Pages(kMaxMappings - 1)], 0);
  EXPECT_TRUE(HasSubstitutes(ids[kMaxMappings - 1]));
  UnregisterMapping(ids[500]);
  ASSERT_OK(register_extra());
  EXPECT_EQ(reinterpret_cast<volatile uint8_t*>(base)[Pages(kMaxMappings)], 0);
  EXPECT_TRUE(HasSubstitutes(extra));
  ids[500] = extra;
  for (MappingId id : ids) UnregisterMapping(id);
  EXPECT_OK(UnmapFile(base, Pages(kMaxMappings + 1)));
}

TEST(Faults, RefusesWhatIsNotWholePages) {
  TestFile file(Pages(2));
  std::byte* base = nullptr;
  ASSERT_OK(MapFile(file.fd, 0, Pages(2), Access::kReadWrite, true, &base));
  MappingId id;
  const auto attempt = [&](std::byte* address, uint64_t length, uint64_t ones_length) {
    return RegisterMapping(address, length, ones_length, file.fd, 0, Access::kReadWrite, true, &id);
  };
  EXPECT_CODE(attempt(base + 1, Pages(1), 0), Code::kInvalidArgValue);
  EXPECT_CODE(attempt(base, Pages(1) + 1, 0), Code::kInvalidArgValue);
  EXPECT_CODE(attempt(base, Pages(2), 64), Code::kInvalidArgValue);
  EXPECT_CODE(attempt(base, Pages(1), Pages(2)), Code::kInvalidArgValue);
  EXPECT_OK(UnmapFile(base, Pages(2)));
}

// ───────────────────────────────────────────────────────────── several threads

/** Lets `count` threads do round after round of the same, each started together. */
template <typename Body>
void RunTogether(int count, Body body) {
  std::atomic<int> waiting{count};
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i) {
    threads.emplace_back([&, i] {
      waiting.fetch_sub(1);
      while (waiting.load() > 0) std::this_thread::yield();
      body(i);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(Faults, ThreadsThatFaultOnOnePageLoseNoStore) {
  constexpr int kThreads = 6;
  constexpr uint64_t kPageCount = 32;
  TestFile file(Pages(kPageCount));
  for (int round = 0; round < 50; ++round) {
    file.Fill(Pages(kPageCount), 'A');
    TestMapping mapping(file.fd, Pages(kPageCount), Pages(kPageCount / 2));
    ASSERT_OK(SetFileSize(file.fd, 0));
    RunTogether(kThreads, [&](int thread) {
      for (uint64_t page = 0; page < kPageCount; ++page) {
        mapping.Store(Pages(page) + static_cast<uint64_t>(thread), static_cast<uint8_t>(thread + 1));
        const uint8_t other = mapping.Load(Pages(page) + 100);
        if (other != (page < kPageCount / 2 ? 0xFF : 0)) FAIL() << "page" << page << "reads" << int{other};
        if (!mapping.IsPageSubstituted(page)) FAIL() << "page" << page << "is not noted";
      }
    });
    for (uint64_t page = 0; page < kPageCount; ++page) {
      for (int thread = 0; thread < kThreads; ++thread) {
        ASSERT_EQ(mapping[Pages(page) + static_cast<uint64_t>(thread)], thread + 1)
            << "round" << round << "page" << page;
      }
    }
    file.Fill(Pages(kPageCount), 'B');
    ASSERT_EQ(RestoreSubstitutes(mapping.id), 0);  // each page is in the list once
  }
}

TEST(Faults, RestoresAndFaultsAndOtherRegistrationsAtOnce) {
  constexpr uint64_t kPageCount = 16;
  TestFile file(Pages(kPageCount));
  TestFile other_file(Pages(1));
  TestMapping mapping(file.fd, Pages(kPageCount), Pages(4));
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int reader = 0; reader < 2; ++reader) {
    threads.emplace_back([&] {
      while (!stop.load()) {
        for (uint64_t page = 0; page < kPageCount; ++page) {
          const uint8_t byte = mapping.Load(Pages(page) + 9);
          if (byte != 'A' && byte != (page < 4 ? 0xFF : 0)) FAIL() << "page" << page << "reads" << int{byte};
        }
      }
    });
  }
  threads.emplace_back([&] {
    while (!stop.load()) {
      (void)RestoreSubstitutes(mapping.id);
      std::this_thread::yield();
    }
  });
  threads.emplace_back([&] {  // neighbours in the registry come and go, of many sizes
    uint64_t size = 1;
    while (!stop.load()) {
      TestMapping neighbour(other_file.fd, Pages(size));
      size = size % 64 + 1;
    }
  });
  for (int round = 0; round < 300; ++round) {
    ASSERT_OK(SetFileSize(file.fd, 0));
    std::this_thread::yield();
    file.Fill(Pages(kPageCount), 'A');
  }
  stop.store(true);
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(RestoreSubstitutes(mapping.id), 0);
  for (uint64_t page = 0; page < kPageCount; ++page) EXPECT_EQ(mapping[Pages(page)], 'A') << page;
  EXPECT_FALSE(HasSubstitutes(mapping.id));
}

TEST(Faults, EachThreadCountsItsOwn) {
  TestFile file(Pages(1));
  TestMapping mapping(file.fd, Pages(1));
  ASSERT_OK(SetFileSize(file.fd, 0));
  const uint64_t before = ThreadFaultCount();
  std::thread([&] {
    EXPECT_EQ(ThreadFaultCount(), 0);
    EXPECT_EQ(mapping[0], 0);
    EXPECT_EQ(ThreadFaultCount(), 1);
  }).join();
  EXPECT_EQ(mapping[0], 0);
  EXPECT_EQ(ThreadFaultCount(), before);
  EXPECT_TRUE(HasSubstitutes(mapping.id));
}

// ───────────────────────────────────────────────────────────── faults that are not ours
// Each in a fresh process: what was there before is asked at the first registration.

enum class Before { kDefault, kIgnore, kPlain, kWithInfo, kOnce, kJumps };

std::byte* expected_address = nullptr;
sigjmp_buf jump;

void PlainHandler(int signal) { _exit(signal == SIGBUS ? 41 : 1); }
void InfoHandler(int signal, siginfo_t* info, void* context) {
  _exit(signal == SIGBUS && info->si_addr == expected_address && context != nullptr ? 42 : 1);
}
int once_calls = 0;
void OnceHandler(int) { ++once_calls; }  // returns: the fault comes again, and meets the default action
/** Called as the system would have: with what the program had blocked, and SIGBUS. */
void JumpingHandler(int) {
  sigset_t mask;
  if (pthread_sigmask(SIG_SETMASK, nullptr, &mask) != 0 || sigismember(&mask, SIGBUS) != 1) _exit(2);
  if (sigismember(&mask, SIGTERM) != 0 || sigismember(&mask, SIGUSR1) != 1 || sigismember(&mask, SIGUSR2) != 1)
    _exit(3);
  siglongjmp(jump, 1);
}

void SetUpBefore(Before before) {
  struct sigaction action {};
  switch (before) {
    case Before::kDefault:
      action.sa_handler = SIG_DFL;
      break;
    case Before::kIgnore:
      action.sa_handler = SIG_IGN;
      break;
    case Before::kPlain:
      action.sa_handler = PlainHandler;
      break;
    case Before::kWithInfo:
      action.sa_sigaction = InfoHandler;
      action.sa_flags = SA_SIGINFO;
      break;
    case Before::kOnce:
      action.sa_handler = OnceHandler;
      action.sa_flags = static_cast<int>(SA_RESETHAND);
      break;
    case Before::kJumps:
      action.sa_handler = JumpingHandler;
      sigaddset(&action.sa_mask, SIGUSR1);
      break;
  }
  ASSERT_EQ(sigaction(SIGBUS, &action, nullptr), 0);
}

/** arguments: the handler before ours; "fault" or "kill". Exits with 0 where it lives on. */
CHILD_PROCESS(ForeignFault) {
  const rlimit no_core{0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  const auto before = static_cast<Before>(std::stoi(arguments.at(0)));
  SetUpBefore(before);
  TestFile ours(Pages(1));
  TestFile foreign(Pages(1));
  TestMapping mapping(ours.fd, Pages(1));
  ASSERT_OK(SetFileSize(ours.fd, 0));
  ASSERT_EQ(mapping[0], 0);  // our own are answered whatever was there before
  std::byte* base = nullptr;
  ASSERT_OK(MapFile(foreign.fd, 0, Pages(1), Access::kReadWrite, true, &base));
  ASSERT_OK(SetFileSize(foreign.fd, 0));
  // The directories would outlive a process that dies here.
  ASSERT_OK(Unlink(ours.path.c_str()));
  ASSERT_OK(Unlink(foreign.path.c_str()));
  ASSERT_EQ(rmdir(ours.directory.path().c_str()), 0);
  ASSERT_EQ(rmdir(foreign.directory.path().c_str()), 0);
  if (arguments.at(1) == "kill") {
    ASSERT_EQ(kill(getpid(), SIGBUS), 0);
    return;
  }
  expected_address = base + 5;
  if (before == Before::kJumps) {
    static int round = 0;  // static: a jump leaves it as it is
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR2);
    ASSERT_EQ(pthread_sigmask(SIG_BLOCK, &blocked, nullptr), 0);
    for (; round < 3; ++round) {
      if (sigsetjmp(jump, 1) == 0) {
        *reinterpret_cast<volatile uint8_t*>(base + 5);
        FAIL() << "the load went on";
      }
    }
    return;
  }
  *reinterpret_cast<volatile uint8_t*>(base + 5);
}

int RunForeign(Before before, const char* what) {
  return Child::Start("ForeignFault", {std::to_string(static_cast<int>(before)), what}).Wait();
}

TEST(Faults, ForeignFaultsGoToTheHandlerBefore) {
  EXPECT_EQ(RunForeign(Before::kDefault, "fault"), -SIGBUS);
  EXPECT_EQ(RunForeign(Before::kIgnore, "fault"), -SIGBUS);
  EXPECT_EQ(RunForeign(Before::kPlain, "fault"), 41);
  EXPECT_EQ(RunForeign(Before::kWithInfo, "fault"), 42);
  EXPECT_EQ(RunForeign(Before::kOnce, "fault"), -SIGBUS);
  EXPECT_EQ(RunForeign(Before::kJumps, "fault"), 0);
}

TEST(Faults, SignalsThatWereSentGoToTheHandlerBefore) {
  EXPECT_EQ(RunForeign(Before::kDefault, "kill"), -SIGBUS);
  EXPECT_EQ(RunForeign(Before::kIgnore, "kill"), 0);
  EXPECT_EQ(RunForeign(Before::kPlain, "kill"), 41);
  EXPECT_EQ(RunForeign(Before::kOnce, "kill"), 0);
}

}  // namespace
}  // namespace faultless::os
