// Purpose: what power-cut tests count, what a store must hold after a cut, when the cut comes, and what is done before
// (store_cuts.h puts it together). Thread safety: one thread.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdio>
#include <functional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/fail_point.h"
#include "base/status.h"
#include "simulated_disk.h"

namespace store_test {

using faultless::fail_points;
using faultless::Status;
namespace format = faultless::format;

// ───────────────────────────────────────────────────────────── what has happened

enum Counter : size_t {
  kCuts,
  kCutsBetween,
  kCutsInSet,
  kCutsInDelete,
  kCutsInClear,
  kCutsInFlush,
  kCutsInClose,
  kCutsInOpen,
  kCutsInRecovery,
  kCutsInBatch,
  kCutsInSync,
  kCutsAfterSync,
  kCutsOfRecovered,
  kDeaths,
  kDeathsInside,
  kLengthsLost,
  kWrittenBack,
  kSets,
  kDeletes,
  kClears,
  kBatches,
  kBatchesKept,
  kBatchesLost,
  kFlushes,
  kEngineFlushes,
  kCloses,
  kRecoveries,
  kReused,
  kMoved,
  kLeft,
  kGrowths,
  kSplits,
  kDoublings,
  kLargeReplaced,
  kExpiring,
  kSwapped,
  kIncremented,
  kTouched,
  kFull,
  kEvicted,
  kEvictedDeleted,
  kVerified,
  kAudited,
  kKeysRead,
  kCounters
};
constexpr std::array<const char*, kCounters> kCounterNames = {"cuts",
                                                              "between operations",
                                                              "in set",
                                                              "in delete",
                                                              "in clear",
                                                              "in flush",
                                                              "in close",
                                                              "in open",
                                                              "in recovery",
                                                              "in batch",
                                                              "in a sync",
                                                              "right after a sync",
                                                              "of what a cut had left",
                                                              "deaths",
                                                              "deaths inside operations",
                                                              "lengths lost",
                                                              "written back unasked",
                                                              "sets",
                                                              "deletes",
                                                              "clears",
                                                              "batches",
                                                              "batches without a flush kept by a cut",
                                                              "batches lost by a cut",
                                                              "flushes",
                                                              "flushes by the engine",
                                                              "clean closes",
                                                              "recoveries",
                                                              "extents reused",
                                                              "cleaning moved records",
                                                              "tail extents left",
                                                              "growths",
                                                              "splits",
                                                              "doublings",
                                                              "large values replaced",
                                                              "writes that expire",
                                                              "compared and set",
                                                              "increments",
                                                              "touches",
                                                              "full",
                                                              "evictions",
                                                              "deletes of what was evicted",
                                                              "verified",
                                                              "audited",
                                                              "keys read"};

struct Counters {
  std::array<uint64_t, kCounters> count{};
  uint64_t& operator[](Counter counter) { return count[counter]; }
  void Print() const {
    std::string line = "   ";
    for (size_t i = 0; i < kCounters; i++) {
      const std::string item = std::string(" ") + kCounterNames[i] + " " + std::to_string(count[i]) + ";";
      if (line.size() + item.size() > 120) {
        std::printf("%s\n", line.c_str());
        line = "   ";
      }
      line += item;
    }
    std::printf("%s\n", line.c_str());
  }
};

/** What a write may change that is counted. */
struct DiskFigures {
  struct Shard {
    uint64_t head, head_unit, head_sequence, tail_unit, tail, places, depth, evictions, evicted_sequence;
  };
  std::array<Shard, format::kDefaultShards> shards;
  uint64_t published;
  uint64_t flushes;
};

inline DiskFigures FiguresOf(const std::byte* memory) {
  DiskFigures figures{};
  constexpr auto kRelaxed = std::memory_order_relaxed;
  for (uint32_t i = 0; i < format::kDefaultShards; i++) {
    const auto& shard = reinterpret_cast<const format::ShardControl*>(memory + format::kShardsOffset)[i];
    figures.shards[i] = {shard.head.load(kRelaxed),
                         shard.head_unit.load(kRelaxed),
                         shard.head_sequence.load(kRelaxed),
                         shard.tail_unit.load(kRelaxed),
                         shard.tail.load(kRelaxed),
                         shard.entry_places.load(kRelaxed),
                         shard.directory.load(kRelaxed) & 0xFF,
                         shard.evictions.load(kRelaxed),
                         shard.evicted_sequence.load(kRelaxed)};
  }
  const auto& allocator = *reinterpret_cast<const format::AllocatorControl*>(memory + format::kAllocatorOffset);
  figures.published = allocator.published_units.load(kRelaxed);
  figures.flushes = allocator.flush_count.load(kRelaxed);
  return figures;
}

// ───────────────────────────────────────────────────────────── what must be there

/** The wall clock of all machines, which may go back while one has no power. */
inline uint64_t wall_clock_ms = 0;
/** What a machine counts by itself: goes on as the wall clock does, but never back. */
inline uint64_t boot_clock_ms = 0;
/** No store's clock has been beyond this. */
inline uint64_t latest_clock_ms = 0;
inline void BeginClocks(uint64_t now_ms) {
  wall_clock_ms = latest_clock_ms = now_ms;
  boot_clock_ms = 1;
}
inline void PassTime(uint64_t ms) {
  wall_clock_ms += ms;
  boot_clock_ms += ms;
  latest_clock_ms += ms;
}

/** When the values expire that do, by number: where that was changed, at the earliest and at the latest. */
struct Expiry {
  uint64_t earliest_ms;
  uint64_t latest_ms;
};
using Expiries = std::unordered_map<uint64_t, Expiry>;
constexpr uint64_t kNoExpiry = ~uint64_t{0};

enum class Action : uint8_t { kNone, kSet, kDelete, kClear, kFlush, kClose, kOpen, kBatch };

/**
 * For each key the number of its value at the last completed flush, and those that it has had since; 0: absent. A value
 * that has expired may be gone for good, or be there again where the store's clock has gone back: a power cut may set
 * it back, but not behind the last completed flush. In a store that evicts any key may be absent, but what was deleted,
 * or replaced, before the last completed flush is gone for good.
 */
struct Model {
  Model(size_t keys, const Expiries* when, bool may_evict)
      : now(keys),
        durable(keys),
        later(keys),
        ghosts(keys),
        dropped(keys),
        gone(keys),
        expiries(when),
        evicts(may_evict) {}

