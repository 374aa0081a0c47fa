#include "store/reader.h"

#include <algorithm>
#include <cstring>

#include "base/hash.h"
#include "store/clock.h"
#include "store/index.h"
#include "store/large_value.h"
#include "store/lock.h"
#include "store/prepare.h"
#include "store/record_queue.h"
#include "store/scan_batch.h"
#include "store/shared_bytes.h"
#include "store/use_marks.h"

namespace faultless::store {
namespace {

using format::HalfWord;
using format::RecordView;
using format::ShardControl;

constexpr int kLockFreeAttempts = 64;
constexpr int kResidentAttempts = 4;
constexpr int kSpinsOnOdd = 256;
constexpr int kViewRounds = 4;

inline void Pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#endif
}

/** Of an intent's count: nothing is decided. */
bool IsNoIntent(uint64_t count) {
  return count == 0 || (count > format::kIntentOps && count != format::kIntentOfBatch);
}

/** The two versions that a read validates against. */
struct Versions {
  HalfWord* slot;
  format::Word* structure;
  uint32_t slot_seen = 0;
  uint64_t structure_seen = 0;

  Versions(const Context& context, uint32_t shard_index, uint32_t slot_index)
      : slot(&context.version(shard_index, slot_index)), structure(&context.shard(shard_index).structure_version) {}

  /** False while a write is under way. */
  bool Begin() {
    slot_seen = slot->load(std::memory_order_acquire);
    structure_seen = structure->load(std::memory_order_acquire);
    return (slot_seen & 1) == 0 && (structure_seen & 1) == 0;
  }
  bool StillHold() const {
    return slot->load(std::memory_order_acquire) == slot_seen &&
           structure->load(std::memory_order_acquire) == structure_seen;
  }
  /** For the holder of the shard's lock, with nothing decided. */
  void EndOdd(const Context& context) {
    if (slot->load(std::memory_order_acquire) & 1) EndVersion(context, slot);
    const uint64_t now = structure->load(std::memory_order_acquire);
    if (now & 1) structure->store(now + 1, std::memory_order_release);
  }
};

/** Ranges that a read believed, for asking whether a fault had put zeros there. */
class Touched {
 public:
  explicit Touched(const Context& context) : context_(context), changes_before_(context.storage->SubstituteChanges()) {}
  void Add(uint64_t offset, uint64_t size) {
    if (count_ < kRanges) {
      ranges_[count_++] = {offset, size};
    } else {
      overflow_ = true;
    }
  }
  /**
   * kOk; kIo with the place of the first page that could not be had; kWouldBlock where pages came or went meanwhile, so
   * that the answer may be made of zeros: read again.
   */
  Status Check() const {
    const bool changed = context_.storage->SubstituteChanges() != changes_before_;
    if (!changed && !context_.storage->HasSubstitutes()) return Code::kOk;
    if (overflow_) return {Code::kIo, "a page of the file could not be read"};
    for (size_t i = 0; i < count_; i++) {
      if (context_.storage->IsSubstituted(ranges_[i].offset, ranges_[i].size)) {
        return Status::Io("a page of the file could not be read", ranges_[i].offset);
      }
    }
    return changed ? Code::kWouldBlock : Code::kOk;
  }

