// Batches: what no completed flush covered counts only if all of the batch is there, in every shard. Queues end before
// what is not, so that what counts of each shard is a state that it has been in (docs/format.md, "Batches").
#include <algorithm>
#include <map>
#include <optional>

#include "store/recovery_work.h"

namespace faultless::store {

Status Recovery::CutBatches() {
  struct Begin {
    uint32_t shard;
    size_t extent;
    uint64_t position;
  };
  struct Found {
    uint32_t shards = 0;  // in which it has records
    uint32_t ends = 0;    // of those: where all of them are there
    std::vector<Begin> begins;
  };
  // A copy is of one moment: what was the newest in its source may have been moved out of what was not copied.
  if (context_.fresh_copy) return Code::kOk;
  for (Shard& shard : shards_) {
    for (Extent& extent : shard.extents) ForgetSettled(&extent);
  }
  while (true) {
    // Where damage has taken records of a batch, the others are not to be lost for that.
    if (std::any_of(shards_.begin(), shards_.end(), [](const Shard& shard) { return shard.plan.salvaged; })) break;
    std::map<uint64_t, Found> batches;  // in their order, which is that of every queue
    for (uint32_t i = 0; i < shards_.size(); i++) {
      for (const Stretch& stretch : shards_[i].stretches) {
        for (const Boundary& boundary : shards_[i].extents[stretch.extent].boundaries) {
          if (boundary.position < stretch.begin || boundary.position >= stretch.end) continue;
          Found& found = batches[boundary.batch.number];
          found.shards = boundary.batch.shards;
          if (boundary.batch.is_end != 0) {
            found.ends++;
          } else {
            found.begins.push_back({i, stretch.extent, boundary.position});
          }
        }
      }
    }
    std::vector<std::optional<Begin>> cuts(shards_.size());
    for (const auto& [number, batch] : batches) {
      const bool behind_cut = std::any_of(batch.begins.begin(), batch.begins.end(),
                                          [&](const Begin& begin) { return cuts[begin.shard].has_value(); });
      if (batch.ends == batch.shards && !behind_cut) continue;
      for (const Begin& begin : batch.begins) {
        if (!cuts[begin.shard].has_value()) cuts[begin.shard] = begin;
      }
    }
    bool any = false;
    for (uint32_t i = 0; i < shards_.size(); i++) {
      if (!cuts[i].has_value()) continue;
      any = true;
      FAULTLESS_TRY(PlanShard(i, cuts[i]->position, cuts[i]->extent));
    }
    if (!any) break;
  }
  return Code::kOk;
}

}  // namespace faultless::store
