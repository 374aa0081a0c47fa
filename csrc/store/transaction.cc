#include "store/transaction.h"

#include <algorithm>
#include <cstdlib>

#include "store/lock.h"

namespace faultless::store {
namespace {

using format::HalfWord;
using format::Intent;
using format::kFillBit;
using format::Word;

/** Odd while a write is under way; applied twice after a crash it is odd all the same. */
void BeginVersion(HalfWord* version) {
  version->store(version->load(std::memory_order_relaxed) | 1, std::memory_order_release);
}

/** One op of an intent, copied: the list lies in the file, and what it changes may be itself. */
struct Change {
  uint64_t offset;
  uint64_t words;
  uint64_t value;
};

struct ChangeList {
  Change changes[format::kIntentOps];
  uint64_t count = 0;
};

/** False where a fill lacks its length. */
bool CopyChanges(const Intent& intent, uint64_t count, ChangeList* list) {
  for (uint64_t i = 0; i < count; i++) {
    const uint64_t place = intent.ops[i].place.load(std::memory_order_acquire);
    Change change{place & ~kFillBit, 1, intent.ops[i].value.load(std::memory_order_acquire)};
    if ((place & kFillBit) != 0) {
      if (++i == count) return false;
      change.words = intent.ops[i].place.load(std::memory_order_acquire) >> 3;
    }
    list->changes[list->count++] = change;
  }
  return true;
}

/**
 * Whether an intent may change this word of the control region. Not versions, locks, intents, openers, or the published
 * end: they are changed otherwise, and with them a damaged intent would do more harm than its own. `shard` nullptr: the
 * allocator's.
 */
bool IsControlPlace(const Context& context, uint64_t offset, const format::ShardControl* shard) {
  if (offset < format::kAllocatorOffset || offset >= format::VersionsOffset(context.shards())) return false;
  if (offset >= format::kShardsOffset) {
    const uint64_t within = (offset - format::kShardsOffset) % sizeof(format::ShardControl);
    if (shard != nullptr && offset - within != context.OffsetOf(shard)) return false;
    return within == offsetof(format::ShardControl, directory) ||
           (within >= offsetof(format::ShardControl, head) && within < offsetof(format::ShardControl, intent));
  }
  if (offset >= format::kPendingOffset) return true;
  return shard == nullptr && offset >= format::kAllocatorOffset + offsetof(format::AllocatorControl, free_units) &&
         offset < format::kAllocatorOffset + offsetof(format::AllocatorControl, intent);
}

bool IsPlace(const Context& context, const Change& change, const format::ShardControl* shard) {
  if (change.offset % 8 != 0) return false;
  if (change.offset < context.head_units() * format::kUnitBytes) {
    return change.words == 1 && IsControlPlace(context, change.offset, shard);
  }
  const uint64_t end = context.PublishedUnits() * format::kUnitBytes;
  return change.words <= end / 8 && change.offset <= end - change.words * 8;
}

/** Whether a word of the list lies on a page that a fault has replaced: what was stored there is lost. */
bool AnySubstituted(const Context& context, const ChangeList& list) {
  if (!context.storage->HasSubstitutes()) return false;
  return std::any_of(list.changes, list.changes + list.count, [&](const Change& change) {
    return context.storage->IsSubstituted(change.offset, change.words * 8);
  });
}

}  // namespace

void EndVersion(const Context& context, HalfWord* version) {
  const uint32_t odd = version->load(std::memory_order_relaxed) | 1;
  uint32_t even = odd + 1;
  if (even == 0) {
    // All ones stands for "cannot be read": the versions begin anew, and every cached copy counts for nothing.
    context.header().epoch.fetch_add(1, std::memory_order_acq_rel);
    even = format::kFirstVersion;
  }
  version->store(even, std::memory_order_release);
}

Transaction::Transaction(const Context& context, Intent* intent, format::ShardControl* shard, uint32_t shard_index)
    : context_(context),
      intent_(intent),
      shard_(shard),
      shard_index_(shard_index),
      changes_before_(context.storage->SubstituteChanges()) {}

uint64_t Transaction::Get(const Word& word) const {
  const uint64_t place = context_.OffsetOf(&word);
  for (uint64_t i = count_; i > 0; i--) {
    if (intent_->ops[i - 1].place.load(std::memory_order_relaxed) == place) {
      return intent_->ops[i - 1].value.load(std::memory_order_relaxed);
    }
  }
  return word.load(std::memory_order_relaxed);
}

void Transaction::Set(const Word& word, uint64_t value) {
  const uint64_t place = context_.OffsetOf(&word);
  for (uint64_t i = 0; i < count_; i++) {
    if (intent_->ops[i].place.load(std::memory_order_relaxed) == place) {
      intent_->ops[i].value.store(value, std::memory_order_relaxed);
      return;
    }
  }
  if (count_ == format::kIntentOps) std::abort();  // every caller's number of words has a constant bound below this
  intent_->ops[count_].place.store(place, std::memory_order_relaxed);
  intent_->ops[count_].value.store(value, std::memory_order_relaxed);
  count_++;
}

void Transaction::Fill(const Word& first, uint64_t value, uint64_t count) {
  if (count_ + 2 > format::kIntentOps) std::abort();
  intent_->ops[count_].place.store(context_.OffsetOf(&first) | kFillBit, std::memory_order_relaxed);
  intent_->ops[count_].value.store(value, std::memory_order_relaxed);
  intent_->ops[count_ + 1].place.store(count << 3 | 2, std::memory_order_relaxed);  // no word's place
  intent_->ops[count_ + 1].value.store(0, std::memory_order_relaxed);
  count_ += 2;
}

Status Transaction::Commit() {
  // A substitute page, whoever met it, may be what was just read, or what the record was written to.
  if (context_.storage->HasSubstitutes()) {
    return Status::Io("a page of the file could not be read", context_.OffsetOf(intent_));
  }
  if (context_.storage->SubstituteChanges() != changes_before_) return Code::kWouldBlock;
  intent_->flags.store(flags_, std::memory_order_relaxed);
  intent_->count.store(count_, std::memory_order_release);
  return ApplyIntent(context_, intent_, shard_, shard_index_);
}

bool IsPlaceOfShard(const Context& context, uint64_t offset, uint32_t shard_index) {
  return IsPlace(context, {offset, 1, 0}, &context.shard(shard_index));
}

bool Overlay::Capture(const Context& context, uint32_t shard_index) {
  changes_.clear();
  of_batch_.clear();
  const format::ShardControl& shard = context.shard(shard_index);
  const uint32_t holder = shard.lock.load(std::memory_order_acquire);
  if (holder != 0 && !IsHolderDead(context, holder)) return false;
  const uint64_t count = shard.intent.count.load(std::memory_order_acquire);
  if (count == format::kIntentOfBatch) {
    return CaptureBatch(context, shard_index, &of_batch_) && shard.lock.load(std::memory_order_acquire) == holder &&
           shard.intent.count.load(std::memory_order_acquire) == count;
  }
  if (count == 0 || count > format::kIntentOps) return false;
  for (uint64_t i = 0; i < count; i++) {
    const uint64_t place = shard.intent.ops[i].place.load(std::memory_order_acquire);
    Change change{place & ~kFillBit, 1, shard.intent.ops[i].value.load(std::memory_order_acquire)};
    if ((place & kFillBit) != 0 && ++i < count)
      change.words = shard.intent.ops[i].place.load(std::memory_order_acquire) >> 3;
    changes_.push_back(change);
  }
  // Where somebody has taken over meanwhile, the list may be another one by now.
  return shard.lock.load(std::memory_order_acquire) == holder &&
         shard.intent.count.load(std::memory_order_acquire) == count;
}

bool Overlay::Find(uint64_t offset, uint64_t* value) const {
  const auto found = std::lower_bound(of_batch_.begin(), of_batch_.end(), offset,
                                      [](const BatchOp& op, uint64_t place) { return op.place < place; });
  if (found != of_batch_.end() && found->place == offset) {
    *value = found->value;
    return true;
  }
  for (const Change& change : changes_) {
    if (offset < change.offset || (offset - change.offset) / 8 >= change.words) continue;
    *value = change.value;
    return true;
  }
  return false;
}

Status ApplyIntent(const Context& context, Intent* intent, format::ShardControl* shard, uint32_t shard_index) {
  const uint64_t changes_before = context.storage->SubstituteChanges();
  const uint64_t count = intent->count.load(std::memory_order_acquire);
  const uint64_t flags = intent->flags.load(std::memory_order_relaxed);
  const uint32_t slot = static_cast<uint32_t>(flags >> 32);
  ChangeList list;
  if (count > format::kIntentOps || slot > context.slot_mask || !CopyChanges(*intent, count, &list) ||
      !std::all_of(list.changes, list.changes + list.count,
                   [&](const Change& change) { return IsPlace(context, change, shard); })) {
    return Status::Corrupt("an intent is damaged", context.OffsetOf(intent));
  }

  if (shard != nullptr) {
    shard->commits.store(shard->commits.load(std::memory_order_relaxed) | 1, std::memory_order_release);
    if (flags & format::kIntentStructure) {
      shard->structure_version.store(shard->structure_version.load(std::memory_order_relaxed) | 1,
                                     std::memory_order_release);
    }
    if (flags & format::kIntentSlot) BeginVersion(&context.version(shard_index, slot));
    if (flags & format::kIntentAllSlots) {
      for (uint32_t i = 0; i <= context.slot_mask; i++) BeginVersion(&context.version(shard_index, i));
    }
  }
  for (uint64_t i = 0; i < list.count; i++) {
    Word* const first = &context.WordAt(list.changes[i].offset);
    for (uint64_t j = 0; j < list.changes[i].words; j++)
      first[j].store(list.changes[i].value, std::memory_order_release);
  }
  if (context.storage->SubstituteChanges() != changes_before || AnySubstituted(context, list)) {
    // What was stored to a substitute page is lost with it. The versions stay odd: nobody believes these words before
    // the intent has been applied to the real page.
    return Status::Io("a page of the file could not be written", context.OffsetOf(intent));
  }
  if (shard != nullptr) {
    if (flags & format::kIntentAllSlots) {
      for (uint32_t i = 0; i <= context.slot_mask; i++) EndVersion(context, &context.version(shard_index, i));
    }
    if (flags & format::kIntentSlot) EndVersion(context, &context.version(shard_index, slot));
    if (flags & format::kIntentStructure) {
      shard->structure_version.store((shard->structure_version.load(std::memory_order_relaxed) | 1) + 1,
                                     std::memory_order_release);
    }
    shard->commits.store((shard->commits.load(std::memory_order_relaxed) | 1) + 1, std::memory_order_release);
  }
  intent->count.store(0, std::memory_order_release);
  return Code::kOk;
}

}  // namespace faultless::store
