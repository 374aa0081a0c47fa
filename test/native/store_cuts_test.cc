// Power cuts at any moment, of a store on a simulated disk. The disk keeps, of each word that no sync has covered, the
// old content or the new one; what is found then must be what the last completed flush covered, or younger, and nothing
// else. Cuts come between and inside operations, openings and recoveries, and again after these.
#include "store_cuts.h"

#include <sys/syscall.h>

// In the place of libc's: with it a seed decides about everything, the store's hash seed among it.
static std::mt19937_64 random_source;  // NOLINT
extern "C" ssize_t getrandom(void* target, size_t size, unsigned) {
  for (size_t i = 0; i < size; i++) static_cast<uint8_t*>(target)[i] = static_cast<uint8_t>(random_source());
  return static_cast<ssize_t>(size);
}

// Likewise: values expire by clocks of the test's own.
extern "C" int clock_gettime(clockid_t clock, timespec* time) noexcept {
  if (clock != CLOCK_REALTIME && clock != CLOCK_BOOTTIME) {
    return static_cast<int>(::syscall(SYS_clock_gettime, clock, time));
  }
  const uint64_t now_ms = clock == CLOCK_REALTIME ? store_test::wall_clock_ms : store_test::boot_clock_ms;
  time->tv_sec = static_cast<time_t>(now_ms / 1000);
  time->tv_nsec = static_cast<long>(now_ms % 1000 * 1'000'000);
  return 0;
}

