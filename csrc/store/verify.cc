#include "store/verify.h"

#include <algorithm>

#include "store/batch_list.h"
#include "store/store.h"

namespace faultless::store {

Verification::Verification(const Context& context)
    : context_(context),
      findings_(context),
      next_incarnation_(context.allocator().next_incarnation.load(std::memory_order_acquire)) {
  for (uint32_t i = 0; i < context.shards(); i++) {
    const format::ShardControl& shard = context.shard(i);
    total_bytes_ +=
        shard.queue_bytes.load(std::memory_order_relaxed) + shard.value_bytes.load(std::memory_order_relaxed);
  }
  // A damaged counter is no reason for a senseless total.
  total_bytes_ = std::clamp<uint64_t>(total_bytes_, 1, context.PublishedUnits() * format::kUnitBytes);
}

Status Verification::Step() {
  if (done_) return Code::kOk;
  if (tables_ != nullptr) {
    FAULTLESS_TRY(tables_->Step());
    done_ = tables_->done();
    return Code::kOk;
  }
  if (shard_ == nullptr) {
    if (next_shard_ == context_.shards()) {
      FAULTLESS_TRY(CheckBatch());
      tables_ = std::make_unique<TableVerification>(context_, &findings_, next_incarnation_);
      return Code::kOk;
    }
    shard_ = std::make_unique<ShardVerification>(context_, next_shard_++, &findings_);
  }
  FAULTLESS_TRY(shard_->Step());
  if (!shard_->done()) return Code::kOk;
  done_bytes_ += shard_->walked_bytes();
  shard_.reset();
  return Code::kOk;
}

/** A batch that is decided can be done. */
Status Verification::CheckBatch() {
  if (context_.read_only || context_.header().decided_batch.load(std::memory_order_acquire) == 0) return Code::kOk;
  const BatchLock lock(context_);
  if (lock.status().code() == Code::kWouldBlock) return lock.status();
  if (!lock.status().ok()) findings_.Damaged(lock.status(), context_.OffsetOf(&context_.header().decided_batch));
  return Code::kOk;
}

void Verification::Progress(uint64_t* done, uint64_t* total) const {
  *total = total_bytes_;
  const uint64_t walked = done_bytes_ + (shard_ == nullptr ? 0 : shard_->walked_bytes());
  *done = done_ ? total_bytes_ : std::min(walked, total_bytes_);
}

VerifyReport Verification::Report() const {
  VerifyReport report{findings_.records, findings_.bytes, {}};
  for (const auto& [offset, reason] : findings_.damaged()) report.damaged.push_back({offset, reason});
  return report;
}

}  // namespace faultless::store
