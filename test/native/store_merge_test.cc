// An index that grows and shrinks: what is in it stays right, for readers and scans as well, and its space comes back.
#include <algorithm>
#include <bit>
#include <thread>

#include "store/allocator.h"
#include "store/index_merge.h"
#include "store/open_engines.h"
#include "store/verify.h"
#include "store_ledger.h"

namespace {

using namespace store_test;
using faultless::store::Engine;
using harness::Child;
namespace format = faultless::format;

constexpr uint64_t kPrefixEnd = uint64_t{1} << format::kDirectoryBits;
constexpr uint64_t kMaxBytes = uint64_t{1} << 30;

std::string KeyOf(uint64_t i) { return "k" + std::to_string(i); }
std::string ValueOf(uint64_t i, uint64_t round) { return std::to_string(i * 7) + "/" + std::to_string(round); }

/** The engine that a store of this process has open, for what no user sees. */
class Inside {
 public:
  explicit Inside(const std::string& path) {
    OpenOptions options;
    options.path = path;
    EXPECT_OK(faultless::store::AcquireEngine(options, &engine_));
  }
  ~Inside() { EXPECT_OK(faultless::store::ReleaseEngine(&engine_)); }
  Inside(const Inside&) = delete;

  const faultless::store::Context& context() const { return engine_->context(); }

