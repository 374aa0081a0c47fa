#include "store/scan_batch.h"

#include <algorithm>
#include <bit>

#include "base/hash.h"
#include "store/index.h"
#include "store/reader.h"
#include "store/record_queue.h"

namespace faultless::store {
namespace {

/** Entries of a batch at most, but for its last segment: 4 MiB of them, a whole shard of a store of 16 million keys. */
constexpr size_t kBatchEntries = 256 * 1024;
/** Segments that the device is told of at a time. */
constexpr uint32_t kSegmentsAhead = 32;
/** The device is told of records as far ahead as this … */
constexpr uint64_t kBytesAhead = 2 << 20;
/** … in ranges: records that lie no further apart than this are read together, with what is between them. */
constexpr uint64_t kGapBytes = 16 * 1024;
constexpr uint64_t kRangeBytes = 256 * 1024;
/** Nothing tells how long a record is before it is read. */
constexpr uint64_t kRecordGuessBytes = 1024;
constexpr size_t kSortDigits = 2048;

/** Advice only: what cannot be asked for is read by its fault. */
void Need(const Context& context, uint64_t offset, uint64_t length, const ResidencyMoment& moment) {
  if (!context.Contains(offset, length) || context.IsKnownResident(offset, length, moment)) return;
  context.storage->WillNeed(offset, length);
}

/** Asks for the segments that come next; nothing of what it reads is validated. */
void AdviseSegments(const Context& context, uint32_t shard_index, uint64_t prefix) {
  if (!context.residency->IsKnown()) return;
  const ResidencyMoment moment = ResidencyMoment::Now(true);
  const uint64_t directory = context.shard(shard_index).directory.load(std::memory_order_acquire);
  SegmentRoute route;
  for (uint32_t i = 0; i < kSegmentsAhead && prefix >> format::kDirectoryBits == 0 && directory != 0; i++) {
    uint64_t segment;
    uint32_t local_depth;
    if (!RouteOf(context, directory, static_cast<uint32_t>(prefix << 8), &route) ||
        !SegmentOf(context, context.WordAt(route.word).load(std::memory_order_acquire), route.depth, &segment,
                   &local_depth)) {
      return;
    }
    Need(context, segment, format::kPieceBytes, moment);
    const uint64_t span = uint64_t{1} << (format::kDirectoryBits - local_depth);
    prefix = (prefix & ~(span - 1)) + span;
  }
}

/**
 * By place in the file, about: two passes over 11 bits each (a radix sort from the least digit). Exact order would be
 * of no use, and costs four times as much.
 */
void SortByPosition(std::vector<ScanEntry>* entries) {
  uint64_t lowest = ~uint64_t{0};
  uint64_t highest = 0;
  for (const ScanEntry& entry : *entries) {
    lowest = std::min(lowest, entry.position());
    highest = std::max(highest, entry.position());
  }
  const int bits = static_cast<int>(std::bit_width(highest - lowest));
  const int unit = std::max(3, bits - 22);
  std::vector<ScanEntry> sorted(entries->size());
  for (const int shift : {unit, unit + 11}) {
    uint32_t starts[kSortDigits + 1] = {};
    const auto digit = [&](const ScanEntry& entry) { return (entry.position() - lowest) >> shift & (kSortDigits - 1); };
    for (const ScanEntry& entry : *entries) starts[digit(entry) + 1]++;
    for (size_t i = 1; i < kSortDigits; i++) starts[i] += starts[i - 1];
    for (const ScanEntry& entry : *entries) sorted[starts[digit(entry)]++] = entry;
    entries->swap(sorted);
  }
}

}  // namespace

bool CollectEntries(const Context& context, uint32_t shard_index, const uint64_t* words, uint64_t prefix,
                    uint64_t next_prefix, bool versions_count, std::vector<ScanEntry>* entries) {
  const size_t first = entries->size();
  uint64_t seen[65'536 / 64] = {};  // a bit per fingerprint
  for (uint32_t line = 0; line < format::kLinesPerSegment; line++) {
    const uint64_t* const at = words + line * 8;
    for (uint32_t i = 0; i < format::kEntriesPerLine; i++) {
      const uint64_t place = at[3 + i];
      if (place == 0) continue;
      const uint32_t half = i + 1;
      ScanEntry entry{place, static_cast<uint32_t>(at[half / 2] >> (half % 2 * 32)), kVersionUnknown};
      const uint64_t bits = format::DirectoryBitsOf(entry.tag);
      // After a clear the segment here may begin before the prefix: what lies before it has been seen.
      if (bits < prefix) continue;
      // Else a directory whose words all lead to one segment would deliver its entries millions of times.
      if (bits >= next_prefix) return false;
      const uint64_t fingerprint = format::FingerprintOfPlace(place);
      uint64_t& word = seen[fingerprint / 64];
      const uint64_t bit = uint64_t{1} << (fingerprint % 64);
      if ((word & bit) != 0) {
        const auto same = std::find_if(entries->begin() + static_cast<std::ptrdiff_t>(first), entries->end(),
                                       [&](const ScanEntry& other) { return other.tag48() == entry.tag48(); });
        if (same != entries->end()) {
          same->version = kVersionUnknown;  // one read delivers all that share the tag
          continue;
        }
      }
      word |= bit;
      if (versions_count) {
        const uint32_t slot = static_cast<uint32_t>(fingerprint) & context.slot_mask;
        entry.version = context.version(shard_index, slot).load(std::memory_order_acquire);
      }
      entries->push_back(entry);
    }
  }
  return true;
}

Status TakeBatch(const Context& context, ScanCursor* cursor) {
  cursor->pending.clear();
  cursor->next_pending = 0;
  cursor->advised = 0;
  cursor->advise_at = 0;
  // Before any version is looked at.
  cursor->epoch = context.header().epoch.load(std::memory_order_acquire);
  cursor->pending_shard = cursor->shard;
  cursor->batch_segments = std::min(cursor->batch_segments * 2, uint32_t{1} << 20);
  for (uint32_t i = 0; i < cursor->batch_segments && cursor->pending.size() < kBatchEntries; i++) {
    if (i % kSegmentsAhead == 0) AdviseSegments(context, cursor->shard, cursor->next_prefix);
    uint64_t next_prefix;
    const Status status = SnapshotSegment(context, cursor->shard, cursor->next_prefix, &cursor->pending, &next_prefix);
    if (!status.ok()) {
      // What has been taken counts; the next batch meets the failure again.
      if (cursor->pending.empty()) return status;
      break;
    }
    cursor->next_prefix = next_prefix;
    if (next_prefix >> format::kDirectoryBits == 0) continue;
    cursor->next_prefix = 0;
    cursor->shard++;
    break;
  }
  SortByPosition(&cursor->pending);
  return Code::kOk;
}

void AdviseBatch(const Context& context, ScanCursor* cursor) {
  const std::vector<ScanEntry>& entries = cursor->pending;
  if (cursor->next_pending < cursor->advise_at || cursor->advised >= entries.size()) return;
  if (!context.residency->IsKnown()) return;
  const ResidencyMoment moment = ResidencyMoment::Now(true);
  // In pieces, of which one is always ahead. Bytes to be read are counted, not distances in the file: the next extent
  // of a shard lies behind those of all others.
  while (cursor->next_pending >= cursor->advise_at && cursor->advised < entries.size()) {
    size_t next = cursor->advise_at = cursor->advised;
    uint64_t advised_bytes = 0;
    while (next < entries.size() && advised_bytes < kBytesAhead / 2) {
      const uint64_t begin = entries[next].position();
      uint64_t end = begin + kRecordGuessBytes;
      while (++next < entries.size()) {
        const uint64_t position = entries[next].position();
        // The order is not exact.
        if (position < begin || position > end + kGapBytes || position - begin > kRangeBytes) break;
        end = std::max(end, position + kRecordGuessBytes);
      }
      Need(context, begin, end - begin, moment);
      advised_bytes += end - begin;
    }
    cursor->advised = next;
  }
}

bool ReadUnmoved(const Context& context, uint32_t shard_index, const ScanEntry& entry, format::RecordView* record) {
  const uint32_t slot_index = static_cast<uint32_t>(format::FingerprintOfPlace(entry.place)) & context.slot_mask;
  const format::HalfWord& slot = context.version(shard_index, slot_index);
  if ((entry.version & 1) != 0 || slot.load(std::memory_order_acquire) != entry.version) return false;
  const uint64_t changes = context.storage->SubstituteChanges();
  uint64_t bytes;
  if (!ReadRecordAt(context, entry.position(), record, &bytes).ok() || record->kind != format::RecordKind::kSet ||
      !format::VerifyChecksum({RecordScratch(Scratch::kRead, bytes), bytes})) {
    return false;
  }
  const uint64_t hash = HashBytes(record->key.data(), record->key.size(), context.superblock.hash_seed);
  if (context.ShardOfHash(hash) != shard_index || Tag48OfHash(hash) != entry.tag48()) return false;
  return slot.load(std::memory_order_acquire) == entry.version && !context.storage->HasSubstitutes() &&
         context.storage->SubstituteChanges() == changes;
}

}  // namespace faultless::store
