// Recovery: copies of a live file, and power cuts. A power cut is simulated by what a disk may be left with: of every
// word that changed since the last completed sync, the old or the new content. The sync is this program's own.
#include <algorithm>
#include <set>

#include "store_children.h"

namespace {

using namespace store_test;

/** The file whose syncs matter, and what happens at each. One thread. */
struct SyncedFile {
  ino_t inode = 0;
  std::function<void(int fd)> at_sync;
};
SyncedFile& TheSyncedFile() {
  static SyncedFile file;
  return file;
}
/** What at_sync refers to ends with the function that this is in. */
struct StopWatching {
  ~StopWatching() { TheSyncedFile() = {}; }
};

}  // namespace

// In the place of libc's. Nothing needs to reach the device: only what was in the file at this moment counts.
extern "C" int fdatasync(int fd) {
  struct stat status {};
  const SyncedFile& file = TheSyncedFile();
  if (file.at_sync && ::fstat(fd, &status) == 0 && status.st_ino == file.inode) file.at_sync(fd);
  return 0;
}

// In the place of libc's: with it a seed decides about everything, the store's hash seed among it.
static std::mt19937_64 random_source;  // NOLINT
extern "C" ssize_t getrandom(void* target, size_t size, unsigned) {
  for (size_t i = 0; i < size; i++) static_cast<uint8_t*>(target)[i] = static_cast<uint8_t>(random_source());
  return static_cast<ssize_t>(size);
}

namespace {

void WatchSyncs(const std::string& path, std::function<void(int fd)> at_sync) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) ::abort();
  TheSyncedFile() = {status.st_ino, std::move(at_sync)};
}

/** What the store must hold after a power cut: for each key the number it had at the last sync or a later one; 0:
 * absent. */
struct Model {
  std::map<std::string, uint64_t> now;
  std::map<std::string, uint64_t> durable;
  std::map<std::string, std::set<uint64_t>> later;

  void Synced() {
    durable = now;
    later.clear();
  }
  void Set(const std::string& key, uint64_t number) {
    later[key].insert(number);
    now[key] = number;
  }
  void Delete(const std::string& key) {
    if (now.erase(key) != 0) later[key].insert(0);
  }
  void Clear() {
    for (const auto& entry : now) later[entry.first].insert(0);
    now.clear();
  }
  bool Allows(const std::string& key, uint64_t number) const {
    const auto was = durable.find(key);
    if ((was == durable.end() ? 0 : was->second) == number) return true;
    const auto changes = later.find(key);
    return changes != later.end() && changes->second.contains(number);
  }
};

using Contents = std::map<std::string, uint64_t>;

/** Everything in the store by scan and by reads, which must agree. */
void ReadAll(Store& store, Contents* contents, const std::string& what) {
  MapSink all;
  ScanAll(store, &all);
  EXPECT_FALSE(all.twice) << what;
  EXPECT_EQ(store.Size(), all.entries.size()) << what;
  for (const auto& [key, value] : all.entries) {
    const uint64_t number = NumberOf(key, value);
    EXPECT_NE(number, 0) << what << key << "is not whole";
    (*contents)[key] = number;
    std::string read;
    EXPECT_OK(Get(store, key, &read)) << what << key;
    EXPECT_TRUE(read == value) << what << key;
  }
}

void CheckAllowed(const Model& model, const Contents& contents, const std::string& what) {
  for (const auto& [key, number] : contents) {
    EXPECT_TRUE(model.Allows(key, number)) << what << key << "has number" << number << "durable was"
                                           << (model.durable.contains(key) ? model.durable.at(key) : 0);
  }
  for (const auto& [key, number] : model.durable) {
    if (!contents.contains(key)) {
      EXPECT_TRUE(model.Allows(key, 0)) << what << key << "is lost, durable was" << number;
    }
  }
}