  uint64_t Units() const {
    uint64_t units = 0;
    for (uint64_t unit = context().head_units() + 1; unit < context().PublishedUnits(); unit++) {
      format::EntryView view;
      if (faultless::store::ReadRun(context(), unit, format::RunKind::kIndex, &view)) units++;
    }
    return units;
  }
  uint64_t FreePieces(uint32_t shard) const {
    uint64_t pieces = 0;
    for (uint32_t i = 0; i < format::kPiecesPerUnit; i++) {
      uint64_t unit = context().shard(shard).free_units[i].load();
      for (; unit != 0; unit = context().entry(unit).free_links.load() & 0xFFFF'FFFF) pieces += i + 1;
    }
    return pieces;
  }
  uint64_t Segments() const {
    uint64_t places = 0;
    for (uint32_t i = 0; i < context().shards(); i++) places += context().shard(i).entry_places.load();
    return places / format::kEntriesPerSegment;
  }
  uint64_t StructureMoves() const {
    uint64_t moves = 0;
    for (uint32_t i = 0; i < context().shards(); i++) moves += context().shard(i).structure_version.load() / 2;
    return moves;
  }
  /** As compaction does. */
  void MergeAll() const {
    for (uint32_t shard = 0; shard < context().shards(); shard++) {
      for (uint64_t prefix = 0; prefix < kPrefixEnd;) {
        ASSERT_OK(Patiently([&] { return faultless::store::MergeSegments(context(), shard, &prefix); }));
      }
    }
  }

 private:
  std::shared_ptr<Engine> engine_;
};

using Rounds = std::map<uint64_t, uint64_t>;  // key → round of its value

void ExpectAll(Store& store, const Rounds& model, uint64_t keys, const std::string& when) {
  MapSink all;
  ScanAll(store, &all);
  EXPECT_FALSE(all.twice) << when;
  EXPECT_EQ(all.entries.size(), model.size()) << when;
  EXPECT_EQ(store.Size(), model.size()) << when;
  for (const auto& [key, round] : model) {
    const auto at = all.entries.find(KeyOf(key));
    ASSERT_TRUE(at != all.entries.end()) << when << KeyOf(key) << "seed" << Seed();
    ASSERT_EQ(at->second, ValueOf(key, round)) << when << "seed" << Seed();
  }
  std::string value;
  for (uint64_t i = 0; i < keys; i += 7) {
    const auto at = model.find(i);
    ASSERT_CODE(Get(store, KeyOf(i), &value), at == model.end() ? Code::kAbsent : Code::kOk) << when << i;
  }
}

void ExpectSound(Store& store, const std::string& when) {
  const auto verification = store.Verify();
  ASSERT_OK(RunToEnd(*verification));
  for (const auto& damage : verification->Report().damaged) {
    EXPECT_TRUE(false) << when << "at" << damage.offset << damage.reason << "seed" << Seed();
  }
}

/** Grows, loses 99 of 100 keys in an order, and grows again. */
void GrowAndShrink(const std::string& name,
                   const std::function<void(const std::string& path, std::vector<uint64_t>*)>& order) {
  constexpr uint64_t kKeys = kSanitized ? 40'000 : 100'000;
  const harness::TemporaryDirectory directory;
  const std::string path = directory.File("a.store");
  auto store = Open(path, kMaxBytes);
  Rounds model;
  for (uint64_t round = 1; round <= 2; round++) {
    for (uint64_t i = 0; i < kKeys; i++) {
      ASSERT_OK(Set(*store, KeyOf(i), ValueOf(i, round)));
      model[i] = round;
    }
    ExpectAll(*store, model, kKeys, name + ", grown");
    uint64_t grown;
    {
      const Inside inside(path);
      grown = inside.Units();
    }
    std::vector<uint64_t> keys(kKeys);
    for (uint64_t i = 0; i < kKeys; i++) keys[i] = i;
    order(path, &keys);
    for (uint64_t i = 0; i < kKeys / 100 * 99; i++) {
      bool existed = false;
      ASSERT_OK(Delete(*store, KeyOf(keys[i]), &existed));
      ASSERT_TRUE(existed);
      model.erase(keys[i]);
      if (i == kKeys / 2) ExpectAll(*store, model, kKeys, name + ", half of it");
    }
    for (int again = 0; again < 3; again++) {
      for (auto& [key, last] : model) ASSERT_OK(Set(*store, KeyOf(key), ValueOf(key, last = round + 10)));
    }
    ExpectAll(*store, model, kKeys, name + ", shrunk");
    ExpectSound(*store, name);
    const Inside inside(path);
    const std::string fresh_path = directory.File("fresh" + std::to_string(round));
    auto fresh = Open(fresh_path, kMaxBytes);
    for (const auto& [key, last] : model) ASSERT_OK(Set(*fresh, KeyOf(key), ValueOf(key, last)));
    const Inside fresh_inside(fresh_path);
    std::printf("    %s: %lu index units, shrunk %lu with %lu segments; a fresh store has %lu with %lu\n", name.c_str(),
                grown, inside.Units(), inside.Segments(), fresh_inside.Units(), fresh_inside.Segments());
    EXPECT_GT(grown, (kSanitized ? 5 : 10) * fresh_inside.Units() / 4);
    EXPECT_LE(inside.Units(), 2 * fresh_inside.Units());
    EXPECT_LE(inside.Segments(), 2 * fresh_inside.Segments());
    ASSERT_OK(fresh->Close());
  }
  ASSERT_OK(store->Close());
  const Image image = ReadImage(path);
  EXPECT_EQ(Ledger(image).Check(), "") << name << "seed" << Seed();
}

TEST(StoreMerge, ShrinksWhenKeysGoAtRandom) {
  GrowAndShrink("at random", [](const std::string&, std::vector<uint64_t>* keys) {
    std::mt19937_64 random(Seed());
    std::shuffle(keys->begin(), keys->end(), random);
  });
}

TEST(StoreMerge, ShrinksWhenKeysGoInTheirOrder) {
  GrowAndShrink("ascending", [](const std::string&, std::vector<uint64_t>*) {});
}

TEST(StoreMerge, ShrinksWhenKeysGoShardByShard) {
  // In the order of the hash: shard by shard, and within a shard segment by segment.
  GrowAndShrink("shard by shard", [](const std::string& path, std::vector<uint64_t>* keys) {
    const Inside inside(path);
    std::vector<std::pair<uint64_t, uint64_t>> by_hash;
    for (const uint64_t key : *keys) {
      const std::string name = KeyOf(key);
      by_hash.emplace_back(faultless::HashBytes(name.data(), name.size(), inside.context().superblock.hash_seed), key);
    }
    std::sort(by_hash.begin(), by_hash.end());
    for (size_t i = 0; i < keys->size(); i++) (*keys)[i] = by_hash[i].second;
  });
}

/** What compaction calls merges all that fits, and leaves no unit nearly empty. */
TEST(StoreMerge, CompactionStepsMergeEverything) {
  constexpr uint64_t kKeys = kSanitized ? 40'000 : 120'000;
  const harness::TemporaryDirectory directory;
  const std::string path = directory.File("a.store");
  auto store = Open(path, kMaxBytes);
  Rounds model;
  for (uint64_t i = 0; i < kKeys; i++) {
    ASSERT_OK(Set(*store, KeyOf(i), ValueOf(i, 1)));
    model[i] = 1;
  }
  std::mt19937_64 random(Seed());
  for (const uint64_t kept : {kKeys / 2, kKeys / 5, kKeys / 50, uint64_t{0}}) {
    while (model.size() > kept) {
      const auto at = model.lower_bound(random() % kKeys);
      if (at == model.end()) continue;
      bool existed;
      ASSERT_OK(Delete(*store, KeyOf(at->first), &existed));
      model.erase(at);
    }
    const Inside inside(path);
    const uint64_t before = inside.Units();
    const uint64_t segments = inside.Segments();
    inside.MergeAll();
    inside.MergeAll();
    ExpectAll(*store, model, kKeys, "compacted to " + std::to_string(kept));
    ExpectSound(*store, "compacted");
    for (uint32_t shard = 0; shard < inside.context().shards(); shard++) {
      EXPECT_LE(inside.FreePieces(shard), 6) << "beside the directory's unit one may be in part free";
    }
    std::printf("    %lu of %lu keys: %lu units with %lu segments, compacted %lu with %lu\n", kept, kKeys, before,
                segments, inside.Units(), inside.Segments());
    EXPECT_LE(inside.Units(), before);
    // Nothing is left to merge where each pair is more than half of a segment: a quarter full at least, each.
    if (kept >= kKeys / 5) {
      EXPECT_LE(inside.Segments() * format::kEntriesPerSegment, 4 * kept + 16 * format::kEntriesPerSegment);
    } else {
      EXPECT_LE(inside.Segments(), 16);
    }
    const uint64_t moves = inside.StructureMoves();
    inside.MergeAll();
    EXPECT_EQ(inside.StructureMoves(), moves) << "what is as small as it can be is left alone";
  }
  ASSERT_OK(store->Close());
  const Image image = ReadImage(path);
  EXPECT_EQ(Ledger(image).Check(), "") << "seed" << Seed();
}

/** Keys that share the first 11 bits which choose a segment: few of them make a deep directory. */
TEST(StoreMerge, ALargeDirectoryBecomesSmallAgain) {
  const harness::TemporaryDirectory directory;
  const std::string path = directory.File("a.store");
  auto store = Open(path, kMaxBytes);
  std::vector<std::string> keys;
  {
    const Inside inside(path);
    for (uint64_t i = 0; keys.size() < 1400; i++) {
      const uint64_t hash = faultless::HashBytes(&i, 8, inside.context().superblock.hash_seed);
      if (hash >> 60 == 0 && (hash >> 45 & 0x7FF) == 0) keys.emplace_back(reinterpret_cast<const char*>(&i), 8);
    }
  }
  const Inside inside(path);
  const auto& shard = inside.context().shard(0);
  const auto depth = [&] { return shard.directory.load() & 0xFF; };
  bool existed;
  for (int round = 0; round < 2; round++) {
    for (const std::string& key : keys) ASSERT_OK(Set(*store, key, key));
    EXPECT_GT(depth(), format::kPieceDirectoryDepth);
    ExpectSound(*store, "with a deep directory");
    for (size_t i = 0; i < keys.size() - 100; i++) {
      ASSERT_OK(Delete(*store, keys[i], &existed));
      if (i % 200 != 0) continue;
      for (size_t j = 0; j < keys.size(); j++) {
        std::string value;
        ASSERT_CODE(Get(*store, keys[j], &value), j <= i ? Code::kAbsent : Code::kOk);
      }
    }
    EXPECT_EQ(depth(), format::kPieceDirectoryDepth);
    EXPECT_EQ(shard.spare_directory_unit.load(), 0);
    MapSink all;
    ScanAll(*store, &all);
    EXPECT_EQ(all.entries.size(), 100);
    ExpectSound(*store, "with a small directory");
  }
  inside.MergeAll();
  std::printf("    %lu segments, %lu units\n", inside.Segments(), inside.Units());
  EXPECT_EQ(inside.Segments(), 1);
  EXPECT_EQ(inside.Units(), 1);
  ASSERT_OK(store->Close());
}

// ───────────────────────────────────────────────────────────── while others read

constexpr uint64_t kStable = 2000;
constexpr uint64_t kChurned = kSanitized ? 30'000 : 60'000;

std::string StableKey(uint64_t i) { return "stable" + std::to_string(i); }

/** Counts deliveries. */
class CountingSink final : public faultless::store::ScanSink {
 public:
  bool Entry(Bytes key, Bytes value) override {
    const std::string name(key.begin(), key.end());
    counts[name]++;
    if (name.starts_with("stable") && std::string(value.begin(), value.end()) != "=" + name) wrong++;
    return true;
  }
  void Check(const std::string& when) const {
    EXPECT_EQ(wrong, 0) << when;
    uint64_t stable = 0;
    for (const auto& [key, count] : counts) {
      EXPECT_EQ(count, 1) << key << when << "seed" << Seed();
      if (key.starts_with("stable")) stable++;
    }
    EXPECT_EQ(stable, kStable) << when << "seed" << Seed();
  }
  std::map<std::string, int> counts;
  int wrong = 0;
};

void SetStable(Store& store) {
  for (uint64_t i = 0; i < kStable; i++) ASSERT_OK(Set(store, StableKey(i), "=" + StableKey(i)));
}

/** A scan that stands still at random places while the index grows and shrinks around it. */
TEST(StoreMerge, ScansDeliverEachKeyOnceAcrossMergesAndSplits) {
  const harness::TemporaryDirectory directory;
  const std::string path = directory.File("a.store");
  auto store = Open(path, kMaxBytes);
  SetStable(*store);
  std::mt19937_64 random(Seed());
  uint64_t present = 0;  // churn keys 0 … present − 1 are there
  uint64_t merges = 0;
  uint64_t splits = 0;
  // Until both have come about, which chance decides.
  for (int scan = 0; scan < (kSanitized ? 2 : 4) || ((merges == 0 || splits == 0) && scan < 100); scan++) {
    CountingSink sink;
    faultless::store::ScanCursor cursor;
    while (!cursor.done) {
      ASSERT_OK(Patiently([&] { return store->Scan(&cursor, {}, true, 1 + random() % 60'000, &sink); }));
      if (random() % 3 != 0) continue;
      const uint64_t segments = Inside(path).Segments();
      const uint64_t target = present < kChurned / 2 ? kChurned : kChurned / 100;
      for (; present < target; present++) ASSERT_OK(Set(*store, KeyOf(present), ValueOf(present, 1)));
      bool existed;
      for (; present > target; present--) ASSERT_OK(Delete(*store, KeyOf(present - 1), &existed));
      const Inside inside(path);
      if (random() % 2 == 0) inside.MergeAll();
      (inside.Segments() < segments ? merges : splits) += 1;
    }
    sink.Check("scan " + std::to_string(scan));
  }
  EXPECT_GT(merges, 0);
  EXPECT_GT(splits, 0);
  ASSERT_OK(store->Close());
}

enum Word : size_t { kReady, kStop, kLooks };

/** File, board, whether it may write: what stays is there at every moment, what never was is not. */
CHILD_PROCESS(MergeReader) {
  LiveAtMost(240);
  const Board board(arguments[1]);
  OpenOptions options;
  options.path = arguments[0];
  options.read_only = arguments[2] == "read-only";
  std::shared_ptr<Store> store;
  ASSERT_OK(Store::Open(options, &store));
  board[kReady]++;
  std::mt19937_64 random(::getpid());
  uint64_t looks = 0;
  while (board[kStop].load() == 0) {
    for (int i = 0; i < 500; i++) {
      const uint64_t key = random() % kStable;
      std::string value;
      const Status there =
          Get(*store, StableKey(key), &value, i % 2 == 0 ? ReadMode::kMayFault : ReadMode::kResidentOnly);
      if (there.code() != Code::kCold) {
        ASSERT_OK(there) << StableKey(key);
        ASSERT_EQ(value, "=" + StableKey(key));
      }
      ASSERT_CODE(Get(*store, "never" + std::to_string(key), &value), Code::kAbsent);
      const uint64_t churned = random() % kChurned;
      const Status maybe = Get(*store, KeyOf(churned), &value);
      if (maybe.code() != Code::kAbsent) {
        ASSERT_OK(maybe);
        ASSERT_EQ(value, ValueOf(churned, 1));
      }
    }
    CountingSink sink;
    faultless::store::ScanCursor cursor;
    while (!cursor.done) {
      ASSERT_OK(Patiently([&] { return store->Scan(&cursor, {}, true, 64 * 1024, &sink); }));
    }
    sink.Check("in a process of its own");
    looks++;
  }
  board[kLooks] += looks;
  ASSERT_OK(store->Close());
}

TEST(StoreMerge, ProcessesReadWhileTheIndexGrowsAndShrinks) {
  const harness::TemporaryDirectory directory;
  const std::string path = directory.File("a.store");
  auto store = Open(path, kMaxBytes);
  SetStable(*store);
  const Board board(directory.File("board"));
  std::vector<Child> readers;
  for (const char* mode : {"writable", "read-only"}) {
    readers.push_back(Child::Start("MergeReader", {path, directory.File("board"), mode}));
  }
  while (board[kReady].load() < readers.size()) ::usleep(200);
  // Two threads with keys of their own, so that their segments are the same.
  std::vector<std::thread> writers;
  std::atomic<int> running{2};
  for (uint64_t writer = 0; writer < 2; writer++) {
    writers.emplace_back([&, writer] {
      for (int round = 0; round < (kSanitized ? 2 : 4); round++) {
        bool existed;
        for (uint64_t i = writer; i < kChurned; i += 2) EXPECT_OK(Set(*store, KeyOf(i), ValueOf(i, 1)));
        for (uint64_t i = writer; i < kChurned; i += 2) EXPECT_OK(Delete(*store, KeyOf(i), &existed));
      }
      running--;
    });
  }
  const Inside inside(path);
  uint64_t merges = 0;
  uint64_t most = 0;
  uint64_t verified = 0;
  for (uint64_t segments = inside.Segments(); running.load() > 0; ::usleep(100)) {
    const uint64_t now = inside.Segments();
    merges += now < segments ? segments - now : 0;
    most = std::max(most, now);
    segments = now;
    if (verified++ % 512 == 0) ExpectSound(*store, "under load");
  }
  for (std::thread& writer : writers) writer.join();
  board[kStop] = 1;
  for (Child& reader : readers) EXPECT_EQ(reader.Wait(), 0);
  EXPECT_GT(board[kLooks].load(), 0);
  std::printf("    %lu merges seen, %lu segments at most, %lu in the end, %lu scans\n", merges, most, inside.Segments(),
              board[kLooks].load());
  EXPECT_GT(merges, most / 2);
  EXPECT_EQ(store->Size(), kStable);
  ExpectSound(*store, "in the end");
  ASSERT_OK(store->Close());
}

}  // namespace
