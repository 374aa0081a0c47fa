// Purpose: checks a closed store's file against docs/format.md from outside: every unit has exactly one owner, every
// counter says what can be counted, every entry of the index belongs where it stands. Thread safety: private memory
// only.
#pragma once

#include <bit>
#include <map>
#include <set>
#include <sstream>

#include "base/hash.h"
#include "format/record.h"
#include "format/superblock.h"
#include "store_children.h"

namespace store_test {

class Ledger {
 public:
  /** The file's bytes, aligned as a mapping is. */
  Ledger(const std::byte* base, uint64_t bytes) : base_(base), bytes_(bytes) {}
  explicit Ledger(const Image& image) : Ledger(reinterpret_cast<const std::byte*>(image.data()), image.size() * 8) {}

  /** What is wrong, a line each; empty: nothing is. */
  std::string Check() {
    const auto* const blocks = reinterpret_cast<const Superblock*>(base_);
    if (!ChooseSuperblock(blocks[0], blocks[1], &block_).ok()) return "no superblock";
    if (block_.state != static_cast<uint32_t>(FileState::kClean)) Say() << "not closed\n";
    head_units_ = HeadUnits(block_.shard_count);
    published_ = allocator().published_units.load();
    if (published_ * kUnitBytes > bytes_) return "shorter than published";
    CheckIntent(allocator().intent, allocator().lock, "the allocator");
    CheckFree();
    CheckLimbo();
    CheckPending();
    for (uint32_t i = 0; i < block_.shard_count; i++) CheckShard(i);
    if (allocator().use_unit.load() != 0) Own(allocator().use_unit.load(), RunKind::kUse, "the marks of use");
    for (const uint64_t unit : dead_value_units_) {
      if (!owners_.contains(unit)) Own(unit, RunKind::kValue, "a dead record");
    }
    CheckEveryUnit();
    return said_.str();
  }

  /** Recoveries that the store has gone through. */
  uint64_t recoveries() const { return At<ControlHeader>(kControlOffset).recoveries.load(); }

 private:
  using AllocatorControl = faultless::format::AllocatorControl;
  using ControlHeader = faultless::format::ControlHeader;
  using EntryView = faultless::format::EntryView;
  using FileState = faultless::format::FileState;
  using HalfWord = faultless::format::HalfWord;
  using IndexLine = faultless::format::IndexLine;
  using Intent = faultless::format::Intent;
  using OpenerPending = faultless::format::OpenerPending;
  using RecordKind = faultless::format::RecordKind;
  using RecordView = faultless::format::RecordView;
  using RunKind = faultless::format::RunKind;
  using ShardControl = faultless::format::ShardControl;
  using Superblock = faultless::format::Superblock;
  using TableEntry = faultless::format::TableEntry;
  using Word = faultless::format::Word;
  static constexpr uint64_t kControlOffset = faultless::format::kControlOffset;
  static constexpr uint64_t kPieceBytes = faultless::format::kPieceBytes;
  static constexpr uint64_t kUnitBytes = faultless::format::kUnitBytes;
  static constexpr uint64_t kUnitsPerGroup = faultless::format::kUnitsPerGroup;

  static uint64_t HeadUnits(uint32_t shards) { return faultless::format::HeadUnits(shards); }

  template <typename T>
  const T& At(uint64_t offset) const {
    return *reinterpret_cast<const T*>(base_ + offset);
  }
  const AllocatorControl& allocator() const { return At<AllocatorControl>(faultless::format::kAllocatorOffset); }
  std::ostringstream& Say() { return said_; }

  const TableEntry& Entry(uint64_t unit) const {
    const uint64_t group = unit / kUnitsPerGroup;
    const uint64_t table = group == 0 ? head_units_ : group * kUnitsPerGroup;
    return At<TableEntry>(table * kUnitBytes + unit % kUnitsPerGroup * sizeof(TableEntry));
  }
  bool IsTable(uint64_t unit) const { return unit % kUnitsPerGroup == 0 || unit == head_units_; }

  uint64_t CountHoles(uint64_t begin, uint64_t units) const {
    uint64_t count = 0;
    for (uint64_t unit = begin; unit < begin + units; unit++)
      count += Entry(unit & ~uint64_t{63}).holes.load() >> unit % 64 & 1;
    return count;
  }

