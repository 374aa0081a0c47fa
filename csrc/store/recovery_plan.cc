#include <algorithm>

#include "store/clock.h"
#include "store/recovery_work.h"

namespace faultless::store {
namespace {

using format::RecordKind;
using format::RecordView;

}  // namespace

Status Recovery::PlanShard(uint32_t shard_index, uint64_t limit_position, size_t limit_extent) {
  Shard& shard = shards_[shard_index];
  shard.plan = MakePlan(shard.extents, limit_position, limit_extent);
  LayOut(&shard);
  uint64_t unsound = kNoLimit;
  while (!shard.unsound.empty()) {
    uint64_t limit;
    size_t limit_of;
    uint64_t promised;
    FAULTLESS_TRY(FindUnsoundLive(shard, &limit, &limit_of, &promised));
    if (limit == kNoLimit) break;
    // A value that is alive and not whole was never covered by a flush, nor was anything behind it; or it is damaged.
    // What comes to light as the queue gets shorter is no damage: its value was given away when a later record came.
    if (unsound == kNoLimit) unsound = promised;
    shard.plan = MakePlan(shard.extents, limit, limit_of);
    LayOut(&shard);
  }
  const bool damaged = shard.promised.position != 0 && !Covers(shard);
  if (damaged && salvage_ == Salvage::kNone && limit_position != kNoLimit) {
    return Status::Corrupt("a batch that a flush covered is not whole", limit_position);
  }
  if (damaged && salvage_ == Salvage::kNone) return DamageOf(shard, unsound);
  if (damaged || salvage_ == Salvage::kAllShards) {
    // Every record that is whole, from where the youngest mark that can be believed says.
    Plan& plan = shard.plan;
    plan.salvaged = true;
    if (!plan.believed) plan.first = 0;
    plan.last = shard.extents.size();
    LayOut(&shard);
  }
  return Code::kOk;
}

void Recovery::ForgetUnplanned(Shard* shard) {
  std::vector<Stretch> stretches = shard->stretches;
  std::sort(stretches.begin(), stretches.end(), [](const Stretch& a, const Stretch& b) { return a.begin < b.begin; });
  std::erase_if(shard->large, [&](const Large& large) {
    const uint64_t position = large.position;
    const auto after = std::upper_bound(stretches.begin(), stretches.end(), position,
                                        [](uint64_t place, const Stretch& stretch) { return place < stretch.begin; });
    return after == stretches.begin() || position >= std::prev(after)->end;
  });
}

/**
 * The extents that count: from the tail that the youngest believable mark names, as far as records are valid. A mark
 * is believable where everything from the tail that it names up to itself is intact: then all that was moved out of
 * older extents is there. Nothing at or behind `limit_position` counts, a position in the extent `limit_index`.
 */
Recovery::Plan Recovery::MakePlan(const std::vector<Extent>& extents, uint64_t limit_position, size_t limit_index) {
  Plan plan;
  if (extents.empty()) return plan;
  const auto end_of = [&](size_t i) {
    return i == limit_index ? std::min(limit_position, extents[i].end) : extents[i].end;
  };
  const auto intact = [&](size_t i) { return i != limit_index && extents[i].intact; };
  const auto continues = [&](size_t i) {  // in the next extent
    return intact(i) && extents[i].sequence + 1 == extents[i + 1].sequence;
  };
  const size_t count = limit_index == kNoExtent ? extents.size() : limit_index + 1;
  std::vector<size_t> reach(count);  // the first extent from which all up to this one is intact
  for (size_t i = 1; i < count; i++) reach[i] = continues(i - 1) ? reach[i - 1] : i;
  for (size_t i = count; i > 0 && !plan.believed; i--) {
    const Extent& extent = extents[i - 1];
    for (size_t m = extent.marks.size(); m > 0; m--) {
      const Extent::Mark& mark = extent.marks[m - 1];
      if (mark.position >= end_of(i - 1) || mark.tail_sequence > extent.sequence) continue;
      const uint64_t distance = extent.sequence - mark.tail_sequence;
      if (distance > i - 1 - reach[i - 1]) continue;
      plan.believed = true;
      plan.first = i - 1 - distance;
      break;
    }
  }
  plan.last = plan.first;
  while (plan.last < count) {
    const size_t i = plan.last++;
    plan.end = end_of(i);
    plan.whole_end = intact(i);
    if (i + 1 >= count || !continues(i)) break;
  }
  return plan;
}

void Recovery::LayOut(Shard* shard) {
  const Plan& plan = shard->plan;
  shard->stretches.clear();
  for (size_t i = plan.first; i < plan.last; i++) {
    const Extent& extent = shard->extents[i];
    const bool cut = !plan.salvaged && i + 1 == plan.last;
    shard->stretches.push_back({i, extent.begin(), cut ? plan.end : extent.end});
    if (plan.salvaged) shard->stretches.insert(shard->stretches.end(), extent.rest.begin(), extent.rest.end());
  }
  if (plan.salvaged && !shard->stretches.empty()) shard->plan.end = shard->stretches.back().end;
}

bool Recovery::EndsItsKey(const Shard& shard, const Stretch& stretch, uint64_t position,
                          const RecordView& record) const {
  // Nobody reads it, nor what the key had before. A backup leaves such values out.
  if (IsExpired(context_, record)) return true;
  const QueuePlace place{0, shard.extents[stretch.extent].sequence, position};
  if (shard.promised.position == 0 || !place.IsBefore(shard.promised)) return false;
  // It expires: by a clock that has gone back since, cleaning has given its runs away. Else its value is known to be
  // lost, and an older one would be wrong.
  return shard.plan.salvaged || (record.flags & format::kRecordExpires) != 0;
}

Status Recovery::FindUnsoundLive(const Shard& shard, uint64_t* limit_position, size_t* limit_extent,
                                 uint64_t* newest_promised) {
  // The longest beginning of the queue in which no unsound record is alive ends before the last record that made
  // their number other than 0: looked for by shortening the queue again and again, it would take a pass for each one of
  // a key that was overwritten often.
  std::unordered_map<std::string, QueuePlace> alive;  // keys whose newest record is unsound
  *limit_position = kNoLimit;
  FAULTLESS_TRY(ForEach(shard, 0, 0, [&](size_t i, uint64_t position, const RecordView& record, uint64_t) -> Status {
    if (record.kind == RecordKind::kClear) alive.clear();
    if (record.kind != RecordKind::kSet && record.kind != RecordKind::kTombstone) return Code::kOk;
    std::string key(record.key.begin(), record.key.end());
    if (!shard.unsound_keys.contains(key)) return Code::kOk;
    if (record.kind == RecordKind::kTombstone || !shard.unsound.contains(position) ||
        EndsItsKey(shard, shard.stretches[i], position, record)) {
      alive.erase(key);
      return Code::kOk;
    }
    if (alive.empty()) {
      *limit_position = position;
      *limit_extent = shard.stretches[i].extent;
    }
    alive.insert_or_assign(std::move(key), QueuePlace{0, shard.extents[shard.stretches[i].extent].sequence, position});
    return Code::kOk;
  }));
  if (alive.empty()) *limit_position = kNoLimit;
  QueuePlace newest{};
  for (const auto& [key, place] : alive) {
    if (newest.IsBefore(place) && place.IsBefore(shard.promised)) newest = place;
  }
  *newest_promised = newest.position != 0 ? newest.position : kNoLimit;
  return Code::kOk;
}

/** Whether what counts holds all that has been promised: no power cut takes any of it (docs/format.md). */
bool Recovery::Covers(const Shard& shard) {
  const Plan& plan = shard.plan;
  if (plan.first == plan.last) return false;
  const Extent& last = shard.extents[plan.last - 1];
  const QueuePlace& promised = shard.promised;
  if (!plan.believed && shard.extents[plan.first].sequence > promised.tail_sequence) return false;
  if (last.sequence != promised.sequence) return last.sequence > promised.sequence;
  const uint64_t end = plan.whole_end ? last.limit() : plan.end;
  return promised.position >= last.begin() && promised.position <= end;
}

/** What is wrong, nearest to what was promised; a place in the file that leads there where it is itself unknown. */
Status Recovery::DamageOf(const Shard& shard, uint64_t unsound) const {
  constexpr const char* kGone = "an extent that a flush covered is gone";
  const QueuePlace& promised = shard.promised;
  const auto& extents = shard.extents;
  const auto after =
      std::upper_bound(extents.begin(), extents.end(), promised.sequence,
                       [](uint64_t sequence, const Extent& extent) { return sequence < extent.sequence; });
  size_t i = static_cast<size_t>(after - extents.begin());
  if (i == 0 || extents[i - 1].sequence != promised.sequence || promised.position < extents[i - 1].begin() ||
      promised.position > extents[i - 1].limit()) {
    return Status::Corrupt(kGone, promised.position);
  }
  for (; i > 0; i--) {
    const Extent& extent = extents[i - 1];
    const bool last = extent.sequence == promised.sequence;
    if (!extent.intact && (!last || extent.end < promised.position)) {
      return Status::Corrupt("a record that a flush covered is damaged", extent.end);
    }
    if (i > 1 && extents[i - 2].sequence + 1 != extent.sequence) {
      if (unsound == kNoLimit)
        return Status::Corrupt(kGone, context_.OffsetOf(&context_.entry(extents[i - 2].unit).next));
      break;
    }
  }
  const auto found = shard.unsound.find(unsound);
  if (found != shard.unsound.end()) {
    return Status::Corrupt("a value that a flush covered is not whole", found->second);
  }
  return Status::Corrupt(kGone, extents.front().begin());
}

}  // namespace faultless::store
