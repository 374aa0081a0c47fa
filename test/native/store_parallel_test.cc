// Pieces of work done by several threads: each once, the first failure is told, and nothing goes on behind the call.
#include <atomic>
#include <thread>
#include <vector>

#include "harness.h"
#include "store/parallel.h"

namespace faultless::store {
namespace {

TEST(StoreParallel, DoesEachPieceOnce) {
  for (const uint32_t threads : {1U, 2U, 4U}) {
    for (const size_t pieces : {size_t{0}, size_t{1}, size_t{3}, size_t{1000}}) {
      std::vector<std::atomic<int>> done(pieces);
      std::atomic<bool> over{false};
      const auto caller = std::this_thread::get_id();
      bool elsewhere = false;
      const Status status = DoPieces(
          pieces, threads,
          [&](uint32_t thread, size_t piece) -> Status {
            if (thread >= threads || over.load()) return Code::kCorrupt;
            done[piece].fetch_add(1);
            return Code::kOk;
          },
          [&] { elsewhere = elsewhere || std::this_thread::get_id() != caller; });
      over.store(true);
      EXPECT_OK(status);
      EXPECT_FALSE(elsewhere);
      for (size_t i = 0; i < pieces; i++) ASSERT_EQ(done[i].load(), 1) << threads << "threads, piece" << i;
    }
  }
}

TEST(StoreParallel, TellsTheFirstFailureAndBeginsNothingMore) {
  for (int round = 0; round < 100; round++) {
    std::atomic<size_t> begun{0};
    const Status status = DoPieces(
        100'000, 4,
        [&](uint32_t, size_t piece) -> Status {
          begun.fetch_add(1);
          return piece >= 10 ? Status::Io("piece", piece) : Status();
        },
        [] {});
    EXPECT_CODE(status, Code::kIo);
    EXPECT_EQ(status.offset(), 10U);  // pieces begin in order, so it had begun when a later one failed
    EXPECT_LE(begun.load(), 14U);
  }
}

TEST(StoreParallel, TakesFewThreadsForLittleWork) {
  EXPECT_EQ(ThreadsFor(0), 1U);
  EXPECT_GE(ThreadsFor(uint64_t{1} << 40), 2U);  // the tests' build
  EXPECT_LE(ThreadsFor(uint64_t{1} << 40), 4U);
}

}  // namespace
}  // namespace faultless::store
