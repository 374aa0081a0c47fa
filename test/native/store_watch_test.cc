// Following the changes of a store: what is told, in which order, and what becomes of it where cleaning, clears, kills
// and expiry come in between.
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "base/fail_point.h"
#include "store/compaction.h"
#include "store/watch.h"
#include "store_fixture.h"

namespace {

using namespace store_test;
using faultless::store::ChangeKind;
using faultless::store::Watching;

/** A change as text: "=key" and the value, "-key", "~key" (expired), "clear", "gap". */
class Changes final : public faultless::store::ChangeSink {
 public:
  bool Change(ChangeKind kind, Bytes key, Bytes value) override {
    const std::string name(key.begin(), key.end());
    const std::string text(value.begin(), value.end());
    switch (kind) {
      case ChangeKind::kSet:
        told.push_back("=" + name + " " + text);
        break;
      case ChangeKind::kDeleted:
        told.push_back("-" + name);
        break;
      case ChangeKind::kExpired:
        told.push_back("~" + name);
        break;
      case ChangeKind::kEvicted:
        told.push_back("!" + name);
        break;
      case ChangeKind::kClear:
        told.emplace_back("clear");
        break;
      case ChangeKind::kGap:
        told.emplace_back("gap");
        break;
    }
    return true;
  }
  /** What has been told of one key since the last call, or of what has no key. */
  std::vector<std::string> Take() { return std::exchange(told, {}); }
  std::vector<std::string> told;
};

Status ReadAll(Watching& watching, Changes* changes) {
  do {
    const Status status = watching.Read(changes);
    if (!status.ok()) return status;
  } while (!watching.idle());
  return Code::kOk;
}

std::string Joined(const std::vector<std::string>& told) {
  std::string all;
  for (const std::string& change : told) all += (all.empty() ? "" : ", ") + change.substr(0, 30);
  return all;
}

/** What there is to tell now. */
std::string Told(Watching& watching) {
  Changes changes;
  EXPECT_OK(ReadAll(watching, &changes));
  return Joined(changes.told);
}

Status SetFor(Store& store, const std::string& key, const std::string& value, uint64_t ttl_ms) {
  return Patiently([&] { return store.Set(AsBytes(key), AsBytes(value), {store.ExpiryAfter(ttl_ms)}); });
}

void Sleep(uint64_t ms) { ::usleep(static_cast<useconds_t>(ms * 1000)); }

TEST(StoreWatch, TellsWhatComesAfterIt) {
  const harness::TemporaryDirectory directory;
  const auto store = Open(directory.File("store"));
  ASSERT_OK(Set(*store, "key", "before"));
  const auto watching = store->Watch({});
  const auto narrow = store->Watch(AsBytes("ke"));
  const auto elsewhere = store->Watch(AsBytes("keys"));
  EXPECT_EQ(Told(*watching), "");
  bool existed;
  ASSERT_OK(Set(*store, "key", "1"));
  ASSERT_OK(Set(*store, "key", "2"));
  ASSERT_OK(Delete(*store, "key", &existed));
  ASSERT_OK(Delete(*store, "key", &existed));
  EXPECT_FALSE(existed);
  EXPECT_EQ(Told(*watching), "=key 1, =key 2, -key");
  EXPECT_EQ(Told(*narrow), "=key 1, =key 2, -key");
  EXPECT_EQ(Told(*elsewhere), "");
  ASSERT_OK(Set(*store, "other", "1"));
  EXPECT_EQ(Told(*watching), "=other 1");
  EXPECT_EQ(Told(*narrow), "");
  ASSERT_OK(store->Close());
}

TEST(StoreWatch, TellsLargeValuesWhileTheyAreThere) {
  const harness::TemporaryDirectory directory;
  const auto store = Open(directory.File("store"));
  const auto watching = store->Watch({});
  const std::string large(300'001, 'x');
  ASSERT_OK(Set(*store, "key", large));
  Changes changes;
  ASSERT_OK(ReadAll(*watching, &changes));
  ASSERT_EQ(changes.told.size(), 1);
  EXPECT_TRUE(changes.told[0] == "=key " + large);
  ASSERT_OK(Set(*store, "key", large));
  ASSERT_OK(Set(*store, "key", "small"));  // the runs are free
  EXPECT_EQ(Told(*watching), "gap, =key small");
  ASSERT_OK(store->Close());
}

TEST(StoreWatch, ANewExpiryIsNoChange) {
  const harness::TemporaryDirectory directory;
  const auto store = Open(directory.File("store"));
  ASSERT_OK(Set(*store, "small", "1"));
  ASSERT_OK(Set(*store, "large", std::string(100'000, 'x')));
  const auto watching = store->Watch({});
  store->RenewWatch();
  for (const char* key : {"small", "large"}) {
    const std::string name = key;
    bool existed;
    ASSERT_OK(Patiently([&] { return store->Touch(AsBytes(name), {store->ExpiryAfter(1'000'000)}, &existed); }));
    EXPECT_TRUE(existed);
  }
  EXPECT_EQ(Told(*watching), "");
  ASSERT_OK(store->Close());
}

TEST(StoreWatch, EachExpiryIsToldOnce) {
  const harness::TemporaryDirectory directory;
  const auto store = Open(directory.File("store"));
  const auto watching = store->Watch({});
  store->RenewWatch();
  bool existed;
  // Noticed by the watcher's own look.
  ASSERT_OK(SetFor(*store, "swept", "1", 1));
  EXPECT_EQ(Told(*watching).substr(0, 8), "=swept 1");
  Sleep(5);
  Changes changes;
  for (int i = 0; i < 1000 && changes.told.empty(); i++) ASSERT_OK(ReadAll(*watching, &changes));
  if (!changes.told.empty()) {
    EXPECT_EQ(Joined(changes.Take()), "~swept");
  }
  // Replaced and deleted by who does not know that it has expired. Nothing sweeps in between.
  for (const bool deleted : {false, true}) {
    const std::string key = deleted ? "deleted" : "replaced";
    ASSERT_OK(SetFor(*store, key, "1", 1));
    Sleep(5);
    if (deleted) {
      ASSERT_OK(Delete(*store, key, &existed));
      EXPECT_FALSE(existed);
    } else {
      ASSERT_OK(Set(*store, key, "2"));
    }
    ASSERT_OK(ReadAll(*watching, &changes));
    const std::string expected = "=" + key + " 1, ~" + key + (deleted ? "" : ", =" + key + " 2");
    EXPECT_EQ(Joined(changes.Take()), expected);
  }
  ASSERT_OK(store->Close());
}

TEST(StoreWatch, AnExpiryThatNobodyAskedForIsAGapBehindItsSet) {
  const harness::TemporaryDirectory directory;
  const auto store = Open(directory.File("store"));
  const auto watching = store->Watch({});
  ASSERT_OK(SetFor(*store, "key", "1", 1));
  Sleep(5);
  // Writes to all shards: one of them sweeps.
  for (int i = 0; i < 200; i++) ASSERT_OK(Set(*store, "x" + std::to_string(i), "1"));
  Changes changes;
  ASSERT_OK(ReadAll(*watching, &changes));
  std::vector<std::string> interesting;
  for (const std::string& change : changes.told) {
    if (change == "gap" || change[1] == 'k') interesting.push_back(change);
  }
  EXPECT_EQ(Joined(interesting), "=key 1, gap");
  ASSERT_OK(store->Close());
}

TEST(StoreWatch, AClearIsToldOnceBetweenWhatWasBeforeAndAfter) {
  const harness::TemporaryDirectory directory;
  const auto store = Open(directory.File("store"));
  const auto watching = store->Watch({});
  // Of one key: most shards have no queue. Then of many.
  for (const int keys : {1, 3, 100, 7}) {
    for (const int clears : {1, 2}) {
      for (int i = 0; i < keys; i++) ASSERT_OK(Set(*store, "before" + std::to_string(i), "1"));
      for (int i = 0; i < clears; i++) ASSERT_OK(Clear(*store));
      for (int i = 0; i < 2 * keys; i++) ASSERT_OK(Set(*store, "after" + std::to_string(i), "1"));
      Changes changes;
      ASSERT_OK(ReadAll(*watching, &changes));
      ASSERT_EQ(changes.told.size(), 3 * keys + clears) << Joined(changes.told);
      for (int i = 0; i < 3 * keys + clears; i++) {
        const std::string& change = changes.told[static_cast<size_t>(i)];
        const char* const expected = i < keys ? "=bef" : i < keys + clears ? "clea" : "=aft";
        EXPECT_EQ(change.substr(0, 4), expected) << i << keys << clears;
      }
    }
  }
  ASSERT_OK(store->Close());
}

/** Clears half of the shards, and dies. */
CHILD_PROCESS(HalfClearer) {
  const auto store = Open(arguments[0]);
  faultless::fail_points.fail = [] { ::kill(::getpid(), SIGKILL); };
  faultless::fail_points.fail_at = std::stoull(arguments[1]);
  faultless::fail_points.armed.store(true);
  EXPECT_OK(Clear(*store));
  faultless::fail_points.armed.store(false);
  EXPECT_OK(store->Close());
}

TEST(StoreWatch, AClearWhoseProcessDiedHalfWayIsAGap) {
  const harness::TemporaryDirectory directory;
  const auto store = Open(directory.File("store"));
  const auto watching = store->Watch({});
  bool ended = false;
  bool gap = false;
  bool whole = false;
  // Each shard's clear stores to all of its version slots, twice.
  for (uint64_t point = 40; !ended; point += 3001) {
    for (int i = 0; i < 100; i++) ASSERT_OK(Set(*store, "key" + std::to_string(i), "1"));
    Told(*watching);
    harness::Child child = harness::Child::Start("HalfClearer", {directory.File("store"), std::to_string(point)});
    ended = child.Wait() == 0;
    Changes changes;
    // What the dead one has decided is finished by the watcher.
    for (int i = 0; i < 10 && changes.told.empty(); i++) ASSERT_OK(ReadAll(*watching, &changes));
    const std::string told = Joined(changes.told);
    EXPECT_TRUE(told == "gap" || told == "clear" || (told.empty() && store->Size() == 100)) << point << told;
    EXPECT_TRUE(told != "clear" || store->Size() == 0) << point;
    gap = gap || told == "gap";
    whole = whole || told == "clear";
    // It goes on as if nothing had been.
    ASSERT_OK(Set(*store, "key0", "2"));
    EXPECT_EQ(Told(*watching), "=key0 2") << point;
  }
  EXPECT_TRUE(gap && whole);
  ASSERT_OK(store->Close());
}

/** Sets "key" to arguments[2] and is killed at point arguments[1]. */
CHILD_PROCESS(Setter) {
  const auto store = Open(arguments[0]);
  faultless::fail_points.fail = [] { ::kill(::getpid(), SIGKILL); };
  faultless::fail_points.fail_at = std::stoull(arguments[1]);
  faultless::fail_points.armed.store(true);
  const Status status = Set(*store, "key", arguments[2]);
  faultless::fail_points.armed.store(false);
  EXPECT_OK(status);
  EXPECT_OK(store->Close());
}

TEST(StoreWatch, AKilledWritersSetIsToldWhereItHappenedAndNowhereElse) {
  const harness::TemporaryDirectory directory;
  const auto store = Open(directory.File("store"));
  ASSERT_OK(Set(*store, "key", "0"));
  const auto watching = store->Watch({});
  bool ended = false;
  int happened = 0;
  int not_happened = 0;
  std::string before = "0";
  for (uint64_t point = 1; !ended; point++) {
    const std::string wanted = std::to_string(point);
    harness::Child child = harness::Child::Start("Setter", {directory.File("store"), std::to_string(point), wanted});
    ended = child.Wait() == 0;
    const std::string told = Told(*watching);
    std::string value;
    ASSERT_OK(Get(*store, "key", &value));
    const bool is_new = value == wanted;
    ASSERT_TRUE(is_new || value == before) << point;
    (is_new ? happened : not_happened)++;
    // A get finishes what the dead one has decided as well: who watches has done so before.
    EXPECT_EQ(told, is_new ? "=key " + wanted : "") << point;
    EXPECT_EQ(Told(*watching), "") << point;
    before = value;
  }
  EXPECT_TRUE(happened > 1 && not_happened > 1) << happened << not_happened;
  ASSERT_OK(store->Close());
}

TEST(StoreWatch, WhereItIsOvertakenItTellsAGapAndGoesOnFromNow) {
  const harness::TemporaryDirectory directory;
  const auto store = Open(directory.File("store"));
  const auto watching = store->Watch({});
  const std::string value(1000, 'x');
  const uint64_t bytes = store->GetStats().file_bytes;
  for (int round = 0; round < 3; round++) {
    // Of keys that are overwritten again and again: 40 MiB through a store of some MiB.
    for (int i = 0; i < 40'000; i++) ASSERT_OK(Set(*store, "key" + std::to_string(i % 100), value));
    EXPECT_LT(store->GetStats().file_bytes, bytes + (16 << 20));  // nothing is kept for it
    EXPECT_EQ(Told(*watching), "gap") << round;
    ASSERT_OK(Set(*store, "key", "after"));
    EXPECT_EQ(Told(*watching), "=key after") << round;
  }
  ASSERT_OK(store->Close());
}

TEST(StoreWatch, NothingIsMissedOrToldTwiceWhileTheStoreGrowsAndIsCleaned) {
  const harness::TemporaryDirectory directory;
  const auto store = Open(directory.File("store"));
  std::mt19937_64 random(Seed());
  std::map<std::string, std::vector<std::string>> expected;
  std::map<std::string, std::vector<std::string>> told;
  const auto watching = store->Watch({});
  uint64_t number = 0;
  const auto look = [&] {
    Changes changes;
    EXPECT_OK(ReadAll(*watching, &changes));
    for (const std::string& change : changes.told) {
      EXPECT_NE(change, "gap") << Seed();
      told[change.substr(1, change.find(' ') - 1)].push_back(change);
    }
  };
  for (int round = 0; round < 300; round++) {
    // At most what cleaning cannot overtake: a part of the head's extents.
    const uint64_t writes = random() % 200;
    for (uint64_t i = 0; i < writes; i++) {
      // First the store grows, then most of it is garbage.
      const std::string key = "key" + std::to_string(random() % (round < 150 ? 3000 : 300));
      if (random() % 5 == 0) {
        bool existed;
        ASSERT_OK(Delete(*store, key, &existed));
        if (existed) expected[key].push_back("-" + key);
      } else {
        const std::string value = std::to_string(++number) + std::string(random() % 400, 'x');
        ASSERT_OK(Set(*store, key, value));
        expected[key].push_back("=" + key + " " + value);
      }
    }
    look();
    if (round % 50 == 49) {
      const auto compaction = store->Compact();
      while (!compaction->done()) {
        // It waits for who has nothing more to read where it stands.
        const Status status = compaction->Step();
        ASSERT_TRUE(status.ok() || status.code() == Code::kWouldBlock);
        if (!status.ok()) look();
      }
      look();
    }
  }
  EXPECT_EQ(expected.size(), told.size()) << Seed();
  EXPECT_TRUE(expected == told) << Seed();
  ASSERT_OK(store->Close());
}

TEST(StoreWatch, ThreadsWriteWhileOthersFollow) {
  const harness::TemporaryDirectory directory;
  const auto store = Open(directory.File("store"));
  constexpr int kWriters = 2;
  constexpr int kKeys = 20;
  constexpr int kWrites = 3000;
  std::atomic<int> writing{kWriters};
  const auto follow = [&](const std::shared_ptr<Watching>& watching) {
    std::map<std::string, int> last;
    bool gap = false;
    while (true) {
      const bool ended = writing.load() == 0;
      Changes changes;
      EXPECT_OK(watching->Read(&changes));
      for (const std::string& change : changes.told) {
        if (change == "gap") {
          gap = true;
          continue;
        }
        const size_t space = change.find(' ');
        int& before = last[change.substr(1, space - 1)];
        const int now = std::stoi(change.substr(space + 1));
        // Each follows the one before it, unless some were missed in between.
        if (gap) {
          EXPECT_GT(now, before) << change;
        } else {
          EXPECT_EQ(now, before + 1) << change;
        }
        before = now;
      }
      if (ended && watching->idle()) break;
      faultless::os::WaitOnWord(store->Bell().word, watching->bell(), 1000);
    }
    for (const auto& [key, number] : last) EXPECT_EQ(number, kWrites / kKeys) << key;
    EXPECT_TRUE(gap || last.size() == kWriters * kKeys);
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; i++) threads.emplace_back(follow, store->Watch({}));
  for (int writer = 0; writer < kWriters; writer++) {
    threads.emplace_back([&, writer] {
      for (int i = 0; i < kWrites; i++) {
        const std::string key = std::to_string(writer) + "key" + std::to_string(i % kKeys);
        EXPECT_OK(Set(*store, key, std::to_string(i / kKeys + 1)));
      }
      writing.fetch_sub(1);
    });
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_OK(store->Close());
}

TEST(StoreWatch, WhoFollowsComesToWhatIsThereThroughClearsToo) {
  const harness::TemporaryDirectory directory;
  const auto store = Open(directory.File("store"));
  std::atomic<int> writing{2};
  // Few keys, so that queues begin between the clears; then many.
  const auto write = [&](uint64_t seed) {
    std::mt19937_64 random(seed);
    for (int i = 0; i < 4000; i++) {
      const std::string key = "key" + std::to_string(random() % (i < 1000 ? 6 : 100));
      const uint64_t draw = random() % 100;
      bool existed;
      if (draw == 0) {
        EXPECT_OK(Clear(*store));
      } else if (draw < 20) {
        EXPECT_OK(Delete(*store, key, &existed));
      } else {
        EXPECT_OK(Set(*store, key, std::to_string(i)));
      }
    }
    writing.fetch_sub(1);
  };
  const auto watching = store->Watch({});
  std::map<std::string, std::string> model;
  std::map<std::string, int> kinds;
  const auto follow = [&] {
    while (true) {
      const bool ended = writing.load() == 0;
      Changes changes;
      EXPECT_OK(watching->Read(&changes));
      for (const std::string& change : changes.told) {
        kinds[change.substr(0, 1)]++;
        if (change == "gap") {
          MapSink all;
          ScanAll(*store, &all);
          model = all.entries;
        } else if (change == "clear") {
          model.clear();
        } else if (change[0] == '=') {
          model[change.substr(1, change.find(' ') - 1)] = change.substr(change.find(' ') + 1);
        } else {
          model.erase(change.substr(1));
        }
      }
      if (ended && watching->idle()) break;
      faultless::os::WaitOnWord(store->Bell().word, watching->bell(), 1000);
    }
  };
  std::thread first(write, Seed());
  std::thread second(write, Seed() + 1);
  follow();
  first.join();
  second.join();
  MapSink all;
  ScanAll(*store, &all);
  EXPECT_TRUE(model == all.entries) << Seed() << model.size() << all.entries.size();
  EXPECT_GT(kinds["="], 0);
  EXPECT_GT(kinds["-"], 0);
  EXPECT_GT(kinds["c"] + kinds["g"], 0);
  ASSERT_OK(store->Close());
}

TEST(StoreWatch, WhoSleepsIsWokenOnceAndWhoIsGoneCostsNothing) {
  const harness::TemporaryDirectory directory;
  const auto store = Open(directory.File("store"));
  const faultless::format::HalfWord& bell = *store->Bell().word;
  const uint32_t begin = bell.load();
  ASSERT_OK(Set(*store, "key", "1"));
  EXPECT_EQ(bell.load(), begin);  // nobody sleeps
  const auto watching = store->Watch({});
  EXPECT_EQ(Told(*watching), "");
  ASSERT_TRUE(watching->idle());
  EXPECT_EQ(watching->bell(), begin);
  for (int i = 0; i < 100; i++) ASSERT_OK(Set(*store, "key", "2"));
  EXPECT_EQ(bell.load(), begin + 1);  // and from then on it is as if it had been killed
  ASSERT_OK(store->Close());
}

TEST(StoreWatch, AReaderFollowsWithoutStoringAnything) {
  const harness::TemporaryDirectory directory;
  const auto store = Open(directory.File("store"));
  std::shared_ptr<Store> reader;
  ASSERT_OK(OpenWith(
      directory.File("store"), [](OpenOptions* options) { options->read_only = true; }, &reader));
  const auto watching = reader->Watch({});
  EXPECT_EQ(Told(*watching), "");
  EXPECT_LE(watching->wait_ms(), 20);
  ASSERT_OK(Set(*store, "key", "1"));
  ASSERT_OK(Clear(*store));
  EXPECT_EQ(Told(*watching), "=key 1, clear");
  ASSERT_OK(reader->Close());
  ASSERT_OK(store->Close());
}

}  // namespace
