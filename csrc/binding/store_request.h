// Purpose: a request: the operations of one tick on their way to the engine and back, in memory that JavaScript wrote
// and that holds the answers afterwards. It may take several turns on a thread: what is in memory is answered in the
// first one, what is cold or behind a held lock in later ones.
//
// The headers: kHeaderBytes for each operation, little-endian, so that JavaScript uses them as words. The bytes: key
// and value of each operation, one after another.
//
//   offset  size  from JavaScript                              offset  size  to JavaScript
//        0     1  kind (OperationKind)                               8     4  Answer
//        1     1  flags                                             12     4  slab of the value
//        2     2  key bytes                                         16     4  offset in the slab
//        4     4  value bytes, or index of a large value            20     4  value bytes
//       12     4  JavaScript's own, until there is an answer        24    24  of a kGet: freshness (store_values.h)
//       16     8  milliseconds to live, a double, with kFlagTtl     24     8  of a kEntry and kTtl: milliseconds left,
//       a 24     8  of a kIncrement: what to add, a double                      double, 0: no end; of a kIncrement: the
//       sum 24     4  of a kCompareAndSet: bytes of what is expected,
//                 which stands between key and value, or its index
//
// kGetMany has no key; its value is a list of keys, each 2 bytes of length and the key; its answer is a list of
// (Answer, slab, offset, size), 16 bytes each.
//
// kBatch has no key either; its value is a list of entries: store_batch.h.
//
// The answers: memory of JavaScript's that takes the first small values of each turn, so that they need neither memory
// of their own nor a copy. It may be missing.
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
#include <span>
#include <vector>

#include "binding/store_handle.h"
#include "binding/store_values.h"

namespace faultless::binding {

enum class OperationKind : uint8_t {
  kSkip = 0,
  kGet = 1,
  kHas = 2,
  kSet = 3,
  kDelete = 4,
  kGetMany = 5,
  kClear = 6,
  kEntry = 7,
  kTtl = 8,
  kCompareAndSet = 9,
  kIncrement = 10,
  kTouch = 11,
  // 12: of JavaScript's own
  kBatch = 13
};

enum class Answer : uint32_t { kNotYet = 0, kOk = 1, kAbsent = 2, kFailed = 3 };

/** kOrdered: must not overtake the operations before it in the request: one of them is on the same key. */
constexpr uint8_t kFlagOrdered = 1;
/** kLarge: the value is not in the buffer but one of the large values. */
constexpr uint8_t kFlagLarge = 2;
constexpr uint8_t kFlagTtl = 4;
/** Where the key is there, its own expiry counts. */
constexpr uint8_t kFlagKeepTtl = 8;
/** kCompareAndSet: a value is expected, else that the key is absent; it is one of the large values; the key is to be
 * deleted. (What is skipped has its bytes all the same.) */
constexpr uint8_t kFlagExpects = 16;
constexpr uint8_t kFlagLargeExpected = 32;
constexpr uint8_t kFlagDelete = 64;

class StoreRequest {
 public:
  static constexpr size_t kHeaderBytes = 24 + kFreshnessBytes;

  enum class State : uint8_t { kPending, kRunning, kDone, kCancelled };

  explicit StoreRequest(std::shared_ptr<StoreHandle> handle) : handle_(std::move(handle)) {}
  StoreRequest(const StoreRequest&) = delete;
  StoreRequest& operator=(const StoreRequest&) = delete;

  /** What storeRequest is called with, after the handle. */
  struct Arguments {
    napi_value headers;       // Int32Array
    napi_value bytes;         // Uint8Array
    napi_value answers;       // Uint8Array or undefined
    napi_value large_values;  // Uint8Array[] or undefined
    uint32_t used_bytes;
    uint32_t count;
  };
  /** Reads the operations. False with a pending exception where they are not well-formed. */
  bool Parse(napi_env env, const Arguments& arguments);
  /** Drops the references to JavaScript memory. */
  void DropReferences(napi_env env);

