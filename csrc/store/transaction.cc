#include "store/transaction.h"

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

/** The range of words that an op may write: behind the superblocks, below the published end. */
bool IsPlace(const Context& context, uint64_t place, uint64_t words) {
  const uint64_t end = context.PublishedUnits() * format::kUnitBytes;
  return place >= format::kControlOffset && place % 8 == 0 && words <= end / 8 && place <= end - words * 8;
}

/** Whether a word of the list lies on a page that a fault has replaced: what was stored there is lost. */
bool AnySubstituted(const Context& context, const Intent& intent, uint64_t count) {
  if (!context.storage->HasSubstitutes()) return false;
  for (uint64_t i = 0; i < count; i++) {
    const uint64_t place = intent.ops[i].place.load(std::memory_order_relaxed);
    const bool fill = (place & kFillBit) != 0;
    const uint64_t words = fill ? intent.ops[++i].place.load(std::memory_order_relaxed) >> 3 : 1;
    if (context.storage->IsSubstituted(place & ~kFillBit, words * 8)) return true;
  }
  return false;
}

}  // namespace

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

bool Overlay::Capture(const Context& context, uint32_t shard_index) {
  changes_.clear();
  const format::ShardControl& shard = context.shard(shard_index);
  const uint32_t holder = shard.lock.load(std::memory_order_acquire);
  if (holder == 0 || !IsHolderDead(context, holder)) return false;
  const uint64_t count = shard.intent.count.load(std::memory_order_acquire);
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
  if (count > format::kIntentOps || slot > context.slot_mask) {
    return Status::Corrupt("an intent is damaged", context.OffsetOf(intent));
  }
  for (uint64_t i = 0; i < count; i++) {
    const uint64_t place = intent->ops[i].place.load(std::memory_order_relaxed);
    const bool fill = (place & kFillBit) != 0;
    if (fill && i + 1 == count) return Status::Corrupt("an intent is damaged", context.OffsetOf(intent));
    const uint64_t words = fill ? intent->ops[i + 1].place.load(std::memory_order_relaxed) >> 3 : 1;
    if (!IsPlace(context, place & ~kFillBit, words)) {
      return Status::Corrupt("an intent is damaged", context.OffsetOf(intent));
    }
    if (fill) i++;
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
  for (uint64_t i = 0; i < count; i++) {
    const uint64_t place = intent->ops[i].place.load(std::memory_order_relaxed);
    const uint64_t value = intent->ops[i].value.load(std::memory_order_relaxed);
    if ((place & kFillBit) == 0) {
      context.WordAt(place).store(value, std::memory_order_release);
      continue;
    }
    const uint64_t words = intent->ops[++i].place.load(std::memory_order_relaxed) >> 3;
    Word* const first = &context.WordAt(place & ~kFillBit);
    for (uint64_t j = 0; j < words; j++) first[j].store(value, std::memory_order_release);
  }
  if (context.storage->SubstituteChanges() != changes_before || AnySubstituted(context, *intent, count)) {
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