  /** Notes the owner of a run; false where it is no such run, or owned already. */
  bool Own(uint64_t unit, RunKind kind, const std::string& owner, EntryView* view = nullptr) {
    EntryView own;
    if (view == nullptr) view = &own;
    if (unit <= head_units_ || unit >= published_ || IsTable(unit) || !ReadEntry(Entry(unit), unit, view) ||
        view->kind != kind || unit + (uint64_t{1} << view->size_class) > published_) {
      Say() << owner << " names unit " << unit << ", which is no such run\n";
      return false;
    }
    const auto [at, fresh] = owners_.emplace(unit, owner);
    if (!fresh) Say() << "unit " << unit << " belongs to " << at->second << " and to " << owner << "\n";
    return fresh;
  }

  void CheckIntent(const Intent& intent, const HalfWord& lock, const std::string& whose) {
    if (intent.count.load() != 0) Say() << whose << " has a decided intent\n";
    if (lock.load() != 0) Say() << whose << " is locked\n";
  }

  void CheckFree() {
    uint64_t units = 0;
    uint64_t hollow_units = 0;
    for (uint32_t list = 0; list < 2 * faultless::format::kClasses; list++) {
      uint64_t previous = 0;
      const uint32_t size_class = list / 2;
      const bool hollow = list % 2 == 1;
      const Word& head = hollow ? allocator().hollow_heads[size_class] : allocator().free_heads[size_class];
      for (uint64_t unit = head.load(); unit != 0;) {
        EntryView view;
        if (!Own(unit, RunKind::kFree, "a free list", &view)) break;
        if (view.size_class != size_class) Say() << "free unit " << unit << " is on another class's list\n";
        if (Entry(unit).previous.load() != previous) Say() << "free unit " << unit << ": wrong previous\n";
        const uint64_t holes = CountHoles(unit, uint64_t{1} << size_class);
        if ((holes == uint64_t{1} << size_class) != hollow) Say() << "free unit " << unit << " is on the wrong list\n";
        hollow_units += holes;
        units += uint64_t{1} << size_class;
        previous = unit;
        unit = view.next;
      }
    }
    if (hollow_units != allocator().hollow_units.load()) {
      Say() << hollow_units << " units are holes, hollow_units says " << allocator().hollow_units.load() << "\n";
    }
    if (units != allocator().free_units.load()) {
      Say() << units << " units are free, free_units says " << allocator().free_units.load() << "\n";
    }
  }

  void CheckLimbo() {
    uint64_t units = 0;
    for (const Word* head : {&allocator().limbo_open, &allocator().limbo_closing}) {
      for (uint64_t unit = head->load(); unit != 0;) {
        EntryView view;
        const bool value =
            unit < published_ && faultless::format::KindOf(Entry(unit).identity.load()) == RunKind::kValue;
        if (!Own(unit, value ? RunKind::kValue : RunKind::kQueue, "limbo", &view)) break;
        if (Entry(unit).previous.load() != unit) Say() << "limbo unit " << unit << " does not say so\n";
        units += uint64_t{1} << view.size_class;
        unit = view.next;
      }
    }
    if (units != allocator().limbo_units.load()) {
      Say() << units << " units in limbo, limbo_units says " << allocator().limbo_units.load() << "\n";
    }
  }

  void CheckPending() {
    for (uint32_t slot = 0; slot < faultless::format::kOpenerSlots; slot++) {
      const auto& pending = At<OpenerPending>(faultless::format::kPendingOffset + slot * sizeof(OpenerPending));
      for (const Word& chain : pending.chains) {
        if (chain.load() != 0) Say() << "opener " << slot << " has value runs pending\n";
      }
    }
  }

