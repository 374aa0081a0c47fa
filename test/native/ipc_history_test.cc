// Histories of one queue over processes: who pushed and pulled what, from when to when, with some of them killed. A
// small checker says whether all of it can have happened one after another in a first-in-first-out queue.
#include <sys/mman.h>

#include <limits>
#include <map>
#include <random>

#include "ipc_exchange_fixture.h"

namespace {

using namespace ipc_test;

constexpr uint64_t kUnended = std::numeric_limits<uint64_t>::max();

struct Event {
  uint64_t value;  // 0: nothing was there
  uint64_t begin_ns;
  uint64_t end_ns;  // kUnended: it was killed in it
  uint32_t is_push;
  uint32_t reserved;
};

/** A process's events, in memory that outlives it. */
class Recorder {
 public:
  static constexpr size_t kMost = 20'000;
  explicit Recorder(const std::string& path) {
    const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ::ftruncate(fd, kMost * sizeof(Event)) != 0) ::abort();
    void* const address = ::mmap(nullptr, kMost * sizeof(Event), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (address == MAP_FAILED) ::abort();
    ::close(fd);
    events_ = static_cast<Event*>(address);
  }
  Recorder(const Recorder&) = delete;
  ~Recorder() { ::munmap(events_, kMost * sizeof(Event)); }

  Event* Begin(bool is_push, uint64_t value) {
    if (count_ == kMost) ::abort();
    Event& event = events_[count_++];
    event = {value, faultless::os::MonotonicNs(), kUnended, is_push ? 1u : 0u, 0};
    return &event;
  }
  std::vector<Event> Read() const {
    std::vector<Event> events;
    for (size_t i = 0; i < kMost && events_[i].begin_ns != 0; i++) events.push_back(events_[i]);
    return events;
  }

