#include "store/scan.h"

#include <algorithm>

#include "store/clock.h"
#include "store/reader.h"
#include "store/record_queue.h"
#include "store/scan_batch.h"

namespace faultless::store {
namespace {

bool HasPrefix(Bytes key, Bytes prefix) {
  return key.size() >= prefix.size() && std::equal(prefix.begin(), prefix.end(), key.begin());
}

/** Keeps the entries of one tag until the read has been validated. */
class Collector final : public TagSink {
 public:
  Collector(Bytes prefix, bool want_values) : prefix_(prefix), want_values_(want_values) {}

  void Restart() override {
    bytes_.clear();
    entries_.clear();
  }
  void Entry(const format::RecordView& record, std::span<const uint8_t> run_bytes) override {
    if (!HasPrefix(record.key, prefix_)) return;
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

/** Entries looked at in one step, of a store in which nothing matches: then the caller gets a turn. */
constexpr uint64_t kEntriesPerStep = 65'536;
/** What taking a segment's entries counts for. */
constexpr uint64_t kSegmentCost = 64;
/** How far ahead records are fetched into the processor's cache. */
constexpr size_t kFetchAhead = 6;
constexpr uint64_t kFetchBytes = 192;

void Fetch(const Context& context, uint64_t position) {
  if (!context.Contains(position, kFetchBytes)) return;
  for (uint64_t at = 0; at < kFetchBytes; at += 64) __builtin_prefetch(context.base + position + at);
}

}  // namespace

Status ScanStep(const Context& context, ScanCursor* cursor, Bytes prefix, bool want_values, uint64_t max_bytes,
                ScanSink* sink) {
  Collector collector(prefix, want_values);
  uint64_t delivered = 0;
  uint64_t looked_at = 0;
  bool more = true;
  // A slot may have come round to the same version where the epoch has moved on.
  bool versions_count = context.header().epoch.load(std::memory_order_acquire) == cursor->epoch;
  while (more && delivered < max_bytes && looked_at < kEntriesPerStep) {
    if (cursor->next_pending == cursor->pending.size()) {
      if (cursor->shard >= context.shards()) {
        cursor->pending = std::vector<ScanEntry>();
        cursor->next_pending = 0;
        cursor->done = true;
        break;
      }
      const Status status = TakeBatch(context, cursor);
      // What has been delivered counts; the next step meets the failure again.
      if (!status.ok()) return delivered > 0 ? Code::kOk : status;
      versions_count = true;
      looked_at += cursor->batch_segments * kSegmentCost;
      continue;
    }
    if (cursor->next_pending >= cursor->advise_at) AdviseBatch(context, cursor);
    if (cursor->next_pending + kFetchAhead < cursor->pending.size()) {
      Fetch(context, cursor->pending[cursor->next_pending + kFetchAhead].position());
    }
    const ScanEntry& entry = cursor->pending[cursor->next_pending];
    looked_at++;
    format::RecordView record;
    if (versions_count && ReadUnmoved(context, cursor->pending_shard, entry, &record) &&
        (record.runs.empty() || !want_values)) {
      cursor->next_pending++;
      if (IsExpired(context, record) || !HasPrefix(record.key, prefix)) continue;
      const Bytes value = want_values ? record.value : Bytes();
      delivered += record.key.size() + value.size();
      more = sink->Entry(record.key, value);
      continue;
    }
    const Status status = ReadTag(context, cursor->pending_shard, entry.tag48(), want_values, &collector);
    if (!status.ok()) return delivered > 0 ? Code::kOk : status;
    cursor->next_pending++;
    delivered += collector.Deliver(sink, &more);
  }
  return Code::kOk;
}

}  // namespace faultless::store
