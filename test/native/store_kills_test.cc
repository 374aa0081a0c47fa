// Processes killed at random moments. Each child writes keys of its own, with numbers that only grow; a board shared
// with this process says which number of which key it has begun and which has been acknowledged.
#include <chrono>

#include "store_children.h"

namespace {

using namespace store_test;
using harness::Child;

/** What the children do. The key and number alone decide each operation, so that this process knows what must be there.
 */
struct Scenario {
  const char* name;
  uint64_t keys;          // per child
  uint64_t small;         // longest of the small values
  uint64_t large_one_in;  // 0: no large values
  uint64_t delete_one_in;
  uint64_t max_bytes;
  bool fresh_file;  // for each kill: they happen while the store is new and grows
};
constexpr Scenario kScenarios[] = {
    {"overwrites", 100, 4000, 0, 7, uint64_t{64} << 20, false},  // cleaning all the time
    {"large values", 8, 200, 2, 5, uint64_t{64} << 20, false},
    {"growth", 20'000, 300, 400, 0, uint64_t{1} << 30, true},  // splits and growth all the time
    {"nearly full", 40, 30'000, 0, 3, uint64_t{12} << 20, false},
};
constexpr uint64_t kChildren = 3;

bool IsDeletion(const Scenario& scenario, uint64_t number) {
  return scenario.delete_one_in != 0 && number % scenario.delete_one_in == 0;
}
std::string KeyOf(uint64_t child, uint64_t key) { return "child" + std::to_string(child) + "/" + std::to_string(key); }
std::string ValueOf(const Scenario& scenario, const std::string& key, uint64_t index, uint64_t number) {
  const uint64_t draw = Mix(index, number);
  if (scenario.large_one_in != 0 && draw % scenario.large_one_in == 0)
    return MakeValue(key, number, 65'536 + draw % 400'000);
  return MakeValue(key, number, draw % scenario.small);
}

/**
 * A number that was begun and not acknowledged may have been decided and not applied when its writer died: it counts
 * from whenever somebody takes the shard's lock over.
 */
bool MayBeAbsent(const Scenario& scenario, uint64_t acknowledged, uint64_t begun) {
  if (acknowledged == 0) return true;
  for (uint64_t number = acknowledged; number <= begun; number++) {
    if (IsDeletion(scenario, number)) return true;
  }
  return false;
}

/** Where the board has the numbers of a key: begun, acknowledged. */
size_t Begun(const Scenario& scenario, uint64_t child, uint64_t key) { return 16 + (child * scenario.keys + key) * 2; }

enum Word : size_t { kOperations, kFull };

CHILD_PROCESS(Mortal) {
  LiveAtMost(60);
  const Board board(arguments[1]);
  const Scenario& scenario = kScenarios[std::stoull(arguments[2])];
  const uint64_t child = std::stoull(arguments[3]);
  std::mt19937_64 random(std::stoull(arguments[4]));
  auto store = Open(arguments[0], scenario.max_bytes);
  ASSERT_TRUE(store != nullptr);
  uint64_t next = random();
  while (true) {
    const uint64_t index = scenario.fresh_file ? next++ % scenario.keys : random() % scenario.keys;
    const std::string key = KeyOf(child, index);
    std::atomic<uint64_t>& begun = board[Begun(scenario, child, index)];
    std::atomic<uint64_t>& acknowledged = board[Begun(scenario, child, index) + 1];
    const uint64_t number = begun.load() + 1;
    const std::string value = ValueOf(scenario, key, index, number);
    begun.store(number);
    Status status;
    if (IsDeletion(scenario, number)) {
      bool existed;
      status = Delete(*store, key, &existed);
    } else {
      status = Set(*store, key, value);
    }
    if (status.code() == Code::kStoreFull) {
      board[kFull]++;
      begun.store(number - 1);  // nothing was done
      ASSERT_LE(scenario.max_bytes, 16 << 20) << scenario.name << "cannot be full";
      continue;
    }
    ASSERT_OK(status) << scenario.name << key;
    acknowledged.store(number);
    board[kOperations]++;
  }
}

/** One in `sample` keys of every child: as acknowledged, or as begun later, while the children go on. */
void CheckKeys(Store& store, const Board& board, const Scenario& scenario, uint64_t sample, const std::string& what) {
  for (uint64_t child = 0; child < kChildren; child++) {
    for (uint64_t index = what.size() % sample; index < scenario.keys; index += sample) {
      const std::string key = KeyOf(child, index);
      const uint64_t acknowledged = board[Begun(scenario, child, index) + 1].load();
      std::string value;
      const Status status = Get(store, key, &value);
      const uint64_t begun = board[Begun(scenario, child, index)].load();
      if (status.code() == Code::kAbsent) {
        ASSERT_TRUE(MayBeAbsent(scenario, acknowledged, begun))
            << what << key << "is lost, acknowledged was" << acknowledged;
        continue;
      }
      ASSERT_OK(status) << what << key;
      const uint64_t number = NumberOf(key, value);
      ASSERT_NE(number, 0) << what << key << "is not whole";
      ASSERT_GE(number, acknowledged) << what << key;
      ASSERT_LE(number, begun) << what << key;
      ASSERT_FALSE(IsDeletion(scenario, number)) << what << key;
    }
  }
}

/** Nobody else has the store open: counters, scan and keys agree. What is seen counts as acknowledged from now on. */
void Settle(Store& store, const Board& board, const Scenario& scenario, const std::string& what) {
  MapSink all;
  ScanAll(store, &all, "child");
  ASSERT_FALSE(all.twice) << what;
  ASSERT_EQ(store.Size(), all.entries.size()) << what;
  for (uint64_t child = 0; child < kChildren; child++) {
    for (uint64_t index = 0; index < scenario.keys; index++) {
      const std::string key = KeyOf(child, index);
      std::atomic<uint64_t>& begun = board[Begun(scenario, child, index)];
      std::atomic<uint64_t>& acknowledged = board[Begun(scenario, child, index) + 1];
      if (begun.load() == 0) continue;
      const auto found = all.entries.find(key);
      if (found == all.entries.end()) {
        ASSERT_TRUE(MayBeAbsent(scenario, acknowledged.load(), begun.load()))
            << what << key << "is lost, acknowledged was" << acknowledged.load();
        continue;
      }
      const uint64_t number = NumberOf(key, found->second);
      ASSERT_GE(number, std::max<uint64_t>(1, acknowledged.load())) << what << key;
      ASSERT_LE(number, begun.load()) << what << key;
      acknowledged.store(number);
      all.entries.erase(found);
    }
  }
  ASSERT_EQ(all.entries.size(), 0) << what << "keys that nobody wrote";
}

/** `kills` kills. With survivors: this process and two children live on each time; else whoever has the store open is
 * killed. */
void RunKills(size_t which, bool survivors, int kills) {
  const Scenario& scenario = kScenarios[which];
  const uint64_t seed = std::random_device{}();
  std::mt19937_64 random(seed);
  const harness::TemporaryDirectory directory;
  std::string what = std::string(scenario.name) + ", seed " + std::to_string(seed) + ", kill ";
  int kill = 0;
  for (int file = 0; kill < kills; file++) {
    const std::string path = directory.File("store" + std::to_string(file));
    const std::string board_path = directory.File("board" + std::to_string(file));
    const Board board(board_path);
    std::shared_ptr<Store> store;
    if (survivors) store = Open(path, scenario.max_bytes);
    const auto start = [&](uint64_t child) {
      return Child::Start("Mortal",
                          {path, board_path, std::to_string(which), std::to_string(child), std::to_string(random())});
    };
    std::map<uint64_t, Child> children;
    for (uint64_t i = 0; i < kChildren; i++) children.emplace(i, start(i));
    const int last = scenario.fresh_file ? std::min(kills, kill + 5) : kills;
    while (kill < last) {
      const std::string now = what + std::to_string(kill++);
      // After some work, at any moment.
      const uint64_t operations = board[kOperations].load();
      const uint64_t enough = operations + random() % 60;
      for (int i = 0; board[kOperations].load() < enough; i++) {
        ASSERT_LT(i, 100'000) << now << "nobody gets on";
        ::usleep(100);
      }
      ::usleep(random() % 3000);
      if (survivors) {
        const uint64_t victim = random() % kChildren;
        children.at(victim).Signal(SIGKILL);
        ASSERT_EQ(children.at(victim).Wait(), -SIGKILL) << now;
        CheckKeys(*store, board, scenario, scenario.keys / 40 + 1, now);
        if (random() % 4 == 0) {
          MapSink all;
          ScanAll(*store, &all);
          ASSERT_FALSE(all.twice) << now;
        }
        children.erase(victim);
        children.emplace(victim, start(victim));
      } else {
        for (const auto& [i, child] : children) child.Signal(SIGKILL);
        for (auto& [i, child] : children) ASSERT_EQ(child.Wait(), -SIGKILL) << now;
        children.clear();
        const uint64_t begin = faultless::os::MonotonicNs();
        store = Open(path, scenario.max_bytes);
        ASSERT_TRUE(store != nullptr) << now;
        EXPECT_LT(faultless::os::MonotonicNs() - begin, 2'000'000'000) << now << "opening waits for something";
        Settle(*store, board, scenario, now);
        if (random() % 2 == 0) {
          ASSERT_OK(store->Close()) << now;
        }
        store.reset();
        for (uint64_t i = 0; i < kChildren; i++) children.emplace(i, start(i));
      }
    }
    for (const auto& [i, child] : children) child.Signal(SIGKILL);
    for (auto& [i, child] : children) child.Wait();
    if (!store) store = Open(path, scenario.max_bytes);
    Settle(*store, board, scenario, what + "end");
    ASSERT_OK(store->Close());
  }
}

constexpr int kKills = kSanitized ? 12 : 60;

TEST(StoreKills, SurvivorsGoOnOverwriting) { RunKills(0, true, kKills * 2); }
TEST(StoreKills, SurvivorsGoOnWithLargeValues) { RunKills(1, true, kKills); }
TEST(StoreKills, SurvivorsGoOnGrowing) { RunKills(2, true, kKills); }
TEST(StoreKills, SurvivorsGoOnInANearlyFullStore) { RunKills(3, true, kKills); }
TEST(StoreKills, TheNextOneFindsEverythingOverwritten) { RunKills(0, false, kKills); }
TEST(StoreKills, TheNextOneFindsLargeValues) { RunKills(1, false, kKills); }
TEST(StoreKills, TheNextOneFindsAGrownStore) { RunKills(2, false, kKills / 2); }
TEST(StoreKills, TheNextOneFindsANearlyFullStore) { RunKills(3, false, kKills); }

/** Fills with large values and clears, for ever. */
CHILD_PROCESS(Clearer) {
  LiveAtMost(60);
  auto store = Open(arguments[0], uint64_t{48} << 20);
  ASSERT_TRUE(store != nullptr);
  const Board board(arguments[1]);
  std::mt19937_64 random(std::stoull(arguments[2]));
  while (true) {
    for (int i = 0; i < 40; i++) {
      const std::string key = "k" + std::to_string(random() % 60);
      ASSERT_OK(Set(*store, key, MakeValue(key, 1, random() % 300'000)));
    }
    ASSERT_OK(Clear(*store));
    board[kOperations]++;
  }
}

/** Fills two thirds of the file with one value after another; then says how much is left in use when all is deleted. */
void UseAndEmpty(const std::string& path, uint64_t* used) {
  auto store = Open(path, uint64_t{48} << 20);
  ASSERT_OK(Clear(*store));
  EXPECT_EQ(store->Size(), 0);
  for (int round = 0; round < 3; round++) {
    for (int i = 0; i < 32; i++) {
      const std::string key = "large" + std::to_string(i);
      ASSERT_OK(Set(*store, key, MakeValue(key, 1, 1 << 20))) << "round" << round << i;
    }
  }
  for (int i = 0; i < 32; i++) {
    bool existed;
    ASSERT_OK(Delete(*store, "large" + std::to_string(i), &existed));
    EXPECT_TRUE(existed);
  }
  ASSERT_OK(store->Flush());
  const auto stats = store->GetStats();
  *used = stats.file_bytes - stats.free_bytes;
  ASSERT_OK(store->Close());
}

TEST(StoreKills, SpaceComesBackAfterManyKills) {
  const uint64_t seed = std::random_device{}();
  std::mt19937_64 random(seed);
  const harness::TemporaryDirectory directory;
  const std::string path = directory.File("a.store");
  const Board board(directory.File("board"));
  for (int kill = 0; kill < kKills; kill++) {
    const uint64_t before = board[kOperations].load();
    Child child = Child::Start("Clearer", {path, directory.File("board"), std::to_string(random())});
    for (int i = 0; board[kOperations].load() == before; i++) {
      ASSERT_LT(i, 100'000) << "seed" << seed << "nobody gets on";
      ::usleep(100);
    }
    ::usleep(random() % 20'000);
    child.Signal(SIGKILL);
    ASSERT_EQ(child.Wait(), -SIGKILL) << "seed" << seed;
    auto store = Open(path, uint64_t{48} << 20);
    MapSink all;
    ScanAll(*store, &all);
    EXPECT_EQ(all.entries.size(), store->Size()) << "seed" << seed;
    for (const auto& [key, value] : all.entries) EXPECT_EQ(NumberOf(key, value), 1) << "seed" << seed << key;
    if (kill % 2 == 0) {
      ASSERT_OK(store->Close());
    }
  }
  uint64_t used[2];
  // After all that about as much is left as in a new store; what each kill leaked would add up to more.
  UseAndEmpty(path, &used[0]);
  UseAndEmpty(directory.File("new.store"), &used[1]);
  EXPECT_LE(used[0], used[1] + (uint64_t{6} << 20)) << "seed" << seed;
}

}  // namespace