  /** One turn, on a pool thread: answers what it can. */
  void Run();
  /** May wait: operation `index` is done when this returns, whoever runs it, and its header has the Answer. */
  void Finish(uint32_t index);
  /** False where the operation runs, or is done. */
  bool TryCancel(uint32_t index);
  /** On the JavaScript thread, or while there is a turn. */
  bool IsDone(uint32_t index) const {
    return operations_ == nullptr || operations_[index].state.load(std::memory_order_acquire) == State::kDone;
  }
  uint32_t count() const { return count_; }

  /**
   * Writes what came of the operations since the last report into the headers. undefined where all of them succeeded,
   * all values are in JavaScript's memory and none is left, else
   * {slabs: (Buffer | undefined)[], errors: [index, descriptor, …], left, blocked}. Once none is left the memory of the
   * operations is let go, and all of them count as done.
   */
  napi_value Report(napi_env env);

  const std::shared_ptr<StoreHandle>& handle() const { return handle_; }

  /** On the JavaScript thread: a turn is over. */
  void CountTurn(uint64_t waited_ns, uint64_t worked_ns) {
    waited_ns_ += waited_ns;
    worked_ns_ += worked_ns;
  }
  uint64_t waited_ns() const { return waited_ns_; }
  uint64_t worked_ns() const { return worked_ns_; }

 private:
  struct Operation {
    store::Bytes key;
    store::Bytes value;
    store::Bytes expected;
    double number = 0;  // to add; the sum; milliseconds left
    uint64_t ttl_ms = 0;
    ValuePlace answer;
    store::Freshness freshness;
    std::atomic<uint64_t> blocked_since_ns{0};  // 0: never was
    Status status;
    std::atomic<State> state{State::kPending};
    OperationKind kind = OperationKind::kSkip;
    uint8_t flags = 0;
    bool ordered = false;
    bool reported = false;
  };

  /**
   * Runs it unless it is done; it is pending again where the answer was kCold or kWouldBlock. Under mutex_. `hash`: of
   * its key; 0: not known.
   */
  Code Attempt(Operation* operation, store::Store* engine, store::ReadMode mode, uint64_t hash);
  Status Call(Operation* operation, store::Store* engine, store::ReadMode mode, uint64_t hash);
  Status Get(Operation* operation, store::Store* engine, store::ReadMode mode, uint64_t hash);
  Status GetMany(Operation* operation, store::Store* engine);
  Status CompareAndSet(Operation* operation, store::Store* engine);
  static store::WriteOptions OptionsOf(const Operation& operation, store::Store* engine);
  /** Prepares the next pending operations from `index` on, their hashes into hashes_; answers how far. */
  uint32_t PrepareFrom(uint32_t index, store::Store* engine, bool reads_only);
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

  bool Refer(napi_env env, napi_value value);
  /** Takes the bytes of one operation off the front of `bytes`. False where they are not well-formed. */
  bool ParseOperation(const uint8_t* header, std::span<const store::Bytes> large, store::Bytes* bytes,
                      Operation* operation);
  bool ParseLarge(napi_env env, napi_value values, std::vector<store::Bytes>* large);
  uint8_t* HeaderOf(uint32_t index) const { return headers_ + size_t{index} * kHeaderBytes; }

  const std::shared_ptr<StoreHandle> handle_;
  std::unique_ptr<Operation[]> operations_;  // until none of them is left
  uint32_t count_ = 0;
  uint64_t waited_ns_ = 0;
  uint64_t worked_ns_ = 0;
  napi_ref references_[4] = {};
  uint32_t references_count_ = 0;
  uint8_t* headers_ = nullptr;
  bool first_turn_ = true;  // of Run
  uint32_t turn_ = 0;       // that met operations held up before
  // Of the keys, where known, else 0. For Run alone: it may be under way while the calling thread is in Finish.
  std::unique_ptr<uint64_t[]> hashes_;

  std::mutex mutex_;  // one operation at a time; guards arena_ and everything of an operation but its atomics
  ValueArena arena_;
  store::ClearProgress clear_;
  bool blocked_ = false;  // the last turn left something behind a held lock
};

}  // namespace faultless::binding
