// Stores that evict: there is room for whatever is written, what is used stays, and nothing that is found is wrong.
#include <atomic>
#include <thread>

#include "base/fail_point.h"
#include "store/compaction.h"
#include "store/verify.h"
#include "store_ledger.h"

namespace {

using namespace store_test;
using faultless::store::KeptOptions;

constexpr uint64_t kMiB = uint64_t{1} << 20;

std::shared_ptr<Store> OpenEvicting(const std::string& path, uint64_t max_bytes) {
  std::shared_ptr<Store> store;
  EXPECT_OK(OpenWith(
      path,
      [&](OpenOptions* options) {
        options->kept.max_bytes = max_bytes;
        options->kept.on_full = KeptOptions::OnFull::kEvict;
      },
      &store));
  return store;
}

/** A file on a disk and one in RAM: there nothing waits for a flush. */
struct Places {
  harness::TemporaryDirectory directory;
  std::string ram = "/dev/shm/faultless-evict-test-" + std::to_string(::getpid());
  Places() { ::unlink(ram.c_str()); }
  ~Places() { ::unlink(ram.c_str()); }
  std::vector<std::string> paths() const { return {directory.File("a.store"), ram}; }
};

void ExpectSound(Store& store, const std::string& what) {
  const auto verification = store.Verify();
  while (!verification->done()) ASSERT_OK(Patiently([&] { return verification->Step(); })) << what;
  for (const auto& damage : verification->Report().damaged) FAIL() << what << damage.offset << damage.reason;
}

void CloseAndAudit(std::shared_ptr<Store>* store, const std::string& path) {
  ASSERT_OK((*store)->Close());
  store->reset();
  const Image image = ReadImage(path);
  Ledger ledger(image);
  EXPECT_EQ(ledger.Check(), "") << path;
}

bool IsThere(Store& store, const std::string& key) { return store.Has(AsBytes(key), ReadMode::kMayFault).ok(); }

TEST(Evict, WritesOfManyTimesItsSizeAllFindRoom) {
  const Places places;
  for (const std::string& path : places.paths()) {
    for (const uint64_t longest : {uint64_t{100}, uint64_t{3000}, uint64_t{60'000}, uint64_t{700'000}}) {
      if (kSanitized && longest < 60'000) continue;
      ::unlink(path.c_str());
      constexpr uint64_t kMaxBytes = (kSanitized ? 8 : 12) * kMiB;
      auto store = OpenEvicting(path, kMaxBytes);
      std::mt19937_64 random(longest);
      std::map<std::string, uint64_t> written;
      uint64_t bytes = 0;
      // On a disk most of the time goes into flushes.
      const uint64_t all = (longest < 1000 || path != places.ram ? 4 : 20) * kMaxBytes;
      for (uint64_t i = 0; bytes < all; i++) {
        const std::string key = "key" + std::to_string(random() % (all / longest));
        if (random() % 50 == 0) {
          bool existed;
          ASSERT_OK(Delete(*store, key, &existed)) << path << i;
          written.erase(key);
          continue;
        }
        const uint64_t size = random() % longest;
        ASSERT_OK(Set(*store, key, MakeValue(key, i + 1, size))) << path << longest << i << bytes;
        written[key] = i + 1;
        bytes += size + key.size() + 24;
        if (i % 16 == 0) {
          const std::string asked = "key" + std::to_string(random() % (all / longest));
          std::string value;
          const Status status = Get(*store, asked, &value);
          if (status.ok()) {
            EXPECT_EQ(NumberOf(asked, value), written[asked]) << path << asked;
          }
        }
      }
      EXPECT_GT(store->GetStats().evictions, 0);
      EXPECT_GT(store->GetStats().live_bytes, kMaxBytes / 16) << path << longest;
      ExpectSound(*store, path);
      MapSink found;
      ScanAll(*store, &found);
      EXPECT_EQ(found.entries.size(), store->Size());
      for (const auto& [key, value] : found.entries) EXPECT_EQ(NumberOf(key, value), written[key]) << path << key;
      std::printf("    %s, up to %lu bytes: %lu of %lu keys, %lu bytes live\n", path.c_str(), longest,
                  found.entries.size(), written.size(), store->GetStats().live_bytes);
      CloseAndAudit(&store, path);
    }
  }
}

TEST(Evict, WhatIsReadStaysAndWhatIsNotGoes) {
  const Places places;
  for (const std::string& path : places.paths()) {
    for (const ReadMode mode : {ReadMode::kMayFault, ReadMode::kResidentOnly}) {
      ::unlink(path.c_str());
      auto store = OpenEvicting(path, 8 * kMiB);
      const auto popular = [](uint64_t i) { return "popular" + std::to_string(i % 200); };
      for (uint64_t i = 0; i < 200; i++) ASSERT_OK(Set(*store, popular(i), MakeValue(popular(i), i + 1, 500)));
      for (uint64_t i = 0; i < (kSanitized ? 4 : 20) * 8 * kMiB / 500; i++) {
        const std::string key = "once" + std::to_string(i);
        ASSERT_OK(Set(*store, key, MakeValue(key, i + 1, 500)));
        std::string value;
        // Cold pages cannot be told of here: where the answer is COLD it counts as no use.
        static_cast<void>(Get(*store, popular(i), &value, mode));
      }
      uint64_t left = 0;
      for (uint64_t i = 0; i < 200; i++) left += IsThere(*store, popular(i));
      EXPECT_GE(left, 195) << path << static_cast<int>(mode);
      EXPECT_FALSE(IsThere(*store, "once5"));
      CloseAndAudit(&store, path);
    }
  }
}

// Large values keep their index entries in the extents that are written to: these have to be left.
TEST(Evict, LargeValuesThatAreReadStayToo) {
  const Places places;
  for (const std::string& path : places.paths()) {
    ::unlink(path.c_str());
    auto store = OpenEvicting(path, 32 * kMiB);
    const auto popular = [](uint64_t i) { return "popular" + std::to_string(i % 20); };
    constexpr uint64_t kSize = 200'000;
    for (uint64_t i = 0; i < 20; i++) ASSERT_OK(Set(*store, popular(i), MakeValue(popular(i), i + 1, kSize)));
    for (uint64_t i = 0; i < 12 * 32 * kMiB / kSize; i++) {
      const std::string key = "once" + std::to_string(i);
      ASSERT_OK(Set(*store, key, MakeValue(key, i + 1, kSize))) << i;
      std::string value;
      for (uint64_t j = 0; j < 4; j++) static_cast<void>(Get(*store, popular(4 * i + j), &value));
    }
    uint64_t left = 0;
    for (uint64_t i = 0; i < 20; i++) left += IsThere(*store, popular(i));
    EXPECT_GE(left, 18) << path;
    ExpectSound(*store, path);
    CloseAndAudit(&store, path);
  }
}

TEST(Evict, WhatHasExpiredGoesFirst) {
  const Places places;
  for (const std::string& path : places.paths()) {
    ::unlink(path.c_str());
    auto store = OpenEvicting(path, 16 * kMiB);
    const auto set = [&](const std::string& key, uint64_t expires_at_ms) {
      const std::string value = MakeValue(key, 1, 1000);
      return Patiently([&] { return store->Set(AsBytes(key), AsBytes(value), {expires_at_ms}); });
    };
    // What lives is older than what expires, and nobody reads it.
    for (int i = 0; i < 2000; i++) ASSERT_OK(set("lives" + std::to_string(i), 0));
    const uint64_t soon = store->ExpiryAfter(1000);
    for (int i = 0; i < 7500; i++) ASSERT_OK(set("expires" + std::to_string(i), soon));
    ASSERT_EQ(store->GetStats().evictions, 0) << path;
    while (store->NowMs() <= soon) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    for (int i = 0; i < 6000; i++) ASSERT_OK(set("new" + std::to_string(i), 0));
    uint64_t left = 0;
    for (int i = 0; i < 2000; i++) left += IsThere(*store, "lives" + std::to_string(i));
    EXPECT_EQ(left, 2000) << path;
    for (int i = 0; i < 6000; i++) EXPECT_TRUE(IsThere(*store, "new" + std::to_string(i))) << path << i;
    CloseAndAudit(&store, path);
  }
}

TEST(Evict, AFullStoreCanBeEmptiedAndFilledAgain) {
  const Places places;
  for (const std::string& path : places.paths()) {
    ::unlink(path.c_str());
    auto store = OpenEvicting(path, 8 * kMiB);
    for (int round = 0; round < 4; round++) {
      for (int i = 0; i < 40'000; i++) {
        ASSERT_OK(Set(*store, std::to_string(i), MakeValue(std::to_string(i), 1, 300 + static_cast<uint64_t>(round))));
      }
      if (round % 2 == 0) {
        for (int i = 0; i < 40'000; i++) {
          bool existed;
          ASSERT_OK(Delete(*store, std::to_string(i), &existed)) << path << i;
        }
      } else {
        ASSERT_OK(Clear(*store));
      }
      EXPECT_EQ(store->Size(), 0);
    }
    const auto compaction = store->Compact();
    ASSERT_OK(RunToEnd(*compaction));
    ExpectSound(*store, path);
    CloseAndAudit(&store, path);
  }
}

TEST(Evict, AValueThatNeverFitsIsRefusedAndNothingGoesForIt) {
  const Places places;
  for (const std::string& path : places.paths()) {
    ::unlink(path.c_str());
    auto store = OpenEvicting(path, 8 * kMiB);
    for (int i = 0; i < 1000; i++) ASSERT_OK(Set(*store, std::to_string(i), MakeValue(std::to_string(i), 1, 1000)));
    const uint64_t size = store->Size();
    EXPECT_CODE(Set(*store, "large", std::string(5 * kMiB, 'x')), Code::kStoreFull);
    EXPECT_EQ(store->Size(), size);
    EXPECT_EQ(store->GetStats().evictions, 0);
    // The largest that does fit does so always.
    uint64_t fits = 0;
    for (uint64_t units = 1; units < 80; units++) {
      const std::string value(units << 16, 'y');
      const Status status = Set(*store, "large", value);
      if (status.code() == Code::kStoreFull) break;
      ASSERT_OK(status) << units;
      fits = units;
    }
    EXPECT_GE(fits, 8);
    for (int i = 0; i < 20; i++) {
      ASSERT_OK(Set(*store, "large" + std::to_string(i % 3), std::string(fits << 16, 'z'))) << path << fits << i;
      for (int j = 0; j < 300; j++) {
        ASSERT_OK(Set(*store, std::to_string(i * 1000 + j), MakeValue(std::to_string(i * 1000 + j), 1, 1000)));
      }
    }
    CloseAndAudit(&store, path);
  }
}

TEST(Evict, IsKeptInTheFile) {
  const harness::TemporaryDirectory directory;
  const std::string path = directory.File("a.store");
  using OnFull = KeptOptions::OnFull;
  const auto open = [&](OnFull on_full) {
    std::shared_ptr<Store> store;
    const Status status = OpenWith(
        path, [&](OpenOptions* options) { options->kept.on_full = on_full; }, &store);
    return std::pair(status.code(), store);
  };
  auto [code, store] = open(OnFull::kEvict);
  ASSERT_EQ(code, Code::kOk);
  for (const bool closed : {false, true}) {
    EXPECT_EQ(open(OnFull::kError).first, Code::kFormat);
    auto [same, other] = open(closed ? OnFull::kEvict : OnFull::kNotGiven);
    ASSERT_EQ(same, Code::kOk);
    EXPECT_TRUE(other->evicts());
    ASSERT_OK(other->Close());
    if (!closed) {
      ASSERT_OK(store->Close());
    }
  }
  ASSERT_OK(Store::Destroy(path));
  for (const OnFull first : {OnFull::kNotGiven, OnFull::kError}) {
    auto [created, plain] = open(first);
    ASSERT_EQ(created, Code::kOk);
    EXPECT_FALSE(plain->evicts());
    EXPECT_EQ(open(OnFull::kEvict).first, Code::kFormat);
    ASSERT_OK(plain->Close());
  }
}

/** One of a full store's writers. A write takes any of the ways in which there may be room: steps, extents, flushes. */
Status WriteOne(Store& store, std::mt19937_64* random, uint64_t number) {
  const std::string key = "key" + std::to_string((*random)() % 2000);
  const uint64_t size = (*random)() % 12 == 0 ? 65'536 + (*random)() % 200'000 : (*random)() % 6000;
  bool existed;
  if ((*random)() % 10 == 0) return Delete(store, key, &existed);
  return Set(store, key, MakeValue(key, number, size));
}

/** Each found value is one that was written, whole. */
void ExpectWhole(Store& store, const std::string& what) {
  MapSink found;
  ScanAll(store, &found);
  EXPECT_EQ(found.entries.size(), store.Size()) << what;
  for (const auto& [key, value] : found.entries) EXPECT_NE(NumberOf(key, value), 0) << what << key;
  ExpectSound(store, what);
}

/** Opens the store, writes, and dies at a point within these writes. */
CHILD_PROCESS(Writer) {
  LiveAtMost(60);
  auto store = OpenEvicting(arguments[0], 8 * kMiB);
  ASSERT_TRUE(store != nullptr);
  std::mt19937_64 random(std::stoull(arguments[1]));
  faultless::fail_points.fail_at = std::stoull(arguments[2]);
  faultless::fail_points.fail = [] { ::kill(::getpid(), SIGKILL); };
  faultless::fail_points.armed = true;
  for (uint64_t i = 0; i < 400; i++) {
    std::string value;
    static_cast<void>(Get(*store, "key" + std::to_string(random() % 2000), &value));
    ASSERT_OK(WriteOne(*store, &random, i + 1));
  }
}

// The survivor takes over, whoever comes later as well, and nothing has to be recovered.
TEST(Evict, AWriterThatIsKilledLeavesAStoreThatGoesOn) {
  const Places places;
  const uint64_t seed = Seed();
  std::printf("    FAULTLESS_SEED=%lu\n", seed);
  std::mt19937_64 random(seed);
  for (const std::string& path : places.paths()) {
    ::unlink(path.c_str());
    auto store = OpenEvicting(path, 8 * kMiB);
    for (uint64_t i = 0; store->GetStats().evictions < 50; i++) ASSERT_OK(WriteOne(*store, &random, i + 1));
    uint64_t kills = 0;
    for (int round = 0; round < (kSanitized ? 4 : 25); round++) {
      // Long copies pass a point for each word: most points are in them, and the short ones come first.
      const uint64_t point = uint64_t{1} << random() % 21;
      harness::Child child =
          harness::Child::Start("Writer", {path, std::to_string(random()), std::to_string(point + random() % point)});
      const int ended = child.Wait();
      EXPECT_TRUE(ended == 0 || ended == -SIGKILL) << ended;
      kills += ended == -SIGKILL;
      // Who opens it next settles what the dead writer's chains of values hold.
      auto other = OpenEvicting(path, 8 * kMiB);
      for (int i = 0; i < 100; i++) ASSERT_OK(WriteOne(*store, &random, 1)) << path << round << i;
      ASSERT_OK(other->Close());
      if (round % 5 == 0) ExpectWhole(*store, path);
    }
    EXPECT_GT(kills, kSanitized ? 1 : 10) << path;
    ExpectWhole(*store, path);
    ASSERT_OK(store->Close());
    store = OpenEvicting(path, 8 * kMiB);
    ExpectWhole(*store, path);
    const Image image = ReadImage(path);
    EXPECT_EQ(Ledger(image).recoveries(), 0) << path;
    CloseAndAudit(&store, path);
  }
}

// A copy of the file of a full store: its recovery needs more of an index than there was room for.
TEST(Evict, WhatWasEvictedMayBeBackAndTheStoreIsFullThen) {
  const harness::TemporaryDirectory directory;
  const std::string path = directory.File("a.store");
  const std::string copy = directory.File("copy.store");
  auto store = OpenEvicting(path, 8 * kMiB);
  for (uint64_t i = 0; i < 400'000; i++) {
    const std::string key = std::to_string(i);
    ASSERT_OK(Set(*store, key, key));
  }
  ASSERT_OK(store->Flush());
  WriteImage(copy, ReadImage(path));
  auto recovered = OpenEvicting(copy, 8 * kMiB);
  ASSERT_TRUE(recovered != nullptr);
  std::printf("    %lu keys, recovered %lu\n", store->Size(), recovered->Size());
  EXPECT_GT(recovered->Size(), store->Size() * 9 / 10);
  MapSink found;
  ScanAll(*recovered, &found);
  for (const auto& [key, value] : found.entries) EXPECT_TRUE(key == value) << key;
  ExpectSound(*recovered, copy);
  for (uint64_t i = 0; i < 50'000; i++) {
    const std::string key = "new" + std::to_string(i);
    ASSERT_OK(Set(*recovered, key, key));
  }
  ExpectSound(*recovered, copy);
  CloseAndAudit(&recovered, copy);
  ASSERT_OK(store->Close());
}

// Its record may still be there: a power cut, or who opens a copy, must not bring back what was deleted.
TEST(Evict, WhatWasDeletedAfterItWasEvictedStaysAway) {
  const harness::TemporaryDirectory directory;
  const std::string path = directory.File("a.store");
  const std::string copy = directory.File("copy.store");
  auto store = OpenEvicting(path, 8 * kMiB);
  for (int i = 0; i < 20'000; i++) ASSERT_OK(Set(*store, std::to_string(i), MakeValue(std::to_string(i), 1, 500)));
  std::vector<std::string> deleted;
  for (int i = 0; i < 20'000; i++) {
    const std::string key = std::to_string(i);
    if (IsThere(*store, key)) continue;
    bool existed = true;
    ASSERT_OK(Delete(*store, key, &existed));
    EXPECT_FALSE(existed);
    deleted.push_back(key);
  }
  ASSERT_OK(store->Flush());
  WriteImage(copy, ReadImage(path));
  auto recovered = OpenEvicting(copy, 8 * kMiB);
  ASSERT_TRUE(recovered != nullptr);
  EXPECT_GT(deleted.size(), 5000);
  for (const std::string& key : deleted) EXPECT_FALSE(IsThere(*recovered, key)) << key;
  ASSERT_OK(recovered->Close());
  ASSERT_OK(store->Close());
}

// Also a race detector's: threads that write, read by both ways, carry uses and delete, at the full mark.
TEST(Evict, ThreadsAtTheFullMark) {
  const Places places;
  for (const std::string& path : places.paths()) {
    ::unlink(path.c_str());
    auto store = OpenEvicting(path, 8 * kMiB);
    const uint64_t most = kSanitized ? 2000 : 20'000;
    std::vector<std::thread> threads;
    std::atomic<uint64_t> wrong{0};
    for (uint64_t t = 0; t < 3; t++) {
      threads.emplace_back([&, t] {
        std::mt19937_64 random(t);
        for (uint64_t i = 0; i < most; i++) {
          const std::string key = std::to_string(random() % 3000);
          std::string value;
          bool existed;
          const uint64_t what = random() % 100;
          if (what < 50) {
            const uint64_t size = random() % 200 == 0 ? 150'000 : random() % 4000;
            if (!Set(*store, key, MakeValue(key, i + 1, size)).ok()) wrong++;
          } else if (what < 55) {
            if (!Delete(*store, key, &existed).ok()) wrong++;
          } else if (what < 56) {
            const uint32_t tags[] = {static_cast<uint32_t>(random()), 7};
            store->CarryUses(tags);
          } else {
            const Status status = Get(*store, key, &value, what < 80 ? ReadMode::kMayFault : ReadMode::kResidentOnly);
            if (status.ok() && NumberOf(key, value) == 0) wrong++;
            if (!status.ok() && status.code() != Code::kAbsent && status.code() != Code::kCold) wrong++;
          }
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(wrong.load(), 0) << path;
    EXPECT_GT(store->GetStats().evictions, 0) << path;
    ExpectSound(*store, path);
    CloseAndAudit(&store, path);
  }
}

}  // namespace