 private:
  static constexpr size_t kRanges = 48;
  struct Range {
    uint64_t offset;
    uint64_t size;
  };
  const Context& context_;
  const uint64_t changes_before_;
  size_t count_ = 0;
  bool overflow_ = false;
  Range ranges_[kRanges];
};

/** One attempt at reading; nothing validated. `accept(record, position)`: kOk to stop, kAbsent to look on. */
template <typename Accept>
Status Attempt(const Memory& memory, uint32_t shard_index, uint32_t tag, uint64_t fingerprint, ReadMode mode,
               Touched* touched, const Accept& accept) {
  const Context& context = memory.context;
  const bool may_fault = mode == ReadMode::kMayFault;
  const ResidencyMoment moment =
      may_fault ? ResidencyMoment{} : ResidencyMoment::Now(mode == ReadMode::kLikelyResident);
  const auto need = [&](uint64_t offset, uint64_t size) -> Status {
    if (!may_fault && !context.IsKnownResident(offset, size, moment)) return Code::kCold;
    touched->Add(offset, size);
    return Code::kOk;
  };
  return Probe(memory, context.shard(shard_index), tag, fingerprint, need, [&](const IndexHit& hit) -> Status {
    if (!context.Contains(hit.position, sizeof(format::RecordHeader))) {
      return Status::Corrupt("an index entry points outside the file", hit.line);
    }
    FAULTLESS_TRY(need(hit.position, sizeof(format::RecordHeader)));
    if (!may_fault) {
      const uint64_t length = format::RecordLength(context.WordAt(hit.position).load(std::memory_order_acquire));
      if (length != 0 && context.Contains(hit.position, length)) FAULTLESS_TRY(need(hit.position, length));
    }
    RecordView record;
    uint64_t bytes;
    FAULTLESS_TRY(ReadRecordAt(context, hit.position, &record, &bytes));
    touched->Add(hit.position, bytes);
    if (!format::VerifyChecksum({RecordScratch(Scratch::kRead, bytes), bytes})) {
      return Status::Corrupt("a record's checksum does not match", hit.position);
    }
    if (record.kind != format::RecordKind::kSet) return Status::Corrupt("an index entry points at no value", hit.line);
    return accept(record, hit.position);
  });
}

/**
 * For a read that met odd versions: waits a moment for their writer; then settles the shard by its lock, which takes
 * over from the dead. Who may not write reads through the dead writer's intent instead, in *overlay: then *through is
 * set, and the versions stay as they are until somebody takes over.
 */
Status WaitForWriter(const Context& context, uint32_t shard_index, Versions* versions, Overlay* overlay,
                     const Overlay** through) {
  for (int spin = 0; spin < kSpinsOnOdd; spin++) {
    Pause();
    if (versions->Begin()) return Code::kOk;
  }
  // All ones are odd as well: they stand where the version table cannot be read.
  if (context.storage->HasSubstitutes()) {
    const uint64_t place = context.OffsetOf(versions->slot);
    const uint64_t structure = context.OffsetOf(versions->structure);
    context.storage->Restore();
    if (context.storage->IsSubstituted(place, sizeof *versions->slot) ||
        context.storage->IsSubstituted(structure, sizeof *versions->structure)) {
      return Status::Io("the control region cannot be read", place);
    }
    if (versions->Begin()) return Code::kOk;
  }
  const format::Intent& intent = context.shard(shard_index).intent;
  if (!context.read_only) {
    const ShardLock lock(context, shard_index);
    FAULTLESS_TRY(lock.status());
    // All that was decided has been settled: what is odd now is damage, and the lock's holder may end it.
    versions->EndOdd(context);
    return Code::kOk;
  }
  if (overlay->Capture(context, shard_index)) {
    *through = overlay;
    return Code::kOk;
  }
  if (versions->Begin()) return Code::kOk;
  // Versions are odd only while something is decided.
  const uint64_t count = intent.count.load(std::memory_order_acquire);
  if (IsNoIntent(count) && versions->StillHold()) {
    return Status::Corrupt(
        "a version says that a write is under way, and there is none",
        (versions->slot_seen & 1) != 0 ? context.OffsetOf(versions->slot) : context.OffsetOf(versions->structure));
  }
  return Code::kWouldBlock;
}

/**
 * Runs `body` until the versions say that it saw one moment. body(memory, touched) answers as Attempt; its failures
 * count only where the versions held meanwhile: what a reader meets in the middle of a change may look like anything.
 * *version: the slot's, of which it is the newest; untouched where that cannot be told.
 */
template <typename Body>
Status Validated(const Context& context, uint32_t shard_index, uint32_t slot, ReadMode mode, const Body& body,
                 uint32_t* version = nullptr) {
  Versions versions(context, shard_index, slot);
  const bool may_wait = mode == ReadMode::kMayFault;
  const int attempts = may_wait ? kLockFreeAttempts : kResidentAttempts;
  bool restored = false;
  for (int i = 0; i < attempts; i++) {
    Overlay overlay;
    const Overlay* through = nullptr;
    if (!versions.Begin()) {
      if (!may_wait) return Code::kCold;
      FAULTLESS_TRY(WaitForWriter(context, shard_index, &versions, &overlay, &through));
      if (!versions.Begin() && through == nullptr) continue;
    }
    Touched touched(context);
    const Status status = body(Memory{context, through}, &touched);
    if (!versions.StillHold()) continue;
    const Status intact = touched.Check();
    if (intact.ok()) {
      // What was read through a dead writer's intent is older than what the slot says.
      if (version != nullptr && through == nullptr) *version = versions.slot_seen;
      return status;
    }
    if (!may_wait) return Code::kCold;
    if (intact.code() == Code::kWouldBlock) continue;
    if (restored) return intact;
    context.storage->Restore();
    restored = true;
  }
  if (!may_wait) return Code::kCold;
  if (context.read_only) return Code::kWouldBlock;
  // Writers keep overtaking this read: hold them up for once.
  const ShardLock lock(context, shard_index);
  FAULTLESS_TRY(lock.status());
  while (true) {
    Touched touched(context);
    const Status status = body(Memory{context}, &touched);
    const Status intact = touched.Check();
    if (intact.ok()) return status;
    if (restored) return intact;
    context.storage->Restore();
    restored = true;
  }
}

/** Reads the key's value into the sink; not validated. */
Status AttemptKey(const Memory& memory, uint32_t shard_index, uint64_t hash, Bytes key, ValueSink* sink, ReadMode mode,
                  Touched* touched, uint64_t* expires_at_ms = nullptr) {
  return Attempt(memory, shard_index, format::TagOf(hash), format::FingerprintOf(hash), mode, touched,
                 [&](const RecordView& record, uint64_t position) -> Status {
                   if (record.key.size() != key.size() || std::memcmp(record.key.data(), key.data(), key.size()) != 0) {
                     return Code::kAbsent;
                   }
                   if (IsExpired(memory.context, record)) return {Code::kNotFound, "expired"};
                   if (expires_at_ms != nullptr) *expires_at_ms = record.expires_at_ms;
                   if (sink == nullptr) return Code::kOk;
                   if (mode != ReadMode::kMayFault && !record.runs.empty()) return Code::kCold;
                   uint8_t* const target = sink->Allocate(record.value_bytes());
                   if (target == nullptr) return Code::kValueTooLarge;
                   if (!record.runs.empty()) {
                     for (const format::RunReference& run : record.runs) {
                       touched->Add(uint64_t{run.unit} * format::kUnitBytes, RunBytes(run.size_class));
                     }
                     FAULTLESS_TRY(ReadRuns(memory.context, record, position, target));
                   }
                   if (!record.value.empty()) {
                     std::memcpy(target + record.large.run_bytes, record.value.data(), record.value.size());
                   }
                   return Code::kOk;
                 });
}

/** A value has been read, of a store that evicts. What must not wait stores to memory of this process only. */
void NoteUse(const Context& context, uint64_t hash, ReadMode mode) {
  if (mode == ReadMode::kResidentOnly) {
    context.uses->Note(format::TagOf(hash));
  } else if (!context.read_only) {
    context.uses->Mark(context, format::TagOf(hash));
  }
}

/** An expired entry ends the search like a found one, and is as good as absent. */
Status AbsentWhereExpired(const Status& status) {
  return status.code() == Code::kNotFound ? Status(Code::kAbsent) : status;
}

Status CheckKey(Bytes key) {
  if (key.empty()) return Code::kKeyEmpty;
  if (key.size() > kMaxKeyBytes) return Code::kKeyTooLong;
  return Code::kOk;
}

}  // namespace

