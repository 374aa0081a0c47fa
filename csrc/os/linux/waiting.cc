// Waiting on words in shared memory: the futex system call.
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>

#include "os/os.h"

namespace faultless::os {

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

}  // namespace faultless::os
