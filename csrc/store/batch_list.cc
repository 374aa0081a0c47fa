#include "store/batch_list.h"

#include <algorithm>

#include "store/allocator.h"
#include "store/lock.h"
#include "store/record_queue.h"
#include "store/transaction.h"

namespace faultless::store {
namespace {

using format::ShardControl;
using format::Word;

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr auto kAcquire = std::memory_order_acquire;
constexpr auto kRelease = std::memory_order_release;
constexpr uint64_t kHeadWords = sizeof(format::BatchList) / sizeof(Word);
constexpr uint64_t kSectionWords = sizeof(format::BatchSection) / sizeof(Word);

/** Where the parts of one shard are in a list, in words from its begin. */
struct Section {
  uint32_t shard = 0;
  uint64_t slots_at = 0;
  uint64_t slots = 0;
  uint64_t ops_at = 0;
  uint64_t ops = 0;
};

/** A list that lies in the file: nothing of it is believed before it has been checked against the run's length. */
class ListView {
 public:
  ListView(const Context& context, uint64_t unit) : context_(context), unit_(unit) {}

  /** False where it cannot be a list. */
  bool Read() {
    format::EntryView run;
    if (!ReadRun(context_, unit_, format::RunKind::kValue, &run)) return false;
    words_ = &context_.WordAt(unit_ * format::kUnitBytes);
    const uint64_t words = RunBytes(run.size_class) / sizeof(Word);
    const uint64_t sections = Load(1);
    const uint64_t slots = Load(2);
    const uint64_t ops = Load(3);
    if (sections == 0 || sections > context_.shards() || slots > words || ops > words) return false;
    const uint64_t slots_at = kHeadWords + sections * kSectionWords;
    const uint64_t ops_at = slots_at + slots;
    if (ops_at > words || ops > (words - ops_at) / 2) return false;
    Section section;
    section.slots_at = slots_at;
    section.ops_at = ops_at;
    for (uint64_t i = 0; i < sections; i++) {
      const uint64_t at = kHeadWords + i * kSectionWords;
      const uint64_t shard = Load(at);
      section.slots = Load(at + 1);
      section.ops = Load(at + 2);
      const bool ascending = i == 0 || shard > section.shard;
      if (shard >= context_.shards() || !ascending || section.slots > slots_at + slots - section.slots_at ||
          section.ops == 0 || section.ops > (ops_at + 2 * ops - section.ops_at) / 2) {
        return false;
      }
      section.shard = static_cast<uint32_t>(shard);
      sections_.push_back(section);
      section.slots_at += section.slots;
      section.ops_at += 2 * section.ops;
    }
    return true;
  }

  const std::vector<Section>& sections() const { return sections_; }
  uint64_t Slot(const Section& section, uint64_t i) const { return Load(section.slots_at + i); }
  BatchOp Op(const Section& section, uint64_t i) const {
    return {Load(section.ops_at + 2 * i), Load(section.ops_at + 2 * i + 1)};
  }

 private:
  uint64_t Load(uint64_t word) const { return words_[word].load(kAcquire); }

