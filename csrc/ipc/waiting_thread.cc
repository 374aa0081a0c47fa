#include "ipc/waiting_thread.h"

#include <algorithm>

namespace faultless::ipc {
namespace {

constexpr uint64_t kRotationUs = 1'000;

}  // namespace

WaitingThread& WaitingThread::OfProcess() {
  // Never destroyed: the thread runs until the process has ended.
  static WaitingThread& thread = *new WaitingThread;
  return thread;
}

Status WaitingThread::Add(Watch* watch) {
  if (!started_) {
    const auto run = [](void* thread) { static_cast<WaitingThread*>(thread)->Run(); };
    FAULTLESS_TRY(os::StartThread(run, this));
    started_ = true;
  }
  if (watch->place_ == Watch::kUnlisted) {
    watch->place_ = watches_.size();
    watches_.push_back(watch);
  }
  Changed();
  return {};
}

void WaitingThread::Remove(Watch* watch) {
  if (watch->place_ == Watch::kUnlisted) return;
  watches_.back()->place_ = watch->place_;
  watches_[watch->place_] = watches_.back();
  watches_.pop_back();
  watch->place_ = Watch::kUnlisted;
  // The thread may go on sleeping on the word: the kernel alone looks at it, and finds memory that is gone unreadable.
}

void WaitingThread::Changed() {
  doorbell_.fetch_add(1, std::memory_order_seq_cst);
  os::WakeWord(&doorbell_, 1);
}

void WaitingThread::TellDue() {
  const uint64_t now_ns = os::MonotonicNs();
  // Backwards: one that removes itself is replaced by one that has been looked at.
  for (size_t i = watches_.size(); i-- > 0;) {
    Watch* const watch = watches_[i];
    const bool moved = watch->word != nullptr && watch->word->load(std::memory_order_seq_cst) != watch->expected;
    if (moved || watch->deadline_ns <= now_ns) watch->OnWake();
  }
}

size_t WaitingThread::Gather(os::WaitedWord* words, uint64_t* timeout_us) {
  uint64_t deadline_ns = kNever;
  size_t with_word = 0;
  for (const Watch* watch : watches_) {
    deadline_ns = std::min(deadline_ns, watch->deadline_ns);
    if (watch->word != nullptr) with_word++;
  }
  const uint64_t now_ns = os::MonotonicNs();
  *timeout_us = kNever;
  if (deadline_ns != kNever) *timeout_us = deadline_ns <= now_ns ? 0 : (deadline_ns - now_ns) / 1'000 + 1;
  const bool rotates = with_word >= os::kMaxWaitedWords;
  if (rotates) *timeout_us = std::min(*timeout_us, kRotationUs);
  size_t count = 1;
  const size_t begin = rotates ? first_word_ % watches_.size() : 0;
  for (size_t i = 0; i < watches_.size() && count < os::kMaxWaitedWords; i++) {
    const Watch* watch = watches_[(begin + i) % watches_.size()];
    first_word_ = begin + i + 1;
    if (watch->word != nullptr) words[count++] = {watch->word, watch->expected};
  }
  return count;
}

void WaitingThread::Run() {
  os::WaitedWord words[os::kMaxWaitedWords];
  for (;;) {
    size_t count;
    uint64_t timeout_us;
    {
      const auto lock = Lock();
      words[0] = {&doorbell_, doorbell_.load(std::memory_order_seq_cst)};
      TellDue();
      count = Gather(words, &timeout_us);
    }
    if (timeout_us > 0) os::WaitOnWords(words, count, timeout_us);
  }
}

}  // namespace faultless::ipc