  std::vector<uint64_t> now;
  std::vector<uint64_t> durable;
  std::vector<std::vector<uint64_t>> later;
  std::vector<std::vector<uint64_t>> ghosts;  // values that had expired when a recovery found none
  // Values that a recovery has found no room for in the index: what a later one may find, until the key is written.
  std::vector<std::vector<uint64_t>> dropped;
  std::vector<bool> gone;  // deleted since the last flush
  const Expiries* expiries;
  bool evicts;                    // a key may be absent at any time, and be there again after a cut
  Action action = Action::kNone;  // under way, or when the process died
  bool opening = false;           // whoever opens the store finishes that, or dies of it as well
  size_t key = 0;
  uint64_t number = 0;
  /** Keys and the numbers of their values; 0: deleted. */
  struct Batch {
    std::vector<std::pair<size_t, uint64_t>> writes;
    bool cleared = false;  // a clear came later: what it has taken does not tell
  };
  std::vector<Batch> batches;     // since the last flush, that under way among them
  Batch batch;                    // under way, or when the process died
  uint64_t clock_ms = 0;          // of the store
  uint64_t flushed_clock_ms = 0;  // when the last flush completed: the clock never goes back behind it
  bool unrecovered = false;       // what memory held is lost, and nobody has opened the store since

  void Begin(Action what, size_t at = 0, uint64_t value = 0) {
    action = what;
    key = at;
    number = value;
    NoteUnderWay();
  }
  void BeginBatch(std::vector<std::pair<size_t, uint64_t>> writes) {
    batch = {std::move(writes)};
    Begin(Action::kBatch);
  }
  void End(const Status& status) {
    if (action == Action::kBatch && status.ok()) {
      for (const auto& [at, value] : batch.writes) {
        // As a delete that found an expired value gone: when the clock goes back it may show again.
        if (value == 0 && now[at] != 0 && MayBeExpired(now[at])) ghosts[at].push_back(now[at]);
        now[at] = value;
      }
    }
    if (action == Action::kBatch && !status.ok()) {
      batches.pop_back();
      for (const auto& [at, value] : batch.writes) {
        if (value != 0) std::erase(later[at], value);
      }
    }
    if (action == Action::kSet || action == Action::kDelete) {
      if (status.ok()) {
        now[key] = number;
        gone[key] = gone[key] || number == 0;
      } else if (action == Action::kSet) {
        std::erase(later[key], number);  // nothing has changed
      }
    }
    if (action == Action::kClear && status.ok()) {
      std::fill(now.begin(), now.end(), 0);
      std::fill(gone.begin(), gone.end(), true);
    }
    action = Action::kNone;
  }
  /** A flush has had its sync. What is under way may be covered. */
  void Flushed() {
    durable = now;
    flushed_clock_ms = std::max(flushed_clock_ms, clock_ms);
    for (auto& numbers : later) numbers.clear();
    batches.clear();
    for (size_t i = 0; i < now.size(); i++) {
      if (now[i] != 0) ghosts[i].clear();
      if (now[i] != 0 || gone[i]) dropped[i].clear();
      gone[i] = false;
    }
    NoteUnderWay();
  }
  /** What was found is promised. `evicted`: the recovery itself has evicted some of what is absent. */
  void Recovered(const std::vector<uint64_t>& found, bool evicted) {
    for (size_t i = 0; i < found.size(); i++) {
      gone[i] = false;
      if (evicted && found[i] == 0) {
        dropped[i].push_back(durable[i]);
        dropped[i].insert(dropped[i].end(), later[i].begin(), later[i].end());
      } else {
        dropped[i].clear();
      }
      if (found[i] != 0) ghosts[i].clear();
      later[i].push_back(durable[i]);
      for (const uint64_t value : later[i]) {
        if (found[i] == 0 && value != 0 && MayBeExpired(value)) ghosts[i].push_back(value);
      }
      later[i].clear();
    }
    batches.clear();
    now = durable = found;
    unrecovered = false;
    action = Action::kNone;
  }
  /**
   * How much of a batch is found: whether some of its keys show what they had before it, and some what it gave them.
   * What a later write gave them tells nothing: where no flush has covered that, a cut may take the batch alone.
   */
  void Judge(const Batch& one, const std::vector<uint64_t>& found, bool expiring, bool* before, bool* after) const {
    *before = *after = false;
    for (const auto& [at, value] : one.writes) {
      if (value == 0 || (found[at] == 0 && (one.cleared || expiring))) continue;
      std::vector<uint64_t> history{durable[at]};
      history.insert(history.end(), later[at].begin(), later[at].end());
      const auto place = std::find(history.begin(), history.end(), value);
      const bool earlier = std::find(history.begin(), place, found[at]) != place;
      const bool later_on = std::find(place, history.end(), found[at]) != history.end();
      *before = *before || (earlier && !later_on);
      *after = *after || found[at] == value;
    }
  }
  bool IsUnderWay(size_t at) const {
    if (action == Action::kBatch) {
      return std::any_of(batch.writes.begin(), batch.writes.end(),
                         [&](const auto& write) { return write.first == at; });
    }
    return action == Action::kClear || ((action == Action::kSet || action == Action::kDelete) && at == key);
  }
  /** Whether a key may show this. */
  bool Allows(size_t at, uint64_t found) const {
    if (evicts && found == 0) return true;
    const auto shows = [&](uint64_t value) { return Shows(value, found); };
    return shows(durable[at]) || std::any_of(later[at].begin(), later[at].end(), shows) ||
           std::any_of(ghosts[at].begin(), ghosts[at].end(), shows) ||
           std::any_of(dropped[at].begin(), dropped[at].end(), shows);
  }
  /** Whether it must show this, as no memory has been lost. */
  bool Is(size_t at, uint64_t found) const {
    if (evicts && found == 0) return true;
    const auto shows = [&](uint64_t value) { return Shows(value, found); };
    return shows(now[at]) || (now[at] == 0 && std::any_of(ghosts[at].begin(), ghosts[at].end(), shows));
  }
  /** Whether a value shows as this. */
  bool Shows(uint64_t value, uint64_t found) const {
    if (value == 0 || found == 0) return found == 0 && (value == 0 || MayBeExpired(value));
    return value == found && ExpiryOf(value).latest_ms > clock_ms;
  }
  bool MayBeExpired(uint64_t value) const { return ExpiryOf(value).earliest_ms <= latest_clock_ms; }
  Expiry ExpiryOf(uint64_t value) const {
    const auto at = expiries->find(value);
    return at == expiries->end() ? Expiry{kNoExpiry, kNoExpiry} : at->second;
  }

