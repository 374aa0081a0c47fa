// Exchanges below JavaScript: queues in one process and several, kills at each step with survivors and without, hostile
// bytes.
#include <thread>

#include "ipc_exchange_fixture.h"

namespace {

using namespace ipc_test;

TEST(Exchange, HandsElementsOn) {
  const harness::TemporaryDirectory directory;
  const auto one = OpenExchange(directory.File("exchange"));
  const auto other = OpenExchange(directory.File("exchange"));
  EXPECT_EQ(one->Length(kFree), 40);
  const std::vector<uint32_t> ids = Pull(*one, kFree, 5);
  EXPECT_TRUE(ids == Range(0, 5));
  ASSERT_OK(one->Push(kWork, ids));
  EXPECT_EQ(other->Length(kWork), 5);
  EXPECT_TRUE(Pull(*other, kWork, 3) == Range(0, 3));
  EXPECT_TRUE(Pull(*one, kWork, 3) == Range(3, 5));
  EXPECT_TRUE(Pull(*one, kWork, 3).empty());
  // Only what is held, and each of it once; all or none.
  EXPECT_CODE(other->Push(kDone, std::vector<uint32_t>{0, 3}), Code::kInvalidArgValue);
  EXPECT_CODE(other->Push(kDone, std::vector<uint32_t>{0, 1, 0}), Code::kInvalidArgValue);
  EXPECT_CODE(other->Push(kDone, std::vector<uint32_t>{0, 40}), Code::kOutOfRange);
  EXPECT_EQ(other->Length(kDone), 0);
  ASSERT_OK(other->Push(kDone, std::vector<uint32_t>{2, 0, 1}));
  EXPECT_TRUE(PullAll(*one, kDone) == (std::vector<uint32_t>{2, 0, 1}));
  // What an opener held goes to the queue for that.
  one->Close();
  other->Close();
  const auto last = OpenExchange(directory.File("exchange"));
  const auto stock = TakeStock(*last);
  EXPECT_TRUE(stock[kLost] == Range(0, 5));
  EXPECT_TRUE(stock[kFree] == Range(5, 40));
}

TEST(Exchange, OptionsMustBeItsOwn) {
  const harness::TemporaryDirectory directory;
  const auto one = OpenExchange(directory.File("exchange"));
  ExchangeOptions options;
  options.file.path = directory.File("exchange");
  std::shared_ptr<Exchange> other;
  EXPECT_OK(Exchange::Open(options, &other));
  options.elements = 41;
  EXPECT_CODE(Exchange::Open(options, &other), Code::kFormat);
  options.elements = 40;
  options.element_bytes = 15;
  EXPECT_CODE(Exchange::Open(options, &other), Code::kFormat);
  options.element_bytes = 16;
  options.queues = {"free", "done", "work", "lost"};
  EXPECT_CODE(Exchange::Open(options, &other), Code::kFormat);
  options.queues.clear();
  options.reclaim_to = "free";
  EXPECT_CODE(Exchange::Open(options, &other), Code::kFormat);
}

TEST(Exchange, RingsGoRound) {
  const harness::TemporaryDirectory directory;
  const auto exchange = OpenExchange(directory.File("exchange"), 7);
  std::vector<uint32_t> expected = Range(0, 7);
  for (int i = 0; i < 1000; i++) {
    const std::vector<uint32_t> ids = Pull(*exchange, kFree, 1 + static_cast<size_t>(i) % 5);
    EXPECT_TRUE(std::equal(ids.begin(), ids.end(), expected.begin()));
    ASSERT_OK(exchange->Push(kFree, ids));
    std::rotate(expected.begin(), expected.begin() + static_cast<std::ptrdiff_t>(ids.size()), expected.end());
  }
}

TEST(Exchange, ThreadsWithOpeningsOfTheirOwn) {
  const harness::TemporaryDirectory directory;
  const auto exchange = OpenExchange(directory.File("exchange"));
  const int rounds = kSanitized ? 3'000 : 30'000;
  std::vector<std::thread> threads;
  for (uint32_t t = 0; t < 4; t++) {
    threads.emplace_back([&, t] {
      const auto own = OpenExchange(directory.File("exchange"));
      for (int i = 0; i < rounds; i++) {
        const uint32_t from = (t + static_cast<uint32_t>(i)) % 3;
        const std::vector<uint32_t> ids = Pull(*own, from, 1 + static_cast<size_t>(i) % 4);
        // Whoever holds an element has it alone.
        for (const uint32_t id : ids) {
          auto* const words = reinterpret_cast<uint64_t*>(own->elements() + id * own->geometry().stride_bytes());
          words[0]++;
          words[1]++;
          EXPECT_EQ(words[0], words[1]);
        }
        EXPECT_OK(own->Push((from + 1) % 3, ids));
      }
      own->Close();
    });
  }
  for (std::thread& thread : threads) thread.join();
  TakeStock(*exchange);
}

// ───────────────────────────────────────────────────────────── kills

/** Path: pulls, says so, and sleeps. */
CHILD_PROCESS(Holder) {
  LiveAtMost(60);
  const auto exchange = OpenExchange(arguments[0]);
  ASSERT_EQ(Pull(*exchange, kFree, 10).size(), 10);
  ASSERT_OK(exchange->Push(kDone, Pull(*exchange, kFree, 1)));
  ::pause();
}

/** Path, point (0: count), file for the sites, what is done. */
CHILD_PROCESS(Victim) {
  VictimPoints points(arguments);
  const std::string& what = arguments[3];
  if (what == "open") points.Arm();
  const auto exchange = OpenExchange(arguments[0]);
  ASSERT_TRUE(exchange != nullptr);
  std::vector<uint32_t> ids;
  if (what == "push" || what == "refused push" || what == "close") ids = Pull(*exchange, kFree, 6);
  points.Arm();
  if (what == "pull") ids = Pull(*exchange, kFree, 6);
  Status status;
  if (what == "push") status = exchange->Push(kWork, ids);
  if (what == "refused push") {
    ids.push_back(ids[0]);
    ASSERT_CODE(exchange->Push(kWork, ids), Code::kInvalidArgValue);
  }
  if (what == "move") status = exchange->Push(kWork, Pull(*exchange, kFree, 3));
  if (what == "close") exchange->Close();
  uint64_t count;
  if (what == "reclaim") {
    // By now the opening has given back what is counted here: somebody has to die after it.
    Child holder = Child::Start("Holder", {arguments[0]});
    points.Disarm();
    while (exchange->Length(kDone) == 0) ::usleep(1000);
    holder.Signal(SIGKILL);
    holder.Wait();
    points.Arm();
  }
  if (what == "reclaim") status = exchange->Reclaim(&count);
  points.Disarm();
  ASSERT_OK(status);
  ::_exit(0);
}

/** Gives back until nothing is left to be given back. */
void ReclaimAll(Exchange& exchange) {
  uint64_t count;
  ASSERT_OK(exchange.Reclaim(&count));
  ASSERT_OK(exchange.Reclaim(&count));
}

/** What a survivor, or a new process, finds after the victims. */
void Audit(Exchange& exchange, const std::string& what) {
  ReclaimAll(exchange);
  const auto stock = TakeStock(exchange);
  // In every queue what is there came in this order.
  for (const uint32_t queue : {kFree, kWork}) {
    EXPECT_TRUE(std::is_sorted(stock[queue].begin(), stock[queue].end())) << what << queue;
  }
}

void KillAll(const std::string& what, const std::string& before) {
  const harness::TemporaryDirectory directory;
  const std::string sites = directory.File("sites");
  const auto path = [&](int i) { return directory.File("exchange" + std::to_string(i)); };
  const auto prepare = [&](int i) {
    ASSERT_TRUE(OpenExchange(path(i)) != nullptr);
    // Somebody who died before, in the middle of something.
    if (!before.empty()) KillAt(path(i), 4, sites, {before});
  };
  prepare(0);
  const uint64_t count = CountPoints(path(0), sites, {what});
  ASSERT_GT(count, 0) << what;
  const uint64_t step = kSanitized ? count / 8 + 1 : 1;
  int files = 1;
  for (uint64_t point = 1; point <= count; point += step) {
    for (const bool survivor : {true, false}) {
      const std::string where = what + " after " + before + ", point " + std::to_string(point);
      prepare(files);
      std::shared_ptr<Exchange> exchange;
      if (survivor) exchange = OpenExchange(path(files));
      KillAt(path(files), point, sites, {what});
      if (!survivor) exchange = OpenExchange(path(files));
      ASSERT_TRUE(exchange != nullptr) << where;
      Audit(*exchange, where);
      exchange->Close();
      files++;
    }
  }
}

TEST(ExchangeKills, Pull) { KillAll("pull", ""); }
TEST(ExchangeKills, Push) { KillAll("push", ""); }
TEST(ExchangeKills, RefusedPush) { KillAll("refused push", ""); }
TEST(ExchangeKills, Open) { KillAll("open", ""); }
TEST(ExchangeKills, Close) { KillAll("close", ""); }
TEST(ExchangeKills, TakingOverFromADeadPull) { KillAll("move", "pull"); }
TEST(ExchangeKills, TakingOverFromADeadPush) { KillAll("move", "push"); }
TEST(ExchangeKills, Reclaim) { KillAll("reclaim", ""); }
TEST(ExchangeKills, OpeningAfterADeath) { KillAll("open", "pull"); }

TEST(Exchange, WhatTheDeadHeldComesBackByItself) {
  const harness::TemporaryDirectory directory;
  const auto exchange = OpenExchange(directory.File("exchange"));
  Child holder = Child::Start("Holder", {directory.File("exchange")});
  while (exchange->Length(kDone) == 0) ::usleep(1000);
  // As long as it lives it keeps what it has.
  uint64_t count;
  ASSERT_OK(exchange->Reclaim(&count));
  EXPECT_EQ(count, 0);
  holder.Signal(SIGSTOP);
  ASSERT_OK(exchange->Reclaim(&count));
  EXPECT_EQ(count, 0);
  holder.Signal(SIGKILL);
  holder.Wait();
  for (int i = 0; exchange->Length(kLost) < 10; i++) {
    ASSERT_LT(i, 5'000);
    ::usleep(1000);
  }
  ASSERT_OK(exchange->Reclaim(&count));
  EXPECT_EQ(count, 10);
  TakeStock(*exchange);
}

TEST(Exchange, HostileBytesCrashNobody) {
  const harness::TemporaryDirectory directory;
  const std::string path = directory.File("exchange");
  uint64_t random = 88172645463325252;
  const auto next = [&] {
    random ^= random << 13;
    random ^= random >> 7;
    return random ^= random << 17;
  };
  for (int round = 0; round < (kSanitized ? 100 : 400); round++) {
    const auto exchange = OpenExchange(path);
    ASSERT_TRUE(exchange != nullptr);
    const auto& geometry = exchange->geometry();
    const std::vector<uint32_t> held = Pull(*exchange, kFree, 3);
    auto* const base = reinterpret_cast<uint32_t*>(exchange->elements() - geometry.elements_offset());
    const uint64_t first = faultless::format::kIpcPageBytes / 4;
    for (int i = 0; i < 1 + round % 40; i++) {
      const uint64_t at = first + next() % (geometry.elements_offset() / 4 - first);
      const uint32_t value = next() % 2 == 0 ? static_cast<uint32_t>(next()) : static_cast<uint32_t>(next() % 64);
      std::atomic_ref<uint32_t>(base[at]).store(value);
    }
    std::vector<uint32_t> ids(50);
    size_t pulled;
    uint64_t count;
    for (uint32_t queue = 0; queue < geometry.queues; queue++) {
      static_cast<void>(exchange->Push(queue, held));
      static_cast<void>(exchange->Pull(queue, ids, &pulled));
      EXPECT_LE(exchange->Length(queue), geometry.elements);
    }
    static_cast<void>(exchange->Reclaim(&count));
    exchange->Close();
    std::shared_ptr<Exchange> again;
    ExchangeOptions options;
    options.file.path = path;
    static_cast<void>(Exchange::Open(options, &again));
    if (again != nullptr) again->Close();
    ASSERT_OK(Exchange::Destroy(path));
  }
}

}  // namespace