  const Context& context_;
  const uint64_t unit_;
  Word* words_ = nullptr;
  std::vector<Section> sections_;
};

/** The list, checked: so much as an intent's words are, each is one that a batch may change. */
Status ReadParts(const Context& context, uint64_t unit, std::vector<BatchPart>* parts) {
  const Status damaged =
      Status::Corrupt("the list of a batch is damaged", context.OffsetOf(&context.header().decided_batch));
  ListView list(context, unit);
  if (!list.Read()) return damaged;
  for (const Section& section : list.sections()) {
    BatchPart& part = parts->emplace_back();
    part.shard = section.shard;
    for (uint64_t i = 0; i < section.slots; i++) {
      const uint64_t slot = list.Slot(section, i);
      if (slot > context.slot_mask) return damaged;
      part.slots.push_back(static_cast<uint32_t>(slot));
    }
    for (uint64_t i = 0; i < section.ops; i++) {
      const BatchOp op = list.Op(section, i);
      if (!IsPlaceOfShard(context, op.place, section.shard)) return damaged;
      part.ops.push_back(op);
    }
  }
  return Code::kOk;
}

void BeginOdd(const Context& context, std::span<const BatchPart> parts) {
  for (const BatchPart& part : parts) {
    ShardControl& shard = context.shard(part.shard);
    shard.commits.store(shard.commits.load(kRelaxed) | 1, kRelease);
    for (const uint32_t slot : part.slots) {
      format::HalfWord& version = context.version(part.shard, slot);
      version.store(version.load(kRelaxed) | 1, kRelease);
    }
  }
}

bool AnySubstituted(const Context& context, std::span<const BatchPart> parts) {
  if (!context.storage->HasSubstitutes()) return false;
  return std::any_of(parts.begin(), parts.end(), [&](const BatchPart& part) {
    return std::any_of(part.ops.begin(), part.ops.end(),
                       [&](const BatchOp& op) { return context.storage->IsSubstituted(op.place, sizeof(Word)); });
  });
}

/** Under the batch lock, the versions odd. Once is as good as twice: values are absolute, and nobody else changes these
 * words. */
Status ApplyParts(const Context& context, std::span<const BatchPart> parts) {
  const uint64_t changes_before = context.storage->SubstituteChanges();
  for (const BatchPart& part : parts) {
    for (const BatchOp& op : part.ops) context.WordAt(op.place).store(op.value, kRelease);
  }
  if (context.storage->SubstituteChanges() != changes_before || AnySubstituted(context, parts)) {
    // The versions stay odd: nobody believes these words before they have been stored to the real pages.
    return Status::Io("a page of the file could not be written", context.OffsetOf(&context.header().decided_batch));
  }
  for (const BatchPart& part : parts) {
    for (const uint32_t slot : part.slots) EndVersion(context, &context.version(part.shard, slot));
    // As many commits as entries of the index may have changed: who counts them relies on that.
    ShardControl& shard = context.shard(part.shard);
    shard.commits.store((shard.commits.load(kRelaxed) | 1) + 2 * part.ops.size() - 1, kRelease);
  }
  context.header().decided_batch.store(0, kRelease);
  return Code::kOk;
}

}  // namespace

uint64_t ListWords(std::span<const BatchPart> parts) {
  uint64_t words = kHeadWords + parts.size() * kSectionWords;
  for (const BatchPart& part : parts) words += part.slots.size() + 2 * part.ops.size();
  return words;
}

void WriteList(const Context& context, uint64_t unit, uint64_t number, std::span<const BatchPart> parts) {
  Word* at = &context.WordAt(unit * format::kUnitBytes);
  const auto put = [&at](uint64_t value) { at++->store(value, kRelaxed); };
  uint64_t slots = 0;
  uint64_t ops = 0;
  for (const BatchPart& part : parts) {
    slots += part.slots.size();
    ops += part.ops.size();
  }
  put(number);
  put(parts.size());
  put(slots);
  put(ops);
  for (const BatchPart& part : parts) {
    put(part.shard);
    put(part.slots.size());
    put(part.ops.size());
  }
  for (const BatchPart& part : parts) {
    for (const uint32_t slot : part.slots) put(slot);
  }
  for (const BatchPart& part : parts) {
    for (const BatchOp& op : part.ops) {
      put(op.place);
      put(op.value);
    }
  }
}

BatchLock::BatchLock(const Context& context) : context_(context) {
  uint32_t dead_holder = 0;
  status_ = AcquireWord(context, &context.header().batch_lock, &dead_holder);
  if (!status_.ok()) return;
  const uint64_t unit = context.header().decided_batch.load(kAcquire);
  if (unit == 0) return;
  std::vector<BatchPart> parts;
  status_ = ReadParts(context, unit, &parts);
  if (status_.ok()) {
    BeginOdd(context, parts);
    status_ = ApplyParts(context, parts);
  }
  if (!status_.ok()) ReleaseWord(&context.header().batch_lock);
}

BatchLock::~BatchLock() {
  if (status_.ok()) ReleaseWord(&context_.header().batch_lock);
}

Status CommitList(const Context& context, uint64_t unit, std::span<const BatchPart> parts) {
  for (const BatchPart& part : parts) context.shard(part.shard).intent.count.store(format::kIntentOfBatch, kRelease);
  // Before the decision: then a reader that meets one of the batch's values meets no older one afterwards, also where
  // this process dies and nobody may write.
  BeginOdd(context, parts);
  context.header().decided_batch.store(unit, kRelease);
  FAULTLESS_TRY(ApplyParts(context, parts));
  for (const BatchPart& part : parts) context.shard(part.shard).intent.count.store(0, kRelease);
  return Code::kOk;
}

void EndOddVersions(const Context& context, uint32_t shard_index) {
  for (uint32_t slot = 0; slot <= context.slot_mask; slot++) {
    format::HalfWord& version = context.version(shard_index, slot);
    if ((version.load(kAcquire) & 1) != 0) EndVersion(context, &version);
  }
  ShardControl& shard = context.shard(shard_index);
  const uint64_t commits = shard.commits.load(kAcquire);
  if ((commits & 1) != 0) shard.commits.store(commits + 1, kRelease);
}

Status SettleBatchOf(const Context& context, uint32_t shard_index) {
  if (context.header().decided_batch.load(kAcquire) != 0) {
    const BatchLock lock(context);  // which applies it
    FAULTLESS_TRY(lock.status());
  }
  // Done, or never decided: who could have decided it had this shard's lock.
  EndOddVersions(context, shard_index);
  FAULTLESS_TRY(EraseUnfinished(context, shard_index));
  context.shard(shard_index).intent.count.store(0, kRelease);
  return Code::kOk;
}

bool CaptureBatch(const Context& context, uint32_t shard_index, std::vector<BatchOp>* ops) {
  ops->clear();
  const format::ControlHeader& header = context.header();
  const uint32_t holder = header.batch_lock.load(kAcquire);
  const uint64_t unit = header.decided_batch.load(kAcquire);
  if (unit == 0) return true;
  if (holder != 0 && !IsHolderDead(context, holder)) return false;
  ListView list(context, unit);
  if (!list.Read()) return false;
  for (const Section& section : list.sections()) {
    if (section.shard != shard_index) continue;
    for (uint64_t i = 0; i < section.ops; i++) ops->push_back(list.Op(section, i));
  }
  const auto by_place = [](const BatchOp& a, const BatchOp& b) { return a.place < b.place; };
  if (!std::is_sorted(ops->begin(), ops->end(), by_place)) return false;
  // Where somebody is settling it by now, the run may be another list, or none.
  return header.batch_lock.load(kAcquire) == holder && header.decided_batch.load(kAcquire) == unit;
}

}  // namespace faultless::store
