// Purpose: encoding, checking and choosing superblocks.
// Thread safety: pure functions over private memory.
#pragma once

#include "base/status.h"
#include "format/layout.h"

namespace faultless::format {

/** Fills in the checksum. */
void SealSuperblock(Superblock* block);
/**
 * Chooses the valid one of two with the higher generation. kFormat: neither has our magic, or a version or feature that
 * this build does not know; kCorrupt (with the offset): ours, but both are damaged or contradict themselves.
 */
Status ChooseSuperblock(const Superblock& a, const Superblock& b, Superblock* chosen);

/** The check of a table entry's identity word. */
uint64_t IdentityOf(RunKind kind, uint32_t size_class, uint32_t shard, uint64_t incarnation, uint64_t sequence,
                    uint64_t unit);
constexpr RunKind KindOf(uint64_t identity) { return static_cast<RunKind>(identity & 0xFF); }
constexpr uint32_t ClassOf(uint64_t identity) { return identity >> 8 & 0xFF; }
constexpr uint32_t ShardOf(uint64_t identity) { return identity >> 16 & 0xFFFF; }

/** A table entry's words, read once and checked: false where the check does not match, or kind or class are none of
 * ours. */
struct EntryView {
  RunKind kind;
  uint32_t size_class;
  uint32_t shard;
  uint64_t incarnation;
  uint64_t sequence;
  uint64_t next;
};
bool ReadEntry(const TableEntry& entry, uint64_t unit, EntryView* view);

}  // namespace faultless::format
