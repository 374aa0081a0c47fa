// Segments below JavaScript: waits and notifications of threads and processes, kills at each step, the waiting thread.
#include <condition_variable>
#include <thread>

#include "ipc/segment.h"
#include "ipc_fixture.h"

namespace {

using namespace ipc_test;
using faultless::ipc::kNever;
using faultless::ipc::Segment;
using faultless::ipc::SegmentOptions;
using faultless::ipc::SegmentWait;
using faultless::ipc::WaitOutcome;

class Waiter final : public SegmentWait {
 public:
  void OnOutcome(WaitOutcome outcome) override {
    const std::lock_guard guard(mutex_);
    outcome_ = outcome;
    told_.notify_all();
  }
  /** kPending: none within that time. */
  WaitOutcome Await(int milliseconds) {
    std::unique_lock lock(mutex_);
    told_.wait_for(lock, std::chrono::milliseconds(milliseconds), [&] { return outcome_ != WaitOutcome::kPending; });
    return outcome_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable told_;
  WaitOutcome outcome_ = WaitOutcome::kPending;
};

std::shared_ptr<Segment> OpenSegment(const std::string& path, uint64_t size_bytes = 4096) {
  SegmentOptions options;
  options.file.path = path;
  options.size_bytes = size_bytes;
  std::shared_ptr<Segment> segment;
  EXPECT_OK(Segment::Open(options, &segment));
  return segment;
}

std::atomic_ref<uint32_t> WordAt(Segment& segment, uint64_t place) {
  return std::atomic_ref<uint32_t>(*reinterpret_cast<uint32_t*>(segment.data() + place));
}

/** Waits as long as the word has the value. */
void WaitWhile(Segment& segment, uint64_t place, uint32_t value) {
  while (WordAt(segment, place).load() == value) {
    Waiter waiter;
    WaitOutcome outcome;
    ASSERT_OK(segment.Wait(place, value, kNever, &waiter, &outcome));
    if (outcome != WaitOutcome::kPending) continue;
    ASSERT_EQ(waiter.Await(60'000), WaitOutcome::kOk);
  }
}

TEST(Segment, PingPongOfThreads) {
  const harness::TemporaryDirectory directory;
  const auto segment = OpenSegment(directory.File("segment"));
  const uint32_t rounds = kSanitized ? 500 : 5'000;
  const auto play = [&](uint64_t mine, uint64_t theirs, bool first) {
    const auto own = OpenSegment(directory.File("segment"));
    uint32_t notified;
    for (uint32_t i = 0; i < rounds; i++) {
      if (!first) WaitWhile(*own, theirs, i);
      WordAt(*own, mine).fetch_add(1);
      EXPECT_OK(own->Notify(mine, 1, &notified));
      if (first) WaitWhile(*own, theirs, i);
    }
  };
  std::thread one(play, 0, 4, true);
  std::thread other(play, 4, 0, false);
  one.join();
  other.join();
  EXPECT_EQ(WordAt(*segment, 0).load(), rounds);
  EXPECT_EQ(WordAt(*segment, 4).load(), rounds);
}

TEST(Segment, EachNotificationEndsOneWait) {
  const harness::TemporaryDirectory directory;
  const auto segment = OpenSegment(directory.File("segment"));
  const int threads = 4;
  const int each = kSanitized ? 100 : 1'000;
  std::atomic<int> woken{0};
  std::vector<std::thread> waiting;
  for (int t = 0; t < threads; t++) {
    waiting.emplace_back([&] {
      const auto own = OpenSegment(directory.File("segment"));
      for (int i = 0; i < each; i++) {
        Waiter waiter;
        WaitOutcome outcome;
        EXPECT_OK(own->Wait(8, 0, kNever, &waiter, &outcome));
        if (outcome == WaitOutcome::kPending) outcome = waiter.Await(60'000);
        EXPECT_EQ(outcome, WaitOutcome::kOk);
        woken++;
      }
    });
  }
  int counted = 0;
  while (counted < threads * each) {
    uint32_t notified = 0;
    EXPECT_OK(segment->Notify(8, 1, &notified));
    counted += static_cast<int>(notified);
    if (notified == 0) std::this_thread::yield();
  }
  for (std::thread& thread : waiting) thread.join();
  EXPECT_EQ(woken.load(), counted);
}

TEST(Segment, TimeoutsAndCancelling) {
  const harness::TemporaryDirectory directory;
  const auto segment = OpenSegment(directory.File("segment"));
  Waiter late;
  Waiter cancelled;
  WaitOutcome outcome;
  ASSERT_OK(segment->Wait(0, 0, 20'000'000, &late, &outcome));
  ASSERT_OK(segment->Wait(0, 0, kNever, &cancelled, &outcome));
  EXPECT_EQ(late.Await(10'000), WaitOutcome::kTimedOut);
  EXPECT_TRUE(segment->Cancel(&cancelled));
  EXPECT_FALSE(segment->Cancel(&cancelled));
  uint32_t notified;
  EXPECT_OK(segment->Notify(0, 10, &notified));
  EXPECT_EQ(notified, 0);
}

TEST(Segment, AWaitThatBeginsHidesNoBellThatHasRung) {
  const harness::TemporaryDirectory directory;
  const auto segment = OpenSegment(directory.File("segment"));
  for (int round = 0; round < 5; round++) {
    Waiter first;
    Waiter second;
    WaitOutcome outcome;
    uint32_t notified;
    ASSERT_OK(segment->Wait(0, 0, kNever, &first, &outcome));
    ASSERT_OK(segment->Notify(0, 1, &notified));
    ASSERT_OK(segment->Wait(4, 0, kNever, &second, &outcome));
    EXPECT_EQ(first.Await(500), WaitOutcome::kOk);
    EXPECT_TRUE(segment->Cancel(&second));
    first.Await(5'000);
  }
}

/** Path, point (0: count), file for the sites: waits, notifies another one, cancels; with one more: only notifies. */
CHILD_PROCESS(Victim) {
  VictimPoints points(arguments);
  const auto segment = OpenSegment(arguments[0]);
  Waiter waiter;
  Waiter other;
  WaitOutcome outcome;
  uint32_t notified;
  if (arguments.size() > 3) {
    points.Arm();
    ASSERT_OK(segment->Notify(24, 1, &notified));
    points.Disarm();
    ::_exit(0);
  }
  points.Arm();
  ASSERT_OK(segment->Wait(16, 0, kNever, &waiter, &outcome));
  ASSERT_OK(segment->Wait(16, 0, kNever, &other, &outcome));
  ASSERT_OK(segment->Notify(24, 1, &notified));
  segment->Cancel(&other);
  points.Disarm();
  ::_exit(0);
}

TEST(Segment, KilledAtEachPoint) {
  const harness::TemporaryDirectory directory;
  const std::string path = directory.File("segment");
  const auto segment = OpenSegment(path);
  const uint64_t count = CountPoints(path, directory.File("sites"));
  ASSERT_GT(count, 5);
  for (uint64_t point = 1; point <= count; point++) {
    Waiter waiter;
    WaitOutcome outcome;
    uint32_t notified;
    // What the victim notifies: it does, or it does not.
    ASSERT_OK(segment->Wait(24, 0, kNever, &waiter, &outcome));
    ASSERT_TRUE(KillAt(path, point, directory.File("sites"))) << point;
    ASSERT_OK(segment->Notify(24, 1, &notified));
    EXPECT_EQ(waiter.Await(5'000), WaitOutcome::kOk) << point;
    // The dead one's waits take nothing from the living.
    Waiter mine;
    ASSERT_OK(segment->Wait(16, 0, kNever, &mine, &outcome));
    ASSERT_OK(segment->Notify(16, 1, &notified));
    EXPECT_EQ(notified, 1) << point;
    EXPECT_EQ(mine.Await(5'000), WaitOutcome::kOk) << point;
  }
  // All places can be used again.
  std::vector<std::unique_ptr<Waiter>> all(faultless::format::kSegmentWaiters);
  WaitOutcome outcome;
  for (auto& waiter : all) {
    waiter = std::make_unique<Waiter>();
    ASSERT_OK(segment->Wait(16, 0, kNever, waiter.get(), &outcome));
  }
  Waiter beyond;
  EXPECT_CODE(segment->Wait(16, 0, kNever, &beyond, &outcome), Code::kBusy);
  for (auto& waiter : all) segment->Cancel(waiter.get());
}

TEST(Segment, ANotifierKilledBeforeItRings) {
  const harness::TemporaryDirectory directory;
  const std::string path = directory.File("segment");
  const auto segment = OpenSegment(path);
  Waiter waiter;
  WaitOutcome outcome;
  uint32_t notified;
  ASSERT_OK(segment->Wait(24, 0, kNever, &waiter, &outcome));
  ASSERT_TRUE(KillAt(path, 2, directory.File("sites"), {"notify"}));
  ASSERT_OK(segment->Notify(24, 1, &notified));
  EXPECT_EQ(notified, 0);
  EXPECT_EQ(waiter.Await(5'000), WaitOutcome::kOk);
}

TEST(WaitingThread, MoreWordsThanOneCallTakes) {
  const harness::TemporaryDirectory directory;
  std::vector<std::shared_ptr<Segment>> segments(300);
  std::vector<std::unique_ptr<Waiter>> waiters(segments.size());
  WaitOutcome outcome;
  for (size_t i = 0; i < segments.size(); i++) {
    segments[i] = OpenSegment(directory.File("segment" + std::to_string(i)), 64);
    waiters[i] = std::make_unique<Waiter>();
    ASSERT_OK(segments[i]->Wait(0, 0, kNever, waiters[i].get(), &outcome));
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  for (size_t i = 0; i < segments.size(); i++) {
    uint32_t notified;
    ASSERT_OK(segments[i]->Notify(0, 1, &notified));
    EXPECT_EQ(notified, 1);
    EXPECT_EQ(waiters[i]->Await(10'000), WaitOutcome::kOk) << i;
  }
}

}  // namespace
