#include "binding/gate.h"

#include <algorithm>
#include <cstdlib>

namespace faultless::binding {

namespace {

constexpr uint32_t kDefaultThreads = 4;  // libuv's own default
constexpr uint32_t kMaxThreads = 1024;   // libuv's own maximum

uint32_t PoolThreads() {
  const char* text = std::getenv("UV_THREADPOOL_SIZE");
  if (text == nullptr) return kDefaultThreads;
  const int threads = std::atoi(text);
  if (threads <= 0) return 1;
  return std::min(static_cast<uint32_t>(threads), kMaxThreads);
}

}  // namespace

Gate::Gate(uint32_t threads) : threads_(std::max<uint32_t>(threads, 1)), limit_(std::max<uint32_t>(threads / 2, 1)) {}

Gate& Gate::OfProcess() {
  static Gate* const gate = new Gate(PoolThreads());  // never destroyed: pool threads give permits back during exit
  return *gate;
}

Gate::Device* Gate::DeviceOf(uint64_t id, bool may_stall) {
  const std::lock_guard<std::mutex> guard(mutex_);
  std::unique_ptr<Device>& device = devices_[id];
  if (!device) device.reset(new Device(may_stall));
  return device.get();
}

void Gate::Add(Waiter* waiter) {
  const std::lock_guard<std::mutex> guard(mutex_);
  waiters_.push_back(waiter);
}

void Gate::Remove(Waiter* waiter) {
  const std::lock_guard<std::mutex> guard(mutex_);
  std::erase(waiters_, waiter);
}

Gate::Answer Gate::TryAcquire(Device* device, Waiter* waiter) {
  const std::lock_guard<std::mutex> guard(mutex_);
  if (running_ >= limit_) {
    waiter->waiting_ = true;
    return Answer::kAllBusy;
  }
  if (device->may_stall_ && device->running_ >= std::max<uint32_t>(limit_ - 1, 1)) {
    waiter->waiting_ = true;
    return Answer::kDeviceBusy;
  }
  running_++;
  device->running_++;
  return Answer::kGranted;
}

void Gate::Release(Device* device, Waiter* self) {
  const std::lock_guard<std::mutex> guard(mutex_);
  running_--;
  device->running_--;
  WakeOthers(self);
}

uint32_t Gate::SetLimit(uint32_t limit) {
  const std::lock_guard<std::mutex> guard(mutex_);
  limit_ = std::clamp<uint32_t>(limit, 1, threads_);
  WakeOthers(nullptr);
  return limit_;
}

uint32_t Gate::limit() const {
  const std::lock_guard<std::mutex> guard(mutex_);
  return limit_;
}

uint32_t Gate::running() const {
  const std::lock_guard<std::mutex> guard(mutex_);
  return running_;
}

void Gate::WakeOthers(const Waiter* self) {
  for (Waiter* waiter : waiters_) {
    if (waiter == self || !waiter->waiting_) continue;
    waiter->waiting_ = false;
    waiter->Wake();
  }
}

}  // namespace faultless::binding
