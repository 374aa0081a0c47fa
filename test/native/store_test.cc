// The store through its own interface, one process.
#include <thread>

#include "store_fixture.h"

namespace {

using namespace store_test;

TEST(Store, SetsGetsDeletesAndKeepsItAcrossReopening) {
  const harness::TemporaryDirectory directory;
  const std::string path = directory.File("a.store");
  std::string value;
  bool existed;
  {
    auto store = Open(path);
    EXPECT_CODE(Get(*store, "a", &value), Code::kAbsent);
    ASSERT_OK(Set(*store, "a", "1"));
    ASSERT_OK(Set(*store, "b", ""));
    ASSERT_OK(Set(*store, "a", "2"));
    ASSERT_OK(Get(*store, "a", &value));
    EXPECT_EQ(value, "2");
    ASSERT_OK(Get(*store, "b", &value));
    EXPECT_EQ(value, "");
    EXPECT_EQ(store->Size(), 2);
    ASSERT_OK(Delete(*store, "b", &existed));
    EXPECT_TRUE(existed);
    ASSERT_OK(Delete(*store, "b", &existed));
    EXPECT_FALSE(existed);
    ASSERT_OK(Get(*store, "a", &value, ReadMode::kResidentOnly));
    EXPECT_EQ(value, "2");
    EXPECT_CODE(Get(*store, "b", &value, ReadMode::kResidentOnly), Code::kAbsent);
    ASSERT_OK(store->Close());
  }
  auto store = Open(path);
  EXPECT_EQ(store->Size(), 1);
  ASSERT_OK(Get(*store, "a", &value));
  EXPECT_EQ(value, "2");
  ASSERT_OK(Clear(*store));
  EXPECT_EQ(store->Size(), 0);
  EXPECT_CODE(Get(*store, "a", &value), Code::kAbsent);
  ASSERT_OK(Set(*store, "a", "3"));
  ASSERT_OK(Get(*store, "a", &value));
  EXPECT_EQ(value, "3");
  ASSERT_OK(store->Close());
}

TEST(Store, IsSmallWhileItHoldsLittle) {
  const harness::TemporaryDirectory directory;
  auto store = Open(directory.File("a.store"), uint64_t{1} << 40);
  EXPECT_LT(store->GetStats().file_bytes, 1 << 20);
  for (int i = 0; i < 1000; i++) ASSERT_OK(Set(*store, "key" + std::to_string(i), std::string(100, 'x')));
  EXPECT_LT(store->GetStats().file_bytes, 4 << 20);
  ASSERT_OK(store->Close());
}

/** Random operations against a map, with reopening in between. */
void CompareWithMap(uint64_t seed, int operations, int keys, int longest, uint64_t max_bytes, int reopen_every) {
  const harness::TemporaryDirectory directory;
  const std::string path = directory.File("a.store");
  auto store = Open(path, max_bytes);
  std::map<std::string, std::string> model;
  std::mt19937_64 random(seed);
  for (int i = 0; i < operations; i++) {
    const std::string key = "key-" + std::to_string(random() % keys) + std::string(random() % 3, 'k');
    const uint64_t choice = random() % 100;
    if (choice < 55) {
      std::string value(random() % 50 == 0 ? random() % longest : random() % 200, static_cast<char>(random()));
      if (!value.empty()) value[value.size() / 2] = static_cast<char>(random());
      ASSERT_OK(Set(*store, key, value)) << "seed" << seed << "operation" << i;
      model[key] = value;
    } else if (choice < 80) {
      bool existed;
      ASSERT_OK(Delete(*store, key, &existed)) << "seed" << seed << "operation" << i;
      ASSERT_EQ(existed, model.erase(key) == 1) << "seed" << seed << "operation" << i;
    } else {
      std::string value;
      const Status status = Get(*store, key, &value, choice < 90 ? ReadMode::kMayFault : ReadMode::kResidentOnly);
      const auto found = model.find(key);
      if (status.code() == Code::kCold) continue;
      ASSERT_CODE(status, found == model.end() ? Code::kAbsent : Code::kOk) << "seed" << seed << "operation" << i;
      if (found != model.end()) {
        ASSERT_TRUE(value == found->second) << "seed" << seed << "operation" << i;
      }
    }
    if (i % 20011 == 20010) {
      ASSERT_OK(Clear(*store));
      model.clear();
    }
    if (i % reopen_every == reopen_every - 1) {
      ASSERT_OK(store->Close());
      store = Open(path, max_bytes);
    }
  }
  MapSink all;
  ScanAll(*store, &all);
  EXPECT_FALSE(all.twice);
  EXPECT_TRUE(all.entries == model) << "seed" << seed;
  EXPECT_EQ(store->Size(), model.size());
  ASSERT_OK(store->Close());
}

TEST(Store, DoesAsAMapDoes) {
  const uint64_t seed = std::random_device{}();
  CompareWithMap(seed, 60'000, 4000, 3000, uint64_t{1} << 30, 7001);
}

TEST(Store, DoesAsAMapDoesWithLargeValues) {
  const uint64_t seed = std::random_device{}();
  CompareWithMap(seed, 6000, 300, 3 << 20, uint64_t{1} << 30, 2001);
}

TEST(Store, SplitsItsIndexManyTimes) {
  const harness::TemporaryDirectory directory;
  auto store = Open(directory.File("a.store"));
  constexpr int kKeys = 300'000;
  for (int i = 0; i < kKeys; i++) ASSERT_OK(Set(*store, std::to_string(i), std::to_string(i * 7)));
  EXPECT_EQ(store->Size(), kKeys);
  for (int i = 0; i < kKeys; i++) {
    std::string value;
    ASSERT_OK(Get(*store, std::to_string(i), &value)) << i;
    ASSERT_EQ(value, std::to_string(i * 7));
  }
  // Prepared together, the odd ones of them absent.
  for (int i = 0; i + 50 <= kKeys; i += 50) {
    std::vector<std::string> names;
    for (int j = 0; j < 50; j++) names.push_back((j % 2 == 0 ? "" : "no ") + std::to_string(i + j));
    std::vector<faultless::store::Bytes> keys;
    for (const std::string& name : names) keys.push_back(AsBytes(name));
    std::vector<uint64_t> hashes(keys.size());
    store->Prepare(keys, hashes, i % 100 == 0);
    for (int j = 0; j < 50; j++) {
      StringSink sink;
      const Status status = store->Get(keys[j], hashes[j], &sink, ReadMode::kMayFault, nullptr);
      ASSERT_CODE(status, j % 2 == 0 ? Code::kOk : Code::kAbsent);
      if (status.ok()) {
        ASSERT_EQ(sink.value, std::to_string((i + j) * 7));
      }
    }
  }
  MapSink all;
  ScanAll(*store, &all);
  EXPECT_EQ(all.entries.size(), kKeys);
  EXPECT_FALSE(all.twice);
  ASSERT_OK(store->Close());
}

TEST(Store, StaysBoundedUnderOverwrites) {
  const harness::TemporaryDirectory directory;
  auto store = Open(directory.File("a.store"));
  constexpr int kKeys = 40'000;
  const std::string value(400, 'v');
  std::mt19937_64 random(1);
  for (int i = 0; i < kKeys; i++) ASSERT_OK(Set(*store, std::to_string(i), value));
  for (int i = 0; i < kKeys * 10; i++) ASSERT_OK(Set(*store, std::to_string(random() % kKeys), value));
  const auto stats = store->GetStats();
  EXPECT_LT(static_cast<double>(stats.file_bytes), 2.2 * static_cast<double>(stats.live_bytes))
      << stats.garbage_bytes << stats.free_bytes;
  ASSERT_OK(store->Close());
}

TEST(Store, FullOneKeepsEverythingAndCanBeEmptied) {
  const harness::TemporaryDirectory directory;
  auto store = Open(directory.File("a.store"), 8 << 20);
  const std::string value(1000, 'v');
  int count = 0;
  while (true) {
    const Status status = Set(*store, std::to_string(count), value);
    if (status.code() == Code::kStoreFull) break;
    ASSERT_OK(status);
    count++;
    ASSERT_LT(count, 9000);
  }
  EXPECT_GT(count, 3000);
  for (int i = 0; i < count; i++) {
    std::string read;
    ASSERT_OK(Get(*store, std::to_string(i), &read)) << i;
    ASSERT_TRUE(read == value);
  }
  for (int round = 0; round < 3; round++) {
    for (int i = 0; i < count; i++) {
      bool existed;
      ASSERT_OK(Delete(*store, std::to_string(i), &existed)) << i;
      ASSERT_TRUE(existed);
    }
    EXPECT_EQ(store->Size(), 0);
    // What has room is a matter of how the seed spreads the keys over shards, and of garbage that is not worth
    // cleaning.
    for (int i = 0; i < count * 7 / 10; i++) ASSERT_OK(Set(*store, std::to_string(i), value)) << i << round;
    for (int i = count * 7 / 10; i < count; i++) static_cast<void>(Set(*store, std::to_string(i), value));
    count = count * 7 / 10;
    uint64_t size = store->Size();
    ASSERT_OK(Clear(*store));
    EXPECT_GT(size, 0);
    for (int i = 0; i < count; i++) ASSERT_OK(Set(*store, std::to_string(i), value)) << i << round;
  }
  ASSERT_OK(store->Close());
}

/** Writers and readers as threads: every value names its key and is one of its writer's, and no reader goes back. */
TEST(Store, ManyThreadsSeeWholeValuesInOrder) {
  const harness::TemporaryDirectory directory;
  auto store = Open(directory.File("a.store"));
  constexpr int kWriters = 3;
  constexpr int kKeys = 64;
  constexpr int kRounds = 300;
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int writer = 0; writer < kWriters; writer++) {
    threads.emplace_back([&, writer] {
      for (int round = 1; round <= kRounds; round++) {
        for (int key = 0; key < kKeys; key++) {
          const std::string name = std::to_string(writer) + "/" + std::to_string(key);
          EXPECT_OK(Set(*store, name, name + "=" + std::to_string(round) + std::string(round % 300, '.')));
        }
      }
    });
  }
  for (int reader = 0; reader < 2; reader++) {
    threads.emplace_back([&] {
      std::map<std::string, int> last;
      while (!stop) {
        for (int writer = 0; writer < kWriters; writer++) {
          for (int key = 0; key < kKeys; key++) {
            const std::string name = std::to_string(writer) + "/" + std::to_string(key);
            std::string value;
            const Status status = Get(*store, name, &value);
            if (status.code() == Code::kAbsent) {
              EXPECT_EQ(last[name], 0);
              continue;
            }
            EXPECT_OK(status);
            EXPECT_EQ(value.substr(0, name.size() + 1), name + "=");
            const int round = std::stoi(value.substr(name.size() + 1));
            EXPECT_GE(round, last[name]);
            EXPECT_EQ(value.size(), name.size() + 1 + std::to_string(round).size() + static_cast<size_t>(round % 300));
            last[name] = round;
          }
        }
      }
    });
  }
  for (int writer = 0; writer < kWriters; writer++) threads[static_cast<size_t>(writer)].join();
  stop = true;
  for (size_t i = kWriters; i < threads.size(); i++) threads[i].join();
  EXPECT_EQ(store->Size(), kWriters * kKeys);
  ASSERT_OK(store->Close());
}

}  // namespace
