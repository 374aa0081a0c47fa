// Purpose: fail points, so that tests can kill a process before each of its stores to shared memory and before each
// system call that changes a file or its locks. Only a build with FAULTLESS_FAIL_POINTS has them. The native tests are
// one; what is published is not: there FAULTLESS_FAIL_POINT() is nothing, and the words of a file are plain
// std::atomics (format/layout.h). Thread safety: points may be passed on any thread; FailPoints is set up before it is
// armed.
#pragma once

#ifndef FAULTLESS_FAIL_POINTS

#define FAULTLESS_FAIL_POINT() static_cast<void>(0)

#else

#include <atomic>
#include <cstdint>

#define FAULTLESS_FAIL_POINT() ::faultless::PassFailPoint()

namespace faultless {

struct FailPoints {
  std::atomic<bool> armed{false};
  std::atomic<uint64_t> passed{0};
  std::atomic<uint64_t> loads{0};  // of shared words
  uint64_t fail_at = 0;            // the point, from 1, at which `fail` is called; 0: none
  void (*fail)() = nullptr;        // kills the process
  uint32_t* sites = nullptr;       // which place in the code each point is
  uint64_t sites_size = 0;
};
inline FailPoints fail_points;

[[gnu::noinline]] inline void PassFailPoint() {
  if (!fail_points.armed.load(std::memory_order_relaxed)) return;
  const uint64_t point = fail_points.passed.fetch_add(1, std::memory_order_relaxed) + 1;
  if (point <= fail_points.sites_size) {
    const auto site = reinterpret_cast<uintptr_t>(__builtin_return_address(0));
    fail_points.sites[point - 1] = static_cast<uint32_t>(site - reinterpret_cast<uintptr_t>(&PassFailPoint));
  }
  if (point == fail_points.fail_at) fail_points.fail();
}

/** An atomic word with a fail point before everything that changes it. Inlined, so that each use is a site. */
template <typename T>
class FailPointAtomic : public std::atomic<T> {
 public:
  using Base = std::atomic<T>;
  static constexpr auto kSequential = std::memory_order_seq_cst;

  [[gnu::always_inline]] inline T load(std::memory_order order = kSequential) const {
    if (fail_points.armed.load(std::memory_order_relaxed)) fail_points.loads.fetch_add(1, std::memory_order_relaxed);
    return Base::load(order);
  }
  [[gnu::always_inline]] inline void store(T value, std::memory_order order = kSequential) {
    PassFailPoint();
    Base::store(value, order);
  }
  [[gnu::always_inline]] inline T exchange(T value, std::memory_order order = kSequential) {
    PassFailPoint();
    return Base::exchange(value, order);
  }
  [[gnu::always_inline]] inline T fetch_add(T value, std::memory_order order = kSequential) {
    PassFailPoint();
    return Base::fetch_add(value, order);
  }
  [[gnu::always_inline]] inline bool compare_exchange_strong(T& seen, T wanted, std::memory_order success,
                                                             std::memory_order failure) {
    PassFailPoint();
    return Base::compare_exchange_strong(seen, wanted, success, failure);
  }
};

}  // namespace faultless

#endif
