// Processes killed at every store to shared memory. A scenario is a prepared file and one operation on it. A child runs
// the operation once and counts the points that it passes (base/fail_point.h); then, for each point, another child does
// the same on another copy of the file and is killed right there. Who had the store open all along, or whoever opens it
// next, must find the state before or after the operation, go on, and leave a file in which nothing is lost or leaked.
#include <algorithm>
#include <functional>

#include "store_scenarios.h"

// In the place of libc's: processes are killed here, never the machine.
extern "C" int fdatasync(int) { return 0; }

namespace {

using namespace store_test;

/** File, maxBytes, point (0: count only), file for the sites, action, key, number, size. */
CHILD_PROCESS(Victim) {
  LiveAtMost(120);
  const Sites sites(arguments[3]);
  const Operation operation{static_cast<Action>(std::stoi(arguments[4])), arguments[5], std::stoull(arguments[6]),
                            std::stoull(arguments[7])};
  fail_points.fail = [] { ::kill(::getpid(), SIGKILL); };
  fail_points.fail_at = std::stoull(arguments[2]);
  if (fail_points.fail_at == 0) {
    fail_points.sites = sites.sites();
    fail_points.sites_size = kMostSites - 1;
  }
  if (operation.action == Action::kOpen) fail_points.armed = true;
  const auto store = Open(arguments[0], std::stoull(arguments[1]));
  ASSERT_TRUE(store != nullptr);
  fail_points.armed = true;
  const Status status = operation.action == Action::kOpen ? Status() : Run(*store, operation);
  fail_points.armed = false;
  if (fail_points.fail_at == 0) sites.count() = static_cast<uint32_t>(fail_points.passed.load());
  ASSERT_OK(status);
  ::_exit(0);  // as a kill: whoever comes next finds the store open
}

TEST(StoreFailPoints, SmallWrites) {
  ForEachPlace([](const harness::TemporaryDirectory& directory) {
    Scenario first;
    MakeScenario(directory, "first key", {}, {Action::kSet, "key", 7, 120}, &first);
    TryBoth(first, directory);
    Scenario overwrite;
    MakeScenario(directory, "overwrite", SomeKeys(40, 60), {Action::kSet, "key3", 7, 120}, &overwrite);
    TryBoth(overwrite, directory);
    Scenario insert;
    MakeScenario(directory, "insert", SomeKeys(40, 60), {Action::kSet, "another key", 7, 120}, &insert);
    TryBoth(insert, directory);
    Scenario remove;
    MakeScenario(directory, "delete", SomeKeys(40, 60), {Action::kDelete, "key3", 0, 0}, &remove);
    TryBoth(remove, directory);
  });
}

TEST(StoreFailPoints, LargeValues) {
  ForEachPlace([](const harness::TemporaryDirectory& directory) {
    std::vector<Operation> operations = SomeKeys(10, 60);
    operations.push_back({Action::kSet, "large", 1, 270'000});
    operations.push_back({Action::kSet, "also large", 1, 150'000});
    Scenario set;
    MakeScenario(directory, "large value", operations, {Action::kSet, "a third", 7, 220'000}, &set);
    TryBoth(set, directory);
    Scenario overwrite;
    MakeScenario(directory, "large overwrite", operations, {Action::kSet, "large", 7, 140'000}, &overwrite, true);
    TryBoth(overwrite, directory);
    Scenario shrink;
    MakeScenario(directory, "large by small", operations, {Action::kSet, "large", 7, 100}, &shrink);
    TryBoth(shrink, directory);
    Scenario remove;
    MakeScenario(directory, "large delete", operations, {Action::kDelete, "large", 0, 0}, &remove, true);
    TryBoth(remove, directory);
  });
}

TEST(StoreFailPoints, WritesThatDependOnWhatIsThere) {
  ForEachPlace([](const harness::TemporaryDirectory& directory) {
    std::vector<Operation> operations = SomeKeys(40, 60);
    operations.push_back({Action::kSet, "large", 1, 270'000});
    operations.push_back({Action::kIncrement, "counter", 5, 0});
    const std::pair<const char*, Operation> tried[] = {
        {"swap", {Action::kSwap, "key3", 7, 120}},
        {"swap of an absent key", {Action::kSwap, "another key", 7, 120}},
        {"swap of large values", {Action::kSwap, "large", 7, 200'000}},
        {"increment", {Action::kIncrement, "counter", 7, 0}},
        {"increment of an absent key", {Action::kIncrement, "another counter", 7, 0}},
        {"touch", {Action::kTouch, "key3", 1, 90}},
        {"touch of a large value", {Action::kTouch, "large", 1, 270'000}},
    };
    for (const auto& [name, operation] : tried) {
      Scenario scenario;
      MakeScenario(directory, name, operations, operation, &scenario, /*flush_first=*/true);
      TryBoth(scenario, directory);
    }
  });
}

TEST(StoreFailPoints, Batches) {
  ForEachPlace([](const harness::TemporaryDirectory& directory) {
    std::vector<Operation> operations = SomeKeys(60, 60);
    operations.push_back({Action::kSet, "key0", 1, 270'000});
    const std::tuple<const char*, const char*, uint64_t> tried[] = {
        {"small batch", "x4", 60},
        {"batch of large values", "x24", 200'000},
        {"batch with new extents and splits", "x3000", 60},
    };
    for (const auto& [name, key, size] : tried) {
      Scenario scenario;
      MakeScenario(directory, name, operations, {Action::kBatch, key, 7, size}, &scenario, /*flush_first=*/true);
      TryBoth(scenario, directory);
      // And on top of a death in the midst of another one: who opens the store settles that, and may be killed there.
      Killer counting(scenario, directory, Seed());
      std::vector<uint64_t> points;
      counting.ChoosePoints(false, MostKills(), &points);
      const size_t deaths = std::min<size_t>(std::max<size_t>(MostKills() / 12, 1), points.size());
      std::mt19937_64 random(Seed());
      for (size_t i = 0; i < deaths; i++) {
        // Most of them near the end: there it is decided.
        const uint64_t point = points[random() % 3 == 0 ? random() % points.size()
                                                        : points.size() - 1 - random() % (points.size() / 4 + 1)];
        for (const bool opens : {true, false}) {
          Scenario again = scenario;
          again.name += opens ? ", opened after a death" : ", another one after a death";
          again.deaths = {{{Action::kBatch, key, 5, size}, point}};
          if (opens) again.operation = {Action::kOpen, "", 0, 0};
          // What the dead one left is the state before.
          Killer(again, directory, Seed()).Prepare();
          const auto store = Open(directory.File("victim.store"), again.max_bytes);
          MapSink found;
          ScanAll(*store, &found);
          ASSERT_OK(store->Close());
          again.before.clear();
          for (const auto& [name_of, value] : found.entries) again.before[name_of] = NumberOf(name_of, value);
          Killer killer(again, directory, Seed());
          killer.Try(false, MostKills() / 3 + 1);
          if (!opens) killer.Try(true, MostKills() / 3 + 1);
          std::printf("    %s at %lu: %lu kills\n", again.name.c_str(), point, killer.kills());
        }
      }
    }
  });
}

TEST(StoreFailPoints, Sweeping) {
  ForEachPlace([](const harness::TemporaryDirectory& directory) {
    const std::string empty = directory.File("empty");
    ASSERT_OK(Open(empty, uint64_t{256} << 20)->Close());
    const std::vector<std::string> keys = KeysInShards(empty, 1, 30, "k");
    Scenario scenario;
    scenario.name = "sweeping";
    scenario.expires = true;
    scenario.file = directory.File("sweeping.store");
    CopyFile(empty, scenario.file);
    const auto store = Open(scenario.file, scenario.max_bytes);
    const uint64_t expires_at_ms = store->ExpiryAfter(300);
    for (size_t i = 0; i < keys.size(); i++) {
      const bool stays = i % 4 == 0;
      const std::string value = MakeValue(keys[i], 1, i == 1 || i == 2 ? 140'000 : 100);
      ASSERT_OK(Patiently([&] { return store->Set(AsBytes(keys[i]), AsBytes(value), {stays ? 0 : expires_at_ms}); }));
      if (stays) scenario.before[keys[i]] = 1;
    }
    ASSERT_OK(store->Flush());
    EXPECT_EQ(store->Size(), keys.size()) << "too slow: some have been swept already";
    while (store->NowMs() < expires_at_ms) ::usleep(10'000);
    ASSERT_OK(store->Close());
    scenario.operation = {Action::kSet, keys[0], 7, 120};
    TryBoth(scenario, directory);
  });
}

TEST(StoreFailPoints, Clear) {
  ForEachPlace([](const harness::TemporaryDirectory& directory) {
    Scenario small;
    MakeScenario(directory, "clear", SomeKeys(60, 60), {Action::kClear, "", 0, 0}, &small);
    TryBoth(small, directory);
    std::vector<Operation> operations = SomeKeys(40, 60);
    for (int i = 0; i < 6; i++) operations.push_back({Action::kSet, "large" + std::to_string(i), 1, 150'000});
    Scenario large;
    MakeScenario(directory, "clear of large values", operations, {Action::kClear, "", 0, 0}, &large, true);
    TryBoth(large, directory);
  });
}

TEST(StoreFailPoints, Splits) {
  const Place place(false);
  const harness::TemporaryDirectory directory;
  const std::string empty = directory.File("empty");
  ASSERT_OK(Open(empty, uint64_t{256} << 20)->Close());
  const std::vector<std::string> keys = KeysInShards(empty, 1, 6000, "k");
  const auto insert = [&](uint64_t i) { return Operation{Action::kSet, keys[i], 1, 30}; };
  Scenario doubling;
  FindScenario(
      directory, empty, "split that doubles the directory", insert,
      [](const Figures& before, const Figures& after) { return before.directory_depth < after.directory_depth; },
      &doubling);
  TryBoth(doubling, directory);
  Scenario split;
  FindScenario(
      directory, empty, "split", insert,
      [](const Figures& before, const Figures& after) {
        return before.entry_places != 0 && before.entry_places < after.entry_places &&
               before.directory_depth == after.directory_depth;
      },
      &split);
  TryBoth(split, directory);
}

/** Keys of one shard come and go: the first write that does each thing to the index. */
TEST(StoreFailPoints, Merges) {
  const Place place(false);
  const harness::TemporaryDirectory directory;
  std::string empty;
  std::vector<std::string> keys;
  const auto operation = [&](uint64_t i) {
    if (i < keys.size()) return Operation{Action::kSet, keys[i], 1, 30};
    if (i < 2 * keys.size() - 100) return Operation{Action::kDelete, keys[i - keys.size()], 0, 0};
    return Operation{Action::kSet, keys[(2 * keys.size() - 100 - i) % 100 + keys.size() - 100], i, 30};
  };
  const auto quiet = [](const Figures& before, const Figures& after) {
    return before.head_unit == after.head_unit && before.tail_unit == after.tail_unit;
  };
  const auto places = [](const Figures& before, const Figures& after) {
    return static_cast<int64_t>(after.entry_places - before.entry_places);
  };
  const Wanted frees_unit = [&](const Figures& before, const Figures& after) {
    return quiet(before, after) && places(before, after) < 0 && before.free_units < after.free_units;
  };
  // Whether a write that merges gives the unit back by itself depends on where the keys fall: on the store's seed.
  for (int attempt = 0;; attempt++) {
    ASSERT_LT(attempt, 30);
    empty = directory.File("empty" + std::to_string(attempt));
    ASSERT_OK(Open(empty, uint64_t{256} << 20)->Close());
    keys = KeysInShards(empty, 1, 6000, "k");
    if (FindOperation(directory, empty, uint64_t{256} << 20, operation, frees_unit, 15'000) != ~uint64_t{0}) break;
  }
  Scenario partial;
  FindScenario(
      directory, empty, "split with a piece of a unit that has free ones", operation,
      [&](const Figures& before, const Figures& after) {
        return quiet(before, after) && before.entry_places != 0 && places(before, after) > 0 &&
               before.free_units == after.free_units && before.published_units == after.published_units;
      },
      &partial);
  TryBoth(partial, directory);
  Scenario merge;
  FindScenario(
      directory, empty, "merge", operation,
      [&](const Figures& before, const Figures& after) {
        return quiet(before, after) && places(before, after) < 0 && before.free_units == after.free_units;
      },
      &merge);
  TryBoth(merge, directory);
  Scenario frees;
  FindScenario(directory, empty, "merge that frees a unit", operation, frees_unit, &frees);
  TryBoth(frees, directory);
  Scenario moves;
  FindScenario(
      directory, empty, "segment that moves to another unit", operation,
      [&](const Figures& before, const Figures& after) {
        return quiet(before, after) && places(before, after) == 0 && before.directory_depth == after.directory_depth &&
               before.structure_version != after.structure_version && before.entry_places != 0;
      },
      &moves);
  TryBoth(moves, directory);
}

/** Keys that share the first 11 bits which choose a segment: few of them make the directory large. */
TEST(StoreFailPoints, LargeDirectories) {
  const Place place(false);
  const harness::TemporaryDirectory directory;
  const std::string empty = directory.File("empty");
  ASSERT_OK(Open(empty, uint64_t{256} << 20)->Close());
  faultless::format::Superblock block;
  const Image image = ReadImage(empty);
  std::memcpy(&block, image.data(), sizeof block);
  std::vector<std::string> keys;
  for (uint64_t i = 0; keys.size() < 1400; i++) {
    std::string key = std::to_string(i);
    const uint64_t hash = faultless::HashBytes(key.data(), key.size(), block.hash_seed);
    if (hash >> 60 == 0 && (hash >> 45 & 0x7FF) == 0) keys.push_back(std::move(key));
  }
  const auto operation = [&](uint64_t i) {
    if (i < keys.size()) return Operation{Action::kSet, keys[i], 1, 30};
    return Operation{Action::kDelete, keys[(i - keys.size()) % keys.size()], 0, 0};
  };
  constexpr uint64_t kSmall = faultless::format::kPieceDirectoryDepth;
  Scenario grows;
  FindScenario(
      directory, empty, "directory that gets a run", operation,
      [](const Figures& before, const Figures& after) {
        return before.directory_depth <= kSmall && after.directory_depth > kSmall;
      },
      &grows);
  TryBoth(grows, directory);
  Scenario shrinks;
  FindScenario(
      directory, empty, "directory that leaves its run", operation,
      [](const Figures& before, const Figures& after) {
        return before.directory_depth > kSmall && after.directory_depth == kSmall;
      },
      &shrinks);
  TryBoth(shrinks, directory);
}

TEST(StoreFailPoints, GrowthAndNewExtents) {
  ForEachPlace([](const harness::TemporaryDirectory& directory) {
    const std::string empty = directory.File("empty");
    ASSERT_OK(Open(empty, uint64_t{256} << 20)->Close());
    const std::vector<std::string> keys = KeysInShards(empty, 1, 400, "k");
    const auto insert = [&](uint64_t i) { return Operation{Action::kSet, keys[i], 1, 2500}; };
    Scenario extent;
    FindScenario(
        directory, empty, "new extent", insert,
        [](const Figures& before, const Figures& after) {
          return before.head_unit != 0 && before.head_unit != after.head_unit;
        },
        &extent);
    TryBoth(extent, directory);
    Scenario growth;
    FindScenario(
        directory, empty, "growth", insert,
        [](const Figures& before, const Figures& after) {
          return before.published_units > 16 && before.published_units < after.published_units;
        },
        &growth);
    TryBoth(growth, directory);
  });
}

TEST(StoreFailPoints, Cleaning) {
  ForEachPlace([](const harness::TemporaryDirectory& directory) {
    const std::string empty = directory.File("empty");
    ASSERT_OK(Open(empty, uint64_t{256} << 20)->Close());
    const std::vector<std::string> keys = KeysInShards(empty, 1, 60, "k");
    const auto overwrite = [&](uint64_t i) {
      // Half of the keys are written once, so that there is something to move.
      const uint64_t key = i < keys.size() ? i : Mix(i, 1) % (keys.size() / 2);
      return Operation{Action::kSet, keys[key], i + 1, 500 + Mix(i, 2) % 2000};
    };
    Scenario moves;
    FindScenario(
        directory, empty, "cleaning that moves", overwrite,
        [](const Figures& before, const Figures& after) {
          return before.tail_unit == after.tail_unit && before.tail != 0 && after.tail > before.tail + 9000;
        },
        &moves);
    TryBoth(moves, directory);
    Scenario leaves;
    FindScenario(
        directory, empty, "cleaning that leaves an extent", overwrite,
        [](const Figures& before, const Figures& after) {
          return before.tail_unit != 0 && before.tail_unit != after.tail_unit;
        },
        &leaves);
    TryBoth(leaves, directory);
  });
}

TEST(StoreFailPoints, Flush) {
  const Place place(true);
  if (!place.there) return harness::Skip("no disk");
  const harness::TemporaryDirectory directory;
  Scenario flush;
  flush.name = "flush";
  flush.file = directory.File("flush.store");
  {
    const auto store = Open(flush.file, flush.max_bytes);
    for (int round = 1; round <= 3; round++) {
      for (int i = 0; i < 40; i++) {
        // Promised by the flush before, replaced in this round: limbo.
        const Operation operation{Action::kSet, "key" + std::to_string(i), static_cast<uint64_t>(round),
                                  i % 8 == 0 ? 140'000u : 3000u};
        ASSERT_OK(Run(*store, operation));
        Apply(operation, &flush.before);
      }
      if (round < 3) {
        ASSERT_OK(store->Flush());
      }
    }
    ASSERT_OK(store->Close());
  }
  flush.operation.action = Action::kFlush;
  TryBoth(flush, directory);
}

TEST(StoreFailPoints, Compaction) {
  ForEachPlace([](const harness::TemporaryDirectory& directory) {
    std::vector<Operation> operations = SomeKeys(60, 2000);
    for (uint64_t i = 0; i < 150; i++) {
      operations.push_back({Action::kSet, "key" + std::to_string(Mix(i, 1) % 60), i + 2, Mix(i, 2) % 6000});
    }
    for (int i = 0; i < 4; i++) operations.push_back({Action::kSet, "large" + std::to_string(i), 1, 300'000});
    Scenario unflushed;
    MakeScenario(directory, "compact", operations, {Action::kCompact, "", 0, 0}, &unflushed);
    TryBoth(unflushed, directory);
    for (int i = 0; i < 3; i++) operations.push_back({Action::kDelete, "large" + std::to_string(i), 0, 0});
    Scenario flushed;
    MakeScenario(directory, "compact after a flush", operations, {Action::kCompact, "", 0, 0}, &flushed, true);
    TryBoth(flushed, directory);
    const auto compacted = [&](const std::string& name, const Operation& operation) {
      std::vector<Operation> before = operations;
      before.push_back({Action::kCompact, "", 0, 0});
      Scenario scenario;
      MakeScenario(directory, name, before, operation, &scenario);
      EXPECT_GT(FiguresOf(scenario.file, 0).hollow_units, 8) << name;
      TryBoth(scenario, directory);
    };
    compacted("large value into holes", {Action::kSet, "another", 7, 400'000});
    compacted("first key of a shard into holes", {Action::kSet, "key3", 7, 70'000});
  });
}

TEST(StoreFailPoints, Punching) {
  ForEachPlace([](const harness::TemporaryDirectory& directory) {
    const std::string empty = directory.File("empty");
    ASSERT_OK(Open(empty, uint64_t{256} << 20)->Close());
    Scenario punch;
    FindScenario(
        directory, empty, "a delete that punches",
        [&](uint64_t i) {
          constexpr uint64_t kValues = 18;
          const std::string key = "large" + std::to_string(i % kValues);
          return i < kValues ? Operation{Action::kSet, key, 1, 1'000'000} : Operation{Action::kDelete, key, 0, 0};
        },
        [](const Figures& before, const Figures& after) { return before.punches < after.punches; }, &punch);
    TryBoth(punch, directory);
  });
}

/** An opener settles what others left behind, and may die of it like them. */
TEST(StoreFailPoints, OpenAfterDeaths) {
  ForEachPlace([](const harness::TemporaryDirectory& directory) {
    std::vector<Operation> operations = SomeKeys(40, 60);
    operations.push_back({Action::kSet, "large", 1, 270'000});
    const Operation large{Action::kSet, "large", 7, 220'000};
    Scenario pending;
    MakeScenario(directory, "open after a large value", operations, {Action::kOpen, "", 0, 0}, &pending);
    pending.deaths = {{large, 20'000}};
    TryBoth(pending, directory);
    // Decided by the first, half applied by whoever comes next.
    const Operation insert{Action::kSet, "another key", 7, 120};
    Scenario decided;
    MakeScenario(directory, "write after a write", operations, insert, &decided);
    Killer counting(decided, directory, Seed());
    std::vector<uint64_t> points;
    counting.ChoosePoints(false, ~size_t{0}, &points);
    ASSERT_GT(points.size(), 20);
    for (const size_t back : {3, 12}) {
      decided.name = "write after a write killed " + std::to_string(back) + " points before its end";
      decided.deaths = {{insert, points[points.size() - back]}};
      TryBoth(decided, directory);
    }
  });
}

/** Files that need recovery, killed in the midst of it: the next opener begins anew. */
TEST(StoreFailPoints, Recovery) {
  ForEachPlace([](const harness::TemporaryDirectory& directory) {
    Scenario recovery;
    recovery.name = "recovery";
    recovery.recovers = true;
    recovery.file = directory.File("recovery.store");
    const std::string live = directory.File("live.store");
    const auto store = Open(live, recovery.max_bytes);
    for (uint64_t i = 0; i < 400; i++) {
      const Operation operation{i % 9 == 8 ? Action::kDelete : Action::kSet, "key" + std::to_string(Mix(i, 1) % 60),
                                i + 1, i % 40 == 3 ? 150'000 : Mix(i, 2) % 4000};
      ASSERT_OK(Run(*store, operation));
      Apply(operation, &recovery.before);
      // On a disk only what a flush covered is promised.
      if (i == 200 || i == 399) {
        ASSERT_OK(store->Flush());
      }
    }
    CopyFile(live, recovery.file);  // open, and another file: what memory had is not believed
    recovery.operation.action = Action::kOpen;
    Killer killer(recovery, directory, Seed());
    killer.Try(false, MostKills());
    EXPECT_GT(killer.kills(), 0);
    std::printf("    recovery: %lu points, %lu kills; seed %lu\n", killer.points(), killer.kills(), Seed());
  });
}

/** What taking over costs does not depend on how much there is. */
TEST(StoreFailPoints, TakingOverIsBounded) {
  const Place place(false);
  const harness::TemporaryDirectory directory;
  Cost costs[2];
  for (const bool large : {false, true}) {
    Scenario overwrite;
    MakeScenario(directory, large ? "large store" : "small store", SomeKeys(large ? 20'000 : 60, 60),
                 {Action::kSet, "key3", 7, 120}, &overwrite);
    Killer killer(overwrite, directory, 1);
    killer.Try(true, kSanitized ? 6 : 12);
    costs[large] = killer.worst();
    EXPECT_GT(killer.kills(), 5);
  }
  std::printf("    small: %lu stores, %lu loads; large: %lu stores, %lu loads\n", costs[0].stores, costs[0].loads,
              costs[1].stores, costs[1].loads);
  EXPECT_GT(costs[0].stores, 5) << "nothing was taken over";
  EXPECT_LE(costs[1].stores, costs[0].stores + 20);
  EXPECT_LE(costs[1].loads, costs[0].loads + 100);
}

/** A store whose last process was killed, cold: opening it and taking over touch as many pages of a large one as of a
 * small one. */
TEST(StoreFailPoints, OpeningAColdStoreIsBounded) {
  const Place place(true);
  if (!place.there) return harness::Skip("no disk");
  const harness::TemporaryDirectory directory;
  uint64_t worst[2] = {};
  for (const bool large : {false, true}) {
    Scenario overwrite;
    MakeScenario(directory, large ? "large" : "small", SomeKeys(large ? 6000 : 60, large ? 5000 : 60),
                 {Action::kSet, "key3", 7, 120}, &overwrite);
    const std::string path = directory.File("victim.store");
    Killer killer(overwrite, directory, 1);
    std::vector<uint64_t> points;
    killer.ChoosePoints(false, 6, &points);
    for (const uint64_t point : points) {
      killer.Prepare();
      ASSERT_TRUE(killer.Kill(overwrite.operation, point));
      const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
      ASSERT_EQ(::fsync(fd), 0);
      ASSERT_EQ(::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
      ::close(fd);
      const uint64_t before = ResidentPages(path);
      if (before > 100) return harness::Skip("this filesystem keeps what it is told to forget");
      const auto store = Open(path, overwrite.max_bytes);
      ASSERT_TRUE(store != nullptr);
      bool existed;
      for (int i = 0; i < 40; i++) ASSERT_OK(Delete(*store, "absent" + std::to_string(i), &existed));
      worst[large] = std::max(worst[large], ResidentPages(path) - before);
    }
  }
  std::printf("    pages touched: small %lu, large %lu\n", worst[0], worst[1]);
  EXPECT_GT(worst[0], 50);
  EXPECT_LE(worst[1], worst[0] + 160) << "40 keys may touch four pages each";
}

TEST(StoreFailPoints, OpenAndClose) {
  ForEachPlace([](const harness::TemporaryDirectory& directory) {
    std::vector<Operation> operations = SomeKeys(40, 60);
    operations.push_back({Action::kSet, "large", 1, 270'000});
    Scenario open;
    MakeScenario(directory, "open", operations, {Action::kOpen, "", 0, 0}, &open);
    TryBoth(open, directory);
    Scenario close;
    MakeScenario(directory, "close", operations, {Action::kClose, "", 0, 0}, &close);
    TryBoth(close, directory);
  });
}

}  // namespace