 private:
  void NoteUnderWay() {
    if (action == Action::kSet) later[key].push_back(number);
    if (action == Action::kDelete) later[key].push_back(0);
    if (action == Action::kClear) {
      for (auto& numbers : later) numbers.push_back(0);
      for (Batch& one : batches) one.cleared = true;
    }
    if (action == Action::kBatch) {
      for (const auto& [at, value] : batch.writes) later[at].push_back(value);
      batches.push_back(batch);
    }
  }
};

// ───────────────────────────────────────────────────────────── when it happens

/** Waits for a moment within operations: so many stores from now, or a sync. Long copies count as a few stores. */
class Trigger {
 public:
  static Trigger& The() {
    static Trigger trigger;
    return trigger;
  }

  void AfterPoints(uint64_t points, std::function<void()> fire) {
    fire_ = std::move(fire);
    points_ = points;
    syncs_ = 0;
  }
  /** At the begin of a sync, or so many stores after its end. */
  void AtSync(uint64_t syncs, uint64_t points_after, std::function<void()> fire) {
    fire_ = std::move(fire);
    points_ = points_after;
    syncs_ = syncs;
  }
  void Clear() { fire_ = nullptr; }
  bool waits() const { return fire_ != nullptr; }
  bool after_sync() const { return after_sync_; }