Status ReadKey(const Context& context, Bytes key, uint64_t hash, ValueSink* sink, ReadMode mode, Freshness* freshness) {
  FAULTLESS_TRY(CheckKey(key));
  if (mode != ReadMode::kMayFault && !context.FastPath()) return Code::kCold;
  const uint32_t shard_index = context.ShardOfHash(hash);
  uint32_t version = Freshness::kUnknown;
  uint64_t expires_at_ms = 0;
  const Status status = Validated(
      context, shard_index, context.SlotOfHash(hash), mode,
      [&](const Memory& memory, Touched* touched) -> Status {
        expires_at_ms = 0;
        return AttemptKey(memory, shard_index, hash, key, sink, mode, touched, &expires_at_ms);
      },
      &version);
  if (freshness != nullptr) {
    *freshness = {shard_index * (context.slot_mask + 1) + context.SlotOfHash(hash), version, format::TagOf(hash),
                  expires_at_ms};
  }
  if (context.evicts() && status.ok() && sink != nullptr) NoteUse(context, hash, mode);
  return AbsentWhereExpired(status);
}

Status ReadKeys(const Context& context, std::span<const Bytes> keys, std::span<ValueSink* const> sinks,
                std::span<Code> results) {
  const auto note_uses = [&](std::span<const uint64_t> hashes) {
    for (size_t i = 0; context.evicts() && i < hashes.size(); i++) {
      if (results[i] == Code::kOk && sinks[i] != nullptr) NoteUse(context, hashes[i], ReadMode::kMayFault);
    }
    return Status();
  };
  struct Read {
    uint64_t hash;
    Versions versions;
    bool done;
    uint64_t expires_at_ms;  // of what was read; 0: never, or it is absent
  };
  for (const Bytes key : keys) FAULTLESS_TRY(CheckKey(key));
  std::vector<uint64_t> hashes(keys.size());
  PrepareKeys(context, keys, hashes, /*advise=*/keys.size() > 1);
  std::vector<Read> reads;
  reads.reserve(keys.size());
  for (const uint64_t hash : hashes) {
    reads.push_back({hash, Versions(context, context.ShardOfHash(hash), context.SlotOfHash(hash)), false, 0});
  }
  const auto read_one = [&](size_t i, const Overlay* through) -> Status {
    const uint32_t shard_index = context.ShardOfHash(reads[i].hash);
    Touched touched(context);
    reads[i].expires_at_ms = 0;
    const Status status =
        AbsentWhereExpired(AttemptKey({context, through}, shard_index, reads[i].hash, keys[i], sinks[i],
                                      ReadMode::kMayFault, &touched, &reads[i].expires_at_ms));
    FAULTLESS_TRY(touched.Check());
    if (!status.ok() && status.code() != Code::kAbsent) return status;
    results[i] = status.code();
    return Code::kOk;
  };
  bool overtaken = false;  // writers keep overtaking a read, or its versions cannot be read: hold them up
  for (int round = 0; round < kViewRounds && !overtaken; round++) {
    for (size_t i = 0; i < keys.size() && !overtaken; i++) {
      Read& read = reads[i];
      for (int attempt = 0; !read.done; attempt++) {
        overtaken = attempt == kLockFreeAttempts;
        if (overtaken) break;
        Overlay overlay;
        const Overlay* through = nullptr;
        if (!read.versions.Begin()) {
          FAULTLESS_TRY(WaitForWriter(context, context.ShardOfHash(read.hash), &read.versions, &overlay, &through));
          if (!read.versions.Begin() && through == nullptr) continue;
        }
        const Status status = read_one(i, through);
        if (!read.versions.StillHold()) continue;
        if (status.code() == Code::kWouldBlock) continue;
        if (status.code() == Code::kIo && attempt == 0) {
          context.storage->Restore();
          continue;
        }
        FAULTLESS_TRY(status);
        read.done = true;
      }
    }
    if (overtaken) break;
    // Where every version still is what it was when its key was read, and nothing has expired since, all of it was true
    // when this pass began.
    bool moved = false;
    for (Read& read : reads) {
      read.done = read.versions.StillHold() && !IsExpired(context, read.expires_at_ms);
      moved |= !read.done;
    }
    if (!moved) return note_uses(hashes);
  }
  if (context.read_only) return Code::kWouldBlock;
  std::vector<bool> wanted(context.shards());
  for (const Read& read : reads) wanted[context.ShardOfHash(read.hash)] = true;
  std::vector<std::unique_ptr<ShardLock>> locks;
  for (uint32_t i = 0; i < context.shards(); i++) {
    if (!wanted[i]) continue;
    locks.push_back(std::make_unique<ShardLock>(context, i));
    FAULTLESS_TRY(locks.back()->status());
  }
  for (bool expired = true; expired;) {
    for (size_t i = 0; i < keys.size(); i++) FAULTLESS_TRY(read_one(i, nullptr));
    expired = std::any_of(reads.begin(), reads.end(),
                          [&](const Read& read) { return IsExpired(context, read.expires_at_ms); });
  }
  locks.clear();
  return note_uses(hashes);
}

