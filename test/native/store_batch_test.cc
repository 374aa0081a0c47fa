// Batches: all or nothing to readers of every thread, checks, limits, what they do to index, queue and space.
#include <cstring>
#include <thread>

#include "store/verify.h"
#include "store_ledger.h"

namespace {

using namespace store_test;
using faultless::store::BatchEntry;
using Kind = BatchEntry::Kind;

/** Keeps the bytes that the entries refer to. */
class Batch {
 public:
  Batch& Set(const std::string& key, const std::string& value, uint64_t expires_at_ms = 0) {
    return Add(Kind::kSet, key, value, expires_at_ms);
  }
  Batch& Delete(const std::string& key) { return Add(Kind::kDelete, key, "", 0); }
  Batch& Expect(const std::string& key, const std::string& value) { return Add(Kind::kExpect, key, value, 0); }
  Batch& ExpectAbsent(const std::string& key) { return Add(Kind::kExpectAbsent, key, "", 0); }

  Status TryCommit(Store& store, bool* done) const {
    std::vector<BatchEntry> entries;
    for (const Entry& entry : entries_) {
      entries.push_back({entry.kind, AsBytes(entry.key), AsBytes(entry.value), entry.expires_at_ms});
    }
    return Patiently([&] { return store.CommitBatch(entries, done); });
  }
  bool Commit(Store& store) const {
    bool done = false;
    EXPECT_OK(TryCommit(store, &done));
    return done;
  }