  void BeginOperation() {
    after_sync_ = false;
    if (waits() && syncs_ == 0) Arm();
  }
  void EndOperation() { fail_points.armed = false; }

  void OnSync(bool completed) {
    if (!waits() || syncs_ == 0) return;
    if (!completed && syncs_ == 1 && points_ == 0) return Fire();
    if (completed && --syncs_ == 0) {
      after_sync_ = true;
      Arm();
    }
  }

 private:
  void Arm() {
    fail_points.sites = sites_.data();
    fail_points.sites_size = sites_.size();
    fail_points.passed = 0;
    fail_points.fail_at = 1;
    fail_points.fail = [] { The().Pass(); };
    last_site_ = 0;
    run_ = 0;
    fail_points.armed = true;
  }
  void Pass() {
    const uint64_t point = fail_points.fail_at++;
    const uint32_t site = sites_[(point - 1) % sites_.size()];
    run_ = site == last_site_ ? run_ + 1 : 1;
    last_site_ = site;
    constexpr uint64_t kFew = 24;
    if (run_ > kFew && !std::has_single_bit(run_)) return;
    if (points_ <= 1) return Fire();
    points_--;
  }
  void Fire() {
    fail_points.armed = false;
    const std::function<void()> fire = std::move(fire_);
    fire_ = nullptr;
    fire();
  }

