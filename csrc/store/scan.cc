#include "store/scan.h"

#include <algorithm>

#include "store/reader.h"

namespace faultless::store {
namespace {

/** Keeps the entries of one tag until the read has been validated. */
class Collector final : public TagSink {
 public:
  Collector(Bytes prefix, bool want_values) : prefix_(prefix), want_values_(want_values) {}

  void Restart() override {
    bytes_.clear();
    entries_.clear();
  }
  void Entry(const format::RecordView& record, std::span<const uint8_t> run_bytes) override {
    if (record.key.size() < prefix_.size() || !std::equal(prefix_.begin(), prefix_.end(), record.key.begin())) return;
    if (Has(record.key)) return;  // of two entries for one key the first one counts, as for get
    entries_.push_back({record.key.size(), want_values_ ? run_bytes.size() + record.value.size() : 0});
    bytes_.insert(bytes_.end(), record.key.begin(), record.key.end());
    if (!want_values_) return;
    bytes_.insert(bytes_.end(), run_bytes.begin(), run_bytes.end());
    bytes_.insert(bytes_.end(), record.value.begin(), record.value.end());
  }

  /** Bytes delivered; *more: false where the sink asked to stop. */
  uint64_t Deliver(ScanSink* sink, bool* more) const {
    uint64_t at = 0;
    for (const Sizes& sizes : entries_) {
      const Bytes key(bytes_.data() + at, sizes.key);
      const Bytes value(bytes_.data() + at + sizes.key, sizes.value);
      *more = sink->Entry(key, value) && *more;
      at += sizes.key + sizes.value;
    }
    return at;
  }

 private:
  struct Sizes {
    uint64_t key;
    uint64_t value;
  };
  bool Has(Bytes key) const {
    const uint8_t* at = bytes_.data();
    for (const Sizes& sizes : entries_) {
      if (sizes.key == key.size() && std::equal(key.begin(), key.end(), at)) return true;
      at += sizes.key + sizes.value;
    }
    return false;
  }

  const Bytes prefix_;
  const bool want_values_;
  std::vector<uint8_t> bytes_;
  std::vector<Sizes> entries_;
};

constexpr uint64_t kSegmentsPerStep = 64;  // of a store in which nothing matches: then the caller gets a turn

}  // namespace

Status ScanStep(const Context& context, ScanCursor* cursor, Bytes prefix, bool want_values, uint64_t max_bytes,
                ScanSink* sink) {
  Collector collector(prefix, want_values);
  uint64_t delivered = 0;
  uint64_t segments = 0;
  bool more = true;
  while (more && delivered < max_bytes && !cursor->done) {
    if (cursor->pending.empty()) {
      if (cursor->shard >= context.shards()) {
        cursor->done = true;
        break;
      }
      if (segments++ == kSegmentsPerStep) break;
      uint64_t next_prefix;
      const Status status =
          SnapshotSegment(context, cursor->shard, cursor->next_prefix, &cursor->pending, &next_prefix);
      // What has been delivered counts; the next step meets the failure again.
      if (!status.ok()) return delivered > 0 ? Code::kOk : status;
      std::sort(cursor->pending.begin(), cursor->pending.end());
      cursor->pending.erase(std::unique(cursor->pending.begin(), cursor->pending.end()), cursor->pending.end());
      cursor->next_prefix = next_prefix;
      if (next_prefix >> format::kDirectoryBits != 0) {
        cursor->next_prefix = 0;
        cursor->pending_shard = cursor->shard++;
      } else {
        cursor->pending_shard = cursor->shard;
      }
      continue;
    }
    const uint64_t tag48 = cursor->pending.back();
    const Status status = ReadTag(context, cursor->pending_shard, tag48, want_values, &collector);
    if (!status.ok()) return delivered > 0 ? Code::kOk : status;
    cursor->pending.pop_back();
    delivered += collector.Deliver(sink, &more);
  }
  return Code::kOk;
}

}  // namespace faultless::store
