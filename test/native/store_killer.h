// Purpose: kills processes at fail points (base/fail_point.h) of one operation on copies of a prepared file, and checks
// what those who come after find. A program that includes this defines CHILD_PROCESS(Victim). Thread safety: one
// thread.
#pragma once

#include <algorithm>
#include <functional>

#include "base/fail_point.h"
#include "store/compaction.h"
#include "store_ledger.h"

namespace store_test {

using faultless::fail_points;
using harness::Child;

enum class Action : uint8_t {
  kSet,
  kDelete,
  kClear,
  kFlush,
  kOpen,
  kClose,
  kCompact,
  kSwap,
  kIncrement,
  kTouch,
  kBatch
};

struct Operation {
  Action action = Action::kSet;
  std::string key;
  uint64_t number = 0;
  uint64_t size = 0;
};

/** Which number's value each key has. */
using Model = std::map<std::string, uint64_t>;

struct Scenario {
  std::string name;
  std::string file;  // prepared, closed unless it is to be recovered
  bool recovers = false;
  std::vector<std::pair<Operation, uint64_t>> deaths;  // operations that were killed at a point before this one
  Operation operation;
  Model before;
  bool expires = false;  // there are expired values besides
  uint64_t max_bytes = uint64_t{256} << 20;
};

inline Status Compact(Store& store) {
  const std::shared_ptr<faultless::store::Compaction> compaction = store.Compact();
  while (!compaction->done()) {
    const Status status = Patiently([&] { return compaction->Step(); });
    if (!status.ok()) return status;
  }
  return Code::kOk;
}

/** By compareAndSet, of what the key holds. */
inline Status Swap(Store& store, const Operation& operation) {
  std::string held;
  const bool absent = Get(store, operation.key, &held).code() == Code::kAbsent;
  const std::string value = MakeValue(operation.key, operation.number, operation.size);
  const Bytes expected = AsBytes(held);
  const Bytes wanted = AsBytes(value);
  bool done = false;
  const Status status = Patiently(
      [&] { return store.CompareAndSet(AsBytes(operation.key), absent ? nullptr : &expected, &wanted, {}, &done); });
  EXPECT_TRUE(done || !status.ok());
  return status;
}

/** To the operation's number. */
inline Status Increment(Store& store, const Operation& operation) {
  std::string held;
  const bool absent = Get(store, operation.key, &held).code() == Code::kAbsent;
  const auto before = absent ? 0.0 : static_cast<double>(NumberOf(operation.key, held));
  double sum = 0;
  return Patiently([&] {
    return store.Increment(AsBytes(operation.key), static_cast<double>(operation.number) - before, {0, true}, &sum);
  });
}

inline Status Touch(Store& store, const Operation& operation) {
  bool existed;
  return Patiently([&] { return store.Touch(AsBytes(operation.key), {store.ExpiryAfter(1'000'000'000)}, &existed); });
}

/** What a batch does, named after how many entries it has: "x24". Its first value is as large as the operation says. */
struct BatchWrite {
  std::string key;
  uint64_t number;  // 0: is deleted
  uint64_t size;
};
inline std::vector<BatchWrite> WritesOf(const Operation& operation) {
  std::vector<BatchWrite> writes;
  if (operation.action != Action::kBatch) return writes;
  const uint64_t count = std::stoull(operation.key.substr(1));
  for (uint64_t i = 0; i < count; i++) {
    const std::string old = "key" + std::to_string(i);
    if (i % 4 == 1) {
      writes.push_back({old, 0, 0});
    } else {
      const std::string key = i % 4 == 3 ? "new" + old : old;
      writes.push_back({key, operation.number, i == 0 ? operation.size : 40 + i % 200});
    }
  }
  return writes;
}

inline Status Batch(Store& store, const Operation& operation) {
  const std::vector<BatchWrite> writes = WritesOf(operation);
  std::vector<std::string> values;
  for (const BatchWrite& write : writes) values.push_back(MakeValue(write.key, write.number, write.size));
  std::vector<faultless::store::BatchEntry> entries;
  using Kind = faultless::store::BatchEntry::Kind;
  for (size_t i = 0; i < writes.size(); i++) {
    entries.push_back({writes[i].number == 0 ? Kind::kDelete : Kind::kSet, AsBytes(writes[i].key), AsBytes(values[i])});
  }
  entries.push_back({Kind::kExpectAbsent, AsBytes(operation.key), {}});
  bool done = false;
  const Status status = Patiently([&] { return store.CommitBatch(entries, &done); });
  EXPECT_TRUE(done || !status.ok());
  return status;
}

inline Status Run(Store& store, const Operation& operation) {
  bool existed;
  switch (operation.action) {
    case Action::kSet:
      return Set(store, operation.key, MakeValue(operation.key, operation.number, operation.size));
    case Action::kDelete:
      return Delete(store, operation.key, &existed);
    case Action::kClear:
      return Clear(store);
    case Action::kFlush:
      return store.Flush();
    case Action::kClose:
      return store.Close();
    case Action::kCompact:
      return Compact(store);
    case Action::kSwap:
      return Swap(store, operation);
    case Action::kIncrement:
      return Increment(store, operation);
    case Action::kTouch:
      return Touch(store, operation);
    case Action::kBatch:
      return Batch(store, operation);
    case Action::kOpen:
      break;
  }
  return Code::kOk;
}

inline bool SetsItsKey(Action action) {
  return action == Action::kSet || action == Action::kSwap || action == Action::kIncrement;
}

inline void Apply(const Operation& operation, Model* model) {
  if (SetsItsKey(operation.action)) (*model)[operation.key] = operation.number;
  if (operation.action == Action::kDelete) model->erase(operation.key);
  if (operation.action == Action::kClear) model->clear();
  for (const BatchWrite& write : WritesOf(operation)) {
    if (write.number == 0) {
      model->erase(write.key);
    } else {
      (*model)[write.key] = write.number;
    }
  }
}

// ───────────────────────────────────────────────────────────── the child

constexpr uint64_t kMostSites = uint64_t{4} << 20;

/** What a child tells its parent: how many points there are, and where in the code each of them is. */
class Sites {
 public:
  explicit Sites(const std::string& path) {
    const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ::ftruncate(fd, kMostSites * 4) != 0) ::abort();
    void* const address = ::mmap(nullptr, kMostSites * 4, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (address == MAP_FAILED) ::abort();
    ::close(fd);
    words_ = static_cast<uint32_t*>(address);
  }
  Sites(const Sites&) = delete;
  ~Sites() { ::munmap(words_, kMostSites * 4); }
  uint32_t& count() const { return words_[0]; }
  uint32_t* sites() const { return words_ + 1; }

 private:
  uint32_t* words_;
};

// ───────────────────────────────────────────────────────────── the parent

inline void CopyFile(const std::string& from, const std::string& to) {
  ::unlink(to.c_str());
  WriteImage(to, ReadImage(from));
}

inline uint64_t Recoveries(const std::string& path) { return Ledger(ReadImage(path)).recoveries(); }

struct Cost {
  uint64_t stores = 0;
  uint64_t loads = 0;
};

inline Cost CountWords(const std::function<void()>& body) {
  fail_points.passed = 0;
  fail_points.loads = 0;
  fail_points.armed = true;
  body();
  fail_points.armed = false;
  return {fail_points.passed.load(), fail_points.loads.load()};
}

class Killer {
 public:
  Killer(const Scenario& scenario, const harness::TemporaryDirectory& directory, uint64_t seed)
      : scenario_(scenario),
        path_(directory.File("victim.store")),
        sites_path_(directory.File("sites")),
        sites_(sites_path_),
        random_(seed) {}

  /** Starts a victim; true: it was killed. Point 0: it lives and counts. */
  bool Kill(const Operation& operation, uint64_t point) {
    Child child =
        Child::Start("Victim", {path_, std::to_string(scenario_.max_bytes), std::to_string(point), sites_path_,
                                std::to_string(static_cast<int>(operation.action)), operation.key,
                                std::to_string(operation.number), std::to_string(operation.size)});
    const int ended = child.Wait();
    EXPECT_TRUE(ended == 0 || (point != 0 && ended == -SIGKILL)) << what_ << ended;
    if (ended == -SIGKILL) kills_++;
    return ended == -SIGKILL;
  }

  /** A fresh copy, and all that went before the operation. */
  void Prepare() {
    CopyFile(scenario_.file, path_);
    for (const auto& [operation, point] : scenario_.deaths) ASSERT_TRUE(Kill(operation, point)) << what_;
  }

  /** The points that are to be tried, at most `most`: all where a place in the code is passed seldom, else the first,
   * the last and some in between. */
  void ChoosePoints(bool survivor, size_t most, std::vector<uint64_t>* points) {
    what_ = scenario_.name + ", counting";
    Prepare();
    std::shared_ptr<Store> store;
    if (survivor) store = Open(path_, scenario_.max_bytes);
    Kill(scenario_.operation, 0);
    const uint64_t count = sites_.count();
    ASSERT_GT(count, 0) << scenario_.name;
    ASSERT_LT(count, kMostSites) << scenario_.name;
    points_ += count;
    std::map<uint32_t, std::vector<uint64_t>> of_site;
    for (uint64_t i = 1; i <= count; i++) of_site[sites_.sites()[i - 1]].push_back(i);
    std::vector<uint64_t> chosen;
    for (auto& [site, all] : of_site) {
      constexpr size_t kFew = 48;
      if (all.size() > kFew) {
        std::shuffle(all.begin() + 3, all.end() - 3, random_);
        all.erase(all.begin() + 12, all.end() - 3);
      }
      chosen.insert(chosen.end(), all.begin(), all.end());
    }
    std::shuffle(chosen.begin(), chosen.end(), random_);
    if (chosen.size() > most) chosen.resize(most);
    std::sort(chosen.begin(), chosen.end());
    *points = std::move(chosen);
  }

  /** One kill at each of some points of the operation, and what comes after it. */
  void Try(bool survivor, size_t most) {
    std::vector<uint64_t> points;
    ChoosePoints(survivor, most, &points);
    if (points.empty()) return;
    for (const uint64_t point : points) {
      what_ = scenario_.name + (survivor ? ", survived" : ", opened anew") + ", point " + std::to_string(point);
      Prepare();
      const uint64_t recoveries = Recoveries(path_);
      std::shared_ptr<Store> store;
      if (survivor) store = Open(path_, scenario_.max_bytes);
      const bool killed = Kill(scenario_.operation, point);
      if (store == nullptr) store = Open(path_, scenario_.max_bytes);
      ASSERT_TRUE(store != nullptr) << what_;
      GoOn(store.get(), killed);
      ASSERT_OK(store->Close()) << what_;
      store.reset();
      // What dead openers left comes back at the next open.
      store = Open(path_, scenario_.max_bytes);
      ASSERT_TRUE(store != nullptr) << what_;
      MapSink all;
      ScanAll(*store, &all);
      Expect(all, *store, model_);
      ASSERT_OK(store->Close()) << what_;
      store.reset();
      const Image image = ReadImage(path_);
      Ledger ledger(image);
      EXPECT_EQ(ledger.Check(), "") << what_;
      if (!scenario_.recovers) {
        EXPECT_EQ(ledger.recoveries(), recoveries) << what_ << "nothing had to be recovered";
      }
    }
  }

  uint64_t kills() const { return kills_; }
  uint64_t points() const { return points_; }
  const Cost& worst() const { return worst_; }

 private:
  uint64_t ShardOf(const std::string& key) const {
    return (faultless::HashBytes(key.data(), key.size(), seed_) >> 32) * 16 >> 32;
  }

  void Expect(const MapSink& found, const Store& store, const Model& expected) {
    EXPECT_FALSE(found.twice) << what_;
    if (scenario_.expires) {
      EXPECT_GE(store.Size(), found.entries.size()) << what_;
    } else {
      EXPECT_EQ(store.Size(), found.entries.size()) << what_;
    }
    EXPECT_EQ(found.entries.size(), expected.size()) << what_;
    for (const auto& [key, number] : expected) {
      const auto at = found.entries.find(key);
      if (at == found.entries.end()) {
        FAIL() << what_ << key << "is lost";
      } else {
        EXPECT_EQ(NumberOf(key, at->second), number) << what_ << key;
      }
    }
  }

  /** The state before, or that after the operation; a clear happens shard by shard. */
  void ExpectOneOfTwo(const MapSink& found, const Store& store) {
    Model after = scenario_.before;
    Apply(scenario_.operation, &after);
    Model seen = after;
    std::map<uint64_t, bool> kept;  // by shard
    for (const auto& [key, number] : scenario_.before) {
      if (after.contains(key) && after[key] == number) continue;
      const auto at = found.entries.find(key);
      const bool is_old = at != found.entries.end() && NumberOf(key, at->second) == number;
      if (is_old) seen[key] = number;
      if (scenario_.operation.action == Action::kClear) {
        const bool same = kept.emplace(ShardOf(key), is_old).first->second == is_old;
        EXPECT_TRUE(same) << what_ << key << "a shard is cleared in part";
      }
    }
    if (scenario_.operation.action == Action::kBatch) {
      const auto at = found.entries.find("newkey3");
      const bool done = at != found.entries.end() && NumberOf(at->first, at->second) == after["newkey3"];
      seen = done ? after : scenario_.before;
    } else if (!scenario_.before.contains(scenario_.operation.key) &&
               !found.entries.contains(scenario_.operation.key)) {
      seen.erase(scenario_.operation.key);
    }
    Expect(found, store, seen);
    model_ = seen;
  }

  /** Somebody who lives uses the store. */
  void GoOn(Store* store, bool killed) {
    ReadSeed();
    // Before anybody settles anything on purpose: what a reader finds.
    std::string early;
    const bool early_there = Get(*store, scenario_.operation.key.empty() ? "x" : scenario_.operation.key, &early).ok();
    const bool batch = scenario_.operation.action == Action::kBatch;
    const bool early_after = batch && ExpectWhole(store);
    for (const auto& [key, number] : scenario_.before) {
      if (key == scenario_.operation.key || scenario_.operation.action == Action::kClear || batch || Skip()) continue;
      std::string value;
      EXPECT_OK(Get(*store, key, &value)) << what_ << key;
      EXPECT_EQ(NumberOf(key, value), number) << what_ << key;
    }
    // Deleting what is not there takes a lock and so settles the shard: that is what taking over costs.
    std::vector<std::string> absent(16);
    for (uint64_t i = 0, missing = 16; missing > 0; i++) {
      std::string key = "absent" + std::to_string(i);
      std::string& place = absent[ShardOf(key)];
      if (!place.empty()) continue;
      place = std::move(key);
      missing--;
    }
    for (const std::string& key : absent) {
      bool existed = true;
      const Cost cost = CountWords([&] { EXPECT_OK(Delete(*store, key, &existed)) << what_; });
      EXPECT_FALSE(existed) << what_;
      if (!killed) continue;
      worst_.stores = std::max(worst_.stores, cost.stores);
      worst_.loads = std::max(worst_.loads, cost.loads);
    }
    MapSink settled;
    ScanAll(*store, &settled);
    ExpectOneOfTwo(settled, *store);
    if (batch) {
      EXPECT_EQ(model_.contains("newkey3") && model_.at("newkey3") == scenario_.operation.number, early_after)
          << what_ << "what readers saw was taken back";
    }
    const auto now = settled.entries.find(scenario_.operation.key);
    const uint64_t early_number = early_there ? NumberOf(scenario_.operation.key, early) : 0;
    const bool was_new =
        SetsItsKey(scenario_.operation.action) && early_there && early_number == scenario_.operation.number;
    if (was_new) {
      EXPECT_TRUE(now != settled.entries.end() && now->second == early) << what_ << "what was read is gone";
    }
    if (scenario_.operation.action == Action::kDelete && !early_there) {
      EXPECT_TRUE(now == settled.entries.end()) << what_ << "what was deleted is back";
    }
    GoOnWriting(store);
  }

  /** Readers of all kinds see all of a batch or nothing, before anybody has settled anything. True: all of it. */
  bool ExpectWhole(Store* store) {
    OpenOptions options;
    options.path = path_;
    options.read_only = true;
    std::shared_ptr<Store> reader;
    EXPECT_OK(Store::Open(options, &reader)) << what_;
    bool after = false;
    const auto expect = [&](Store& one, bool first) {
      const std::vector<BatchWrite> writes = WritesOf(scenario_.operation);
      std::vector<Bytes> keys;
      std::vector<StringSink> sinks(writes.size());
      std::vector<faultless::store::ValueSink*> pointers;
      std::vector<Code> codes(writes.size());
      for (size_t i = 0; i < writes.size(); i++) {
        keys.push_back(AsBytes(writes[i].key));
        pointers.push_back(&sinks[i]);
      }
      EXPECT_OK(Patiently([&] { return one.GetMany(keys, pointers, codes); })) << what_;
      Model expected = scenario_.before;
      if (first) {
        after = codes[3] == Code::kOk && NumberOf(writes[3].key, sinks[3].value) == scenario_.operation.number;
      }
      if (after) Apply(scenario_.operation, &expected);
      for (size_t i = 0; i < writes.size(); i++) {
        const auto at = expected.find(writes[i].key);
        const bool right = at == expected.end()
                               ? codes[i] == Code::kAbsent
                               : codes[i] == Code::kOk && NumberOf(at->first, sinks[i].value) == at->second;
        EXPECT_TRUE(right) << what_ << (first ? "read only:" : "") << writes[i].key << "after" << after;
        if (i % 7 != 0) continue;
        // One at a time, as well.
        std::string value;
        const Status status = Get(one, writes[i].key, &value);
        EXPECT_TRUE(status.code() == codes[i] && (!status.ok() || value == sinks[i].value)) << what_ << writes[i].key;
      }
    };
    if (reader != nullptr) {
      expect(*reader, true);
      MapSink all;
      ScanAll(*reader, &all);
      EXPECT_EQ(NumberOf("newkey3", all.entries["newkey3"]) == scenario_.operation.number, after) << what_;
      EXPECT_OK(reader->Close());
    }
    expect(*store, false);
    return after;
  }

  void GoOnWriting(Store* store) {
    const auto perform = [&](const Operation& operation) {
      ASSERT_OK(Run(*store, operation)) << what_ << operation.key;
      Apply(operation, &model_);
    };
    const std::string& key = scenario_.operation.key;
    if (!key.empty()) {
      perform({Action::kSet, key, 1000, 300});
      perform({Action::kDelete, key, 0, 0});
      perform({Action::kSet, key, 1001, scenario_.operation.size});
    }
    std::vector<std::string> some;
    for (const auto& [other, number] : scenario_.before) {
      if (!Skip() && some.size() < 30) some.push_back(other);
    }
    for (const std::string& other : some) perform({Action::kSet, other, 1002, 1 + random_() % 3000});
    for (int i = 0; i < 20; i++) perform({Action::kSet, "more" + std::to_string(i), 1, random_() % 2000});
    perform({Action::kSet, "more large", 1, 200'000});
    MapSink all;
    ScanAll(*store, &all);
    Expect(all, *store, model_);
  }

  /** Of many keys only some are looked at one by one. */
  bool Skip() { return scenario_.before.size() > 100 && random_() % (scenario_.before.size() / 50) != 0; }

  void ReadSeed() {
    faultless::format::Superblock block;
    const int fd = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0 || ::pread(fd, &block, sizeof block, 0) != sizeof block) ::abort();
    ::close(fd);
    seed_[0] = block.hash_seed[0];
    seed_[1] = block.hash_seed[1];
  }

  const Scenario& scenario_;
  const std::string path_;
  const std::string sites_path_;
  const Sites sites_;
  std::mt19937_64 random_;
  std::string what_;
  uint64_t seed_[2] = {};
  Model model_;
  uint64_t kills_ = 0;
  uint64_t points_ = 0;
  Cost worst_;
};

}  // namespace store_test
