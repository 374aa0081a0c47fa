// Process and time: what POSIX offers everywhere.
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include <memory>

#include "os/os.h"

namespace faultless::os {

namespace {

uint64_t ClockNs(clockid_t clock) {
  timespec now;
  clock_gettime(clock, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

// Static storage: constant-initialized, so that the fork handler may run at any time after the registration.
constinit std::atomic<bool> forked{false};

// Registered when the library is loaded. A vfork or a raw clone runs no handlers, and needs none: such a child can do
// nothing but exec.
[[maybe_unused]] const int fork_handler_registered =
    pthread_atfork(nullptr, nullptr, [] { forked.store(true, std::memory_order_relaxed); });

}  // namespace

size_t PageSize() {
  static const size_t page_size = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return page_size;
}

uint64_t MonotonicNs() { return ClockNs(CLOCK_MONOTONIC); }

uint64_t MonotonicCoarseNs() {
#ifdef CLOCK_MONOTONIC_COARSE
  return ClockNs(CLOCK_MONOTONIC_COARSE);
#else
  return MonotonicNs();
#endif
}

uint64_t WallClockMs() { return ClockNs(CLOCK_REALTIME) / 1'000'000; }

uint64_t BootClockMs() {
#ifdef CLOCK_BOOTTIME
  return ClockNs(CLOCK_BOOTTIME) / 1'000'000;
#else
  return ClockNs(CLOCK_MONOTONIC) / 1'000'000;
#endif
}
uint64_t WallClockNs() { return ClockNs(CLOCK_REALTIME); }

uint32_t ProcessId() { return static_cast<uint32_t>(getpid()); }

Status StartThread(void (*run)(void* argument), void* argument) {
  struct Start {
    void (*run)(void* argument);
    void* argument;
  };
  const auto begin = [](void* started) -> void* {
    const std::unique_ptr<Start> start(static_cast<Start*>(started));
    start->run(start->argument);
    return nullptr;
  };
  auto start = std::unique_ptr<Start>(new Start{run, argument});
  pthread_t thread;
  const int error = pthread_create(&thread, nullptr, begin, start.get());
  if (error != 0) return Status::WithErrno(Code::kIo, error, "pthread_create");
  static_cast<void>(start.release());
  pthread_detach(thread);
  return {};
}

bool InForkedChild() { return forked.load(std::memory_order_relaxed); }

}  // namespace faultless::os