  void CheckShard(uint32_t index) {
    const auto& shard = At<ShardControl>(faultless::format::kShardsOffset + index * sizeof(ShardControl));
    const std::string name = "shard " + std::to_string(index);
    CheckIntent(shard.intent, shard.lock, name);
    if (shard.structure_version.load() % 2 != 0) Say() << name << ": odd structure version\n";
    if (shard.commits.load() % 2 != 0) Say() << name << ": odd commits\n";
    for (uint32_t i = 0; i < block_.slots_per_shard; i++) {
      const uint64_t slot = uint64_t{index} * block_.slots_per_shard + i;
      const auto& version = At<HalfWord>(faultless::format::VersionsOffset(block_.shard_count) + slot * 4);
      if (version.load() % 2 != 0) Say() << name << ": odd version of slot " << i << "\n";
    }
    for (const Word* anchor : {&shard.next_head_unit, &shard.retired_unit}) {
      if (anchor->load() != 0) Own(anchor->load(), RunKind::kQueue, name + "'s anchor");
    }
    if (shard.spare_directory_unit.load() != 0) {
      Own(shard.spare_directory_unit.load(), RunKind::kDirectory, name + "'s spare directory");
    }
    std::set<uint64_t> units;
    OwnChain(shard.index_units, name + "'s index", &units);
    uint64_t before = 0;
    for (uint64_t unit = shard.index_units.load(); units.contains(unit); unit = Entry(unit).next.load()) {
      if (Entry(unit).previous.load() != before) Say() << name << ": index unit " << unit << " has a wrong previous\n";
      before = unit;
    }
    if (shard.spare_index_unit.load() != 0) {
      Own(shard.spare_index_unit.load(), RunKind::kIndex, name + "'s spare index unit");
    }
    std::set<uint64_t> dropped;
    OwnChain(shard.dropped_index_units, name + "'s dropped index", &dropped);
    std::map<uint64_t, bool> records;  // position → whether the index refers to it
    CheckQueue(shard, name, &records);
    std::set<uint64_t> pieces;
    CheckIndex(index, shard, name, &pieces, &records);
    CheckPieces(shard, name, units, &pieces);
    for (const auto& [position, live] : records) NoteValueRuns(position, live, name);
  }

  void OwnChain(const Word& head, const std::string& owner, std::set<uint64_t>* units) {
    for (uint64_t unit = head.load(); unit != 0;) {
      EntryView view;
      if (!Own(unit, RunKind::kIndex, owner, &view)) break;
      units->insert(unit);
      unit = view.next;
    }
  }

  /** A valid record at `position` that ends at `end` at most; 0: none. */
  uint64_t ReadRecord(uint64_t position, uint64_t end, uint64_t incarnation, RecordView* record) const {
    if (end - position < sizeof(faultless::format::RecordHeader)) return 0;
    const uint64_t length = faultless::format::RecordLength(At<uint64_t>(position));
    if (length == 0 || length > end - position) return 0;
    const std::span<const uint8_t> bytes{reinterpret_cast<const uint8_t*>(base_ + position), length};
    if (!DecodeRecord(bytes, record) || !faultless::format::VerifyChecksum(bytes)) return 0;
    return faultless::format::VerifySeal(bytes, position, incarnation, block_.hash_seed) ? length : 0;
  }

  void CheckQueue(const ShardControl& shard, const std::string& name, std::map<uint64_t, bool>* records) {
    if (shard.head_unit.load() == 0) return;
    uint64_t queue_bytes = 0;
    uint64_t wasted_bytes = 0;
    uint64_t sequence = shard.tail_sequence.load();
    for (uint64_t unit = shard.tail_unit.load();; sequence++) {
      EntryView extent;
      if (!Own(unit, RunKind::kQueue, name + "'s queue", &extent)) return;
      if (extent.sequence != sequence) Say() << name << ": extent " << unit << " has another sequence\n";
      const uint64_t begin = unit * kUnitBytes;
      const uint64_t size = kUnitBytes << extent.size_class;
      const bool head = unit == shard.head_unit.load();
      const uint64_t end = head ? shard.head.load() : begin + size;
      queue_bytes += size;
      if (!head) wasted_bytes += Entry(unit).wasted_bytes.load();
      uint64_t position = unit == shard.tail_unit.load() ? shard.tail.load() : begin;
      while (end - position >= sizeof(faultless::format::RecordHeader)) {
        RecordView record;
        const uint64_t length = ReadRecord(position, end, extent.incarnation, &record);
        if (length == 0) {
          Say() << name << ": no record at " << position << "\n";
          break;
        }
        if (record.kind == RecordKind::kEnd) break;
        if (record.kind == RecordKind::kSet) records->emplace(position, false);
        position += length;
      }
      if (head) {
        if (sequence != shard.head_sequence.load()) Say() << name << ": another head sequence\n";
        if (shard.head_end.load() != begin + size) Say() << name << ": another head end\n";
        break;
      }
      unit = extent.next;
    }
    Compare(name, "queue_bytes", queue_bytes, shard.queue_bytes);
    Compare(name, "wasted_bytes", wasted_bytes, shard.wasted_bytes);
  }

  void Compare(const std::string& name, const char* what, uint64_t counted, const Word& word) {
    if (counted != word.load()) Say() << name << ": " << what << " is " << counted << ", not " << word.load() << "\n";
  }

