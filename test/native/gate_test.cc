// The gate of csrc/binding/, which needs nothing of Node: compiled right here, because the native builds stop below the
// binding.
#include "binding/gate.h"

#include <atomic>
#include <thread>
#include <vector>

#include "binding/gate.cc"
#include "harness.h"

namespace faultless::binding {
namespace {

using Answer = Gate::Answer;

class CountingWaiter final : public Gate::Waiter {
 public:
  void Wake() override { wakes.fetch_add(1, std::memory_order_relaxed); }
  std::atomic<int> wakes{0};
};

TEST(Gate, HalfOfTheThreadsOneAtLeast) {
  EXPECT_EQ(Gate(1).limit(), 1);
  EXPECT_EQ(Gate(2).limit(), 1);
  EXPECT_EQ(Gate(4).limit(), 2);
  EXPECT_EQ(Gate(7).limit(), 3);
  Gate gate(4);
  EXPECT_EQ(gate.SetLimit(0), 1);
  EXPECT_EQ(gate.SetLimit(3), 3);
  EXPECT_EQ(gate.SetLimit(100), 4);
}

TEST(Gate, OneDeviceLeavesAPermitForTheOthers) {
  Gate gate(8);
  CountingWaiter waiter;
  gate.Add(&waiter);
  Gate::Device* stuck = gate.DeviceOf(1, true);
  Gate::Device* other = gate.DeviceOf(2, true);
  EXPECT_TRUE(gate.DeviceOf(1, true) == stuck);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(gate.TryAcquire(stuck, &waiter) == Answer::kGranted);
  EXPECT_TRUE(gate.TryAcquire(stuck, &waiter) == Answer::kDeviceBusy);
  EXPECT_TRUE(gate.TryAcquire(other, &waiter) == Answer::kGranted);
  EXPECT_TRUE(gate.TryAcquire(other, &waiter) == Answer::kAllBusy);
  gate.Release(other, &waiter);
  EXPECT_TRUE(gate.TryAcquire(stuck, &waiter) == Answer::kDeviceBusy);
  EXPECT_TRUE(gate.TryAcquire(other, &waiter) == Answer::kGranted);
  EXPECT_EQ(gate.running(), 4);
}

TEST(Gate, MemoryNeverStalls) {
  Gate gate(8);
  CountingWaiter waiter;
  Gate::Device* memory = gate.DeviceOf(1, false);
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(gate.TryAcquire(memory, &waiter) == Answer::kGranted);
  EXPECT_TRUE(gate.TryAcquire(memory, &waiter) == Answer::kAllBusy);
}

TEST(Gate, ADeviceAloneHasTheOnlyPermit) {
  Gate gate(1);
  CountingWaiter waiter;
  Gate::Device* device = gate.DeviceOf(1, true);
  EXPECT_TRUE(gate.TryAcquire(device, &waiter) == Answer::kGranted);
  EXPECT_TRUE(gate.TryAcquire(device, &waiter) == Answer::kAllBusy);
}

TEST(Gate, WakesThoseWhoWereRefused) {
  Gate gate(2);
  CountingWaiter first;
  CountingWaiter second;
  CountingWaiter idle;
  for (CountingWaiter* waiter : {&first, &second, &idle}) gate.Add(waiter);
  Gate::Device* device = gate.DeviceOf(1, true);
  EXPECT_TRUE(gate.TryAcquire(device, &first) == Answer::kGranted);
  EXPECT_TRUE(gate.TryAcquire(device, &first) == Answer::kAllBusy);
  EXPECT_TRUE(gate.TryAcquire(device, &second) == Answer::kAllBusy);
  gate.Release(device, &first);  // which looks by itself
  EXPECT_EQ(first.wakes, 0);
  EXPECT_EQ(second.wakes, 1);
  EXPECT_EQ(idle.wakes, 0);
  // Once each time.
  EXPECT_TRUE(gate.TryAcquire(device, &first) == Answer::kGranted);
  gate.Release(device, &first);
  EXPECT_EQ(second.wakes, 1);
  // A raised limit is room as well.
  EXPECT_TRUE(gate.TryAcquire(device, &first) == Answer::kGranted);
  EXPECT_TRUE(gate.TryAcquire(device, &second) == Answer::kAllBusy);
  gate.SetLimit(2);
  EXPECT_EQ(second.wakes, 2);
  // Nobody is woken after leaving.
  EXPECT_TRUE(gate.TryAcquire(device, &second) == Answer::kDeviceBusy);
  gate.Remove(&second);
  gate.Release(device, &first);
  EXPECT_EQ(second.wakes, 2);
}

TEST(Gate, ThreadsNeverHoldMoreThanTheLimit) {
  Gate gate(6);
  constexpr int kThreads = 6;
  std::atomic<uint32_t> holding{0};
  std::atomic<int> granted{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      CountingWaiter waiter;
      gate.Add(&waiter);
      Gate::Device* device = gate.DeviceOf(static_cast<uint64_t>(i % 3), true);
      for (int round = 0; round < 2'000; ++round) {
        if (gate.TryAcquire(device, &waiter) != Answer::kGranted) {
          std::this_thread::yield();
          continue;
        }
        EXPECT_LE(holding.fetch_add(1) + 1, 3);
        granted.fetch_add(1);
        std::this_thread::yield();
        holding.fetch_sub(1);
        gate.Release(device, &waiter);
      }
      gate.Remove(&waiter);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_GT(granted.load(), 0);
  EXPECT_EQ(gate.running(), 0);
}

}  // namespace
}  // namespace faultless::binding
