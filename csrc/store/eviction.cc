#include "store/eviction.h"

#include <algorithm>
#include <vector>

#include "store/expiry_sweep.h"
#include "store/flush.h"
#include "store/lock.h"
#include "store/record_queue.h"
#include "store/use_marks.h"

namespace faultless::store {
namespace {

using format::ShardControl;

constexpr auto kRelaxed = std::memory_order_relaxed;
// One write pays this, and gives back more than most writes take.
constexpr CleaningBudget kEvictionPerWrite{64, 8, 64 * 1024, 128 * 1024};
constexpr CleaningBudget kEvictionForSpace{4096, 1024, 4 << 20, 1 << 20};
constexpr SweepBudget kSweepForSpace{4096, 4 << 20, 1024};
constexpr int kMostSteps = 256;  // for one write at once

/** Units that user writes leave to others, as the allocator counts them. */
uint64_t ReservedUnits(const Context& context) { return 2 * uint64_t{context.shards()}; }

/**
 * Units beyond the reserve that are kept free, so that writes find room. On a device what is evicted waits for a flush:
 * the more of it waits for one, the fewer flushes there are.
 */
uint64_t MarginUnits(const Context& context) {
  const uint64_t units = context.max_units();
  return context.promises() ? std::clamp<uint64_t>(units / 16, 8, 1024) : std::clamp<uint64_t>(units / 64, 4, 256);
}

uint64_t LimboUnits(const Context& context) { return context.allocator().limbo_units.load(kRelaxed); }
/** Free now, or after a flush. */
uint64_t ComingUnits(const Context& context) { return AvailableUnits(context) + LimboUnits(context); }

uint64_t BytesOf(const ShardControl& shard) {
  return shard.queue_bytes.load(kRelaxed) + shard.value_bytes.load(kRelaxed);
}

/** Whether the dead records of the shard are worth moving what lives beside them. */
bool HasMuchGarbage(const Context& context, uint32_t shard_index) {
  const ShardControl& shard = context.shard(shard_index);
  if (shard.tail_unit.load(kRelaxed) == shard.head_unit.load(kRelaxed)) return false;
  const uint64_t garbage = GarbageBytes(context, shard_index);
  return garbage >= format::kUnitBytes / 4 && garbage >= shard.live_bytes.load(kRelaxed) / 3;
}

/**
 * Those that have something to give: first where nothing that lives has to go, then the largest. Keys spread evenly, so
 * all shards stay about as large.
 */
std::vector<uint32_t> ShardsInOrder(const Context& context) {
  struct Candidate {
    bool lives;
    uint64_t bytes;
    uint32_t shard_index;
  };
  std::vector<Candidate> candidates;
  candidates.reserve(context.shards());
  for (uint32_t i = 0; i < context.shards(); i++) {
    const ShardControl& shard = context.shard(i);
    const bool one_extent = shard.tail_unit.load(kRelaxed) == shard.head_unit.load(kRelaxed);
    if (shard.head.load(kRelaxed) == 0) continue;
    if (one_extent && shard.live_bytes.load(kRelaxed) == 0 && !HasCleared(context, i)) continue;
    const bool lives = !HasCleared(context, i) && !NeedsSweep(context, i) && !HasMuchGarbage(context, i);
    candidates.push_back({lives, BytesOf(shard), i});
  }
  std::sort(candidates.begin(), candidates.end(),
            [](const Candidate& a, const Candidate& b) { return a.lives != b.lives ? b.lives : a.bytes > b.bytes; });
  std::vector<uint32_t> shards;
  for (const Candidate& candidate : candidates) shards.push_back(candidate.shard_index);
  return shards;
}

/** One step in one shard, under its lock: what has expired goes first, then what is dead, then what is unused. */
Status Step(const Context& context, uint32_t shard_index, CleaningBudget budget, SweepBudget sweep, bool patient) {
  const ShardControl& shard = context.shard(shard_index);
  if (NeedsSweep(context, shard_index)) {
    bool more = false;
    FAULTLESS_TRY(Sweep(context, shard_index, sweep, patient, &more));
    if (shard.intent.count.load(kRelaxed) != 0) return Code::kIo;        // a fault has left it decided
    if (more && shard.sweep_unit.load(kRelaxed) != 0) return Code::kOk;  // the look is not at its end
  }
  if (HasMuchGarbage(context, shard_index)) budget.evicted_bytes = 0;
  // What is in the extent that is written to can be cleaned only once another one is.
  if (shard.tail_unit.load(kRelaxed) == shard.head_unit.load(kRelaxed) && !HasCleared(context, shard_index)) {
    FAULTLESS_TRY(BeginExtent(context, shard_index, Purpose::kReserve));
  }
  uint32_t left;
  return Clean(context, shard_index, budget, &left);
}

struct Progress {
  explicit Progress(const Context& context) : units(ComingUnits(context)), moves(MovesOf(context)) {}
  /** A step may do much in a shard before a unit comes back. */
  static uint64_t MovesOf(const Context& context) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < context.shards(); i++) {
      const ShardControl& shard = context.shard(i);
      sum += shard.tail.load(kRelaxed) + shard.sweep_position.load(kRelaxed) + shard.commits.load(kRelaxed);
    }
    return sum;
  }
  bool IsMadeSince(const Context& context) const { return ComingUnits(context) > units || MovesOf(context) != moves; }
  uint64_t units;
  uint64_t moves;
};

}  // namespace

