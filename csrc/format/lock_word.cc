#include "format/lock_word.h"

#include <algorithm>

#include "os/os.h"

namespace faultless::format {
namespace {

constexpr int kSpins = 200;
constexpr uint64_t kLivenessNs = 1'000'000;

inline void Pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

bool TryTake(HalfWord* word, uint32_t seen, uint32_t wanted) {
  return word->compare_exchange_strong(seen, wanted, std::memory_order_acq_rel, std::memory_order_relaxed);
}

}  // namespace

Status AcquireLock(HalfWord* word, const LockHolders& holders, uint64_t wait_ns, uint32_t* dead_holder) {
  *dead_holder = 0;
  const uint32_t owner_word = holders.OwnerWord();
  for (int spin = 0; spin < kSpins; spin++) {
    const uint32_t seen = word->load(std::memory_order_relaxed);
    if (seen == 0 && TryTake(word, 0, owner_word)) return Code::kOk;
    Pause();
  }
  const uint64_t begin = os::MonotonicNs();
  uint64_t look_ns = std::min(kLivenessNs, wait_ns);
  while (true) {
    uint32_t seen = word->load(std::memory_order_relaxed);
    // Others may wait too: a lock taken after waiting keeps the bit, so that its release wakes the next one.
    if (seen == 0) {
      if (TryTake(word, 0, owner_word | kLockWaiters)) return Code::kOk;
      continue;
    }
    const uint64_t waited = os::MonotonicNs() - begin;
    if (waited >= look_ns) {
      FAULTLESS_TRY(holders.CheckWord(word));
      if (holders.IsHolderDead(seen)) {
        if (TryTake(word, seen, owner_word | kLockWaiters)) {
          *dead_holder = seen;
          return Code::kOk;
        }
        continue;
      }
      if (waited >= wait_ns) return Code::kWouldBlock;
      look_ns = std::min(waited + kLivenessNs, wait_ns);
    }
    if ((seen & kLockWaiters) == 0) {
      if (!TryTake(word, seen, seen | kLockWaiters)) continue;
      seen |= kLockWaiters;
    }
    os::WaitOnWord(word, seen, static_cast<uint32_t>((look_ns - waited) / 1000 + 1));
  }
}

void ReleaseLock(HalfWord* word) {
  // Sequentially consistent for who looks afterwards whether somebody waits for what was done (store/watch.h).
  const uint32_t held = word->exchange(0, std::memory_order_seq_cst);
  if (held & kLockWaiters) os::WakeWord(word, 1);
}

}  // namespace faultless::format
