// Purpose: a batch of numbered values, for the power-cut tests (store_cuts.h). Thread safety: one thread.
#pragma once

#include <algorithm>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "store_children.h"

namespace store_test {

class BatchOf {
 public:
  explicit BatchOf(const std::vector<std::string>& keys) : keys_(keys) {}

  bool Has(size_t key) const {
    return std::any_of(writes_.begin(), writes_.end(), [&](const auto& write) { return write.first == key; });
  }
  void ExpectWhatItHolds(Store& store, size_t key) {
    std::string& held = bytes_.emplace_back();
    const Kind kind = Get(store, keys_[key], &held).ok() ? Kind::kExpect : Kind::kExpectAbsent;
    entries_.push_back({kind, AsBytes(keys_[key]), AsBytes(held)});
  }
  void Delete(size_t key) {
    writes_.emplace_back(key, 0);
    entries_.push_back({Kind::kDelete, AsBytes(keys_[key]), {}});
  }
  void Set(size_t key, uint64_t number, uint64_t size, uint64_t expires_at_ms) {
    const std::string& value = bytes_.emplace_back(MakeValue(keys_[key], number, size));
    writes_.emplace_back(key, number);
    entries_.push_back({Kind::kSet, AsBytes(keys_[key]), AsBytes(value), expires_at_ms});
  }
  Status Commit(Store& store, bool* done) const {
    return Patiently([&] { return store.CommitBatch(entries_, done); });
  }
  /** Keys and numbers of their values; 0: deleted. */
  const std::vector<std::pair<size_t, uint64_t>>& writes() const { return writes_; }

 private:
  using Kind = faultless::store::BatchEntry::Kind;

  const std::vector<std::string>& keys_;
  std::deque<std::string> bytes_;  // that the entries refer to
  std::vector<std::pair<size_t, uint64_t>> writes_;
  std::vector<faultless::store::BatchEntry> entries_;
};

}  // namespace store_test