/** What a disk may be left with after `before` was durable and `after` was on its way. */
Image MixImages(const Image& before, const Image& after, std::mt19937_64* random) {
  const uint64_t mode = (*random)() % 10;
  if (mode == 0) return before;
  if (mode == 1) return after;
  constexpr uint64_t kPercents[] = {50, 10, 90, 50, 3, 97, 50, 50};
  const uint64_t percent_new = kPercents[mode - 2];
  const size_t block = mode == 5 ? 512 : mode == 6 ? 64 : 1;  // whole pages, sectors, or words
  // The length is metadata of its own: what was not synced may be lost, too.
  const size_t size = after.size() > before.size() && (*random)() % 3 == 0 ? before.size() : after.size();
  Image mixed(size);
  bool take_new = false;
  for (size_t i = 0; i < size; i++) {
    const uint64_t old_word = i < before.size() ? before[i] : 0;
    if (i % block == 0) take_new = (*random)() % 100 < percent_new;
    mixed[i] = take_new ? after[i] : old_word;
  }
  // Single pages that went their own way.
  for (int i = 0; i < 8 && mode >= 8; i++) {
    const size_t page = (*random)() % (size / 512);
    for (size_t j = page * 512; j < page * 512 + 512; j++)
      mixed[j] = mode == 8 ? after[j] : j < before.size() ? before[j] : 0;
  }
  return mixed;
}

struct Recovered {
  Contents contents;
  std::vector<Image> at_syncs;  // of the recovery
  Image after;
};

/** Opens a file that holds `image`, which must be recovered. */
void RecoverImage(const std::string& path, const Image& image, const std::string& what, Recovered* recovered) {
  WriteImage(path, image);
  WatchSyncs(path, [&](int fd) { recovered->at_syncs.push_back(ReadImage(fd)); });
  OpenOptions options;
  options.path = path;
  int steps = 0;
  uint64_t last_done = 0;
  options.on_progress = [&](uint64_t done, uint64_t total) {
    EXPECT_GE(done, last_done) << what;
    EXPECT_LE(done, total) << what;
    last_done = done;
    steps++;
  };
  std::shared_ptr<Store> store;
  ASSERT_OK(Store::Open(options, &store)) << what;
  ReadAll(*store, &recovered->contents, what);
  if (!recovered->contents.empty()) {
    EXPECT_GT(steps, 0) << what;
  }
  TheSyncedFile() = {};
  recovered->after = ReadImage(path);
  // It goes on like any store.
  EXPECT_OK(Set(*store, "afterwards", "x")) << what;
  std::string value;
  EXPECT_OK(Get(*store, "afterwards", &value)) << what;
  EXPECT_OK(Clear(*store)) << what;
  EXPECT_EQ(store->Size(), 0) << what;
  EXPECT_OK(store->Close()) << what;
}

struct Workload {
  int operations;
  int rounds;
  size_t keys;
  uint32_t shards;
  uint64_t longest;
  int large_percent;
  int delete_percent;
  bool clears;
  uint64_t max_bytes;
};

Workload WorkloadOf(std::mt19937_64* random) {
  auto& next = *random;
  Workload load{};
  load.operations = static_cast<int>(50 + next() % 700);
  load.rounds = next() % 4 == 0 ? 2 : 1;
  load.keys = next() % 3 == 0 ? 4 + next() % 8 : 20 + next() % 300;
  load.shards = next() % 4 == 0 ? 16 : 1 + static_cast<uint32_t>(next() % 2);
  load.longest = next() % 3 == 0 ? 200 : 1000 + next() % 30'000;
  load.large_percent = next() % 2 == 0 ? 0 : 1 + static_cast<int>(next() % 10);
  load.delete_percent = static_cast<int>(next() % 40);
  load.clears = next() % 3 == 0;
  load.max_bytes = next() % 3 == 0 ? uint64_t{12} << 20 : uint64_t{1} << 30;
  return load;
}

