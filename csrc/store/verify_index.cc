// The index half of a shard's verification: directory, segments, free pieces, counters.
#include <bit>
#include <cstring>

#include "base/hash.h"
#include "os/os.h"
#include "store/index.h"
#include "store/record_queue.h"
#include "store/shared_bytes.h"
#include "store/verify_shard.h"

namespace faultless::store {
namespace {

using format::EntryView;
using format::kDirectoryBits;
using format::kEntriesPerLine;
using format::kLinesPerSegment;
using format::kPieceBytes;
using format::RecordKind;
using format::RecordView;
using format::RunKind;

constexpr int kSegmentAttempts = 16;
constexpr int kUnusableWords = 1000;  // of a directory: then all of it is none
constexpr uint64_t kLockedCountNs = 1'000'000;
constexpr uint64_t kUnitsPerLook = 4096;
constexpr uint64_t kHalfWord = 0xFFFF'FFFF;
constexpr uint64_t kExtentsPerLook = 16'384;

/** A segment as copied at one moment. */
struct Copy {
  uint64_t directory_word = 0;
  SegmentRoute route;
  uint64_t segment = 0;
  uint32_t local_depth = 0;
  uint64_t bad_word = 0;  // of the directory: it should say what its neighbours do
  bool owned = false;
  uint64_t words[kPieceBytes / 8];

