// Purpose: prepared files and one operation on each, for tests that kill processes in the midst of that operation.
// Thread safety: one thread. A program that includes this defines CHILD_PROCESS(Victim) (store_killer.h).
#pragma once

#include <algorithm>
#include <functional>

#include "store_killer.h"

namespace store_test {

using faultless::format::ShardControl;

/** What one operation may change that a scenario is about. */
struct Figures {
  uint64_t published_units;
  uint64_t directory_depth;
  uint64_t entry_places;
  uint64_t head_unit;
  uint64_t tail;
  uint64_t tail_unit;
  uint64_t punches;
  uint64_t hollow_units;
  uint64_t free_units;
  uint64_t structure_version;
};

inline Figures FiguresOf(const std::string& path, uint32_t shard_index) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  alignas(64) std::byte control[sizeof(ShardControl)];
  static_assert(sizeof(faultless::format::AllocatorControl) == sizeof control);
  const auto read = [&](uint64_t offset) {
    if (fd < 0 || ::pread(fd, control, sizeof control, static_cast<off_t>(offset)) != sizeof control) ::abort();
  };
  Figures figures{};
  read(faultless::format::kAllocatorOffset);
  const auto& allocator = *reinterpret_cast<const faultless::format::AllocatorControl*>(control);
  figures.published_units = allocator.published_units.load();
  figures.punches = allocator.punches.load();
  figures.hollow_units = allocator.hollow_units.load();
  figures.free_units = allocator.free_units.load();
  read(faultless::format::kShardsOffset + shard_index * sizeof(ShardControl));
  ::close(fd);
  const auto& shard = *reinterpret_cast<const ShardControl*>(control);
  figures.directory_depth = shard.directory.load() & 0xFF;
  figures.entry_places = shard.entry_places.load();
  figures.head_unit = shard.head_unit.load();
  figures.tail = shard.tail.load();
  figures.tail_unit = shard.tail_unit.load();
  figures.structure_version = shard.structure_version.load();
  return figures;
}

using Wanted = std::function<bool(const Figures& before, const Figures& after)>;

/** Which of the operations of an empty store is the first that does what is wanted in shard 0; ~0: none of so many. */
inline uint64_t FindOperation(const harness::TemporaryDirectory& directory, const std::string& empty,
                              uint64_t max_bytes, const std::function<Operation(uint64_t)>& operation_at,
                              const Wanted& wanted, uint64_t most) {
  const std::string trial = directory.File("trial.store");
  CopyFile(empty, trial);
  const auto store = Open(trial, max_bytes);
  Figures before = FiguresOf(trial, 0);
  for (uint64_t found = 0; found < most; found++) {
    EXPECT_OK(Run(*store, operation_at(found))) << found;
    const Figures after = FiguresOf(trial, 0);
    if (wanted(before, after)) {
      EXPECT_OK(store->Close());
      return found;
    }
    before = after;
  }
  EXPECT_OK(store->Close());
  return ~uint64_t{0};
}

/** A scenario whose operation is the first of `operations` that does what is wanted, all in shard 0. */
inline void FindScenario(const harness::TemporaryDirectory& directory, const std::string& empty,
                         const std::string& name, const std::function<Operation(uint64_t)>& operation_at,
                         const Wanted& wanted, Scenario* scenario) {
  scenario->name = name;
  const uint64_t found = FindOperation(directory, empty, scenario->max_bytes, operation_at, wanted, 100'000);
  ASSERT_LT(found, 100'000) << name << "never happens";
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
inline void MakeScenario(const harness::TemporaryDirectory& directory, const std::string& name,
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

inline std::vector<Operation> SomeKeys(int count, uint64_t size) {
  std::vector<Operation> operations;
  for (int i = 0; i < count; i++) {
    operations.push_back({Action::kSet, "key" + std::to_string(i), 1, size + static_cast<uint64_t>(i) * 7 % 90});
  }
  return operations;
}

/** Kills per scenario, place and kind of successor; FAULTLESS_KILLS asks for more. */
inline size_t MostKills() {
  const char* const given = ::getenv("FAULTLESS_KILLS");
  if (given != nullptr) return std::stoull(given);
  return kSanitized ? 3 : 12;
}

inline void TryBoth(const Scenario& scenario, const harness::TemporaryDirectory& directory) {
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

inline void ForEachPlace(const std::function<void(const harness::TemporaryDirectory&)>& body) {
  for (const bool disk : {true, false}) {
    const Place place(disk);
    if (!place.there) continue;
    const harness::TemporaryDirectory directory;
    body(directory);
  }
}

}  // namespace store_test
