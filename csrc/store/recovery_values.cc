#include <algorithm>

#include "base/checksum.h"
#include "store/allocator.h"
#include "store/parallel.h"
#include "store/recovery_work.h"

namespace faultless::store {
namespace {

using format::EntryView;
using format::RecordView;
using format::RunKind;

constexpr uint64_t kReadAheadBytes = uint64_t{8} << 20;
constexpr size_t kPieceBytes = size_t{256} << 10;  // stays in a processor's own cache until it is summed up

}  // namespace

Status Recovery::ReadLarge(const Large& large, RecordView* record) const {
  uint8_t* const bytes = RecordScratch(Scratch::kRead, large.bytes);
  FAULTLESS_TRY(ReadBytes("a record cannot be read", large.position, bytes, large.bytes));
  if (!format::DecodeRecord({bytes, large.bytes}, record) || record->runs.empty()) {
    return Status::Corrupt("a record is not what it was", large.position);
  }
  return Code::kOk;
}

Status Recovery::CheckValues() {
  struct Value {
    Large large;
    uint32_t shard;
    bool sound = false;
    uint64_t place = 0;   // what is wrong
    uint64_t before = 0;  // bytes in all values before this one
  };
  std::vector<Value> values;
  for (uint32_t i = 0; i < shards_.size(); i++) {
    for (const Large& large : shards_[i].large) values.push_back({large, i});
  }
  std::sort(values.begin(), values.end(), [](const Value& a, const Value& b) {
    return a.large.first_unit != b.large.first_unit ? a.large.first_unit < b.large.first_unit
                                                    : a.large.position < b.large.position;
  });
  for (size_t i = 1; i < values.size(); i++) values[i].before = values[i - 1].before + values[i - 1].large.run_bytes;

  // A salvage may make runs again, in tables that all threads read.
  const uint32_t threads = salvage_ == Salvage::kNone ? ThreadsFor(value_bytes_) : 1;
  std::vector<Workplace> workplaces(threads);
  std::atomic<size_t> advised{0};
  const auto advise = [&](const Value& value) -> Status {
    RecordView record;
    FAULTLESS_TRY(ReadLarge(value.large, &record));
    for (const format::RunReference& run : record.runs) {
      const uint64_t begin = uint64_t{run.unit} * format::kUnitBytes;
      const uint64_t run_bytes = RunBytes(run.size_class);
      if (context_.Contains(begin, run_bytes)) context_.storage->WillNeed(begin, run_bytes);
    }
    return Code::kOk;
  };
  const auto work = [&](uint32_t thread, size_t piece) -> Status {
    Value& value = values[piece];
    size_t next = advised.load(std::memory_order_relaxed);
    while (next < values.size() && values[next].before < value.before + kReadAheadBytes) {
      if (!advised.compare_exchange_weak(next, next + 1, std::memory_order_relaxed)) continue;
      FAULTLESS_TRY(advise(values[next++]));
    }
    RecordView record;
    FAULTLESS_TRY(ReadLarge(value.large, &record));
    FAULTLESS_TRY(CheckRuns(&workplaces[thread], record, value.shard, &value.sound, &value.place));
    done_.fetch_add(value.large.run_bytes, std::memory_order_relaxed);
    return Code::kOk;
  };
  FAULTLESS_TRY(DoPieces(values.size(), threads, work, [&] {
    Report(std::min(done_.load(std::memory_order_relaxed), queue_bytes_ + value_bytes_));
  }));
  for (const Value& value : values) {
    if (value.sound) continue;
    RecordView record;
    FAULTLESS_TRY(ReadLarge(value.large, &record));
    Shard& shard = shards_[value.shard];
    shard.unsound.emplace(value.large.position, value.place);
    shard.unsound_keys.emplace(record.key.begin(), record.key.end());
  }
  return Code::kOk;
}

Status Recovery::CheckRuns(Workplace* workplace, const RecordView& record, uint32_t shard_index, bool* sound,
                           uint64_t* place) {
  *sound = false;
  uint32_t crc = 0;
  uint8_t* const bytes = workplace->Bytes(kPieceBytes);
  for (const format::RunReference& run : record.runs) {
    EntryView view;
    const uint64_t begin = uint64_t{run.unit} * format::kUnitBytes;
    *place = begin;
    RestoreValueRun(run, shard_index);
    if (!ReadRun(context_, run.unit, RunKind::kValue, &view) || view.incarnation != run.incarnation ||
        view.size_class != run.size_class) {
      return Code::kOk;
    }
    for (uint64_t at = 0; at < RunBytes(run.size_class); at += kPieceBytes) {
      const size_t part = std::min<uint64_t>(kPieceBytes, RunBytes(run.size_class) - at);
      if (!context_.storage->Read(begin + at, bytes, part).ok()) {
        return salvage_ == Salvage::kAllShards ? Status() : Status::Io("a value cannot be read", begin + at);
      }
      crc = Crc32c(crc, bytes, part);
    }
  }
  *sound = crc == record.large.value_checksum;
  *place = uint64_t{record.runs.front().unit} * format::kUnitBytes;
  return Code::kOk;
}

}  // namespace faultless::store