  std::function<void()> fire_;
  uint64_t points_ = 0;
  uint64_t syncs_ = 0;
  bool after_sync_ = false;
  std::vector<uint32_t> sites_ = std::vector<uint32_t>(1 << 22);
  uint32_t last_site_ = 0;
  uint64_t run_ = 0;
};

// ───────────────────────────────────────────────────────────── what is done

struct Workload {
  const char* name = "";
  uint64_t max_bytes = uint64_t{64} << 20;
  uint32_t shards = 1;
  size_t keys = 10;
  size_t filled = 0;  // keys set before the first cut
  uint64_t longest = 1000;
  uint64_t large_percent = 0;
  uint64_t largest = 300'000;
  uint64_t delete_percent = 10;
  uint64_t batch_percent = 0;
  uint64_t longest_batch = 12;
  uint64_t expired_percent = 0;
  uint64_t clear_permille = 0;
  uint64_t flush_permille = 20;
  uint64_t close_permille = 10;
  bool evicts = false;
  size_t cuts = 25;
};

/** Of a store that is full most of the time. */
inline Workload EvictingWorkload(Random* random) {
  Workload load;
  load.name = "evicting";
  load.evicts = true;
  load.cuts = 12;
  load.max_bytes = uint64_t{8} << 20;
  load.shards = 1 + static_cast<uint32_t>(Below(random, 3));
  const bool small = Chance(random, 40);
  load.keys = small ? 2500 + Below(random, 1500) : 250 + Below(random, 150);
  load.filled = load.keys;
  load.longest = small ? 5000 : 60'000;
  load.large_percent = small ? 0 : Below(random, 15);
  load.largest = 400'000;
  load.delete_percent = Below(random, 40);
  load.flush_permille = std::array<uint64_t, 4>{4, 20, 60, 200}[Below(random, 4)];
  load.close_permille = Below(random, 3) * 8;
  load.expired_percent = Chance(random, 25) ? 5 + Below(random, 40) : 0;
  load.clear_permille = Chance(random, 20) ? 2 + Below(random, 5) : 0;
  return load;
}

inline Workload ChooseWorkload(Random* random) {
  Workload load;
  load.delete_percent = Below(random, 40);
  load.batch_percent = Chance(random, 50) ? 5 + Below(random, 30) : 0;
  load.flush_permille = std::array<uint64_t, 4>{4, 20, 60, 200}[Below(random, 4)];
  load.close_permille = Below(random, 3) * 8;
  load.expired_percent = Chance(random, 25) ? 5 + Below(random, 40) : 0;
  if (Chance(random, 35)) load.clear_permille = 2 + Below(random, 15);
  const uint64_t kind = Below(random, 100);
  if (kind < 40) {
    load.name = "churn";  // extents are left, cleaned and used again
    load.shards = 1 + static_cast<uint32_t>(Below(random, 2));
    load.keys = 4 + Below(random, 50);
    load.longest = 1000 + Below(random, 20'000);
    load.large_percent = Chance(random, 40) ? 4 : 0;
    load.largest = 200'000;
  } else if (kind < 58) {
    load.name = "many";  // the index splits
    load.keys = 1600 + Below(random, 1600);
    load.filled = 900 + Below(random, 500);
    load.longest = 60;
    load.delete_percent /= 3;
    load.clear_permille /= 4;
  } else if (kind < 72) {
    load.name = "large";  // values with runs of their own
    load.shards = 16;
    load.keys = 3 + Below(random, 8);
    load.longest = 3000;
    load.large_percent = 70;
    load.largest = 100'000 + Below(random, 800'000);
  } else if (kind < 76) {
    load = EvictingWorkload(random);
  } else if (kind < 80) {
    load.name = "full";
    load.cuts = 12;
    load.max_bytes = uint64_t{8} << 20;
    load.shards = 1 + static_cast<uint32_t>(Below(random, 3));
    load.keys = 60 + Below(random, 60);
    load.filled = load.keys;
    load.longest = 120'000;
    load.large_percent = 10;
    load.largest = 400'000;
  } else if (kind < 84) {
    load.name = "batches";  // and cleaning between them, in several shards
    load.shards = 2 + static_cast<uint32_t>(Below(random, 5));
    load.keys = 10 + Below(random, 60);
    load.longest = 200 + Below(random, 8'000);
    load.large_percent = Chance(random, 30) ? 5 : 0;
    load.largest = 200'000;
    load.batch_percent = 40 + Below(random, 60);
    load.longest_batch = 2 + Below(random, 30);
  } else if (kind < 88) {
    load.name = "expiring";
    load.keys = 4 + Below(random, 12);
    load.large_percent = 50;
    load.largest = 200'000;
    load.expired_percent = 60;
  } else {
    load.name = "spread";
    load.shards = 16;
    load.keys = 100 + Below(random, 200);
    load.longest = 2000;
    load.large_percent = 2;
  }
  return load;
}

}  // namespace store_test