void RunPowerCut(uint64_t seed) {
  std::mt19937_64 random(seed);
  random_source.seed(seed);
  const Workload load = WorkloadOf(&random);
  const harness::TemporaryDirectory directory;
  const std::string path = directory.File("a.store");
  auto store = Open(path, load.max_bytes);
  const StopWatching stop;
  const std::vector<std::string> keys = KeysInShards(path, load.shards, load.keys, "k");
  Model model;
  Image durable;
  const auto watch = [&] {
    WatchSyncs(path, [&](int fd) {
      durable = ReadImage(fd);
      model.Synced();
    });
  };
  watch();
  ASSERT_OK(store->Flush());
  uint64_t number = 0;
  for (int round = 0; round < load.rounds; round++) {
    for (int i = 0; i < load.operations; i++) {
      const std::string& key = keys[random() % keys.size()];
      const uint64_t choice = random() % 1000;
      if (choice < 8) {
        ASSERT_OK(store->Flush()) << "seed" << seed;
      } else if (choice < 11 && load.clears) {
        ASSERT_OK(Clear(*store)) << "seed" << seed;
        model.Clear();
      } else if (random() % 100 < static_cast<uint64_t>(load.delete_percent)) {
        bool existed;
        ASSERT_OK(Delete(*store, key, &existed)) << "seed" << seed;
        EXPECT_EQ(existed, model.now.contains(key)) << "seed" << seed << key;
        model.Delete(key);
      } else {
        uint64_t size = random() % load.longest;
        if (random() % 100 < static_cast<uint64_t>(load.large_percent)) size = 65'536 + random() % 300'000;
        const Status status = Set(*store, key, MakeValue(key, ++number, size));
        if (status.code() == Code::kStoreFull && load.max_bytes < uint64_t{1} << 24) continue;
        ASSERT_OK(status) << "seed" << seed;
        model.Set(key, number);
      }
    }
    const Image now = ReadImage(path);
    const std::string what = "seed " + std::to_string(seed) + " round " + std::to_string(round);
    // Names of their own: a file in the place of one that was removed may get its inode.
    const std::string copy = directory.File("copy" + std::to_string(round));
    Recovered first, again, halfway;
    RecoverImage(copy + "a", MixImages(durable, now, &random), what, &first);
    CheckAllowed(model, first.contents, what);
    // A copy made right after the recovery holds the same.
    RecoverImage(copy + "b", first.after, what + ", again", &again);
    EXPECT_TRUE(again.contents == first.contents) << what;
    // A power cut within the recovery: its first sync was of the superblock, its last one of all.
    ASSERT_GE(first.at_syncs.size(), 2) << what;
    const size_t cut = 1 + random() % (first.at_syncs.size() - 1);
    RecoverImage(copy + "c", MixImages(first.at_syncs[cut - 1], first.at_syncs[cut], &random), what + ", halfway",
                 &halfway);
    CheckAllowed(model, halfway.contents, what + ", halfway");
    watch();
  }
  TheSyncedFile() = {};
  Contents end;
  ReadAll(*store, &end, "seed " + std::to_string(seed));
  EXPECT_TRUE(end == model.now) << "seed" << seed;
  ASSERT_OK(store->Close());
}

TEST(StoreRecovery, PowerCutsLoseNothingThatWasFlushed) {
  if (!UseDisk()) return harness::Skip("no directory on a disk");
  const char* const given = ::getenv("FAULTLESS_TEST_SEED");
  const uint64_t first = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}() % 1'000'000'000;
  const uint64_t seeds = given != nullptr ? 1 : kSanitized ? 25 : 200;
  printf("  seeds %llu to %llu (FAULTLESS_TEST_SEED=n runs one)\n", static_cast<unsigned long long>(first),
         static_cast<unsigned long long>(first + seeds - 1));
  for (uint64_t seed = first; seed < first + seeds; seed++) RunPowerCut(seed);
}

}  // namespace
