// Purpose: a request: the operations of one tick on their way to the engine and back, in one buffer that JavaScript
// wrote and that holds the answers afterwards. It may take several turns on a thread: what is in memory is answered in
// the first one, what is cold or behind a held lock in later ones.
//
// The buffer: for each operation a header of kHeaderBytes, little-endian, then key and value.
//
//   offset  size  from JavaScript                              offset  size  to JavaScript
//        0     1  kind (OperationKind)                               8     4  Answer
//        1     1  flags                                             12     4  slab of the value
//        2     2  key bytes                                         16     4  offset in the slab
//        4     4  value bytes, or index of a large value            20     4  value bytes
//
// kGetMany has no key; its value is a list of keys, each 2 bytes of length and the key; its answer is a list of
// (Answer, slab, offset, size), 16 bytes each.
//
// Thread safety: Run and Finish may meet on two threads: one operation of a request runs at a time, in the order of the
// buffer where order matters, under mutex_. TryCancel and IsDone may be called at any time. The rest belongs to the
// JavaScript thread.
// Invariants: an operation runs at most once to an end (state kDone) and is reported at most once.
// Ownership: JavaScript's handle and the running job share it; it keeps the JavaScript memory it reads alive by
// references that are dropped when everything was reported, or with the handle.
#pragma once

#include <node_api.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "binding/store_handle.h"
#include "binding/store_values.h"

namespace faultless::binding {

enum class OperationKind : uint8_t { kSkip = 0, kGet = 1, kHas = 2, kSet = 3, kDelete = 4, kGetMany = 5, kClear = 6 };

enum class Answer : uint32_t { kNotYet = 0, kOk = 1, kAbsent = 2, kFailed = 3 };

/** kOrdered: must not overtake the operations before it in the request: one of them is on the same key. */
constexpr uint8_t kFlagOrdered = 1;
/** kLarge: the value is not in the buffer but one of the large values. */
constexpr uint8_t kFlagLarge = 2;

class StoreRequest {
 public:
  static constexpr size_t kHeaderBytes = 24;

  enum class State : uint8_t { kPending, kRunning, kDone, kCancelled };

  explicit StoreRequest(std::shared_ptr<StoreHandle> handle) : handle_(std::move(handle)) {}
  StoreRequest(const StoreRequest&) = delete;
  StoreRequest& operator=(const StoreRequest&) = delete;

  /** Reads `count` operations from the buffer. False with a pending exception where they are not well-formed. */
  bool Parse(napi_env env, napi_value buffer, uint32_t count, napi_value large_values);
  /** Drops the references to JavaScript memory. */
  void DropReferences(napi_env env);

  /** One turn, on a pool thread: answers what it can. */
  void Run();
  /** May wait: operation `index` is done when this returns, whoever runs it. */
  void Finish(uint32_t index);
  /** False where the operation runs, or is done. */
  bool TryCancel(uint32_t index);
  bool IsDone(uint32_t index) const { return operations_[index].state.load(std::memory_order_acquire) == State::kDone; }
  uint32_t count() const { return count_; }

  /**
   * Writes what came of the operations since the last report into the buffer. undefined where all of them succeeded
   * without a value and none is left, else {slabs: Buffer[], errors: [index, descriptor, …], left, blocked}.
   */
  napi_value Report(napi_env env);

  const std::shared_ptr<StoreHandle>& handle() const { return handle_; }

 private:
  struct Operation {
    size_t header_offset = 0;  // in the buffer
    store::Bytes key;
    store::Bytes value;
    ValuePlace answer;
    std::atomic<uint64_t> blocked_since_ns{0};  // 0: never was
    Status status;
    std::atomic<State> state{State::kPending};
    OperationKind kind = OperationKind::kSkip;
    bool ordered = false;
    bool reported = false;
  };

  /** Runs it unless it is done; it is pending again where the answer was kCold or kWouldBlock. Under mutex_. */
  Code Attempt(Operation* operation, store::Store* engine, store::ReadMode mode);
  Status Call(Operation* operation, store::Store* engine, store::ReadMode mode);
  Status GetMany(Operation* operation, store::Store* engine);
  /** Answers what is in memory and what writes. False where the rest is better left to a turn of its own. */
  bool RunHot(store::Store* engine);
  /** Answers everything that no lock holds up, in order. */
  void RunAll(store::Store* engine);
  /**
   * One pass. Of the operations that a lock held up before, only number `probe` is tried until one of them gets
   * through. True where it left off to let others have the thread.
   */
  bool RunInOrder(store::Store* engine, uint32_t probe, bool* probe_passed);
  bool IsPending(uint32_t index) const {
    return operations_[index].state.load(std::memory_order_acquire) == State::kPending;
  }
  /** Whether a lock has held it up for too long. */
  static bool IsTimeUp(const Operation& operation);

  const std::shared_ptr<StoreHandle> handle_;
  std::unique_ptr<Operation[]> operations_;
  uint32_t count_ = 0;
  napi_ref buffer_reference_ = nullptr;
  napi_ref large_reference_ = nullptr;
  uint8_t* buffer_ = nullptr;
  bool first_turn_ = true;  // of Run
  uint32_t turn_ = 0;       // that met operations held up before

  std::mutex mutex_;  // one operation at a time; guards arena_ and everything of an operation but its atomics
  ValueArena arena_;
  uint32_t next_shard_ = 0;  // of a clear
  bool blocked_ = false;     // the last turn left something behind a held lock
};

}  // namespace faultless::binding
