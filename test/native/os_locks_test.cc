// Byte locks and waiting on words, between descriptors, processes and PID namespaces.
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <cerrno>
#include <cstddef>
#include <thread>

#include "os_fixture.h"

namespace faultless::os {
namespace {

using harness::Child;

bool TryLock(int fd, uint64_t offset, bool exclusive = true) {
  bool acquired = false;
  EXPECT_OK(TryLockByte(fd, offset, exclusive, &acquired));
  return acquired;
}

bool IsLocked(int fd, uint64_t offset) {
  bool locked = false;
  EXPECT_OK(IsByteLocked(fd, offset, &locked));
  return locked;
}

int Reopen(const TestFile& file, Access access = Access::kReadWrite) {
  int fd = -1;
  EXPECT_OK(OpenFile(file.path.c_str(), access, &fd));
  return fd;
}

// ───────────────────────────────────────────────────────────── locks

TEST(Locks, DescriptorsOfOneProcessExcludeEachOther) {
  TestFile file;
  const int other = Reopen(file);
  EXPECT_TRUE(TryLock(file.fd, 1000));  // past the end
  EXPECT_TRUE(TryLock(file.fd, 1000));  // again, by its owner
  EXPECT_FALSE(IsLocked(file.fd, 1000));
  EXPECT_TRUE(IsLocked(other, 1000));
  EXPECT_FALSE(IsLocked(other, 999));
  EXPECT_FALSE(IsLocked(other, 1001));
  EXPECT_FALSE(TryLock(other, 1000));
  EXPECT_FALSE(TryLock(other, 1000, false));
  EXPECT_TRUE(TryLock(other, 1001));
  EXPECT_OK(UnlockByte(file.fd, 1000));
  EXPECT_FALSE(IsLocked(other, 1000));
  EXPECT_TRUE(TryLock(other, 1000));
  CloseFile(other);
  EXPECT_FALSE(IsLocked(file.fd, 1000));
  EXPECT_FALSE(IsLocked(file.fd, 1001));
}

TEST(Locks, SharedLocksGoTogether) {
  TestFile file;
  const int reader = Reopen(file, Access::kReadOnly);
  EXPECT_TRUE(TryLock(file.fd, 5, false));
  EXPECT_TRUE(TryLock(reader, 5, false));
  EXPECT_TRUE(IsLocked(file.fd, 5));
  EXPECT_FALSE(TryLock(file.fd, 5));  // no upgrade past another reader
  EXPECT_OK(UnlockByte(reader, 5));
  EXPECT_TRUE(TryLock(file.fd, 5));
  EXPECT_TRUE(TryLock(file.fd, 5, false));  // downgrade
  EXPECT_TRUE(TryLock(reader, 5, false));
  CloseFile(reader);
}

TEST(Locks, ClosingAnotherDescriptorLeavesThemAlone) {
  TestFile file;
  EXPECT_TRUE(TryLock(file.fd, 1));
  CloseFile(Reopen(file));
  const int result = Child::Fork([&] {
                       const int fd = Reopen(file);
                       EXPECT_TRUE(IsLocked(fd, 1));
                       EXPECT_FALSE(TryLock(fd, 1));
                     }).Wait();
  EXPECT_EQ(result, 0);
}

/** arguments: path, offset, "exclusive" or "shared". Locks, says so by the file's first byte, and stays. */
CHILD_PROCESS(Holder) {
  int fd = -1;
  ASSERT_OK(OpenFile(arguments.at(0).c_str(), Access::kReadWrite, &fd));
  ASSERT_TRUE(TryLock(fd, std::stoull(arguments.at(1)), arguments.at(2) == "exclusive"));
  ASSERT_OK(WriteAt(fd, "L", 1, 0));
  while (true) pause();
}

void AwaitHolder(const TestFile& file) {
  char byte = 0;
  for (int tries = 0; byte != 'L' && tries < 10'000; ++tries) {
    ASSERT_OK(ReadAt(file.fd, &byte, 1, 0));
    usleep(1000);
  }
  ASSERT_EQ(byte, 'L');
}

TEST(Locks, DropWithTheProcessHoweverItEnds) {
  for (const char* kind : {"exclusive", "shared"}) {
    for (int end : {SIGKILL, SIGTERM, SIGSTOP}) {
      TestFile file(1);
      Child holder = Child::Start("Holder", {file.path, "77", kind});
      AwaitHolder(file);
      EXPECT_TRUE(IsLocked(file.fd, 77));
      EXPECT_FALSE(TryLock(file.fd, 77));
      holder.Signal(end);
      if (end == SIGSTOP) {  // stopped is not dead
        usleep(10'000);
        EXPECT_TRUE(IsLocked(file.fd, 77));
        holder.Signal(SIGKILL);
        end = SIGKILL;
      }
      EXPECT_EQ(holder.Wait(), -end);
      EXPECT_FALSE(IsLocked(file.fd, 77));
      EXPECT_TRUE(TryLock(file.fd, 77));
    }
  }
}

TEST(Locks, HoldAcrossPidNamespacesWithTheSamePid) {
  if (!IsRoot()) return harness::Skip("PID namespaces need root");
  TestFile file;
  Signpost locked;
  Signpost tried;
  // Both are process 1 of a namespace of their own.
  const auto in_namespace = [](const std::function<void()>& body) {
    ASSERT_EQ(unshare(CLONE_NEWPID), 0);
    EXPECT_EQ(Child::Fork([&] {
                EXPECT_EQ(getpid(), 1);
                body();
              }).Wait(),
              0);
  };
  Child holder = Child::Fork([&] {
    in_namespace([&] {
      const int fd = Reopen(file);
      EXPECT_TRUE(TryLock(fd, 3));
      locked.Reached();
      tried.Await();
      CloseFile(fd);
    });
  });
  locked.Await();
  EXPECT_TRUE(IsLocked(file.fd, 3));
  Child contender = Child::Fork([&] {
    in_namespace([&] {
      const int fd = Reopen(file);
      EXPECT_TRUE(IsLocked(fd, 3));
      EXPECT_FALSE(TryLock(fd, 3));
    });
  });
  EXPECT_EQ(contender.Wait(), 0);
  tried.Reached();
  EXPECT_EQ(holder.Wait(), 0);
  EXPECT_FALSE(IsLocked(file.fd, 3));
}

TEST(Locks, SayWhatIsWrong) {
  TestFile file;
  bool acquired = true;
  EXPECT_CODE(TryLockByte(-1, 0, true, &acquired), Code::kIo);
  EXPECT_FALSE(acquired);
  EXPECT_CODE(UnlockByte(-1, 0), Code::kIo);
  EXPECT_CODE(IsByteLocked(-1, 0, &acquired), Code::kIo);
}

TEST(Locks, OneOfManyThreadsHoldsIt) {
  TestFile file;
  std::atomic<int> holders{0};
  std::atomic<int> turns{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      const int fd = Reopen(file);
      for (int round = 0; round < 500; ++round) {
        if (!TryLock(fd, 9)) continue;
        EXPECT_EQ(holders.fetch_add(1), 0);
        turns.fetch_add(1);
        holders.fetch_sub(1);
        EXPECT_OK(UnlockByte(fd, 9));
      }
      CloseFile(fd);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_GT(turns.load(), 0);
  EXPECT_FALSE(IsLocked(file.fd, 9));
}

// ───────────────────────────────────────────────────────────── waiting

/** A word in a file that this process and its children map. */
struct SharedWord {
  TestFile file{4096, '\0'};
  std::byte* base = nullptr;
  std::atomic<uint32_t>* word = nullptr;

  SharedWord() {
    EXPECT_OK(MapFile(file.fd, 0, PageSize(), Access::kReadWrite, true, &base));
    word = reinterpret_cast<std::atomic<uint32_t>*>(base);
  }
  ~SharedWord() { EXPECT_OK(UnmapFile(base, PageSize())); }
};

constexpr uint32_t kLongUs = 20'000'000;

TEST(Waiting, ReturnsAtOnceWhereTheWordDiffers) {
  SharedWord shared;
  const uint64_t before_ns = MonotonicNs();
  WaitOnWord(shared.word, 1, kLongUs);
  EXPECT_LT(MonotonicNs() - before_ns, uint64_t{kLongUs} * 500);
}

TEST(Waiting, TimesOut) {
  SharedWord shared;
  const uint64_t before_ns = MonotonicNs();
  while (MonotonicNs() - before_ns < 20'000'000) WaitOnWord(shared.word, 0, 20'000);
  const uint64_t spent_ns = MonotonicNs() - before_ns;
  EXPECT_LT(spent_ns, uint64_t{kLongUs} * 500);
  WaitOnWord(shared.word, 0, 0);
}

TEST(Waiting, IsWokenByAnotherProcess) {
  SharedWord shared;
  Child waiter = Child::Fork([&] {
    // A mapping of its own, at another address, that cannot be written.
    int fd = -1;
    std::byte* base = nullptr;
    ASSERT_OK(OpenFile(shared.file.path.c_str(), Access::kReadOnly, &fd));
    ASSERT_OK(MapFile(fd, 0, PageSize(), Access::kReadOnly, true, &base));
    const auto* word = reinterpret_cast<const std::atomic<uint32_t>*>(base);
    shared.word[1].store(1);
    const uint64_t before_ns = MonotonicNs();
    while (word->load() == 0) WaitOnWord(word, 0, kLongUs);
    EXPECT_LT(MonotonicNs() - before_ns, uint64_t{kLongUs} * 500);
  });
  while (shared.word[1].load() == 0) usleep(1000);
  usleep(20'000);  // most likely it waits by now
  shared.word->store(1);
  WakeWord(shared.word, UINT32_MAX);
  EXPECT_EQ(waiter.Wait(), 0);
}

TEST(Waiting, WakesAsManyAsAsked) {
  if (kPortable) return;  // its waiters look for themselves
  SharedWord shared;
  std::atomic<int> awake{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] {
      shared.word[1].fetch_add(1);
      WaitOnWord(shared.word, 0, kLongUs);
      awake.fetch_add(1);
    });
  }
  while (shared.word[1].load() < 3) usleep(1000);
  usleep(50'000);
  for (int woken = 1; woken <= 3; ++woken) {
    WakeWord(shared.word, 1);
    while (awake.load() < woken) usleep(100);
    usleep(5'000);
    EXPECT_EQ(awake.load(), woken);
  }
  for (std::thread& thread : threads) thread.join();
}

/** Sleeps on 100 words until another process changes, or only wakes, the last one; then until the time is over. */
void WaitOnManyWords(SharedWord& shared) {
  std::vector<WaitedWord> words;
  for (size_t i = 0; i < 100; ++i) words.push_back({shared.word + 10 + i, 0});
  std::atomic<uint32_t>* const last = shared.word + 109;
  Child other = Child::Fork([&] {
    usleep(20'000);
    last->store(1);
    WakeWord(last, 1);
  });
  const uint64_t before_ns = MonotonicNs();
  while (last->load() == 0) WaitOnWords(words.data(), words.size(), kLongUs);
  EXPECT_LT(MonotonicNs() - before_ns, uint64_t{kLongUs} * 500);
  EXPECT_EQ(other.Wait(), 0);
  WaitOnWords(words.data(), words.size(), kLongUs);  // at once: one of them differs
  words.pop_back();
  const uint64_t start_ns = MonotonicNs();
  while (MonotonicNs() - start_ns < 20'000'000) WaitOnWords(words.data(), words.size(), 20'000);
  WaitOnWords(words.data(), words.size(), 0);
  WaitOnWords(words.data(), 1, 1'000);
  EXPECT_LT(MonotonicNs() - start_ns, uint64_t{kLongUs} * 500);
}

TEST(Waiting, OnManyWords) {
  SharedWord shared;
  WaitOnManyWords(shared);
}

#if !defined(FAULTLESS_OS_PORTABLE)
TEST(Waiting, OnManyWordsWhereTheKernelHasNoCallForIt) {
  Child child = Child::Fork([] {
    // futex_waitv answers ENOSYS from here on, as before Linux 5.16.
    sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 449, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const sock_fprog program{sizeof code / sizeof code[0], code};
    ASSERT_EQ(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    ASSERT_EQ(::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
    SharedWord shared;
    WaitOnManyWords(shared);
  });
  EXPECT_EQ(child.Wait(), 0);
}
#endif

}  // namespace
}  // namespace faultless::os