  void CheckIndex(uint32_t index, const ShardControl& shard, const std::string& name, std::set<uint64_t>* pieces,
                  std::map<uint64_t, bool>* records) {
    const uint64_t word = shard.directory.load();
    Totals totals;
    if (word != 0) {
      const uint32_t depth = word & 0xFF;
      const uint64_t directory = (word >> 8) * kPieceBytes;
      if (depth <= faultless::format::kPieceDirectoryDepth) {
        pieces->insert(directory);
      } else {
        Own(directory / kUnitBytes, RunKind::kDirectory, name + "'s directory");
      }
      const uint64_t words = uint64_t{1} << depth;
      for (uint64_t i = 0; i < words;) {
        const uint64_t entry = At<uint64_t>(directory + i * 8);
        const uint32_t local_depth = entry & 0xFF;
        const uint64_t span = words >> local_depth;
        if (local_depth > depth || i % span != 0) {
          Say() << name << ": a directory word is damaged\n";
          return;
        }
        for (uint64_t j = i; j < i + span; j++) {
          if (At<uint64_t>(directory + j * 8) != entry) Say() << name << ": directory words differ within a range\n";
        }
        const uint64_t segment = (entry >> 8) * kPieceBytes;
        if (!pieces->insert(segment).second) Say() << name << ": a piece is used twice\n";
        CheckSegment(index, name, segment, i / span, local_depth, records, &totals);
        i += span;
      }
    }
    Compare(name, "keys", totals.keys, shard.keys);
    Compare(name, "live_bytes", totals.live_bytes, shard.live_bytes);
    Compare(name, "value_bytes", totals.value_bytes, shard.value_bytes);
    Compare(name, "entry_places", totals.segments * faultless::format::kEntriesPerSegment, shard.entry_places);
  }

  struct Totals {
    uint64_t keys = 0;
    uint64_t live_bytes = 0;
    uint64_t value_bytes = 0;
    uint64_t segments = 0;
  };

  void CheckSegment(uint32_t index, const std::string& name, uint64_t segment, uint64_t prefix, uint32_t local_depth,
                    std::map<uint64_t, bool>* records, Totals* totals) {
    totals->segments++;
    std::vector<uint32_t> passed(faultless::format::kLinesPerSegment);
    for (uint32_t i = 0; i < faultless::format::kLinesPerSegment; i++) {
      const auto& line = At<IndexLine>(segment + i * sizeof(IndexLine));
      for (uint32_t entry = 0; entry < faultless::format::kEntriesPerLine; entry++) {
        const uint64_t place = line.words[3 + entry].load();
        if (place == 0) continue;
        const uint32_t half = entry + 1;
        const auto tag = static_cast<uint32_t>(line.words[half / 2].load() >> (half % 2 * 32));
        const uint64_t position = faultless::format::PositionOf(place);
        const auto found = records->find(position);
        if (found == records->end() || found->second) {
          Say() << name << ": an entry refers to " << position
                << ", which is no record of the queue, or refers twice\n";
          continue;
        }
        found->second = true;
        const uint64_t length = faultless::format::RecordLength(At<uint64_t>(position));
        RecordView record;
        DecodeRecord({reinterpret_cast<const uint8_t*>(base_ + position), length}, &record);
        const uint64_t hash = faultless::HashBytes(record.key.data(), record.key.size(), block_.hash_seed);
        const uint64_t bits = faultless::format::DirectoryBitsOf(tag);
        if (faultless::format::TagOf(hash) != tag ||
            faultless::format::FingerprintOf(hash) != faultless::format::FingerprintOfPlace(place) ||
            ((hash >> 32) * block_.shard_count >> 32) != index ||
            bits >> (faultless::format::kDirectoryBits - local_depth) != prefix) {
          Say() << name << ": an entry stands for another key than its record's\n";
        }
        totals->keys++;
        totals->live_bytes += length;
        totals->value_bytes += record.large.run_bytes;
        for (uint32_t line_index = faultless::format::LineOf(tag); line_index != i;) {
          passed[line_index]++;
          line_index = (line_index + 1) % faultless::format::kLinesPerSegment;
        }
      }
    }
    for (uint32_t i = 0; i < passed.size(); i++) {
      const auto& line = At<IndexLine>(segment + i * sizeof(IndexLine));
      if (static_cast<uint32_t>(line.words[0].load()) != passed[i]) Say() << name << ": wrong overflow count\n";
    }
  }

