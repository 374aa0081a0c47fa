#include "store/holes.h"

#include <bit>

namespace faultless::store {
namespace {

using format::kUnitsPerHoleWord;
using format::Word;

constexpr auto kRelaxed = std::memory_order_relaxed;

/** Calls body(word, mask) for the words that have the bits of [begin, end). */
template <typename Body>
void ForEachWord(const Context& context, uint64_t begin, uint64_t end, const Body& body) {
  for (uint64_t unit = begin; unit < end;) {
    const uint64_t first = unit & ~(kUnitsPerHoleWord - 1);
    const uint64_t last = std::min(end, first + kUnitsPerHoleWord);
    const uint64_t from = ~uint64_t{0} << (unit - first);
    const uint64_t to = last - first == kUnitsPerHoleWord ? ~uint64_t{0} : (uint64_t{1} << (last - first)) - 1;
    body(context.entry(first).holes, from & to);
    unit = last;
  }
}

bool IsHole(const Context& context, uint64_t unit) {
  const uint64_t first = unit & ~(kUnitsPerHoleWord - 1);
  return (context.entry(first).holes.load(kRelaxed) >> (unit - first) & 1) != 0;
}

/** Calls body(offset, length) for each stretch of published units that are holes, or are none. */
template <typename Body>
Status ForEachStretch(const Context& context, bool holes, const Body& body) {
  const uint64_t published = context.PublishedUnits();
  for (uint64_t unit = 0; unit < published;) {
    uint64_t end = unit;
    while (end < published && IsHole(context, end) == holes) end++;
    if (end > unit) FAULTLESS_TRY(body(unit * format::kUnitBytes, (end - unit) * format::kUnitBytes));
    unit = std::max(end, unit + 1);
  }
  return Code::kOk;
}

}  // namespace

uint64_t CountHoles(const Context& context, const Transaction& transaction, uint64_t unit, uint64_t units) {
  uint64_t count = 0;
  ForEachWord(context, unit, unit + units, [&](const Word& word, uint64_t mask) {
    count += static_cast<uint64_t>(std::popcount(transaction.Get(word) & mask));
  });
  return count;
}

uint64_t CountHoles(const Context& context, uint64_t unit, uint64_t units) {
  uint64_t count = 0;
  ForEachWord(context, unit, unit + units, [&](const Word& word, uint64_t mask) {
    count += static_cast<uint64_t>(std::popcount(word.load(std::memory_order_acquire) & mask));
  });
  return count;
}

void MarkHoles(const Context& context, Transaction* transaction, uint64_t unit, uint64_t units, bool holes) {
  ForEachWord(context, unit, unit + units, [&](const Word& word, uint64_t mask) {
    const uint64_t before = transaction->Get(word);
    transaction->Set(word, holes ? before | mask : before & ~mask);
  });
}

void SetHoles(const Context& context, uint64_t begin, uint64_t end, bool holes) {
  ForEachWord(context, begin, end, [&](Word& word, uint64_t mask) {
    const uint64_t before = word.load(kRelaxed);
    word.store(holes ? before | mask : before & ~mask, kRelaxed);
  });
}

Status ReserveAll(const Context& context) {
  // Head units and tables first: the bits lie in them.
  const uint64_t published = context.PublishedUnits();
  FAULTLESS_TRY(context.storage->Reserve(0, (context.head_units() + 1) * format::kUnitBytes));
  for (uint64_t table = format::kUnitsPerGroup; table < published; table += format::kUnitsPerGroup) {
    FAULTLESS_TRY(context.storage->Reserve(table * format::kUnitBytes, format::kUnitBytes));
  }
  if (context.allocator().hollow_units.load(kRelaxed) == 0) {
    return context.storage->Reserve(0, published * format::kUnitBytes);
  }
  return ForEachStretch(context, false,
                        [&](uint64_t offset, uint64_t length) { return context.storage->Reserve(offset, length); });
}

void PunchHoles(const Context& context) {
  static_cast<void>(ForEachStretch(
      context, true, [&](uint64_t offset, uint64_t length) { return context.storage->Punch(offset, length); }));
}

}  // namespace faultless::store