  uint32_t TagAt(uint32_t line, uint32_t entry) const {
    const uint32_t half = entry + 1;
    return static_cast<uint32_t>(words[line * 8 + half / 2] >> (half % 2 * 32));
  }
  uint64_t PlaceAt(uint32_t line, uint32_t entry) const { return words[line * 8 + 3 + entry]; }
};

/** The first line whose overflow count is not what its entries say; kLinesPerSegment: none. */
uint32_t WrongOverflow(const Copy& copy) {
  uint32_t passed[kLinesPerSegment] = {};
  for (uint32_t line = 0; line < kLinesPerSegment; line++) {
    for (uint32_t entry = 0; entry < kEntriesPerLine; entry++) {
      if (copy.PlaceAt(line, entry) == 0) continue;
      const uint32_t home = format::LineOf(copy.TagAt(line, entry));
      for (uint32_t at = home; at != line; at = (at + 1) % kLinesPerSegment) passed[at]++;
    }
  }
  for (uint32_t line = 0; line < kLinesPerSegment; line++) {
    if (static_cast<uint32_t>(copy.words[line * 8]) != passed[line]) return line;
  }
  return kLinesPerSegment;
}

uint64_t Distance(uint64_t a, uint64_t b) { return a > b ? a - b : b - a; }

/** Whether `position` is a piece of an index unit of this shard. */
bool IsPieceOf(const Context& context, uint32_t shard_index, uint64_t position) {
  EntryView view;
  return position % kPieceBytes == 0 && ReadRun(context, UnitOf(position), RunKind::kIndex, &view) &&
         view.shard == shard_index;
}

}  // namespace

Status ShardVerification::CheckSegment() {
  if (prefix_ >> kDirectoryBits != 0) {
    phase_ = Phase::kFreePieces;
    return Code::kOk;
  }
  Copy copy;
  const Status copied = AtOneMoment(context_, shard_index_, [&](const Memory& memory) -> Status {
    copy.directory_word = memory.Load(context_.OffsetOf(&shard_.directory));
    copy.segment = 0;
    copy.bad_word = 0;
    if (copy.directory_word == 0) return Code::kOk;
    if (!RouteOf(context_, copy.directory_word, static_cast<uint32_t>(prefix_ << 8), &copy.route)) {
      return Status::Corrupt("a directory word points nowhere", context_.OffsetOf(&shard_.directory));
    }
    const uint64_t word = memory.Load(copy.route.word);
    if (!SegmentOf(context_, word, copy.route.depth, &copy.segment, &copy.local_depth)) {
      copy.segment = 0;
      return Status::Corrupt("a directory entry points nowhere", copy.route.word);
    }
    const uint64_t span = uint64_t{1} << (copy.route.depth - copy.local_depth);
    const uint64_t index = (copy.route.word - copy.route.directory) / 8;
    for (uint64_t i = index & ~(span - 1); i < (index & ~(span - 1)) + span; i++) {
      if (memory.Load(copy.route.directory + i * 8) != word) copy.bad_word = copy.route.directory + i * 8;
    }
    copy.owned = IsPieceOf(context_, shard_index_, copy.segment);
    CopyFromShared(copy.words, context_.base + copy.segment, kPieceBytes);
    for (uint64_t i = 0; memory.overlay != nullptr && i < kPieceBytes / 8; i++) {
      copy.words[i] = memory.Load(copy.segment + i * 8);
    }
    return Code::kOk;
  });
  if (copied.code() == Code::kWouldBlock) return copied;
  const uint64_t depth = copy.directory_word & 0xFF;
  if (copied.ok() && copy.directory_word == 0) {
    prefix_ = uint64_t{1} << kDirectoryBits;
    return Code::kOk;
  }
  const auto skip = [&](uint64_t local_depth) {
    const uint64_t span = uint64_t{1} << (kDirectoryBits - local_depth);
    prefix_ = (prefix_ & ~(span - 1)) + span;
    repeated_ = 0;
  };
  if (!copied.ok()) {
    const uint64_t missing = copy.segment != 0 ? copy.segment : copy.route.word;
    if (copied.code() == Code::kCorrupt) {
      findings_->Damaged(copied, context_.OffsetOf(&shard_.directory));
    } else if (missing != 0 && WhatWasRead(context_, 0, missing, kPieceBytes) == ReadResult::kMissing) {
      findings_->Damaged(missing, "a part of the index cannot be read");
    }
    incomplete_ = true;
    if (copy.route.word == 0 || depth > format::kMaxDirectoryDepth || ++unusable_words_ == kUnusableWords)
      prefix_ = uint64_t{1} << kDirectoryBits;
    else
      skip(depth);
    return Code::kOk;
  }
  if (!copy.owned) {
    findings_->Damaged(PlaceOfBadLink(context_, copy.route.word, UnitOf(copy.segment)),
                       "a segment lies in no index unit of its shard");
    incomplete_ = true;
    skip(copy.local_depth);
    if (++unusable_words_ == kUnusableWords) prefix_ = uint64_t{1} << kDirectoryBits;
    return Code::kOk;
  }
  if (copy.bad_word != 0) {
    findings_->Damaged(copy.bad_word, "directory words of one segment differ");
    incomplete_ = true;
  }
  const uint64_t found_before = findings_->count();
  const auto met = met_.find(copy.segment);
  // Where a merge has made the segment wider than what is left of it, the entries before the prefix have been counted.
  const uint64_t begin = prefix_ >> (kDirectoryBits - copy.local_depth) << (kDirectoryBits - copy.local_depth);
  uint64_t entries = 0;
  for (uint32_t line = 0; line < kLinesPerSegment; line++) {
    for (uint32_t i = 0; i < kEntriesPerLine; i++) {
      const Entry entry{copy.segment + line * sizeof(format::IndexLine), i, copy.TagAt(line, i), copy.PlaceAt(line, i)};
      if (entry.place == 0) continue;
      const uint64_t bits = format::DirectoryBitsOf(entry.tag);
      if (bits >= begin && bits < prefix_) continue;
      entries++;
      if (met != met_.end() && met->second.test(line * kEntriesPerLine + i)) continue;
      bool moved = false;
      FAULTLESS_TRY(ExamineEntry(entry, copy.segment, &moved));
      if (moved && ++repeated_ < kSegmentAttempts) return Code::kOk;  // a split or merge: the same prefix again
    }
  }
  const uint32_t wrong = WrongOverflow(copy);
  if (wrong < kLinesPerSegment && findings_->count() == found_before) {
    findings_->Damaged(copy.segment + wrong * sizeof(format::IndexLine),
                       "an overflow count is not what its entries say");
  }
  entries_ += entries;
  if (!segments_.insert(copy.segment).second && shard_.commits.load(std::memory_order_acquire) == commits_before_) {
    findings_->Damaged(copy.route.word, "two stretches of a directory share a segment");
  }
  skip(copy.local_depth);
  return Code::kOk;
}

Status ShardVerification::ExamineEntry(const Entry& entry, uint64_t segment, bool* moved) {
  const uint64_t position = format::PositionOf(entry.place);
  uint64_t bad = 0;
  const char* reason = nullptr;
  const Status status = AtOneMoment(context_, shard_index_, [&](const Memory& memory) -> Status {
    bad = 0;
    *moved = false;
    SegmentRoute route;
    uint64_t now;
    uint32_t local_depth;
    if (!RouteOf(context_, memory.Load(context_.OffsetOf(&shard_.directory)), static_cast<uint32_t>(prefix_ << 8),
                 &route) ||
        !SegmentOf(context_, memory.Load(route.word), route.depth, &now, &local_depth) || now != segment) {
      *moved = true;
      return Code::kOk;
    }
    const uint64_t tags = memory.Load(entry.tag_offset());
    if (memory.Load(entry.place_offset()) != entry.place ||
        static_cast<uint32_t>(tags >> ((entry.entry + 1) % 2 * 32)) != entry.tag) {
      return Code::kOk;  // written since
    }
    const auto damaged = [&](uint64_t place, const char* why) {
      bad = place;
      reason = why;
      return Status();
    };
    const uint64_t tail_sequence = memory.Load(context_.OffsetOf(&shard_.tail_sequence));
    const uint64_t head_sequence = memory.Load(context_.OffsetOf(&shard_.head_sequence));
    uint64_t unit;
    EntryView extent;
    const bool queued = ExtentOf(context_, position, &unit, &extent) && extent.shard == shard_index_ &&
                        extent.sequence >= tail_sequence && extent.sequence <= head_sequence;
    if (!queued) {
      // Where the chain of extents is broken, it is the extent that is damaged.
      if (broken_) return Code::kOk;
      return damaged(entry.place_offset(), "an index entry points outside its queue");
    }
    RecordView record;
    uint64_t bytes;
    const uint64_t end = unit * format::kUnitBytes + RunBytes(extent.size_class);
    const Status read = ReadRecordAt(context_, position, &record, &bytes);
    const bool whole = read.ok() && end - position >= bytes;
    const std::span<const uint8_t> raw{RecordScratch(Scratch::kRead, 8), whole ? bytes : 0};
    if (!whole || !format::VerifyChecksum(raw) ||
        !format::VerifySeal(raw, position, extent.incarnation, context_.superblock.hash_seed)) {
      // Was it the record, the walk has found it; else the entry points at something that is none.
      if (findings_->IsDamaged(position)) return damaged(position, "a record is damaged");
      return damaged(entry.place_offset(), "an index entry points at no record");
    }
    const uint64_t hash = HashBytes(record.key.data(), record.key.size(), context_.superblock.hash_seed);
    const Order clear{memory.Load(context_.OffsetOf(&shard_.clear_sequence)),
                      memory.Load(context_.OffsetOf(&shard_.clear_position))};
    if (record.kind != RecordKind::kSet) return damaged(entry.place_offset(), "an index entry points at no value");
    if (Order{extent.sequence, position} < clear) {
      return damaged(entry.place_offset(), "an index entry points at what a clear has removed");
    }
    if (format::FingerprintOf(hash) != format::FingerprintOfPlace(entry.place)) {
      return damaged(entry.place_offset(), "an index entry points at another key's record");
    }
    if (format::TagOf(hash) != entry.tag) {
      return damaged(entry.tag_offset(), "a hash tag is not that of its record");
    }
    const uint64_t shift = kDirectoryBits - local_depth;
    if (format::DirectoryBitsOf(entry.tag) >> shift != prefix_ >> shift) {
      return damaged(entry.place_offset(), "an index entry is in another key's segment");
    }
    return Code::kOk;
  });
  if (status.code() == Code::kIo) return Code::kOk;  // the page that is missing is found elsewhere
  FAULTLESS_TRY(status);
  if (bad == 0) return Code::kOk;
  findings_->Damaged(bad, reason);
  bad_tags_.insert(entry.tag);
  bad_positions_.insert(position);
  return Code::kOk;
}

Status ShardVerification::CheckFreePieces() {
  uint64_t bad = 0;
  const char* reason = nullptr;
  const Status status = AtOneMoment(context_, shard_index_, [&](const Memory& memory) -> Status {
    bad = 0;
    const auto load = [&](const format::Word& word) { return memory.Load(context_.OffsetOf(&word)); };
    const auto damaged = [&](uint64_t place, const char* why) {
      bad = place;
      reason = why;
      return Status();
    };
    // What the pieces are used for is known where nothing moved, and all of the index was sound.
    const bool quiet = shard_.commits.load(std::memory_order_acquire) == commits_before_ && !incomplete_ &&
                       findings_->count() == found_before_;
    const uint64_t directory = load(shard_.directory);
    const bool small = directory != 0 && (directory & 0xFF) <= format::kPieceDirectoryDepth;
    std::unordered_set<uint64_t> used(segments_);
    if (small) used.insert((directory >> 8) * kPieceBytes);
    for (const format::Word& spare : shard_.spare_pieces) {
      if (load(spare) != 0) used.insert(load(spare));
    }
    uint64_t units = 0;
    uint64_t free_pieces = 0;
    for (uint32_t i = 0; i < format::kPiecesPerUnit; i++) {
      uint64_t previous = 0;
      uint64_t link = context_.OffsetOf(&shard_.free_units[i]);
      for (uint64_t unit = memory.Load(link); unit != 0; unit = memory.Load(link) & kHalfWord) {
        if (units++ == kUnitsPerLook) return Code::kOk;
        if (!IsPieceOf(context_, shard_index_, unit * format::kUnitBytes)) {
          return damaged(PlaceOfBadLink(context_, link, unit), "a list of free index pieces leads to none");
        }
        const format::TableEntry& entry = context_.entry(unit);
        const uint64_t free = load(entry.free_pieces());
        if (free > format::kAllPieces || static_cast<uint32_t>(std::popcount(free)) != i + 1) {
          // A list leads to a unit that says otherwise: which of them is wrong, its back link tells.
          const bool belongs = load(entry.free_links) >> 32 == previous;
          return damaged(belongs ? context_.OffsetOf(&entry.free_pieces()) : link, "free index pieces are damaged");
        }
        if (load(entry.free_links) >> 32 != previous) {
          return damaged(context_.OffsetOf(&entry.free_links), "two links of free index pieces differ");
        }
        for (uint32_t piece = 0; piece < format::kPiecesPerUnit; piece++) {
          const uint64_t position = unit * format::kUnitBytes + piece * kPieceBytes;
          if ((free >> piece & 1) != 0 && quiet && used.contains(position)) {
            return damaged(context_.OffsetOf(&entry.free_pieces()), "a free index piece is in use");
          }
        }
        free_pieces += i + 1;
        previous = unit;
        link = context_.OffsetOf(&entry.free_links);
      }
    }
    if (!quiet) return Code::kOk;
    units = 0;
    for (uint64_t unit = load(shard_.index_units); unit != 0; unit = load(context_.entry(unit).next)) {
      if (!IsPieceOf(context_, shard_index_, unit * format::kUnitBytes)) return Code::kOk;  // found with the tables
      if (units++ == kUnitsPerLook) return Code::kOk;
    }
    if (units * format::kPiecesPerUnit != used.size() + free_pieces) {
      return damaged(context_.OffsetOf(&shard_.index_units), "a piece of the index is neither in use nor free");
    }
    return Code::kOk;
  });
  if (status.code() == Code::kWouldBlock) return status;
  if (status.ok() && bad != 0) findings_->Damaged(bad, reason);
  phase_ = Phase::kEnd;
  return Code::kOk;
}

/** Bytes of all extents, and their waste, as of one moment. */
Status ShardVerification::CheckChain() {
  uint64_t bad = 0;
  const char* reason = nullptr;
  const Status status = AtOneMoment(context_, shard_index_, [&](const Memory& memory) -> Status {
    bad = 0;
    const uint64_t head_unit = memory.Load(context_.OffsetOf(&shard_.head_unit));
    uint64_t unit = memory.Load(context_.OffsetOf(&shard_.tail_unit));
    uint64_t sequence = memory.Load(context_.OffsetOf(&shard_.tail_sequence));
    uint64_t bytes = 0;
    uint64_t wasted = 0;
    for (uint64_t i = 0; unit != 0; i++) {
      EntryView view;
      if (i == kExtentsPerLook || !ReadRun(context_, unit, RunKind::kQueue, &view) || view.sequence != sequence)
        return Code::kOk;  // too long for one look, or found by the walk
      bytes += RunBytes(view.size_class);
      if (unit == head_unit) break;
      wasted += memory.Load(context_.OffsetOf(&context_.entry(unit).wasted_bytes));
      unit = memory.Load(context_.OffsetOf(&context_.entry(unit).next));
      sequence++;
    }
    if (bytes != memory.Load(context_.OffsetOf(&shard_.queue_bytes))) {
      bad = context_.OffsetOf(&shard_.queue_bytes);
      reason = "queue_bytes is not what the extents add up to";
    } else if (wasted != memory.Load(context_.OffsetOf(&shard_.wasted_bytes))) {
      bad = context_.OffsetOf(&shard_.wasted_bytes);
      reason = "wasted_bytes is not what the extents add up to";
    }
    return Code::kOk;
  });
  if (status.code() == Code::kWouldBlock) return status;
  if (status.ok() && bad != 0) findings_->Damaged(bad, reason);
  return Code::kOk;
}

/** For a small index that is written all the time: false where it would take too long. */
bool ShardVerification::CountUnderLock(uint64_t* keys, uint64_t* live_bytes, uint64_t* value_bytes,
                                       Words* words) const {
  *keys = *live_bytes = *value_bytes = 0;
  const ShardLock lock(context_, shard_index_);
  if (!lock.status().ok() || !ReadWords(words).ok() || words->directory == 0) return false;
  const uint64_t begin = os::MonotonicNs();
  for (uint64_t prefix = 0; prefix >> kDirectoryBits == 0;) {
    SegmentRoute route;
    uint64_t segment;
    uint32_t local_depth;
    if (!RouteOf(context_, words->directory, static_cast<uint32_t>(prefix << 8), &route) ||
        !SegmentOf(context_, context_.WordAt(route.word).load(std::memory_order_relaxed), route.depth, &segment,
                   &local_depth)) {
      return false;
    }
    for (uint32_t i = 0; i < kLinesPerSegment; i++) {
      for (uint32_t entry = 0; entry < kEntriesPerLine; entry++) {
        const uint64_t line = segment + i * sizeof(format::IndexLine);
        const uint64_t place = context_.WordAt(line + (3 + entry) * 8).load(std::memory_order_relaxed);
        if (place == 0) continue;
        const uint64_t position = format::PositionOf(place);
        if (!context_.Contains(position, sizeof(format::RecordHeader) + sizeof(format::LargeHeader))) return false;
        const uint64_t first = context_.WordAt(position).load(std::memory_order_relaxed);
        const uint8_t flags = format::RecordFlags(first);
        if (flags & format::kRecordLarge) {
          const uint64_t before = ((flags & format::kRecordExpires) ? 8 : 0) + ((flags & format::kRecordUid) ? 8 : 0);
          *value_bytes +=
              context_.WordAt(position + sizeof(format::RecordHeader) + before).load(std::memory_order_relaxed);
        }
        ++*keys;
        *live_bytes += format::RecordLength(first);
      }
      if (i % 16 == 0 && os::MonotonicNs() - begin > kLockedCountNs) return false;
    }
    const uint64_t span = uint64_t{1} << (kDirectoryBits - local_depth);
    prefix = (prefix & ~(span - 1)) + span;
  }
  return !context_.storage->HasSubstitutes();
}

Status ShardVerification::End() {
  Words words;
  FAULTLESS_TRY(ReadWords(&words));
  const Order tail{words.tail_sequence, words.tail};
  const Order clear{words.clear_sequence, words.clear_position};
  for (const auto& [hash, order] : missing_) {
    // What was cleaned or cleared meanwhile, or may have had its tombstone where nothing could be read.
    if (order < tail || order < clear || order < last_damage_ || broken_ || incomplete_) continue;
    // Cleaning evicts before the tail only, a recovery that found no room for the index anywhere.
    if (context_.evicts() && order.sequence <= shard_.evicted_sequence.load(std::memory_order_acquire)) continue;
    if (bad_tags_.contains(format::TagOf(hash)) || bad_positions_.contains(order.position)) continue;
    findings_->Damaged(order.position, "the newest record of a key is not in the index");
  }
  if (words.head != 0 && findings_->count() == found_before_) FAULTLESS_TRY(CheckChain());
  // Each commit changes one key at most; so many commits fell into the time of counting.
  if (findings_->count() == found_before_ && !broken_ && !incomplete_ && clear <= clear_before_ &&
      !context_.storage->HasSubstitutes()) {
    uint64_t keys = entries_;
    uint64_t live_bytes = live_bytes_;
    uint64_t value_bytes = value_bytes_;
    uint64_t commits = (words.commits - commits_before_ + 1) / 2;
    Words then;
    uint64_t counts[3];
    if (commits != 0 && !context_.read_only && CountUnderLock(&counts[0], &counts[1], &counts[2], &then)) {
      words = then;
      keys = counts[0];
      live_bytes = counts[1];
      value_bytes = counts[2];
      commits = 0;
    }
    const auto check = [&](uint64_t counted, uint64_t told, uint64_t each, const format::Word& word,
                           const char* reason) {
      if (Distance(counted, told) > commits * each) findings_->Damaged(context_.OffsetOf(&word), reason);
    };
    check(keys, words.keys, 1, shard_.keys, "keys is not how many entries the index has");
    check(live_bytes, words.live_bytes, 2 * format::kMaxRecordBytes, shard_.live_bytes,
          "live_bytes is not what the live records add up to");
    check(value_bytes, words.value_bytes, uint64_t{1} << 33, shard_.value_bytes,
          "value_bytes is not what the live values add up to");
  }
  phase_ = Phase::kDone;
  return Code::kOk;
}

}  // namespace faultless::store