namespace {

using namespace store_test;

uint64_t Environment(const char* name, uint64_t otherwise) {
  const char* const given = ::getenv(name);
  return given != nullptr ? std::strtoull(given, nullptr, 10) : otherwise;
}

TEST(PowerCuts, LeaveWhatWasFlushedAndNothingElse) {
  const bool one = ::getenv("FAULTLESS_TEST_SEED") != nullptr && ::getenv("FAULTLESS_CUTS") == nullptr;
  const uint64_t first = Environment("FAULTLESS_TEST_SEED", std::random_device{}() % 1'000'000'000);
  const uint64_t wanted = one ? 1 : Environment("FAULTLESS_CUTS", kSanitized ? 600 : 10'000);
  Counters counters;
  uint64_t seed = first;
  for (; counters[kCuts] < wanted; seed++) {
    random_source.seed(seed);
    PowerCutRun(seed, &counters).Run();
  }
  std::printf("    %lu cuts, seeds %lu to %lu (FAULTLESS_TEST_SEED=n runs one)\n", counters[kCuts], first, seed - 1);
  counters.Print();
  for (size_t i = 0; i < kCounters && !one && wanted >= 5000; i++) {
    EXPECT_GT(counters.count[i], 0) << kCounterNames[i] << "never happened";
  }
}

// The same of stores that evict alone: they are a few of all, and each of them writes much.
TEST(PowerCuts, OfStoresThatEvict) {
  const bool one = ::getenv("FAULTLESS_TEST_SEED") != nullptr && ::getenv("FAULTLESS_CUTS") == nullptr;
  const uint64_t first = Environment("FAULTLESS_TEST_SEED", std::random_device{}() % 1'000'000'000);
  const uint64_t wanted = one ? 1 : Environment("FAULTLESS_CUTS", kSanitized ? 100 : 2000) / (kSanitized ? 1 : 2);
  Counters counters;
  uint64_t seed = first;
  for (; counters[kCuts] < wanted; seed++) {
    random_source.seed(seed);
    Random random(seed);
    const Workload load = EvictingWorkload(&random);
    PowerCutRun(seed, &counters, &load).Run();
  }
  std::printf("    %lu cuts, seeds %lu to %lu (FAULTLESS_TEST_SEED=n runs one)\n", counters[kCuts], first, seed - 1);
  counters.Print();
  if (!one && wanted >= 500) {
    EXPECT_GT(counters[kEvicted], 0);
    EXPECT_GT(counters[kEvictedDeleted], 0);
  }
}

Workload SmallWorkload(Random* random) {
  Workload load = ChooseWorkload(random);
  while (load.filled > 0 || load.expired_percent > 0 || load.evicts) load = ChooseWorkload(random);
  load.close_permille = 0;
  return load;
}

/** A world with some content, some of it promised. */
std::unique_ptr<World> BeginWith(PowerCutRun* run, Random* random) {
  std::unique_ptr<World> world = run->Begin();
  for (uint64_t i = Logarithmic(random, 120); i > 0; i--) run->Operate(world.get());
  return world;
}

// After a sync that failed nobody knows what is on the device, and a second one may claim success.
TEST(FailedCalls, ASyncThatFailsPoisonsUntilTheStoreIsRecovered) {
  const uint64_t first = Environment("FAULTLESS_TEST_SEED", std::random_device{}() % 1'000'000'000);
  uint64_t in_flush = 0, in_close = 0, in_open = 0;
  Counters counters;
  for (uint64_t seed = first; seed < first + (kSanitized ? 10 : 80); seed++) {
    random_source.seed(seed);
    Random random(seed);
    const Workload load = SmallWorkload(&random);
    PowerCutRun run(seed, &counters, &load);
    std::unique_ptr<World> world = BeginWith(&run, &random);
    const std::string what = "seed " + std::to_string(seed);
    SimulatedDisk& disk = *world->disk;
    disk.failing = &random;
    const bool at_close = Chance(&random, 50);
    if (!at_close) {
      disk.fail_sync = 1;
      EXPECT_CODE(run.Flush(world.get()), Code::kIo) << what;
      for (uint64_t i = Below(&random, 10); i > 0; i--)
        EXPECT_OK(run.Set(world.get(), Below(&random, load.keys))) << what;
      EXPECT_CODE(run.Flush(world.get()), Code::kIo) << what;
      EXPECT_CODE(run.TryClose(world.get()), Code::kIo) << what;
      in_flush++;
    } else {
      disk.fail_sync = 1 + Below(&random, 3);  // of the flush, of the rest, of the mark
      EXPECT_CODE(run.TryClose(world.get()), Code::kIo) << what;
      in_close++;
    }
    EXPECT_EQ(disk.fail_sync, 0) << what;
    world->model.unrecovered = true;
    if (Chance(&random, 30)) {
      // The power goes after all that.
      world = run.Boot({disk.Cut(&random), world->model, 0, what + " cut"}, false);
    } else {
      if (Chance(&random, 40)) {
        disk.fail_sync = 1 + Below(&random, 3);
        EXPECT_CODE(run.TryOpen(world.get()), Code::kIo) << what;
        in_open++;
      } else if (Chance(&random, 50)) {
        disk.DropCache();  // for want of memory
      }
      run.Reopen(world.get());
    }
    ASSERT_TRUE(world != nullptr && world->store != nullptr) << what;
    EXPECT_OK(run.Flush(world.get())) << what;
    for (uint64_t i = Below(&random, 40); i > 0; i--) run.Operate(world.get());
    run.Cut(std::move(world), 2);
  }
  std::printf("    syncs failed: %lu in a flush, %lu in a close, %lu in an open; seeds from %lu\n", in_flush, in_close,
              in_open, first);
}

// A file that cannot grow keeps what it has, and takes what has room.
TEST(FailedCalls, AFullDiskChangesNothing) {
  const uint64_t first = Environment("FAULTLESS_TEST_SEED", std::random_device{}() % 1'000'000'000);
  Counters counters;
  uint64_t refused = 0;
  for (uint64_t seed = first; seed < first + (kSanitized ? 10 : 60); seed++) {
    random_source.seed(seed);
    Random random(seed);
    const Workload load = SmallWorkload(&random);
    PowerCutRun run(seed, &counters, &load);
    std::unique_ptr<World> world = BeginWith(&run, &random);
    const std::string what = "seed " + std::to_string(seed);
    world->disk->fail_reserve = 1 + Below(&random, 4);
    for (uint64_t i = 20 + Logarithmic(&random, 200); i > 0; i--) run.Operate(world.get());
    // Who opens it now finds exactly what succeeded.
    EXPECT_TRUE(run.Boot({world->disk->Fork(), world->model, world->boot, what + " death"}, false) != nullptr) << what;
    if (Chance(&random, 50)) {
      if (!run.Close(world.get())) continue;
      run.Audit(*world);
      run.Reopen(world.get());
    }
    refused += world->disk->refused;
    if (Chance(&random, 70)) world->disk->fail_reserve = 0;
    ASSERT_TRUE(world->store != nullptr) << what;
    for (uint64_t i = Below(&random, 60); i > 0; i--) run.Operate(world.get());
    run.Cut(std::move(world), 4);
  }
  EXPECT_GT(refused, 0);
  std::printf("    %lu calls for space refused, %lu cuts; seeds from %lu\n", refused, counters[kCuts], first);
}

}  // namespace
