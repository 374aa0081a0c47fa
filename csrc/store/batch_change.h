// Purpose: the words that a batch is to change in one shard, until they go into its list: index and counters are
// planned with it as they are changed by a Transaction, only that there may be thousands of words. Thread safety: the
// holder of the shard's lock.
#pragma once

#include <algorithm>
#include <unordered_map>
#include <vector>

#include "store/batch_list.h"
#include "store/context.h"

namespace faultless::store {

class BatchChange {
 public:
  explicit BatchChange(const Context& context) : context_(context) {}

  /** The word's value as the batch would leave it. */
  uint64_t Get(const format::Word& word) const {
    const auto found = values_.find(context_.OffsetOf(&word));
    return found != values_.end() ? found->second : word.load(std::memory_order_relaxed);
  }
  void Set(const format::Word& word, uint64_t value) { values_[context_.OffsetOf(&word)] = value; }
  void Add(const format::Word& word, int64_t delta) { Set(word, Get(word) + static_cast<uint64_t>(delta)); }
  void Clear() { values_.clear(); }

  /** All of it, by place. */
  std::vector<BatchOp> Ops() const {
    std::vector<BatchOp> ops;
    ops.reserve(values_.size());
    for (const auto& [place, value] : values_) ops.push_back({place, value});
    std::sort(ops.begin(), ops.end(), [](const BatchOp& a, const BatchOp& b) { return a.place < b.place; });
    return ops;
  }

 private:
  const Context& context_;
  std::unordered_map<uint64_t, uint64_t> values_;
};

}  // namespace faultless::store
