#include "store/use_marks.h"

#include <bit>

#include "store/allocator.h"
#include "store/lock.h"
#include "store/shared_bytes.h"

namespace faultless::store {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr uint64_t kBitsPerKey = 8;          // one byte for each key that the full store is expected to hold
constexpr uint64_t kMarksPerCount = 1024;    // keys are counted that often
constexpr uint64_t kMostClearedWords = 256;  // for one mark
// Of max_bytes; an eighth of that many keys, and of that few, can be told apart well.
constexpr uint64_t kSmallestShare = 1024;
constexpr uint64_t kLargestShare = 64;

uint64_t CountKeys(const Context& context) {
  uint64_t keys = 0;
  for (uint32_t i = 0; i < context.shards(); i++) keys += context.shard(i).keys.load(kRelaxed);
  return keys;
}

}  // namespace

UseMarks::Table UseMarks::Find(const Context& context) {
  uint64_t known = table_.load(kRelaxed);
  if (known == 0) {
    const uint64_t unit = context.allocator().use_unit.load(std::memory_order_acquire);
    format::EntryView run;
    if (unit == 0 || !ReadRun(context, unit, format::RunKind::kUse, &run)) return {};
    known = unit << 8 | run.size_class;
    table_.store(known, kRelaxed);
  }
  return {(known >> 8) * format::kUnitBytes, RunBytes(known & 0xFF) * 8};
}

void UseMarks::Mark(const Context& context, uint32_t tag) {
  const Table table = Find(context);
  if (table.offset == 0) return;
  const uint64_t bit = tag & (table.bits - 1);
  format::Word& word = context.WordAt(table.offset + bit / 64 * 8);
  const uint64_t mask = uint64_t{1} << bit % 64;
  if ((word.load(kRelaxed) & mask) != 0) return;
  word.fetch_or(mask, kRelaxed);
  Forget(context, table);
}

void UseMarks::Forget(const Context& context, const Table& table) {
  if (until_count_.fetch_sub(1, kRelaxed) == 0) {
    until_count_.store(kMarksPerCount, kRelaxed);
    const uint64_t keys = std::clamp<uint64_t>(CountKeys(context), 1, table.bits / kBitsPerKey);
    bits_per_key_.store(table.bits / keys, kRelaxed);
  }
  const uint64_t each = bits_per_key_.load(kRelaxed);
  const uint64_t owed = owed_bits_.fetch_add(each, kRelaxed) + each;
  const uint64_t words = std::min(owed / 64, kMostClearedWords);
  if (words == 0) return;
  owed_bits_.fetch_sub(std::min(words * 64, owed), kRelaxed);
  if (owed > table.bits) owed_bits_.store(0, kRelaxed);  // more than once round
  const uint64_t first = hand_.fetch_add(words, kRelaxed);
  for (uint64_t i = 0; i < words; i++) {
    format::Word& word = context.WordAt(table.offset + (first + i) % (table.bits / 64) * 8);
    if (word.load(kRelaxed) != 0) word.store(0, kRelaxed);
  }
}

void UseMarks::Carry(const Context& context) {
  if (!has_pending_.load(kRelaxed) || !has_pending_.exchange(false, std::memory_order_acquire)) return;
  for (std::atomic<uint32_t>& place : pending_) {
    if (place.load(kRelaxed) == 0) continue;
    const uint32_t tag = place.exchange(0, kRelaxed);
    if (tag != 0) Mark(context, tag);
  }
}

bool UseMarks::IsMarked(const Context& context, uint32_t tag) {
  const Table table = Find(context);
  if (table.offset == 0) return false;
  const uint64_t bit = tag & (table.bits - 1);
  return (context.WordAt(table.offset + bit / 64 * 8).load(kRelaxed) >> bit % 64 & 1) != 0;
}

void UseMarks::EnsureTable(const Context& context) {
  const format::Word& anchor = context.allocator().use_unit;
  if (anchor.load(kRelaxed) != 0) return;
  const uint64_t available = AvailableUnits(context);
  const uint64_t used = context.max_units() - std::min(available, context.max_units());
  if (used < context.max_units() / 4) return;
  uint64_t unit = 0;
  uint32_t size_class = 0;
  {
    // Whose lock does not matter, as long as all take the same one: two tables would be one too many.
    const ShardLock lock(context, 0);
    if (!lock.status().ok() || anchor.load(kRelaxed) != 0) return;
    const uint64_t max_bytes = context.superblock.max_bytes;
    const uint64_t expected = CountKeys(context) * (context.max_units() / used + 1) * kBitsPerKey / 8;
    const uint64_t bytes = std::clamp(expected, max_bytes / kSmallestShare, max_bytes / kLargestShare);
    while (size_class < format::kMaxClass && RunBytes(size_class) < bytes) size_class++;
    const RunRequest request{format::RunKind::kUse, 0, 0, &anchor, nullptr};
    Status status = TakeRun(context, size_class, request, Purpose::kUser, &unit);
    while (IsOutOfSpace(status) && size_class > 0)
      status = TakeRun(context, --size_class, request, Purpose::kUser, &unit);
    if (!status.ok()) return;  // without marks all are taken to be unused; the next write tries again
  }
  // What an earlier use of the run left is taken for marks by others meanwhile: no harm.
  ZeroShared(context.base + unit * format::kUnitBytes, RunBytes(size_class));
}

}  // namespace faultless::store
