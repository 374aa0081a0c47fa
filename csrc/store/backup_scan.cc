#include "store/backup_scan.h"

#include <algorithm>

#include "store/reader.h"
#include "store/writer.h"

namespace faultless::store {

/** The entries of one tag. */
class ScanBackup::Collector final : public TagSink {
 public:
  void Restart() override { entries.clear(); }
  void Entry(const format::RecordView& record, std::span<const uint8_t> run_bytes) override {
    const bool known = std::any_of(entries.begin(), entries.end(), [&](const auto& entry) {
      return std::equal(entry.key.begin(), entry.key.end(), record.key.begin(), record.key.end());
    });
    if (known) return;  // of two entries for one key the first one counts, as for get
    auto& entry = entries.emplace_back();
    entry.key.assign(record.key.begin(), record.key.end());
    entry.value.assign(run_bytes.begin(), run_bytes.end());
    entry.value.insert(entry.value.end(), record.value.begin(), record.value.end());
    entry.expires_at_ms = record.expires_at_ms;
  }
  std::vector<ScanBackup::Entry> entries;
};

Status ScanBackup::Step() {
  failed_at_target_ = true;
  if (engine_ == nullptr) FAULTLESS_TRY(target_->OpenEmpty(&engine_));
  failed_at_target_ = false;
  if (entries_.empty()) {
    if (shard_ == source_.shards()) return End();
    uint64_t next_prefix;
    FAULTLESS_TRY(SnapshotSegment(source_, shard_, prefix_, &entries_, &next_prefix));
    prefix_ = next_prefix;
  }
  Collector collector;
  while (!entries_.empty()) {
    FAULTLESS_TRY(ReadTag(source_, shard_, entries_.back().tag48(), true, &collector));
    for (const Entry& entry : collector.entries) {
      failed_at_target_ = true;
      FAULTLESS_TRY(SetRecord(engine_->context(), entry.key, entry.value, {entry.expires_at_ms}));
      failed_at_target_ = false;
      copied_bytes_ += entry.key.size() + entry.value.size();
    }
    keys_ += collector.entries.size();
    entries_.pop_back();
  }
  if (prefix_ >> format::kDirectoryBits != 0) {
    shard_++;
    prefix_ = 0;
  }
  return Code::kOk;
}

Status ScanBackup::End() {
  failed_at_target_ = true;
  uint64_t keys = 0;
  for (uint32_t i = 0; i < engine_->context().shards(); i++) {
    keys += engine_->context().shard(i).keys.load(std::memory_order_relaxed);
  }
  if (keys != keys_) return Status::Corrupt("the copy has other keys than were read", 0);
  FAULTLESS_TRY(BackupTarget::Finish(engine_.get()));
  engine_.reset();
  failed_at_target_ = false;
  done_ = true;
  return Code::kOk;
}

}  // namespace faultless::store