 private:
  struct Entry {
    Kind kind;
    std::string key;
    std::string value;
    uint64_t expires_at_ms;
  };
  Batch& Add(Kind kind, const std::string& key, const std::string& value, uint64_t expires_at_ms) {
    entries_.push_back({kind, key, value, expires_at_ms});
    return *this;
  }
  std::vector<Entry> entries_;
};

void ExpectSound(const std::string& path) { EXPECT_EQ(Ledger(ReadImage(path)).Check(), ""); }

void ExpectVerified(Store& store) {
  const auto verification = store.Verify();
  ASSERT_OK(RunToEnd(*verification));
  EXPECT_EQ(verification->Report().damaged.size(), 0);
}

std::string ValueOf(Store& store, const std::string& key) {
  std::string value;
  const Status status = Get(store, key, &value);
  EXPECT_TRUE(status.ok() || status.code() == Code::kAbsent);
  return status.ok() ? value : "(absent)";
}

TEST(StoreBatch, SetsDeletesAndChecks) {
  const harness::TemporaryDirectory directory;
  const std::string path = directory.File("basic.store");
  auto store = Open(path);
  EXPECT_TRUE(Batch().Commit(*store));
  EXPECT_TRUE(Batch().Delete("nothing").Commit(*store));
  EXPECT_EQ(store->Size(), 0);
  EXPECT_TRUE(Batch().Set("a", "1").Set("b", "2").Set("c", "3").Commit(*store));
  EXPECT_TRUE(Batch().Set("a", "4").Delete("b").Set("d", "").Delete("d").Set("a", "5").Commit(*store));
  EXPECT_EQ(ValueOf(*store, "a"), "5");
  EXPECT_EQ(ValueOf(*store, "b"), "(absent)");
  EXPECT_EQ(ValueOf(*store, "c"), "3");
  EXPECT_EQ(ValueOf(*store, "d"), "(absent)");
  EXPECT_EQ(store->Size(), 2);
  // Checks look at what was there before the batch, whatever it does itself.
  EXPECT_FALSE(Batch().Set("a", "6").Expect("a", "6").Commit(*store));
  EXPECT_FALSE(Batch().Set("e", "6").ExpectAbsent("a").Commit(*store));
  EXPECT_FALSE(Batch().Set("e", "6").Expect("b", "2").Commit(*store));
  EXPECT_EQ(ValueOf(*store, "e"), "(absent)");
  EXPECT_TRUE(Batch().Expect("a", "5").ExpectAbsent("b").Expect("c", "3").Set("a", "7").Commit(*store));
  EXPECT_EQ(ValueOf(*store, "a"), "7");
  EXPECT_TRUE(Batch().Expect("c", "3").Commit(*store));
  EXPECT_FALSE(Batch().Expect("c", "33").Commit(*store));
  ExpectVerified(*store);
  EXPECT_OK(store->Close());
  ExpectSound(path);
  store = Open(path);
  EXPECT_EQ(ValueOf(*store, "a"), "7");
  EXPECT_EQ(store->Size(), 2);
  EXPECT_OK(store->Close());
}

TEST(StoreBatch, RefusesWhatCannotBe) {
  const harness::TemporaryDirectory directory;
  const std::string path = directory.File("refused.store");
  auto store = Open(path);
  bool done = true;
  EXPECT_CODE(Batch().Set("ok", "1").Set("", "2").TryCommit(*store, &done), Code::kKeyEmpty);
  EXPECT_CODE(Batch().Set("ok", "1").Expect(std::string(65'536, 'k'), "").TryCommit(*store, &done), Code::kKeyTooLong);
  Batch many;
  for (int i = 0; i < 65'537; i++) many.Delete("k");
  EXPECT_CODE(many.TryCommit(*store, &done), Code::kOutOfRange);
  Batch heavy;  // 18 MB in one shard
  for (const std::string& key : KeysInShards(path, 1, 300, "heavy")) heavy.Set(key, std::string(60'000, 'v'));
  EXPECT_CODE(heavy.TryCommit(*store, &done), Code::kOutOfRange);
  EXPECT_EQ(store->Size(), 0);
  EXPECT_TRUE(Batch().Set("ok", "1").Commit(*store));
  EXPECT_OK(store->Close());
  ExpectSound(path);
  OpenOptions read_only;
  read_only.path = path;
  read_only.read_only = true;
  EXPECT_OK(Store::Open(read_only, &store));
  EXPECT_CODE(Batch().Set("ok", "2").TryCommit(*store, &done), Code::kReadOnly);
  EXPECT_OK(store->Close());
}

TEST(StoreBatch, TakesAsManyAsItSays) {
  const harness::TemporaryDirectory directory;
  const std::string path = directory.File("many.store");
  auto store = Open(path);
  const auto key_of = [](int i) { return "key" + std::to_string(i); };
  for (const int round : {0, 1, 2}) {
    Batch batch;
    for (int i = 0; i < 65'536; i++) {
      if (round == 2 && i % 2 == 0) {
        batch.Delete(key_of(i));
      } else {
        batch.Set(key_of(i),
                  MakeValue(key_of(i), static_cast<uint64_t>(round) + 1, 20 + static_cast<uint64_t>(i % 100)));
      }
    }
    EXPECT_TRUE(batch.Commit(*store));
    EXPECT_EQ(store->Size(), round == 2 ? 32'768 : 65'536);
  }
  for (int i = 0; i < 65'536; i++) {
    std::string value;
    const Status status = Get(*store, key_of(i), &value);
    ASSERT_TRUE(i % 2 == 0 ? status.code() == Code::kAbsent : status.ok()) << i;
    ASSERT_TRUE(i % 2 == 0 || NumberOf(key_of(i), value) == 3) << i;
  }
  ExpectVerified(*store);
  EXPECT_OK(store->Close());
  ExpectSound(path);
}

TEST(StoreBatch, LargeValuesComeAndGoWithIt) {
  const harness::TemporaryDirectory directory;
  const std::string path = directory.File("large.store");
  const auto store = Open(path);
  std::map<std::string, std::string> expected;
  for (uint64_t round = 1; round <= 12; round++) {
    Batch batch;
    for (uint64_t i = 0; i < 10; i++) {
      const std::string key = "key" + std::to_string(i);
      if (expected.contains(key)) batch.Expect(key, expected[key]);
      if ((round + i) % 5 == 0) {
        batch.Delete(key);
        expected.erase(key);
      } else {
        expected[key] = MakeValue(key, round, (round * 7 + i) % 3 == 0 ? 30 : 60'000 + i * 40'000);
        batch.Set(key, expected[key]);
      }
    }
    ASSERT_TRUE(batch.Commit(*store)) << round;
    Batch refused;
    ASSERT_FALSE(refused.ExpectAbsent(expected.begin()->first).Set("big", std::string(500'000, 'x')).Commit(*store));
  }
  MapSink all;
  ScanAll(*store, &all);
  EXPECT_TRUE(all.entries == expected);
  EXPECT_EQ(store->Size(), expected.size());
  ExpectVerified(*store);
  EXPECT_OK(store->Close());
  ExpectSound(path);
}

TEST(StoreBatch, RandomOnesAgreeWithAMap) {
  std::mt19937_64 random(Seed());
  std::printf("    seed %lu\n", Seed());
  for (const bool disk : {true, false}) {
    if (disk && !UseDisk()) continue;
    const harness::TemporaryDirectory directory;
    const std::string path = directory.File("random.store");
    const auto store = Open(path);
    std::map<std::string, std::string> expected;
    for (uint64_t round = 0; round < 300; round++) {
      Batch batch;
      auto after = expected;
      const uint64_t count = random() % (round % 20 == 0 ? 3'000 : 60);
      for (uint64_t i = 0; i < count; i++) {
        const std::string key = "k" + std::to_string(random() % 5'000);
        if (random() % 3 == 0) {
          batch.Delete(key);
          after.erase(key);
        } else {
          after[key] = MakeValue(key, round, random() % 300);
          batch.Set(key, after[key]);
        }
      }
      if (random() % 4 == 0) {
        EXPECT_FALSE(batch.Expect("k1", "never").Commit(*store));
      } else {
        EXPECT_TRUE(batch.Commit(*store));
        expected = std::move(after);
      }
      const Status flushed = random() % 50 == 0 ? store->Flush() : Status();
      EXPECT_OK(flushed);
    }
    MapSink all;
    ScanAll(*store, &all);
    EXPECT_TRUE(all.entries == expected);
    EXPECT_EQ(store->Size(), expected.size());
    ExpectVerified(*store);
    EXPECT_OK(store->Close());
    ExpectSound(path);
  }
}

// Words that name a list which is none: everything but batches and flushes goes on, and verify() finds the place.
TEST(StoreBatch, ADamagedDecisionIsFound) {
  const harness::TemporaryDirectory directory;
  const std::string path = directory.File("damaged.store");
  auto store = Open(path);
  ASSERT_TRUE(Batch().Set("a", "1").Set("b", "2").Commit(*store));
  ASSERT_OK(store->Close());
  constexpr uint64_t kPlace =
      faultless::format::kControlOffset + offsetof(faultless::format::ControlHeader, decided_batch);
  for (const uint64_t unit : {uint64_t{1}, uint64_t{8}, uint64_t{9}, ~uint64_t{0}}) {
    Image image = ReadImage(path);
    image[kPlace / 8] = unit;
    const std::string copy = directory.File("copy" + std::to_string(unit));
    WriteImage(copy, image);
    store = Open(copy);
    ASSERT_TRUE(store != nullptr);
    EXPECT_EQ(ValueOf(*store, "a"), "1");
    EXPECT_OK(Set(*store, "c", "3"));
    bool done = true;
    EXPECT_CODE(Batch().Set("a", "4").TryCommit(*store, &done), Code::kCorrupt) << unit;
    const auto verification = store->Verify();
    ASSERT_OK(RunToEnd(*verification));
    const auto damaged = verification->Report().damaged;
    EXPECT_TRUE(damaged.size() == 1 && damaged[0].offset == kPlace) << unit << damaged.size();
    static_cast<void>(store->Close());
  }
}

TEST(StoreBatch, TheFileStaysBoundedThoughNobodyFlushes) {
  const harness::TemporaryDirectory directory;
  const std::string path = directory.File("bounded.store");
  const auto store = Open(path);
  uint64_t most = 0;
  for (uint64_t round = 0; round < 3'000; round++) {
    Batch batch;
    for (uint64_t i = 0; i < 32; i++) {
      const std::string key = "key" + std::to_string((round * 7 + i) % 320);
      batch.Set(key, MakeValue(key, round, 1'000));
    }
    ASSERT_TRUE(batch.Commit(*store));
    most = std::max(most, store->GetStats().file_bytes);
  }
  std::printf("    96 MB of batches over 320 KB: %lu bytes at most\n", most);
  EXPECT_LT(most, 24u << 20);
  EXPECT_OK(store->Close());
  ExpectSound(path);
}

TEST(StoreBatch, AFullStoreCanBeEmptiedByABatch) {
  const harness::TemporaryDirectory directory;
  const std::string path = directory.File("full.store");
  const auto store = Open(path, uint64_t{8} << 20);
  uint64_t count = 0;
  Status status;
  while (true) {
    Batch batch;
    for (uint64_t i = 0; i < 20; i++) batch.Set("key" + std::to_string(count + i), std::string(2'000, 'v'));
    bool done = false;
    status = batch.TryCommit(*store, &done);
    if (!status.ok()) break;
    count += 20;
  }
  EXPECT_CODE(status, Code::kStoreFull);
  EXPECT_EQ(store->Size(), count);
  EXPECT_GT(count, 1'000);
  ExpectVerified(*store);
  for (uint64_t at = 0; at < count; at += 100) {
    Batch batch;
    for (uint64_t i = at; i < std::min(at + 100, count); i++) batch.Delete("key" + std::to_string(i));
    ASSERT_TRUE(batch.Commit(*store)) << at;
  }
  EXPECT_EQ(store->Size(), 0);
  EXPECT_TRUE(Batch().Set("a", std::string(100'000, 'v')).Set("b", "2").Commit(*store));
  EXPECT_OK(store->Close());
  ExpectSound(path);
}

TEST(StoreBatch, OneThatHasNoRoomTakesNone) {
  const harness::TemporaryDirectory directory;
  const std::string path = directory.File("refused.store");
  const auto store = Open(path, uint64_t{8} << 20);
  ASSERT_TRUE(Batch().Set("a", "kept").Commit(*store));
  Batch large;
  for (int i = 0; i < 200; i++) large.Set("key" + std::to_string(i), std::string(60'000, 'v'));
  bool done = true;
  for (int i = 0; i < 3; i++) EXPECT_CODE(large.TryCommit(*store, &done), Code::kStoreFull);
  EXPECT_EQ(store->Size(), 1);
  // Two of the 8 MiB: in extents no larger than they must be.
  Batch fits;
  for (int i = 0; i < 30; i++) fits.Set("key" + std::to_string(i), std::string(60'000, 'v'));
  EXPECT_TRUE(fits.Commit(*store));
  EXPECT_EQ(store->Size(), 31);
  EXPECT_OK(store->Close());
  ExpectSound(path);
}

TEST(StoreBatch, ThreadsSeeAllOfItOrNothing) {
  const harness::TemporaryDirectory directory;
  const std::string path = directory.File("threads.store");
  const auto store = Open(path);
  constexpr int kAccounts = 40;
  constexpr uint64_t kEnough = kSanitized ? 300 : 3'000;
  const auto account = [](int i) { return "account" + std::to_string(i); };
  Batch opening;
  for (int i = 0; i < kAccounts; i++) opening.Set(account(i), "100");
  ASSERT_TRUE(opening.Commit(*store));
  std::atomic<bool> over{false};
  std::atomic<uint64_t> transfers{0};
  std::atomic<uint64_t> views{0};
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 2; t++) {
    threads.emplace_back([&, t] {
      std::mt19937_64 random(Seed() + t);
      while (!over) {
        const int from = static_cast<int>(random() % kAccounts);
        const int to = static_cast<int>(random() % kAccounts);
        if (from == to) continue;
        const std::string a = ValueOf(*store, account(from));
        const std::string b = ValueOf(*store, account(to));
        const bool done = Batch()
                              .Expect(account(from), a)
                              .Expect(account(to), b)
                              .Set(account(from), std::to_string(std::stoi(a) - 7))
                              .Set(account(to), std::to_string(std::stoi(b) + 7))
                              .Commit(*store);
        if (done) transfers++;
      }
    });
  }
  threads.emplace_back([&] {
    while (!over) EXPECT_OK(Patiently([&] { return store->Flush(); }));
  });
  for (uint64_t t = 0; t < 2; t++) {
    threads.emplace_back([&] {
      std::vector<std::string> names;
      for (int i = 0; i < kAccounts; i++) names.push_back(account(i));
      while (!over) {
        std::vector<Bytes> keys;
        std::vector<StringSink> sinks(kAccounts);
        std::vector<faultless::store::ValueSink*> pointers;
        std::vector<Code> codes(kAccounts);
        for (int i = 0; i < kAccounts; i++) {
          keys.push_back(AsBytes(names[static_cast<size_t>(i)]));
          pointers.push_back(&sinks[static_cast<size_t>(i)]);
        }
        EXPECT_OK(Patiently([&] { return store->GetMany(keys, pointers, codes); }));
        int sum = 0;
        for (const StringSink& sink : sinks) sum += std::stoi(sink.value);
        EXPECT_EQ(sum, kAccounts * 100);
        views++;
      }
    });
  }
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while ((transfers < kEnough || views < kEnough) && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  over = true;
  for (std::thread& thread : threads) thread.join();
  std::printf("    %lu transfers, %lu views; seed %lu\n", transfers.load(), views.load(), Seed());
  EXPECT_GT(transfers.load(), 0);
  EXPECT_GT(views.load(), 0);
  ExpectVerified(*store);
  EXPECT_OK(store->Close());
  ExpectSound(path);
}

// Applying a long batch takes a while: a view of a few of its keys must not fall into that.
TEST(StoreBatch, ViewsAreOfOneGeneration) {
  const harness::TemporaryDirectory directory;
  const auto store = Open(directory.File("generations.store"));
  constexpr uint64_t kKeys = 2'000;
  constexpr uint64_t kEnough = kSanitized ? 30 : 150;
  const auto commit = [&](uint64_t generation) {
    Batch batch;
    for (uint64_t i = 0; i < kKeys; i++) batch.Set("key" + std::to_string(i), std::to_string(generation));
    return batch.Commit(*store);
  };
  ASSERT_TRUE(commit(1));
  std::atomic<bool> over{false};
  std::atomic<uint64_t> generation{1};
  std::atomic<uint64_t> views{0};
  std::atomic<uint64_t> changes{0};  // generations that a reader has seen
  std::thread writer([&] {
    while (!over) {
      EXPECT_TRUE(commit(generation + 1));
      generation++;
    }
  });
  std::vector<std::thread> readers;
  for (uint64_t t = 0; t < 2; t++) {
    readers.emplace_back([&, t] {
      std::mt19937_64 random(Seed() + t);
      std::string last;
      while (!over) {
        constexpr size_t kView = 6;
        std::vector<std::string> names;
        for (size_t i = 0; i < kView; i++) names.push_back("key" + std::to_string(random() % kKeys));
        std::vector<Bytes> keys;
        std::vector<StringSink> sinks(kView);
        std::vector<faultless::store::ValueSink*> pointers;
        std::vector<Code> codes(kView);
        for (size_t i = 0; i < kView; i++) {
          keys.push_back(AsBytes(names[i]));
          pointers.push_back(&sinks[i]);
        }
        EXPECT_OK(Patiently([&] { return store->GetMany(keys, pointers, codes); }));
        for (const StringSink& sink : sinks) EXPECT_EQ(sink.value, sinks[0].value);
        EXPECT_TRUE(last.size() < sinks[0].value.size() || last <= sinks[0].value) << "went back";
        // One read after the other: what comes later is not older.
        const std::string after = ValueOf(*store, names[kView / 2]);
        EXPECT_GE(std::stoull(after), std::stoull(sinks[0].value));
        if (last != sinks[0].value) changes++;
        last = sinks[0].value;
        views++;
      }
    });
  }
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while ((generation < kEnough || changes < kEnough) && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  over = true;
  writer.join();
  for (std::thread& reader : readers) reader.join();
  std::printf("    %lu generations, %lu views of %lu of them; seed %lu\n", generation.load(), views.load(),
              changes.load(), Seed());
  EXPECT_GT(changes.load(), 0);
  EXPECT_OK(store->Close());
}

}  // namespace