  void CheckPieces(const ShardControl& shard, const std::string& name, const std::set<uint64_t>& units,
                   std::set<uint64_t>* pieces) {
    const auto add = [&](uint64_t piece) {
      const bool fresh = pieces->insert(piece).second;
      if (!fresh) Say() << name << ": a piece is used twice\n";
      return fresh;
    };
    for (const Word& spare : shard.spare_pieces) {
      if (spare.load() != 0) add(spare.load());
    }
    std::set<uint64_t> listed;
    for (uint32_t i = 0; i < faultless::format::kPiecesPerUnit; i++) {
      uint64_t previous = 0;
      for (uint64_t unit = shard.free_units[i].load(); unit != 0; unit = Entry(unit).free_links.load() & 0xFFFF'FFFF) {
        if (!units.contains(unit) || !listed.insert(unit).second) {
          Say() << name << ": unit " << unit
                << " is on a list of free pieces, and no unit of the index or listed twice\n";
          break;
        }
        const uint64_t free = Entry(unit).free_pieces().load();
        if (static_cast<uint32_t>(std::popcount(free)) != i + 1)
          Say() << name << ": unit " << unit << " is on a wrong list\n";
        if (Entry(unit).free_links.load() >> 32 != previous)
          Say() << name << ": unit " << unit << ": wrong free_links\n";
        previous = unit;
      }
    }
    for (const uint64_t unit : units) {
      const uint64_t free = Entry(unit).free_pieces().load();
      if ((free != 0) != listed.contains(unit))
        Say() << name << ": unit " << unit << " has free pieces and no list, or none\n";
      for (uint32_t i = 0; i < faultless::format::kPiecesPerUnit; i++) {
        if ((free >> i & 1) != 0) add(unit * kUnitBytes + i * kPieceBytes);
      }
    }
    for (const uint64_t piece : *pieces) {
      if (!units.contains(piece / kUnitBytes)) Say() << name << ": piece " << piece << " is in no unit of the index\n";
    }
    if (pieces->size() != units.size() * faultless::format::kPiecesPerUnit) {
      Say() << name << ": " << units.size() << " index units, but " << pieces->size() << " pieces\n";
    }
  }

  void NoteValueRuns(uint64_t position, bool live, const std::string& name) {
    const uint64_t length = faultless::format::RecordLength(At<uint64_t>(position));
    RecordView record;
    DecodeRecord({reinterpret_cast<const uint8_t*>(base_ + position), length}, &record);
    for (const auto& run : record.runs) {
      EntryView view;
      const bool there = run.unit < published_ && ReadEntry(Entry(run.unit), run.unit, &view) &&
                         view.kind == RunKind::kValue && view.incarnation == run.incarnation;
      if (live) {
        if (!there) Say() << name << ": a live value's run " << run.unit << " is another one\n";
        if (there) Own(run.unit, RunKind::kValue, name + "'s value");
      } else if (there) {
        dead_value_units_.insert(run.unit);
      }
    }
  }

  void CheckEveryUnit() {
    const uint64_t growing = allocator().growing_from.load();
    const uint64_t end = growing == 0 ? published_ : growing;
    for (uint64_t unit = head_units_ + 1; unit < end;) {
      if (IsTable(unit)) {
        unit++;
        continue;
      }
      EntryView view;
      if (!owners_.contains(unit) || !ReadEntry(Entry(unit), unit, &view)) {
        Say() << "unit " << unit << " (kind " << (Entry(unit).identity.load() & 0xFF) << ") belongs to nobody\n";
        unit++;
        continue;
      }
      if (view.kind != RunKind::kFree && CountHoles(unit, uint64_t{1} << view.size_class) != 0) {
        Say() << "unit " << unit << " is used and marked as a hole\n";
      }
      for (uint64_t i = 1; i < uint64_t{1} << view.size_class; i++) {
        if (owners_.contains(unit + i)) Say() << "unit " << unit + i << " is owned, but part of run " << unit << "\n";
      }
      unit += uint64_t{1} << view.size_class;
    }
  }

  const std::byte* const base_;
  const uint64_t bytes_;
  Superblock block_{};
  uint64_t head_units_ = 0;
  uint64_t published_ = 0;
  std::map<uint64_t, std::string> owners_;
  std::set<uint64_t> dead_value_units_;  // that records still in the queue name: cleaning finds them
  std::ostringstream said_;
};

}  // namespace store_test
