#include "format/superblock.h"

#include <bit>
#include <cstring>

#include "base/checksum.h"

namespace faultless::format {
namespace {

enum class Verdict { kValid, kForeign, kUnknown, kDamaged };

Verdict Judge(const Superblock& block) {
  if (block.magic != kSuperblockMagic) return Verdict::kForeign;
  if (block.checksum != Crc32c(0, &block, offsetof(Superblock, checksum))) return Verdict::kDamaged;
  if (block.version != kFormatVersion || (block.features_incompatible & ~kKnownIncompatible) != 0 ||
      (block.features_read_compatible & ~kKnownReadCompatible) != 0)
    return Verdict::kUnknown;
  const bool sound = std::has_single_bit(block.shard_count) && block.shard_count >= 16 && block.shard_count <= 256 &&
                     block.slots_per_shard == kVersionSlots / block.shard_count && block.max_bytes >= kUnitBytes * 16 &&
                     block.max_bytes > HeadUnits(block.shard_count) * kUnitBytes &&  // all of it is mapped
                     block.on_full <= static_cast<uint32_t>(OnFull::kEvict) &&
                     (block.on_full != 0) == ((block.features_read_compatible & kReadCompatibleEvicts) != 0) &&
                     block.max_bytes <= uint64_t{1} << 46 && block.max_bytes % kUnitBytes == 0 &&
                     std::memchr(block.codec, 0, sizeof block.codec) != nullptr &&
                     (block.state == static_cast<uint32_t>(FileState::kClean) ||
                      block.state == static_cast<uint32_t>(FileState::kOpen));
  return sound ? Verdict::kValid : Verdict::kDamaged;
}

}  // namespace

void SealSuperblock(Superblock* block) { block->checksum = Crc32c(0, block, offsetof(Superblock, checksum)); }

Status ChooseSuperblock(const Superblock& a, const Superblock& b, Superblock* chosen) {
  const Verdict verdict_a = Judge(a);
  const Verdict verdict_b = Judge(b);
  const bool valid_a = verdict_a == Verdict::kValid;
  const bool valid_b = verdict_b == Verdict::kValid;
  if (valid_a || valid_b) {
    *chosen = valid_a && (!valid_b || a.generation > b.generation) ? a : b;
    return Code::kOk;
  }
  if (verdict_a == Verdict::kUnknown || verdict_b == Verdict::kUnknown) {
    return {Code::kFormat, "the file has a newer version or features that this release does not know"};
  }
  if (verdict_a == Verdict::kForeign && verdict_b == Verdict::kForeign) return {Code::kFormat, "not a faultless store"};
  return Status::Corrupt("both superblocks are damaged", 0);
}

uint64_t IdentityOf(RunKind kind, uint32_t size_class, uint32_t shard, uint64_t incarnation, uint64_t sequence,
                    uint64_t unit) {
  const uint64_t low = static_cast<uint64_t>(kind) | uint64_t{size_class} << 8 | uint64_t{shard} << 16;
  const uint64_t words[4] = {low, incarnation, sequence, unit};
  return low | uint64_t{Crc32c(0, words, sizeof words)} << 32;
}

bool ReadEntry(const TableEntry& entry, uint64_t unit, EntryView* view) {
  const uint64_t identity = entry.identity.load(std::memory_order_acquire);
  view->kind = KindOf(identity);
  view->size_class = ClassOf(identity);
  view->shard = ShardOf(identity);
  view->incarnation = entry.incarnation.load(std::memory_order_acquire);
  view->sequence = entry.sequence.load(std::memory_order_acquire);
  view->next = entry.next.load(std::memory_order_acquire);
  if (view->kind == RunKind::kNone || view->kind > RunKind::kUse || view->size_class > kMaxClass) return false;
  if (unit % (uint64_t{1} << view->size_class) != 0) return false;
  return identity == IdentityOf(view->kind, view->size_class, view->shard, view->incarnation, view->sequence, unit);
}

}  // namespace faultless::format
