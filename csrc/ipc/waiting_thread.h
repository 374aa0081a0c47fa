// Purpose: the one thread of this process that sleeps until something that is waited for happens: a word in shared
// memory moves, or a time has come. Whatever waits in this process, however many, is a Watch on it: no thread of
// libuv's is held, and nothing looks at the words as long as they stay.
//
// How it sleeps: in one system call on its own doorbell and the words of all watches (os::WaitOnWords). That takes 128
// words. Where there are more it sleeps on 127 of them for a millisecond, then on the next 127, and looks at all words
// in between: nothing is lost, as a word that has moved stays moved, but is noticed up to a millisecond later. A
// segment, exchange or log needs few words (all waits on one segment share one), so that this is rare.
//
// Thread safety: any thread. Everything about watches happens under one mutex, held for moments only; OnWake is called
// under it. Ownership: watches are their owners', who remove them before they go, and before the word's memory goes.
// The thread is started by the first watch and lives as long as the process.
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include "format/layout.h"
#include "os/os.h"

namespace faultless::ipc {

constexpr uint64_t kNever = UINT64_MAX;

/** Something that is waited for. Its members are guarded by the thread's mutex. */
class Watch {
 public:
  Watch() = default;
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;
  virtual ~Watch() = default;

  const format::HalfWord* word = nullptr;  // nullptr: only the deadline counts
  uint32_t expected = 0;                   // OnWake is called when the word is something else
  uint64_t deadline_ns = kNever;           // or from then on, by os::MonotonicNs

  /**
   * On the waiting thread, under its mutex: must be quick. It moves `expected` and `deadline_ns` on, or removes itself;
   * it may add and remove no other watch.
   */
  virtual void OnWake() = 0;

 private:
  friend class WaitingThread;
  static constexpr size_t kUnlisted = SIZE_MAX;
  size_t place_ = kUnlisted;
};

class WaitingThread {
 public:
  static WaitingThread& OfProcess();

  /** Held while watches are added, changed or removed. */
  [[nodiscard]] std::unique_lock<std::mutex> Lock() { return std::unique_lock<std::mutex>(mutex_); }

  // All of these under Lock().
  /** kIo where the system gives no thread. */
  Status Add(Watch* watch);
  /** Harmless for one that is not there. From now on nothing looks at its word any more. */
  void Remove(Watch* watch);
  /** A watch's word, expectation or deadline has changed. */
  void Changed();

 private:
  WaitingThread() = default;
  void Run();
  void TellDue();
  size_t Gather(os::WaitedWord* words, uint64_t* timeout_us);

  std::mutex mutex_;
  std::vector<Watch*> watches_;
  size_t first_word_ = 0;  // of the watches whose words are slept on next
  bool started_ = false;
  std::atomic<uint32_t> doorbell_{0};
};

}  // namespace faultless::ipc