bool IsToBeEvicted(const Context& context, uint32_t shard_index, uint64_t hash, uint64_t bytes) {
  auto& credit = context.hints[shard_index].keep_credit;
  const uint64_t now = credit.load(kRelaxed);
  if (now >= bytes && context.uses->IsMarked(context, format::TagOf(hash))) {
    credit.store(now - bytes, kRelaxed);
    return false;
  }
  NoteDead(context, shard_index, bytes);
  return true;
}

void NoteDead(const Context& context, uint32_t shard_index, uint64_t bytes) {
  auto& credit = context.hints[shard_index].keep_credit;
  credit.store(std::min(credit.load(kRelaxed) + bytes, kMostKeepCredit), kRelaxed);
}

void PassEvicted(const Context& context, uint32_t shard_index, uint64_t bytes, Transaction* transaction) {
  const ShardControl& shard = context.shard(shard_index);
  transaction->Set(shard.tail, shard.tail.load(kRelaxed) + bytes);
  // A recovery may have evicted from younger ones.
  const uint64_t tail_sequence = shard.tail_sequence.load(kRelaxed);
  if (shard.evicted_sequence.load(kRelaxed) < tail_sequence) transaction->Set(shard.evicted_sequence, tail_sequence);
}

bool MayComeBack(const Context& context, uint32_t shard_index) {
  if (!context.evicts()) return false;
  const ShardControl& shard = context.shard(shard_index);
  const uint64_t evicted = shard.evicted_sequence.load(kRelaxed);
  return evicted != 0 && evicted >= shard.tail_sequence.load(kRelaxed);
}

bool IsTooLarge(const Context& context, uint64_t value_bytes) {
  // An extent and a unit of index for each shard, the reserve, the tables; a value that takes more than half of the
  // rest would leave nothing of the others.
  const uint64_t tables = context.max_units() / format::kUnitsPerGroup + 1;
  const uint64_t taken = context.head_units() + tables + 2 * ReservedUnits(context) + MarginUnits(context);
  const uint64_t rest = context.max_units() > taken ? context.max_units() - taken : 0;
  return value_bytes / format::kUnitBytes > rest / 2;
}

void PayForEviction(Context& context) {
  context.uses->EnsureTable(context);
  const uint64_t margin = MarginUnits(context);
  const uint64_t wanted = ReservedUnits(context) + margin;
  if (AvailableUnits(context) >= wanted) return;
  if (ComingUnits(context) < wanted) {
    context.uses->Carry(context);
    for (const uint32_t shard_index : ShardsInOrder(context)) {
      if (context.shard(shard_index).lock.load(kRelaxed) != 0) continue;  // somebody is at it
      const ShardLock lock(context, shard_index);
      if (lock.status().ok()) static_cast<void>(Step(context, shard_index, kEvictionPerWrite, kSweepPerWrite, false));
      break;
    }
  }
  const bool short_of_units = AvailableUnits(context) < ReservedUnits(context) + margin / 2;
  if (short_of_units && LimboUnits(context) >= margin / 2) static_cast<void>(TryFlush(context));
}

Status EvictForRoom(Context& context, uint64_t bytes, bool* progress) {
  const Progress before(context);
  const uint64_t wanted = ReservedUnits(context) + MarginUnits(context) / 2 + bytes / format::kUnitBytes;
  context.uses->Carry(context);
  bool blocked = false;
  Status failure;
  // Where there is enough already, and no run of the size that is wanted, more must come, unless a flush brings it.
  bool more = ComingUnits(context) < wanted || LimboUnits(context) == 0;
  for (int step = 0; more && step < kMostSteps; step++) {
    const Progress before_step(context);
    for (const uint32_t shard_index : ShardsInOrder(context)) {
      const ShardLock lock(context, shard_index);
      Status status = lock.status();
      if (status.ok()) status = Step(context, shard_index, kEvictionForSpace, kSweepForSpace, true);
      if (status.code() == Code::kWouldBlock) blocked = true;
      // Damage in another shard is no fault of this write; a full disk refuses what would be moved, and another shard
      // may have something to give.
      if (!status.ok()) failure = status;
      if (before_step.IsMadeSince(context)) break;
    }
    more = before_step.IsMadeSince(context) && ComingUnits(context) < wanted;
  }
  *progress = before.IsMadeSince(context);
  // A batch that no flush covers yet may be all that stands in the way.
  bool held_up = false;
  for (uint32_t i = 0; i < context.shards(); i++) {
    held_up = context.hints[i].held_up.exchange(false, kRelaxed) || held_up;
  }
  const uint64_t limbo = LimboUnits(context);
  if ((limbo != 0 || held_up) && context.promises()) {
    // Others may be flushing: their flush is waited for, and this one covers what has been evicted since.
    FAULTLESS_TRY(Flush(context));
    *progress = *progress || held_up || LimboUnits(context) < limbo;
  }
  if (!*progress && blocked) return Code::kWouldBlock;
  return *progress || failure.code() != Code::kIo ? Status() : failure;
}

}  // namespace faultless::store
