// What is remembered of the kernel's answers about pages in memory, and for how long (store/residency.h). Time is made
// up here; the kernel is a set of pages that are not in memory.
#include <memory>
#include <random>
#include <set>

#include "harness.h"
#include "simulated_disk.h"
#include "store/residency.h"

namespace store_test {
namespace {

using faultless::store::Residency;
using faultless::store::ResidencyMoment;

constexpr uint64_t kPage = 4096;
constexpr uint64_t kStretchPages = 32;
constexpr uint64_t kRegionPages = 512;
constexpr uint64_t kUs = 1'000;
constexpr uint64_t kMs = 1'000'000;
constexpr uint64_t kSecond = 1'000 * kMs;
constexpr uint64_t kBytes = 3 * kRegionPages * kPage + 5 * kPage;  // the last region is not whole

/** Memory from which pages can be taken. */
class Pages final : public SimulatedStorage {
 public:
  Pages() : SimulatedStorage(std::make_shared<SimulatedDisk>(kBytes)) {}

  bool IsResident(uint64_t offset, uint64_t length) override {
    for (uint64_t page = offset / kPage; page <= (offset + length - 1) / kPage; page++) {
      if (missing.contains(page)) return false;
    }
    return true;
  }
  void ResidentPages(uint64_t offset, uint64_t length, uint32_t* pages) override {
    questions++;
    SimulatedStorage::ResidentPages(offset, length, pages);
  }

  std::set<uint64_t> missing;
  int questions = 0;
};

struct Fixture {
  Pages pages;
  Residency residency{&pages};
  uint64_t now_ns = 1'000 * kSecond;

  bool Covers(uint64_t page, uint64_t count = 1, bool lenient = false) {
    return residency.Covers(page * kPage, count * kPage, ResidencyMoment{lenient, now_ns});
  }
  /** How many questions it takes. */
  int Questions(uint64_t page, bool lenient = false) {
    const int before = pages.questions;
    EXPECT_TRUE(Covers(page, 1, lenient));
    return pages.questions - before;
  }
};

TEST(Residency, AsksOnceForARegion) {
  Fixture fixture;
  EXPECT_EQ(fixture.Questions(3), 1);
  EXPECT_EQ(fixture.Questions(3), 0);
  EXPECT_EQ(fixture.Questions(kRegionPages - 1), 0);
  EXPECT_EQ(fixture.Questions(kRegionPages), 1);
  // A range over two regions that are known both.
  const int before = fixture.pages.questions;
  EXPECT_TRUE(fixture.Covers(kRegionPages - 1, 2));
  EXPECT_EQ(fixture.pages.questions, before);
  // The last region ends with the file.
  EXPECT_EQ(fixture.Questions(3 * kRegionPages + 4), 1);
  EXPECT_TRUE(fixture.Covers(3 * kRegionPages, 5));
}

TEST(Residency, ForgetsAfterTwoMilliseconds) {
  Fixture fixture;
  EXPECT_EQ(fixture.Questions(7), 1);
  fixture.now_ns += 1'900 * kUs;
  EXPECT_EQ(fixture.Questions(7), 0);
  fixture.now_ns += 200 * kUs;
  EXPECT_EQ(fixture.Questions(7), 1);
  fixture.now_ns += 200 * kMs;
  EXPECT_EQ(fixture.Questions(7, /*lenient=*/true), 0);
  fixture.now_ns += 60 * kMs;
  EXPECT_EQ(fixture.Questions(7, /*lenient=*/true), 1);
}

TEST(Residency, IsStrictWhilePagesLeaveMemory) {
  Fixture fixture;
  EXPECT_EQ(fixture.Questions(7), 1);
  fixture.pages.missing.insert(100);
  fixture.now_ns += 5 * kMs;
  EXPECT_FALSE(fixture.Covers(100));  // and the loss has been noted
  fixture.now_ns += 100 * kUs;
  EXPECT_EQ(fixture.Questions(kRegionPages), 1);
  fixture.now_ns += 60 * kUs;
  EXPECT_EQ(fixture.Questions(kRegionPages), 0);
  fixture.now_ns += 140 * kUs;
  EXPECT_EQ(fixture.Questions(kRegionPages), 1);
  // A second later all is calm again.
  fixture.now_ns += 1'100 * kMs;
  EXPECT_EQ(fixture.Questions(kRegionPages), 1);
  fixture.now_ns += kMs;
  EXPECT_EQ(fixture.Questions(kRegionPages), 0);
}

TEST(Residency, NeverCoversWhatIsMissing) {
  std::random_device device;
  const uint64_t seed = device();
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  std::mt19937_64 random(seed);
  for (int round = 0; round < 50; round++) {
    Fixture fixture;
    for (int i = 0; i < 20; i++) fixture.pages.missing.insert(random() % (kBytes / kPage));
    for (int i = 0; i < 2'000; i++) {
      const uint64_t page = random() % (kBytes / kPage);
      const uint64_t count = std::min<uint64_t>(1 + random() % 80, kBytes / kPage - page);
      EXPECT_EQ(fixture.Covers(page, count), fixture.pages.IsResident(page * kPage, count * kPage));
      fixture.now_ns += random() % (300 * kUs);
    }
  }
}

TEST(Residency, AsksAboutStretchesOfARegionThatIsThereInPart) {
  Fixture fixture;
  fixture.pages.missing.insert(kRegionPages - 1);
  EXPECT_EQ(fixture.Questions(0), 1);
  EXPECT_EQ(fixture.Questions(kStretchPages), 0);  // told by the same answer
  fixture.now_ns += 10 * kMs;
  EXPECT_EQ(fixture.Questions(0), 1);
  EXPECT_EQ(fixture.Questions(kStretchPages), 1);
  // Later it is asked about as a whole.
  fixture.pages.missing.clear();
  fixture.now_ns += 2 * kSecond;
  EXPECT_EQ(fixture.Questions(0), 1);
  EXPECT_EQ(fixture.Questions(kStretchPages), 0);
  fixture.now_ns += 10 * kMs;
  EXPECT_EQ(fixture.Questions(0), 1);
  EXPECT_EQ(fixture.Questions(kStretchPages), 0);
}

TEST(Residency, AProofThatIsHoursOldIsNone) {
  Fixture fixture;
  EXPECT_EQ(fixture.Questions(0), 1);
  // Ticks of 65 µs in 32 bits: half way round they would be negative.
  for (const uint64_t hours : {1, 38, 40, 77}) {
    fixture.now_ns += hours * 3'600 * kSecond;
    EXPECT_EQ(fixture.Questions(0), 1);
  }
  // Of a moment that was told by a coarser clock the answer may be newer.
  fixture.now_ns -= 4 * kMs;
  EXPECT_EQ(fixture.Questions(0), 0);
}

}  // namespace
}  // namespace store_test
