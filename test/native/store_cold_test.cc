// A store whose last process was killed in the midst of a write, and of which nothing is in memory: what opening it and
// writing to the dead writer's shard cost does not depend on how much there is. Pages are counted; times are printed.
//
// FAULTLESS_COLD_MIB: size of the large store (300). 5120 needs 5 GiB of disk and some minutes.
#include <algorithm>

#include "store_killer.h"

namespace {

using namespace store_test;

constexpr uint64_t kMaxBytes = uint64_t{16} << 30;
/** What is overwritten when the writer dies, and then by who comes next. */
const char kKey[] = "small0";

/** File, point at which it is killed (0: count only), file for the sites, how many keys to overwrite first. */
CHILD_PROCESS(ColdVictim) {
  LiveAtMost(600);
  const Sites sites(arguments[2]);
  fail_points.fail = [] { ::kill(::getpid(), SIGKILL); };
  fail_points.fail_at = std::stoull(arguments[1]);
  const auto store = Open(arguments[0], kMaxBytes);
  ASSERT_TRUE(store != nullptr);
  for (uint64_t i = 0; i < std::stoull(arguments[3]); i++) {
    const std::string key = "small" + std::to_string(i);
    ASSERT_OK(Set(*store, key, MakeValue(key, 2, 400)));
  }
  fail_points.armed = true;
  ASSERT_OK(Set(*store, kKey, MakeValue(kKey, 3, 400)));
  fail_points.armed = false;
  sites.count() = static_cast<uint32_t>(fail_points.passed.load());
  ::_exit(0);
}

/** A fifth of it in small values, the rest in values of 1 MiB. */
void Fill(const std::string& path, uint64_t bytes) {
  const auto store = Open(path, kMaxBytes);
  ASSERT_TRUE(store != nullptr);
  const uint64_t small = std::max<uint64_t>(60, bytes / 5 / 440);
  for (uint64_t i = 0; i < small; i++) {
    const std::string key = "small" + std::to_string(i);
    ASSERT_OK(Set(*store, key, MakeValue(key, 1, 400)));
  }
  std::string value(1 << 20, 'x');
  for (uint64_t i = 0; i < bytes / 5 * 4 >> 20; i++) {
    const std::string key = "large" + std::to_string(i);
    std::memcpy(value.data(), &i, sizeof i);
    ASSERT_OK(Set(*store, key, value));
  }
  ASSERT_OK(store->Close());
}

/** In the control header; the whole file would be too much to look at. */
uint64_t RecoveriesOf(const std::string& path) {
  faultless::format::ControlHeader header;
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (::pread(fd, static_cast<void*>(&header), sizeof header, faultless::format::kControlOffset) != sizeof header) {
    ::abort();
  }
  ::close(fd);
  return header.recoveries.load();
}

struct TakeOver {
  uint64_t pages = 0;
  double open_ms = 0;
  double write_ms = 0;
};

/** Takes the victim's store over, cold. */
void MeasureTakeOver(const std::string& path, TakeOver* taken) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_TRUE(fd >= 0);
  ASSERT_EQ(::fsync(fd), 0);
  ASSERT_EQ(::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
  const uint64_t before = ResidentPages(fd);
  if (before > 100) return harness::Skip("this filesystem keeps what it is told to forget");
  const uint64_t begin = faultless::os::MonotonicNs();
  const auto store = Open(path, kMaxBytes);
  const uint64_t opened = faultless::os::MonotonicNs();
  ASSERT_TRUE(store != nullptr);
  ASSERT_OK(Set(*store, kKey, MakeValue(kKey, 4, 400)));
  const uint64_t written = faultless::os::MonotonicNs();
  taken->pages = std::max(taken->pages, ResidentPages(fd) - before);
  taken->open_ms = std::max(taken->open_ms, static_cast<double>(opened - begin) / 1e6);
  taken->write_ms = std::max(taken->write_ms, static_cast<double>(written - opened) / 1e6);
  ::close(fd);
  std::string value;
  ASSERT_OK(Get(*store, kKey, &value));
  EXPECT_EQ(NumberOf(kKey, value), 4);
  ASSERT_OK(store->Close());
}

TEST(StoreCold, TakingOverDoesNotDependOnTheSize) {
  if (!UseDisk()) return harness::Skip("no disk");
  const char* const given = ::getenv("FAULTLESS_COLD_MIB");
  const uint64_t large_bytes = (given != nullptr ? std::stoull(given) : 300) << 20;
  const harness::TemporaryDirectory directory;
  const std::string sites_path = directory.File("sites");
  const Sites sites(sites_path);
  TakeOver taken[2];
  for (const bool large : {false, true}) {
    const std::string path = directory.File(large ? "large" : "small");
    Fill(path, large ? large_bytes : 1 << 20);
    const uint64_t recoveries = RecoveriesOf(path);
    const auto victim = [&](uint64_t point) {
      return Child::Start("ColdVictim", {path, std::to_string(point), sites_path, large ? "5000" : "60"}).Wait();
    };
    ASSERT_EQ(victim(0), 0);
    const uint64_t points = sites.count();
    ASSERT_GT(points, 60);
    // Within the record; in the transaction, decided and not; at the end.
    for (const uint64_t point : {points / 2, points - 20, points - 10, points - 4}) {
      ASSERT_EQ(victim(point), -SIGKILL);
      MeasureTakeOver(path, &taken[large]);
    }
    EXPECT_EQ(RecoveriesOf(path), recoveries);
    std::printf("    %5lu MiB, cold: %lu pages touched at most; open %.1f ms, first write %.1f ms at most\n",
                large ? large_bytes >> 20 : 1, taken[large].pages, taken[large].open_ms, taken[large].write_ms);
  }
  EXPECT_GT(taken[0].pages, 50);
  EXPECT_LE(taken[1].pages, taken[0].pages + 160);
}

}  // namespace
