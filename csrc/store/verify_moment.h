// Purpose: what the parts of a verification share: looking at a shard as it was at one moment while others write it,
// and the list of what was found.
// Thread safety: a Findings belongs to one verification; AtOneMoment may run on any thread, and may wait.
#pragma once

#include <map>
#include <vector>

#include "base/status.h"
#include "store/allocator.h"
#include "store/context.h"
#include "store/lock.h"
#include "store/transaction.h"

namespace faultless::store {

/** What a verification has found so far. */
class Findings {
 public:
  explicit Findings(const Context& context)
      : referenced_(context.max_units() < kUnitsAtFirst ? context.max_units() : 0) {}

  /** Of one place only the first reason counts. */
  void Damaged(uint64_t offset, const char* reason) {
    if (damaged_.size() < kMaxDamaged) damaged_.emplace(offset, reason);
    count_++;
  }
  /** A failure of a helper that names its place. */
  void Damaged(const Status& status, uint64_t otherwise) {
    Damaged(status.has_offset() ? status.offset() : otherwise,
            status.message() != nullptr ? status.message() : "it could not be read");
  }
  bool IsDamaged(uint64_t offset) const { return damaged_.contains(offset); }
  /** How often something was found: moves on with every finding. */
  uint64_t count() const { return count_; }
  const std::map<uint64_t, const char*>& damaged() const { return damaged_; }

  /** Value runs that some record of a queue refers to, by their first unit. */
  void Refer(uint64_t unit) {
    if (unit >= referenced_.size()) referenced_.resize(unit + kUnitsAtFirst);
    referenced_[unit] = true;
  }
  bool IsReferred(uint64_t unit) const { return unit < referenced_.size() && referenced_[unit]; }

  uint64_t records = 0;
  uint64_t bytes = 0;
  /** Shards of which not every record or chain was seen, so that what nothing refers to is not known. */
  std::vector<bool> unseen_shards = std::vector<bool>(256);

 private:
  static constexpr uint64_t kUnitsAtFirst = 4096;
  static constexpr size_t kMaxDamaged = 10'000;
  std::map<uint64_t, const char*> damaged_;
  uint64_t count_ = 0;
  std::vector<bool> referenced_;
};

constexpr int kMomentAttempts = 64;

inline void PauseForWriter() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#endif
}

/**
 * Runs `body(memory)` until no transaction of the shard was applied meanwhile: what it saw was true together. After
 * kMomentAttempts under the shard's lock, or kWouldBlock for who may not write. kIo: pages of the file are missing, so
 * that what it saw may be made of zeros. The body is short and may be repeated.
 */
template <typename Body>
Status AtOneMoment(const Context& context, uint32_t shard_index, const Body& body) {
  const format::ShardControl& shard = context.shard(shard_index);
  for (int attempt = 0; attempt < kMomentAttempts; attempt++) {
    const uint64_t before = shard.commits.load(std::memory_order_acquire);
    Overlay overlay;
    const bool overlaid = (before & 1) != 0 && context.read_only && overlay.Capture(context, shard_index);
    if ((before & 1) != 0 && !overlaid) {
      PauseForWriter();
      continue;
    }
    const uint64_t changes = context.storage->SubstituteChanges();
    const Status status = body(Memory{context, overlaid ? &overlay : nullptr});
    if (shard.commits.load(std::memory_order_acquire) != before) continue;
    if (context.storage->HasSubstitutes()) return {Code::kIo, "a page of the file cannot be read"};
    if (context.storage->SubstituteChanges() == changes) return status;
  }
  if (context.read_only) return Code::kWouldBlock;
  const ShardLock lock(context, shard_index);
  FAULTLESS_TRY(lock.status());
  const uint64_t changes = context.storage->SubstituteChanges();
  const Status status = body(Memory{context});
  if (context.storage->HasSubstitutes()) return {Code::kIo, "a page of the file cannot be read"};
  return context.storage->SubstituteChanges() == changes ? status : Status(Code::kWouldBlock);
}

/** Whether bytes that were read since `changes` (SubstituteChanges) are the file's. */
enum class ReadResult : uint8_t { kReal, kReadAgain, kMissing };
inline ReadResult WhatWasRead(const Context& context, uint64_t changes, uint64_t offset, uint64_t length) {
  if (context.storage->HasSubstitutes() && context.storage->IsSubstituted(offset, length)) {
    context.storage->Restore();
    return context.storage->IsSubstituted(offset, length) ? ReadResult::kMissing : ReadResult::kReadAgain;
  }
  return context.storage->SubstituteChanges() == changes ? ReadResult::kReal : ReadResult::kReadAgain;
}

/** The queue extent that `position` lies in, found by the table. */
inline bool ExtentOf(const Context& context, uint64_t position, uint64_t* unit, format::EntryView* extent) {
  for (uint32_t size_class = 0; size_class <= format::kMaxExtentClass; size_class++) {
    *unit = UnitOf(position) & ~((uint64_t{1} << size_class) - 1);
    if (ReadRun(context, *unit, format::RunKind::kQueue, extent) && extent->size_class >= size_class) return true;
  }
  return false;
}

/**
 * Where damage shows as a link to a unit that is not what it should be: in that unit's entry, where it does not pass
 * its check, else in the link.
 */
inline uint64_t PlaceOfBadLink(const Context& context, uint64_t link_offset, uint64_t unit) {
  format::EntryView view;
  if (!context.ContainsRun(unit, 0)) return link_offset;
  const format::TableEntry& entry = context.entry(unit);
  if (entry.identity.load(std::memory_order_acquire) == 0 || format::ReadEntry(entry, unit, &view)) return link_offset;
  return context.OffsetOf(&entry);
}

}  // namespace faultless::store