 private:
  Event* events_;
  size_t count_ = 0;
};

/**
 * What is wrong with a history, or nothing. Every value is pushed once. That each pair of values is in order, none is
 * pulled before it is pushed or twice, and the queue is never called empty while something was in it for certain: for
 * queues of distinct values there is no other way to be wrong (Henzinger, Sezgin and Vafeiadis, 2013).
 */
std::string CheckFifo(const std::vector<Event>& events) {
  struct Life {
    uint64_t push_begin = 0;
    uint64_t push_end = kUnended;
    uint64_t pull_begin = kUnended;
    uint64_t pull_end = kUnended;
    bool pulled = false;
  };
  std::map<uint64_t, Life> lives;
  std::vector<Event> empty;
  for (const Event& event : events) {
    if (event.is_push == 0) continue;
    if (lives.contains(event.value)) return "pushed twice: " + std::to_string(event.value);
    lives[event.value].push_begin = event.begin_ns;
    lives[event.value].push_end = event.end_ns;
  }
  for (const Event& event : events) {
    if (event.is_push != 0) continue;
    if (event.value == 0) {
      if (event.end_ns != kUnended) empty.push_back(event);
      continue;
    }
    const auto found = lives.find(event.value);
    if (found == lives.end()) return "never pushed: " + std::to_string(event.value);
    Life& life = found->second;
    if (life.pulled) return "pulled twice: " + std::to_string(event.value);
    if (event.end_ns < life.push_begin) return "pulled before it was pushed: " + std::to_string(event.value);
    life.pulled = true;
    life.pull_begin = event.begin_ns;
    life.pull_end = event.end_ns;
  }
  // In the order of the ends of pushes, and of the begins of pushes: of all that were pushed before, none may be pulled
  // after.
  std::vector<const Life*> by_end;
  std::vector<const Life*> by_begin;
  for (const auto& [value, life] : lives) {
    if (life.push_end != kUnended) by_end.push_back(&life);
    if (life.pulled) by_begin.push_back(&life);
  }
  std::sort(by_end.begin(), by_end.end(), [](const Life* a, const Life* b) { return a->push_end < b->push_end; });
  std::sort(by_begin.begin(), by_begin.end(),
            [](const Life* a, const Life* b) { return a->push_begin < b->push_begin; });
  uint64_t latest_pull = 0;  // the latest begin of a pull of what had been pushed by then
  size_t at = 0;
  for (const Life* life : by_begin) {
    for (; at < by_end.size() && by_end[at]->push_end < life->push_begin; at++) {
      latest_pull = std::max(latest_pull, by_end[at]->pull_begin);
    }
    if (latest_pull > life->pull_end) return "two values overtook each other";
  }
  for (const Event& event : empty) {
    for (const auto& [value, life] : lives) {
      if (life.push_end < event.begin_ns && life.pull_begin > event.end_ns) {
        return "called empty while " + std::to_string(value) + " was in it";
      }
    }
  }
  return {};
}

TEST(FifoChecker, FindsWhatIsWrong) {
  const auto push = [](uint64_t value, uint64_t begin, uint64_t end) { return Event{value, begin, end, 1, 0}; };
  const auto pull = [](uint64_t value, uint64_t begin, uint64_t end) { return Event{value, begin, end, 0, 0}; };
  EXPECT_EQ(CheckFifo({push(1, 1, 2), push(2, 3, 4), pull(1, 5, 6), pull(2, 7, 8), pull(0, 9, 10)}), "");
  EXPECT_EQ(CheckFifo({push(1, 1, 4), push(2, 3, 4), pull(2, 5, 6), pull(1, 7, 8)}), "");
  EXPECT_EQ(CheckFifo({push(1, 1, kUnended), push(2, 3, 4), pull(0, 5, 6), pull(2, 1, 8)}), "");
  EXPECT_NE(CheckFifo({push(1, 1, 2), push(2, 3, 4), pull(2, 5, 6), pull(1, 7, 8)}), "");
  EXPECT_NE(CheckFifo({push(1, 1, 2), push(2, 3, 4), pull(2, 5, 6)}), "");
  EXPECT_NE(CheckFifo({push(1, 1, 2), pull(1, 3, 4), pull(1, 5, 6)}), "");
  EXPECT_NE(CheckFifo({push(1, 3, 4), pull(1, 1, 2)}), "");
  EXPECT_NE(CheckFifo({push(1, 1, 2), pull(0, 3, 4), pull(1, 5, 6)}), "");
  EXPECT_NE(CheckFifo({pull(1, 1, 2)}), "");
}

uint64_t& ValueOf(Exchange& exchange, uint32_t id) {
  return *reinterpret_cast<uint64_t*>(exchange.elements() + id * exchange.geometry().stride_bytes());
}

/** Path, recorder, number, how many, whether it pushes. */
CHILD_PROCESS(Player) {
  LiveAtMost(120);
  const auto exchange = OpenExchange(arguments[0]);
  Recorder recorder(arguments[1]);
  const uint64_t number = std::stoull(arguments[2]);
  const uint64_t count = std::stoull(arguments[3]);
  const bool pushes = arguments[4] == "push";
  uint64_t sequence = 0;
  for (uint64_t i = 0; i < count;) {
    if (pushes) {
      std::vector<uint32_t> ids = Pull(*exchange, kFree, 1 + i % 3);
      if (ids.empty()) {
        ::usleep(20);
        continue;
      }
      for (const uint32_t id : ids) {
        ValueOf(*exchange, id) = number << 32 | ++sequence;
        Event* const event = recorder.Begin(true, number << 32 | sequence);
        EXPECT_OK(exchange->Push(kWork, {&id, 1}));
        event->end_ns = faultless::os::MonotonicNs();
        i++;
      }
    } else {
      Event* const event = recorder.Begin(false, 0);
      uint32_t id;
      size_t pulled;
      EXPECT_OK(exchange->Pull(kWork, {&id, 1}, &pulled));
      if (pulled == 1) event->value = ValueOf(*exchange, id);
      event->end_ns = faultless::os::MonotonicNs();
      if (pulled == 1) {
        EXPECT_OK(exchange->Push(kFree, {&id, 1}));
      } else {
        ::usleep(50);
      }
      i++;
    }
  }
}

TEST(Exchange, HistoriesOverProcessesAreFirstInFirstOut) {
  const harness::TemporaryDirectory directory;
  std::mt19937_64 random(std::random_device{}());
  const uint64_t rounds = kSanitized ? 2 : 6;
  for (uint64_t round = 0; round < rounds; round++) {
    const std::string path = directory.File("exchange" + std::to_string(round));
    const auto exchange = OpenExchange(path);
    std::vector<std::string> recorders;
    std::vector<Child> children;
    for (uint64_t i = 0; i < 4; i++) {
      recorders.push_back(directory.File("history" + std::to_string(round) + "-" + std::to_string(i)));
      children.push_back(Child::Start(
          "Player", {path, recorders.back(), std::to_string(i + 1), "3000", i % 2 == 0 ? "push" : "pull"}));
    }
    // Every other round two of them are killed in the midst.
    if (round % 2 == 1) {
      ::usleep(static_cast<useconds_t>(5'000 + random() % 20'000));
      children[0].Signal(SIGKILL);
      ::usleep(static_cast<useconds_t>(random() % 5'000));
      children[1].Signal(SIGKILL);
    }
    // What was lost comes back into use, so that pushers find something.
    const auto recycle = [&] {
      const std::vector<uint32_t> lost = PullAll(*exchange, kLost);
      EXPECT_OK(exchange->Push(kFree, lost));
    };
    // Elements that nobody pulls any more stay in the queue: the other consumer is slower than two producers at times.
    for (int turn = 0; turn < 100; turn++) {
      recycle();
      ::usleep(2'000);
    }
    // All of them end in the midst, or have done their share.
    for (size_t i = 0; i < children.size(); i++) {
      children[i].Signal(SIGKILL);
      const int ended = children[i].Wait();
      EXPECT_TRUE(ended == 0 || ended == -SIGKILL) << i << ended;
    }
    std::vector<Event> events;
    for (const std::string& recorder : recorders) {
      const std::vector<Event> some = Recorder(recorder).Read();
      events.insert(events.end(), some.begin(), some.end());
    }
    // A value that a killed puller had got and not yet noted is pulled by nobody, and a killed pusher may have pushed
    // or not: such a pull is one without an end, of what it may have been.
    std::vector<Event> known;
    std::map<uint64_t, bool> pulled;
    uint64_t unknown = 0;
    for (const Event& event : events) {
      if (event.is_push == 0 && event.end_ns == kUnended) {
        unknown++;
        if (event.value == 0) continue;
      }
      known.push_back(event);
    }
    EXPECT_LE(unknown, 2);
    // What is left in the queue has not been pulled; everything else that was pushed for certain and pulled by nobody
    // may have gone with a killed puller: at most one each.
    std::set<uint64_t> rest;
    for (const uint32_t id : PullAll(*exchange, kWork)) rest.insert(ValueOf(*exchange, id));
    std::set<uint64_t> seen;
    for (const Event& event : known) {
      if (event.is_push == 0 && event.value != 0) seen.insert(event.value);
    }
    std::vector<Event> checked;
    uint64_t missing = 0;
    for (const Event& event : known) {
      const bool gone = event.is_push != 0 && !rest.contains(event.value) && !seen.contains(event.value);
      if (gone && event.end_ns != kUnended) missing++;
      if (!gone) checked.push_back(event);
    }
    EXPECT_LE(missing, unknown);
    EXPECT_EQ(CheckFifo(checked), "");
    EXPECT_GT(seen.size(), 20);
  }
}

}  // namespace