Status ReadKeyRuns(const Context& context, Bytes key, uint64_t hash, std::vector<format::RunReference>* runs) {
  FAULTLESS_TRY(CheckKey(key));
  const uint32_t shard_index = context.ShardOfHash(hash);
  const size_t runs_before = runs->size();
  return AbsentWhereExpired(Validated(
      context, shard_index, context.SlotOfHash(hash), ReadMode::kMayFault,
      [&](const Memory& memory, Touched* touched) -> Status {
        runs->resize(runs_before);
        return Attempt(
            memory, shard_index, format::TagOf(hash), format::FingerprintOf(hash), ReadMode::kMayFault, touched,
            [&](const RecordView& record, uint64_t position) -> Status {
              if (record.key.size() != key.size() || std::memcmp(record.key.data(), key.data(), key.size()) != 0) {
                return Code::kAbsent;
              }
              for (const format::RunReference& run : record.runs) {
                if (!context.ContainsRun(run.unit, run.size_class)) {
                  return Status::Corrupt("a value run lies outside the file", position);
                }
              }
              runs->insert(runs->end(), record.runs.begin(), record.runs.end());
              return Code::kOk;
            });
      }));
}

Status ReadTag(const Context& context, uint32_t shard_index, uint64_t tag48, bool want_values, TagSink* sink) {
  const uint32_t tag = static_cast<uint32_t>(tag48 >> 16);
  const uint32_t slot = static_cast<uint32_t>(tag48) & context.slot_mask;
  std::vector<uint8_t> run_bytes;
  const Status status =
      Validated(context, shard_index, slot, ReadMode::kMayFault, [&](const Memory& memory, Touched* touched) -> Status {
        sink->Restart();
        return Attempt(memory, shard_index, tag, tag48 & 0xFFFF, ReadMode::kMayFault, touched,
                       [&](const RecordView& record, uint64_t position) -> Status {
                         const uint64_t hash =
                             HashBytes(record.key.data(), record.key.size(), context.superblock.hash_seed);
                         if (context.ShardOfHash(hash) != shard_index || Tag48OfHash(hash) != tag48) {
                           return Status::Corrupt("an index entry points at another key's record", position);
                         }
                         if (IsExpired(context, record)) return Code::kAbsent;
                         run_bytes.clear();
                         if (want_values && !record.runs.empty()) {
                           for (const format::RunReference& run : record.runs) {
                             touched->Add(uint64_t{run.unit} * format::kUnitBytes, RunBytes(run.size_class));
                           }
                           run_bytes.resize(record.large.run_bytes);
                           FAULTLESS_TRY(ReadRuns(context, record, position, run_bytes.data()));
                         }
                         sink->Entry(record, run_bytes);
                         return Code::kAbsent;
                       });
      });
  return status.code() == Code::kAbsent ? Status() : status;
}

