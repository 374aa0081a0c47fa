// Purpose: how many of libuv's threads all stores, files and environments of this process hold together. A permit is
// one thread; whoever has none waits in a queue of its own without a thread and is told when a permit comes back.
//
// Thread safety: every method may be called from any thread; all state is under one mutex that is held for a few dozen
// instructions and never across anything that waits.
// Invariants: running <= limit at every moment a permit is given; running of a device that may stall is
// <= max(1, limit - 1) then, so that one stuck device leaves a permit for the others wherever there are two.
// Ownership: the gate and its devices are never destroyed (pool threads use them while the process exits). Waiters are
// the caller's and leave (Remove) before they die.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

namespace faultless::binding {

class Gate {
 public:
  /** Somebody whose jobs wait for permits: one environment. */
  class Waiter {
   public:
    /** Called from any thread, under the gate's mutex: must neither wait nor call the gate. */
    virtual void Wake() = 0;

   protected:
    ~Waiter() = default;

   private:
    friend class Gate;
    bool waiting_ = false;  // guarded by Gate::mutex_
  };

  /** What can get stuck as one: the device under a filesystem. Lives for ever. */
  class Device {
    friend class Gate;
    explicit Device(bool may_stall) : may_stall_(may_stall) {}
    const bool may_stall_;
    uint32_t running_ = 0;  // guarded by Gate::mutex_
  };

  enum class Answer : uint8_t {
    kGranted,
    kDeviceBusy,  // this device holds all it may have: another device's job may still be let in
    kAllBusy,
  };

  /** threads: those of libuv's pool. Starts with half of them, at least one. */
  explicit Gate(uint32_t threads);
  /** The one of this process; reads UV_THREADPOOL_SIZE as libuv does, at first use. */
  static Gate& OfProcess();

  /**
   * The device with this id (st_dev); the gate's, for as long as it lives. `may_stall`: false where it is memory. Files
   * of which nothing tells the device before they are open share kUnknownDevice.
   */
  Device* DeviceOf(uint64_t id, bool may_stall);
  static constexpr uint64_t kUnknownDevice = ~uint64_t{0};

  void Add(Waiter* waiter);
  /** No Wake() runs or will run once this has returned. */
  void Remove(Waiter* waiter);

  /** Where it is refused, `waiter` is woken at a later Release or SetLimit, and asks again. */
  Answer TryAcquire(Device* device, Waiter* waiter);
  /** Gives a permit back and wakes whoever was refused, except `self`, who looks by itself. */
  void Release(Device* device, Waiter* self);

  /** Clamped to 1 … threads; answers what it is now. Permits already given stay given. */
  uint32_t SetLimit(uint32_t limit);
  uint32_t limit() const;
  uint32_t running() const;
  uint32_t threads() const { return threads_; }

 private:
  void WakeOthers(const Waiter* self);

  const uint32_t threads_;
  mutable std::mutex mutex_;
  // Guarded by mutex_.
  uint32_t limit_;
  uint32_t running_ = 0;
  std::map<uint64_t, std::unique_ptr<Device>> devices_;
  std::vector<Waiter*> waiters_;
};

}  // namespace faultless::binding
