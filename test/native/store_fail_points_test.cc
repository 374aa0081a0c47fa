// Processes killed at every store to shared memory. A scenario is a prepared file and one operation on it. A child runs
// the operation once and counts the points that it passes (base/fail_point.h); then, for each point, another child does
// the same on another copy of the file and is killed right there. Who had the store open all along, or whoever opens it
// next, must find the state before or after the operation, go on, and leave a file in which nothing is lost or leaked.
#include <algorithm>
#include <functional>

#include "store_killer.h"

// In the place of libc's: processes are killed here, never the machine.
extern "C" int fdatasync(int) { return 0; }

namespace {

using namespace store_test;
using faultless::format::ShardControl;

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

// ───────────────────────────────────────────────────────────── scenarios

/** What one operation may change that a scenario is about. */
struct Figures {
  uint64_t published_units;
  uint64_t directory_depth;
  uint64_t entry_places;
  uint64_t head_unit;
  uint64_t tail;
  uint64_t tail_unit;
};

Figures FiguresOf(const std::string& path, uint32_t shard_index) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  alignas(64) std::byte control[sizeof(ShardControl)];
  static_assert(sizeof(faultless::format::AllocatorControl) == sizeof control);
  const auto read = [&](uint64_t offset) {
    if (fd < 0 || ::pread(fd, control, sizeof control, static_cast<off_t>(offset)) != sizeof control) ::abort();
  };
  Figures figures{};
  read(faultless::format::kAllocatorOffset);
  figures.published_units =
      reinterpret_cast<const faultless::format::AllocatorControl*>(control)->published_units.load();
  read(faultless::format::kShardsOffset + shard_index * sizeof(ShardControl));
  ::close(fd);
  const auto& shard = *reinterpret_cast<const ShardControl*>(control);
  figures.directory_depth = shard.directory.load() & 0xFF;
  figures.entry_places = shard.entry_places.load();
  figures.head_unit = shard.head_unit.load();
  figures.tail = shard.tail.load();
  figures.tail_unit = shard.tail_unit.load();
  return figures;
}

using Wanted = std::function<bool(const Figures& before, const Figures& after)>;

/** A scenario whose operation is the first of `operations` that does what is wanted, all in shard 0. */
void FindScenario(const harness::TemporaryDirectory& directory, const std::string& empty, const std::string& name,
                  const std::function<Operation(uint64_t)>& operation_at, const Wanted& wanted, Scenario* scenario) {
  scenario->name = name;
  const std::string trial = directory.File("trial.store");
  CopyFile(empty, trial);
  uint64_t found = 0;
  {
    const auto store = Open(trial, scenario->max_bytes);
    for (Figures before = FiguresOf(trial, 0);; found++) {
      ASSERT_LT(found, 100'000) << name << "never happens";
      ASSERT_OK(Run(*store, operation_at(found))) << name << found;
      const Figures after = FiguresOf(trial, 0);
      if (wanted(before, after)) break;
      before = after;
    }
    ASSERT_OK(store->Close());
  }
  scenario->file = directory.File(name + ".store");
  CopyFile(empty, scenario->file);
  const auto store = Open(scenario->file, scenario->max_bytes);
  for (uint64_t i = 0; i < found; i++) {
    ASSERT_OK(Run(*store, operation_at(i))) << name << i;
    Apply(operation_at(i), &scenario->before);
  }
  ASSERT_OK(store->Close());
  scenario->operation = operation_at(found);
}

/** A file that went through `operations`. */
void MakeScenario(const harness::TemporaryDirectory& directory, const std::string& name,
                  const std::vector<Operation>& operations, const Operation& operation, Scenario* scenario,
                  bool flush_first = false) {
  scenario->name = name;
  scenario->file = directory.File(name + ".store");
  const auto store = Open(scenario->file, scenario->max_bytes);
  for (const Operation& one : operations) {
    ASSERT_OK(Run(*store, one));
    Apply(one, &scenario->before);
  }
  if (flush_first) {
    ASSERT_OK(store->Flush());
  }
  ASSERT_OK(store->Close());
  scenario->operation = operation;
}

std::vector<Operation> SomeKeys(int count, uint64_t size) {
  std::vector<Operation> operations;
  for (int i = 0; i < count; i++) {
    operations.push_back({Action::kSet, "key" + std::to_string(i), 1, size + static_cast<uint64_t>(i) * 7 % 90});
  }
  return operations;
}

uint64_t Seed() {
  const char* const given = ::getenv("FAULTLESS_SEED");
  static const uint64_t seed = given != nullptr ? std::stoull(given) : std::random_device{}();
  return seed;
}

/** Kills per scenario, place and kind of successor; FAULTLESS_KILLS asks for more. */
size_t MostKills() {
  const char* const given = ::getenv("FAULTLESS_KILLS");
  if (given != nullptr) return std::stoull(given);
  return kSanitized ? 3 : 12;
}

void TryBoth(const Scenario& scenario, const harness::TemporaryDirectory& directory) {
  Killer killer(scenario, directory, Seed());
  killer.Try(true, MostKills());
  killer.Try(false, MostKills());
  EXPECT_GT(killer.kills(), 0) << scenario.name;
  std::printf("    %s: %lu points, %lu kills, taking over: %lu stores, %lu loads; seed %lu\n", scenario.name.c_str(),
              killer.points(), killer.kills(), killer.worst().stores, killer.worst().loads, Seed());
}

/** On a disk there is limbo, in RAM space is free at once. */
struct Place {
  explicit Place(bool disk) {
    const char* const before = ::getenv("TMPDIR");
    if (before != nullptr) before_ = before;
    if (disk) {
      there = UseDisk();
    } else {
      there = ::access("/dev/shm", W_OK) == 0 && ::setenv("TMPDIR", "/dev/shm", 1) == 0;
    }
  }
  ~Place() {
    if (before_.empty()) {
      ::unsetenv("TMPDIR");
    } else {
      ::setenv("TMPDIR", before_.c_str(), 1);
    }
  }
  bool there = false;

 private:
  std::string before_;
};

void ForEachPlace(const std::function<void(const harness::TemporaryDirectory&)>& body) {
  for (const bool disk : {true, false}) {
    const Place place(disk);
    if (!place.there) continue;
    const harness::TemporaryDirectory directory;
    body(directory);
  }
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

/** Pages of a file that are in memory. */
uint64_t ResidentPages(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  struct stat status {};
  if (fd < 0 || ::fstat(fd, &status) != 0) ::abort();
  const auto size = static_cast<size_t>(status.st_size);
  void* const address = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0);
  if (address == MAP_FAILED) ::abort();
  std::vector<unsigned char> resident(size / 4096 + 1);
  if (::mincore(address, size, resident.data()) != 0) ::abort();
  ::munmap(address, size);
  ::close(fd);
  return static_cast<uint64_t>(std::count_if(resident.begin(), resident.end(), [](unsigned char c) { return c & 1; }));
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
