#include "store/write_rule.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/checksum.h"
#include "store/record_queue.h"
#include "store/shared_bytes.h"

namespace faultless::store {
namespace {

constexpr double kMostOfNumber = 9'007'199'254'740'992;  // 2^53: up to there all integers are numbers
constexpr size_t kPieceBytes = 64 * 1024;

Status ReadWhole(const Context& context, uint64_t position, format::RecordView* record) {
  uint64_t bytes;
  FAULTLESS_TRY(ReadRecordAt(context, position, record, &bytes));
  if (format::VerifyChecksum({RecordScratch(Scratch::kRead, bytes), bytes})) return Code::kOk;
  return Status::Corrupt("a record's checksum does not match", position);
}

/** Whether a run holds these bytes. Not validated: it may have been given away meanwhile. */
Status IsRunEqual(const Context& context, const format::RunReference& run, const uint8_t* expected, bool* equal) {
  const uint64_t offset = uint64_t{run.unit} * format::kUnitBytes;
  const uint64_t bytes = RunBytes(run.size_class);
  *equal = false;
  if (!context.Contains(offset, bytes)) return Code::kOk;
  if (!context.storage->IsResident(offset, bytes)) FAULTLESS_TRY(context.storage->PopulateRead(offset, bytes));
  std::vector<uint8_t> piece(kPieceBytes);
  for (uint64_t at = 0; at < bytes; at += kPieceBytes) {
    CopyFromShared(piece.data(), context.base + offset + at, kPieceBytes);
    if (std::memcmp(piece.data(), expected + at, kPieceBytes) == 0) continue;
    if (!context.storage->HasSubstitutes() || !context.storage->IsSubstituted(offset, bytes)) return Code::kOk;
    return Status::Io("a page of the file could not be read", offset + at);
  }
  *equal = true;
  return Code::kOk;
}

}  // namespace

bool ExpectRule::IsCompared(const format::RecordView& record) const {
  return std::equal(runs_.begin(), runs_.end(), record.runs.begin(), record.runs.end(),
                    [](const format::RunReference& a, const format::RunReference& b) {
                      return a.unit == b.unit && a.incarnation == b.incarnation;
                    });
}

Status ExpectRule::Decide(const Context& context, uint64_t position) {
  if (expected_ == nullptr) return position == 0 ? Code::kOk : Code::kAbsent;
  if (position == 0) return Code::kAbsent;
  format::RecordView record;
  FAULTLESS_TRY(ReadWhole(context, position, &record));
  if (record.value_bytes() != expected_->size()) return Code::kAbsent;
  const Bytes rest = expected_->subspan(record.large.run_bytes);
  if (!rest.empty() && std::memcmp(rest.data(), record.value.data(), rest.size()) != 0) return Code::kAbsent;
  if (record.runs.empty()) return Code::kOk;
  if (IsCompared(record)) return runs_equal_ ? Code::kOk : Code::kAbsent;
  runs_.assign(record.runs.begin(), record.runs.end());
  return Code::kCold;
}

Status ExpectRule::Prepare(const Context& context) {
  runs_equal_ = false;
  const uint8_t* expected = expected_->data();
  for (const format::RunReference& run : runs_) {
    bool equal;
    const Status status = IsRunEqual(context, run, expected, &equal);
    if (!status.ok()) runs_.clear();  // not compared
    FAULTLESS_TRY(status);
    if (!equal) return Code::kOk;
    expected += RunBytes(run.size_class);
  }
  runs_equal_ = true;
  return Code::kOk;
}

Status IncrementRule::Decide(const Context& context, uint64_t position) {
  double number = 0;
  if (position != 0) {
    format::RecordView record;
    FAULTLESS_TRY(ReadWhole(context, position, &record));
    if (!record.runs.empty() || record.value.size() != kNumberBytes || record.value[0] != kNumberMark) {
      return {Code::kNotANumber, "the value is no number"};
    }
    std::memcpy(&number, record.value.data() + 1, sizeof number);
    if (std::isnan(number)) return {Code::kNotANumber, "the value is NaN"};
  }
  const double sum = number + by_;
  if (!(std::fabs(sum) <= kMostOfNumber)) return {Code::kOutOfRange, "the sum would be beyond 2^53"};
  result_ = sum;
  bytes_[0] = kNumberMark;
  std::memcpy(bytes_ + 1, &sum, sizeof sum);
  return Code::kOk;
}

}  // namespace faultless::store
