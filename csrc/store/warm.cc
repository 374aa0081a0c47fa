#include "store/warm.h"

#include <cstring>

#include "store/prepare.h"
#include "store/reader.h"

namespace faultless::store {

Status Warming::Step() {
  std::vector<Bytes> keys;
  size_t at = at_;
  while (keys.size() < kTogether && at < packed_.size()) {
    uint32_t size;
    if (packed_.size() - at < sizeof size) return {Code::kCorrupt, "a list of keys is malformed"};
    std::memcpy(&size, packed_.data() + at, sizeof size);
    at += sizeof size;
    if (packed_.size() - at < size) return {Code::kCorrupt, "a list of keys is malformed"};
    keys.emplace_back(packed_.data() + at, size);
    at += size;
  }
  std::vector<uint64_t> hashes(keys.size());
  PrepareKeys(context_, keys, hashes, /*advise=*/true);
  std::vector<format::RunReference> runs;
  for (size_t i = 0; i < keys.size(); i++) {
    const Status status = ReadKeyRuns(context_, keys[i], hashes[i], &runs);
    if (!status.ok() && status.code() != Code::kAbsent) return status;
  }
  // Should a value be replaced meanwhile, what is brought into memory in vain is no larger than it was.
  for (const format::RunReference& run : runs) {
    context_.storage->WillNeed(uint64_t{run.unit} * format::kUnitBytes, RunBytes(run.size_class));
  }
  for (const format::RunReference& run : runs) {
    FAULTLESS_TRY(context_.storage->PopulateRead(uint64_t{run.unit} * format::kUnitBytes, RunBytes(run.size_class)));
  }
  at_ = at;
  return Code::kOk;
}

void Warming::Progress(uint64_t* done, uint64_t* total) const {
  *done = at_;
  *total = packed_.size();
}

}  // namespace faultless::store
