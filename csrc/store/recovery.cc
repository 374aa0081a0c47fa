#include "store/recovery.h"

#include <algorithm>

#include "store/recovery_work.h"
#include "store/shared_bytes.h"

namespace faultless::store {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;

}  // namespace

Status Recovery::Run() {
  uint64_t file_bytes;
  FAULTLESS_TRY(context_.storage->FileBytes(&file_bytes));
  units_ = std::min(file_bytes / format::kUnitBytes, context_.max_units());
  if (units_ <= context_.head_units()) return Status::Corrupt("the file ends within its control region", file_bytes);
  // Until this is done, what is published is what is there: every check of a position needs it.
  context_.allocator().published_units.store(units_, std::memory_order_release);
  for (uint32_t i = 0; i < shards_.size(); i++) shards_[i].promised = ReadPromise(context_, i);
  settled_batches_.store(context_.superblock.settled_batches, kRelaxed);
  FAULTLESS_TRY(CollectRuns());
  FAULTLESS_TRY(WalkExtents());
  FAULTLESS_TRY(CheckValues());
  // A mark of the source may name a tail that the copy has left behind. Its counters tell whether all is there.
  for (size_t i = 0; i < shards_.size() && context_.fresh_copy; i++) shards_[i].promised = {};
  std::vector<QueuePlace> promised;
  for (uint32_t i = 0; i < shards_.size(); i++) {
    promised.push_back(ReadPromise(context_, i));
    FAULTLESS_TRY(PlanShard(i));
  }
  FAULTLESS_TRY(CutBatches());
  for (Shard& shard : shards_) ForgetUnplanned(&shard);
  // So far nothing has been changed that a later recovery reads. What will be stored to needs space.
  for (uint64_t table = format::kUnitsPerGroup; table < units_; table += format::kUnitsPerGroup) {
    FAULTLESS_TRY(context_.storage->Reserve(table * format::kUnitBytes, format::kUnitBytes));
  }
  InitializeControl(context_.base + format::kControlOffset, context_.shards(), units_,
                    context_.superblock.incarnation_base);
  // All batches that are found count from now on: the sync that ends the recovery covers them.
  const uint64_t next_batch =
      std::max({context_.superblock.incarnation_base, settled_batches_.load(kRelaxed), batches_end_.load(kRelaxed)});
  context_.header().next_batch.store(next_batch, kRelaxed);
  context_.header().settled_batches.store(next_batch, kRelaxed);
  context_.allocator().reserve_taken.store(1, kRelaxed);  // a copy may have holes, and may share its blocks
  for (uint32_t i = 0; i < shards_.size(); i++) {
    if (promised[i].position != 0) StorePromise(context_, i, promised[i]);  // a second recovery is to know it, too
  }
  FAULTLESS_TRY(BuildFreeLists());
  for (uint32_t i = 0; i < shards_.size(); i++) FAULTLESS_TRY(Rebuild(i));
  FAULTLESS_TRY(FreeUnusedValueRuns());
  // An extent that ends well makes what follows it count again: what was dropped is gone from the device before.
  FAULTLESS_TRY(context_.storage->Sync());
  for (const QueueEnd& end : queue_ends_) WriteEnd(end);
  if (on_progress_) on_progress_(total_, total_);
  return Code::kOk;
}

void Recovery::Report(uint64_t done) {
  if (on_progress_) on_progress_(std::min(done, total_), total_);
}

void InitializeControl(std::byte* control, uint32_t shard_count, uint64_t published_units, uint64_t first_incarnation) {
  const uint64_t versions = format::VersionsOffset(shard_count) - format::kControlOffset;
  // The watermark of the clock stays, without a moment at which the device could have another one.
  const uint64_t watermark = offsetof(format::ControlHeader, clock_watermark);
  ZeroShared(control, watermark);
  ZeroShared(control + watermark + sizeof(format::Word), versions - watermark - sizeof(format::Word));
  auto* const header = reinterpret_cast<format::ControlHeader*>(control);
  header->magic.store(format::kControlMagic, kRelaxed);
  header->next_batch.store(first_incarnation, kRelaxed);
  header->settled_batches.store(first_incarnation, kRelaxed);
  auto* const allocator = reinterpret_cast<format::AllocatorControl*>(control + sizeof(format::ControlHeader));
  allocator->next_incarnation.store(first_incarnation, kRelaxed);
  allocator->published_units.store(published_units, kRelaxed);
  auto* const slots = reinterpret_cast<format::HalfWord*>(control + versions);
  for (uint32_t i = 0; i < format::kVersionSlots; i++) slots[i].store(format::kFirstVersion, kRelaxed);
}

Status Recover(Context& context, Salvage salvage, const std::function<void(uint64_t, uint64_t)>& on_progress) {
  return Recovery(context, salvage, on_progress).Run();
}

}  // namespace faultless::store
