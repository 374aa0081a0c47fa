// Waiting on words in shared memory: the futex system calls.
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>

#include "os/os.h"

namespace faultless::os {

namespace {

#ifndef SYS_futex_waitv
constexpr long SYS_futex_waitv = 449;  // the same number on every architecture
#endif

/** struct futex_waitv of linux/futex.h, which older headers do not have. */
struct WaitVector {
  uint64_t value;
  uint64_t address;
  uint32_t flags;
  uint32_t reserved;
};
constexpr uint32_t kWord32 = 2;  // FUTEX_32, and not FUTEX_PRIVATE_FLAG
constexpr uint32_t kSliceUs = 1'000;

/** Linux before 5.16: the first word's futex, the others by looking. */
void WaitInSlices(const WaitedWord* words, size_t count, uint64_t timeout_us) {
  const uint64_t begin_ns = MonotonicNs();
  for (;;) {
    // Read by the kernel and not here, as they may be unmapped meanwhile: a wait of no length says EAGAIN or ETIMEDOUT.
    for (size_t i = 1; i < count; i++) {
      const timespec none{.tv_sec = 0, .tv_nsec = 0};
      const long result = syscall(SYS_futex, words[i].word, FUTEX_WAIT, words[i].expected, &none, nullptr, 0);
      if (result == 0 || errno != ETIMEDOUT) return;
    }
    const uint64_t waited_us = (MonotonicNs() - begin_ns) / 1'000;
    if (waited_us >= timeout_us) return;
    const uint64_t left_us = timeout_us - waited_us;
    const uint32_t slice_us = count == 1 ? static_cast<uint32_t>(std::min<uint64_t>(left_us, UINT32_MAX))
                                         : static_cast<uint32_t>(std::min<uint64_t>(left_us, kSliceUs));
    const timespec slice{.tv_sec = slice_us / 1'000'000, .tv_nsec = slice_us % 1'000'000 * 1'000};
    if (syscall(SYS_futex, words[0].word, FUTEX_WAIT, words[0].expected, &slice, nullptr, 0) == 0) return;
    if (errno != ETIMEDOUT) return;
  }
}

}  // namespace

static_assert(sizeof(std::atomic<uint32_t>) == 4 && std::atomic<uint32_t>::is_always_lock_free);

void WaitOnWord(const std::atomic<uint32_t>* word, uint32_t expected, uint32_t timeout_us) {
  const int saved_errno = errno;
  const timespec timeout{.tv_sec = timeout_us / 1'000'000, .tv_nsec = timeout_us % 1'000'000 * 1'000};
  // Not FUTEX_PRIVATE: the waker may be another process. Relative time, by the monotonic clock.
  syscall(SYS_futex, word, FUTEX_WAIT, expected, &timeout, nullptr, 0);
  errno = saved_errno;
}

void WakeWord(const std::atomic<uint32_t>* word, uint32_t count) {
  const int saved_errno = errno;
  syscall(SYS_futex, word, FUTEX_WAKE, std::min<uint32_t>(count, INT_MAX), nullptr, nullptr, 0);
  errno = saved_errno;
}

void WaitOnWords(const WaitedWord* words, size_t count, uint64_t timeout_us) {
  const int saved_errno = errno;
  static std::atomic<bool> has_vector{true};
  WaitVector vector[kMaxWaitedWords];
  count = std::min(count, kMaxWaitedWords);
  if (has_vector.load(std::memory_order_relaxed)) {
    for (size_t i = 0; i < count; i++) {
      vector[i] = {words[i].expected, reinterpret_cast<uintptr_t>(words[i].word), kWord32, 0};
    }
    constexpr uint64_t kLongestUs = uint64_t{1} << 50;  // some 35 years: later than that is never
    const uint64_t end_ns = MonotonicNs() + std::min(timeout_us, kLongestUs) * 1'000;
    const timespec end{.tv_sec = static_cast<time_t>(end_ns / 1'000'000'000),
                       .tv_nsec = static_cast<long>(end_ns % 1'000'000'000)};
    // Absolute time, by the monotonic clock.
    const long result = syscall(SYS_futex_waitv, vector, count, 0, &end, CLOCK_MONOTONIC);
    // EPERM: a container's filter that does not know the call.
    if (result >= 0 || (errno != ENOSYS && errno != EPERM)) {
      errno = saved_errno;
      return;
    }
    has_vector.store(false, std::memory_order_relaxed);
  }
  WaitInSlices(words, count, timeout_us);
  errno = saved_errno;
}

}  // namespace faultless::os
