// Purpose: what every part of the engine needs to reach the file: the mapping, the geometry, who we are.
// Thread safety: immutable once the store is open, but for the atomics.
// Invariants: an offset read from the file is followed only after Contains() has accepted it.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>

#include "format/layout.h"
#include "os/os.h"
#include "store/residency.h"
#include "store/storage.h"

namespace faultless::store {

class UseMarks;

/** No record is larger; enough that the size of single ones does not matter. */
constexpr uint64_t kMostKeepCredit = 256 * 1024;

/** What this process remembers of a shard; hints, never truth. */
struct ShardHints {
  std::atomic<uint64_t> populated_until{0};  // file offset up to which the head extent has been prefaulted
  std::atomic<bool> held_up{false};          // cleaning has met a batch that no flush covers yet
  std::atomic<bool> swept{false};            // of expired values, by a write to another shard: cleaning is to follow
  std::atomic<uint64_t> keep_credit{kMostKeepCredit};  // bytes of used records that eviction may append again
};

/** Flushes of one process: one runs at a time, and all that were asked for before it began end with it (group commit).
 */
struct FlushRounds {
  std::mutex mutex;
  std::condition_variable ended;
  bool running = false;
  uint64_t begun = 0;      // rounds
  uint64_t completed = 0;  // the youngest round that succeeded
};

/** How this process tells the time (store/clock.h). */
struct ClockState {
  uint64_t boot_id[2] = {};
  std::atomic<uint64_t> word_seen{0};  // ControlHeader::clock_offset, when it was looked at last
  std::atomic<uint64_t> offset_ms{0};  // from the time since boot; only grows
};

struct Context {
  Storage* storage = nullptr;
  std::byte* base = nullptr;
  format::Superblock superblock{};
  uint32_t shard_bits = 0;
  uint32_t slot_mask = 0;  // slots of one shard − 1
  uint32_t opener_slot = 0;
  uint32_t owner_word = 0;  // our lock word without the waiters bit; 0 when read-only
  bool read_only = false;
  bool private_copy = false;                  // of the file, in memory of this process: nobody else changes it
  bool fresh_copy = false;                    // OpenOptions
  bool recovering = false;                    // a full store can be recovered, too
  bool control_locked = false;                // the control region is locked into memory
  std::atomic<uint32_t> chains_in_use{0};     // bit per chain of pending value runs
  std::atomic<uint32_t> chains_abandoned{0};  // of those: whose runs could not be freed yet
  std::atomic<uint64_t> pinned_units{0};      // the file up to here is locked into memory
  std::atomic<uint64_t> pinned_punches{0};    // AllocatorControl::punches when that was locked
  std::atomic<uint64_t> pinned_at_ns{0};
  bool temporary = false;  // gone with the last process that has it open
  std::atomic<bool> pin{false};
  std::atomic<bool> punching{false};      // a thread is punching a free run
  std::atomic<bool> giving_back{false};   // until little enough is left
  std::atomic<bool> cannot_punch{false};  // the filesystem has no holes
  std::atomic<uint32_t> looks{0};
  std::atomic<uint32_t> next_swept_shard{0};  // by a write to another one
  std::unique_ptr<ShardHints[]> hints;
  FlushRounds flush_rounds;
  mutable ClockState clock;
  std::unique_ptr<Residency> residency;
  std::shared_ptr<UseMarks> uses;  // nullptr: the store does not evict

  format::Word& WordAt(uint64_t offset) const { return *reinterpret_cast<format::Word*>(base + offset); }
  format::ControlHeader& header() const {
    return *reinterpret_cast<format::ControlHeader*>(base + format::kControlOffset);
  }
  format::AllocatorControl& allocator() const {
    return *reinterpret_cast<format::AllocatorControl*>(base + format::kAllocatorOffset);
  }
  format::OpenerSlot& opener(uint32_t slot) const {
    return reinterpret_cast<format::OpenerSlot*>(base + format::kOpenersOffset)[slot];
  }
  format::OpenerPending& pending(uint32_t slot) const {
    return reinterpret_cast<format::OpenerPending*>(base + format::kPendingOffset)[slot];
  }
  format::ShardControl& shard(uint32_t index) const {
    return reinterpret_cast<format::ShardControl*>(base + format::kShardsOffset)[index];
  }
  format::HalfWord& version(uint32_t shard_index, uint32_t slot) const {
    return reinterpret_cast<format::HalfWord*>(
        base + format::VersionsOffset(superblock.shard_count))[uint64_t{shard_index} * (slot_mask + 1) + slot];
  }
  format::TableEntry& entry(uint64_t unit) const {
    const uint64_t group = unit / format::kUnitsPerGroup;
    const uint64_t table = group == 0 ? head_units() : group * format::kUnitsPerGroup;
    return reinterpret_cast<format::TableEntry*>(base + table * format::kUnitBytes)[unit % format::kUnitsPerGroup];
  }

  /** Whether a flush promises anything: neither in RAM nor of a temporary store. */
  bool promises() const { return storage->durable() && !temporary; }
  bool evicts() const { return uses != nullptr; }
  uint32_t shards() const { return superblock.shard_count; }
  uint64_t head_units() const { return format::HeadUnits(superblock.shard_count); }
  uint64_t max_units() const { return superblock.max_bytes / format::kUnitBytes; }
  bool IsTableUnit(uint64_t unit) const { return unit % format::kUnitsPerGroup == 0 || unit == head_units(); }
  uint64_t PublishedUnits() const {
    return std::min(allocator().published_units.load(std::memory_order_acquire), max_units());
  }
  /** Whether the range lies behind the control region and within what is published. */
  bool Contains(uint64_t offset, uint64_t length) const {
    const uint64_t end = PublishedUnits() * format::kUnitBytes;
    return offset >= head_units() * format::kUnitBytes && length <= end && offset <= end - length;
  }
  bool ContainsRun(uint64_t unit, uint32_t size_class) const {
    const uint64_t published = PublishedUnits();
    return size_class <= format::kMaxClass && unit > head_units() && unit % (uint64_t{1} << size_class) == 0 &&
           unit < published && (uint64_t{1} << size_class) <= published - unit && !IsTableUnit(unit);
  }
  /** Never waits. Whether the bytes are in memory: pinned, or proven as of `moment`. */
  bool IsKnownResident(uint64_t offset, uint64_t length, const ResidencyMoment& moment) const {
    return IsPinned(offset + length) || residency->Covers(offset, length, moment);
  }
  /** Whether the file up to `end` is locked into memory: what is punched leaves it, and may come back elsewhere. */
  bool IsPinned(uint64_t end) const {
    return end <= pinned_units.load(std::memory_order_acquire) * format::kUnitBytes &&
           allocator().punches.load(std::memory_order_acquire) == pinned_punches.load(std::memory_order_acquire);
  }
  /** Whether reads that never wait can answer at all. */
  bool FastPath() const { return control_locked && (pin.load(std::memory_order_relaxed) || residency->IsKnown()); }
  uint32_t ShardOfHash(uint64_t hash) const { return static_cast<uint32_t>(hash >> (64 - shard_bits)); }
  uint32_t SlotOfHash(uint64_t hash) const { return static_cast<uint32_t>(hash >> 8) & slot_mask; }
  uint64_t OffsetOf(const void* address) const {
    return static_cast<uint64_t>(static_cast<const std::byte*>(address) - base);
  }
};

constexpr uint64_t UnitOf(uint64_t offset) { return offset / format::kUnitBytes; }
constexpr uint64_t RunBytes(uint32_t size_class) { return format::kUnitBytes << size_class; }

}  // namespace faultless::store
