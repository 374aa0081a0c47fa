// Waiting on words in shared memory by short sleeps: POSIX has nothing that waits for a bare word.
#include <time.h>

#include <algorithm>
#include <cerrno>

#include "os/os.h"

namespace faultless::os {

namespace {

constexpr uint64_t kFirstSleepNs = 20'000;
constexpr uint64_t kLongestSleepNs = 1'000'000;

}  // namespace

void WaitOnWord(const std::atomic<uint32_t>* word, uint32_t expected, uint32_t timeout_us) {
  const int saved_errno = errno;
  const uint64_t deadline_ns = MonotonicNs() + uint64_t{timeout_us} * 1'000;
  uint64_t sleep_ns = kFirstSleepNs;
  while (word->load(std::memory_order_acquire) == expected) {
    const uint64_t now_ns = MonotonicNs();
    if (now_ns >= deadline_ns) break;
    const uint64_t this_sleep_ns = std::min(sleep_ns, deadline_ns - now_ns);
    const timespec pause{.tv_sec = 0, .tv_nsec = static_cast<long>(this_sleep_ns)};
    nanosleep(&pause, nullptr);
    sleep_ns = std::min(sleep_ns * 2, kLongestSleepNs);
  }
  errno = saved_errno;
}

void WakeWord(const std::atomic<uint32_t>*, uint32_t) {}

void WaitOnWords(const WaitedWord* words, size_t count, uint64_t timeout_us) {
  // One nap at most: only the first word is the caller's own for certain, the memory of others may go meanwhile.
  static_cast<void>(count);
  WaitOnWord(words[0].word, words[0].expected,
             static_cast<uint32_t>(std::min<uint64_t>(timeout_us, kLongestSleepNs / 1'000)));
}

}  // namespace faultless::os