Status SnapshotSegment(const Context& context, uint32_t shard_index, uint64_t prefix, std::vector<ScanEntry>* entries,
                       uint64_t* next_prefix) {
  const ShardControl& shard = context.shard(shard_index);
  const size_t entries_before = entries->size();
  alignas(64) uint64_t words[format::kPieceBytes / 8];
  uint64_t segment_offset = 0;
  const auto copy_touching = [&](const Memory& memory, Touched* touched) -> Status {
    *next_prefix = uint64_t{1} << format::kDirectoryBits;
    const uint64_t directory = memory.Load(context.OffsetOf(&shard.directory));
    if (directory == 0) {
      std::memset(words, 0, sizeof words);
      return Code::kOk;
    }
    SegmentRoute route;
    uint64_t segment;
    uint32_t local_depth;
    if (!RouteOf(context, directory, static_cast<uint32_t>(prefix << 8), &route)) {
      return Status::Corrupt("a directory word points nowhere", context.OffsetOf(&shard.directory));
    }
    touched->Add(route.word, sizeof(uint64_t));
    if (!SegmentOf(context, memory.Load(route.word), route.depth, &segment, &local_depth)) {
      return Status::Corrupt("a directory entry points nowhere", route.word);
    }
    const uint64_t span = uint64_t{1} << (format::kDirectoryBits - local_depth);
    *next_prefix = (prefix & ~(span - 1)) + span;
    segment_offset = segment;
    CopyFromShared(words, context.base + segment, format::kPieceBytes);
    for (uint64_t i = 0; memory.overlay != nullptr && i < format::kPieceBytes / 8; i++)
      words[i] = memory.Load(segment + i * 8);
    touched->Add(segment, format::kPieceBytes);
    return Code::kOk;
  };
  const auto copy = [&](const Memory& memory) -> Status {
    Touched touched(context);
    touched.Add(context.OffsetOf(&shard), sizeof(uint64_t) * 2);
    const Status copied = copy_touching(memory, &touched);
    FAULTLESS_TRY(touched.Check());  // before anything is called damaged
    FAULTLESS_TRY(copied);
    entries->resize(entries_before);
    // What is read through a dead writer's intent is not what the versions stand for.
    const bool versions_count = memory.overlay == nullptr;
    if (!CollectEntries(context, shard_index, words, prefix, *next_prefix, versions_count, entries)) {
      return Status::Corrupt("an entry is in another one's segment", segment_offset);
    }
    return Code::kOk;
  };
  Status status;
  bool taken = false;
  for (int attempt = 0; attempt < kLockFreeAttempts && !taken; attempt++) {
    const uint64_t before = shard.commits.load(std::memory_order_acquire);
    Overlay overlay;
    const bool overlaid = (before & 1) != 0 && context.read_only && overlay.Capture(context, shard_index);
    if ((before & 1) != 0 && !overlaid) {
      Pause();
      continue;
    }
    status = copy({context, overlaid ? &overlay : nullptr});
    taken = shard.commits.load(std::memory_order_acquire) == before;
    if (taken && status.code() == Code::kWouldBlock) taken = false;
    if (taken && status.code() == Code::kIo && attempt == 0) {
      context.storage->Restore();
      taken = false;
    }
  }
  if (!taken) {
    entries->resize(entries_before);
    const uint64_t place = context.OffsetOf(&shard.commits);
    if (context.storage->HasSubstitutes() && context.storage->Restore() > 0 &&
        context.storage->IsSubstituted(place, sizeof(uint64_t))) {
      return Status::Io("the control region cannot be read", place);
    }
    if (context.read_only) {
      const uint64_t before = shard.commits.load(std::memory_order_acquire);
      const uint64_t count = shard.intent.count.load(std::memory_order_acquire);
      if ((before & 1) != 0 && IsNoIntent(count) && shard.commits.load(std::memory_order_acquire) == before) {
        return Status::Corrupt("a count of commits says that one is under way, and there is none", place);
      }
      return Code::kWouldBlock;
    }
    const ShardLock lock(context, shard_index);
    FAULTLESS_TRY(lock.status());
    status = copy({context});
  }
  if (!status.ok()) entries->resize(entries_before);
  return status;
}

}  // namespace faultless::store
