// Purpose: what power-cut tests have open (store_cuts.h), and the batches of numbered values that they commit. Thread
// safety: one thread.
#pragma once

#include <algorithm>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "store_children.h"
#include "store_cuts_model.h"

namespace store_test {

/** A machine that has the store open. */
struct World {
  explicit World(const Model& state) : model(state) {}
  World(const World&) = delete;
  ~World() {
    store.reset();
    if (disk != nullptr) disk->at_sync = nullptr;
  }

  struct Moment {
    std::shared_ptr<SimulatedDisk> disk;
    Model model;
    uint64_t boot;  // in which it is opened; 0: a new one, the power was gone
    std::string what;
  };

  std::shared_ptr<SimulatedDisk> disk;
  std::shared_ptr<Store> store;
  Model model;
  uint64_t boot = 1;
  int depth = 0;  // cuts in its past
  std::string what;
  std::vector<Moment> pending;  // to be looked at once the operation is over
};

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
