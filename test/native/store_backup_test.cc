// Backups: what they show, what they leave, and what they say of damage. Whether they show one moment while several
// processes write is tested through JavaScript as well (store-backup.test.ts).
#include <random>
#include <thread>

#include "store/backup.h"
#include "store_ledger.h"

namespace {

using namespace store_test;
using faultless::store::Backup;
using harness::Child;
using harness::TemporaryDirectory;

constexpr uint64_t kMaxBytes = uint64_t{1} << 30;

Status RunBackup(Store& store, const std::string& to, int* rounds = nullptr) {
  const auto backup = store.BackupTo(to);
  const Status status = RunToEnd(*backup);
  if (!status.ok()) return status;
  uint64_t done;
  uint64_t total;
  backup->Progress(&done, &total);
  EXPECT_EQ(done, total);
  EXPECT_NE(::access(to.c_str(), F_OK), 0);
  if (rounds != nullptr) *rounds = backup->rounds();
  return backup->Publish();
}

using Model = std::map<std::string, std::string>;

Model Contents(Store& store) {
  MapSink sink;
  ScanAll(store, &sink);
  EXPECT_TRUE(!sink.twice);
  return sink.entries;
}

/** The file is whole and closed, as if nothing but its content had ever happened to it. */
void ExpectWhole(const std::string& path, const std::string& when) {
  const Image image = ReadImage(path);
  Ledger ledger(image);
  const std::string said = ledger.Check();
  EXPECT_TRUE(said.empty()) << when << said;
  EXPECT_EQ(ledger.recoveries(), 0) << when;
}

uint64_t Allocated(const std::string& path) {
  struct stat status {};
  EXPECT_EQ(::stat(path.c_str(), &status), 0);
  return static_cast<uint64_t>(status.st_blocks) * 512;
}

void Write(Store& store, Model* model, std::mt19937_64& random, int writes) {
  for (int i = 0; i < writes; i++) {
    const std::string key = "key" + std::to_string(random() % 2000);
    const uint64_t draw = random() % 1000;
    if (draw < 200) {
      bool existed;
      ASSERT_OK(Delete(store, key, &existed));
      model->erase(key);
    } else {
      const uint64_t size = draw < 220 ? 65'536 + random() % 300'000 : random() % 2000;
      std::string value = MakeValue(key, random(), size);
      ASSERT_OK(Set(store, key, value));
      (*model)[key] = std::move(value);
    }
  }
}

TEST(Backup, EqualsTheStore) {
  TemporaryDirectory directory;
  const uint64_t seed = std::random_device()();
  std::mt19937_64 random(seed);
  auto store = Open(directory.File("store"), kMaxBytes);
  Model model;
  for (int round = 0; round < 4; round++) {
    const std::string to = directory.File("backup" + std::to_string(round));
    int rounds = 0;
    ASSERT_OK(RunBackup(*store, to, &rounds));
    EXPECT_EQ(rounds, 1);  // nobody wrote
    ExpectWhole(to, "round " + std::to_string(round) + ", seed " + std::to_string(seed));
    auto copy = Open(to, kMaxBytes);
    EXPECT_TRUE(Contents(*copy) == model) << "round" << round << "seed" << seed;
    EXPECT_EQ(copy->Size(), store->Size());
    // It is a store like any other one: it can be written, and copied.
    const std::string again = directory.File("again" + std::to_string(round));
    Model changed = model;
    Write(*copy, &changed, random, 500);
    ASSERT_OK(RunBackup(*copy, again));
    ASSERT_OK(copy->Close());
    ExpectWhole(again, "again");
    ExpectWhole(to, "written");
    copy = Open(again, kMaxBytes);
    EXPECT_TRUE(Contents(*copy) == changed) << "round" << round << "seed" << seed;
    ASSERT_OK(copy->Close());
    Write(*store, &model, random, 1200);
    if (round == 2) {
      ASSERT_OK(Clear(*store));
      model.clear();
      Write(*store, &model, random, 1000);
    }
    if (round == 1) {
      ASSERT_OK(store->Flush());
    }
  }
  ASSERT_OK(store->Close());
}

TEST(Backup, TakesTheSpaceThatRecordsNeed) {
  if (!UseDisk()) return harness::Skip("no disk");
  TemporaryDirectory directory;
  auto store = Open(directory.File("store"), kMaxBytes);
  const std::string value(1 << 20, 'v');
  for (int i = 0; i < 48; i++) ASSERT_OK(Set(*store, "key" + std::to_string(i), value));
  bool existed;
  for (int i = 0; i < 46; i++) ASSERT_OK(Delete(*store, "key" + std::to_string(i), &existed));
  ASSERT_OK(store->Flush());
  ASSERT_OK(RunBackup(*store, directory.File("backup")));
  ExpectWhole(directory.File("backup"), "after deletes");
  EXPECT_LE(Allocated(directory.File("backup")), uint64_t{8} << 20);
  // What is written to the holes has space of its own again.
  auto copy = Open(directory.File("backup"), kMaxBytes);
  for (int i = 0; i < 40; i++) ASSERT_OK(Set(*copy, "new" + std::to_string(i), value));
  EXPECT_GE(Allocated(directory.File("backup")), uint64_t{42} << 20);
  ASSERT_OK(copy->Close());
  ExpectWhole(directory.File("backup"), "written");
  ASSERT_OK(store->Close());
}

TEST(Backup, ReplacesNothingAndLeavesNothing) {
  TemporaryDirectory directory;
  auto store = Open(directory.File("store"), kMaxBytes);
  ASSERT_OK(Set(*store, "a", "1"));
  EXPECT_CODE(RunBackup(*store, directory.File("store")), Code::kExists);
  EXPECT_CODE(RunBackup(*store, directory.File("no/such")), Code::kNotFound);
  const std::string to = directory.File("backup");
  {
    // Somebody makes the file meanwhile.
    const auto backup = store->BackupTo(to);
    while (!backup->done()) ASSERT_OK(Patiently([&] { return backup->Step(); }));
    WriteImage(to, {1, 2, 3});
    EXPECT_CODE(backup->Publish(), Code::kExists);
    EXPECT_TRUE(backup->failed_at_target());
  }
  EXPECT_TRUE((ReadImage(to) == Image{1, 2, 3}));
  ASSERT_EQ(::unlink(to.c_str()), 0);
  for (int steps = 0; steps < 8; steps++) {
    const auto backup = store->BackupTo(to);
    for (int i = 0; i < steps && !backup->done(); i++) ASSERT_OK(Patiently([&] { return backup->Step(); }));
  }
  EXPECT_NE(::access(to.c_str(), F_OK), 0);
  ASSERT_OK(store->Close());
  ExpectWhole(directory.File("store"), "the source");
}

TEST(Backup, NeverLeavesOutWhatIsDamaged) {
  TemporaryDirectory directory;
  const std::string path = directory.File("store");
  auto store = Open(path, kMaxBytes);
  for (int i = 0; i < 500; i++) ASSERT_OK(Set(*store, "key" + std::to_string(i), MakeValue("key", i, 300)));
  const std::string large = MakeValue("large", 7, 200'000);
  ASSERT_OK(Set(*store, "large", large));
  ASSERT_OK(store->Close());
  const Image sound = ReadImage(path);
  const std::string_view bytes(reinterpret_cast<const char*>(sound.data()), sound.size() * 8);
  const std::string record = MakeValue("key", 123, 300);
  for (const size_t place : {bytes.find(record) + 200, bytes.find(large.substr(0, 1000)) + 70'000}) {
    Image image = sound;
    reinterpret_cast<char*>(image.data())[place] ^= 1;
    for (const bool read_only : {false, true}) {
      const std::string damaged = directory.File("damaged" + std::to_string(place) + (read_only ? "r" : "w"));
      WriteImage(damaged, image);
      OpenOptions options;
      options.path = damaged;
      options.read_only = read_only;
      std::shared_ptr<Store> opened;
      ASSERT_OK(Store::Open(options, &opened));
      const Status status = RunBackup(*opened, damaged + ".backup");
      EXPECT_CODE(status, Code::kCorrupt);
      EXPECT_TRUE(status.has_offset());
      EXPECT_NE(::access((damaged + ".backup").c_str(), F_OK), 0);
      ASSERT_OK(opened->Close());
    }
  }
  // A count that lies is damage, too.
  Image image = sound;
  auto* const base = reinterpret_cast<std::byte*>(image.data());
  auto* const shard = reinterpret_cast<faultless::format::ShardControl*>(base + faultless::format::kShardsOffset);
  shard->keys.store(shard->keys.load() + 1);
  WriteImage(directory.File("counter"), image);
  auto counter = Open(directory.File("counter"), kMaxBytes);
  EXPECT_CODE(RunBackup(*counter, directory.File("counter.backup")), Code::kCorrupt);
  ASSERT_OK(counter->Close());
}

// ───────────────────────────────────────────────────────────── while others write

/** Writers count up; key i of a writer holds the youngest multiple of … that it wrote. A copy must show a prefix. */
constexpr uint64_t kKeys = 400;

std::string KeyOf(uint64_t writer, uint64_t number) {
  return "w" + std::to_string(writer) + "." + std::to_string(number % kKeys);
}

/** Write `number` of a writer: sets, some of them large, and deletes, each number at its own key in turn. */
bool Deletes(uint64_t number) { return number / kKeys % 3 == 2 && number % 7 == 0; }
uint64_t SizeOf(uint64_t number, bool large) {
  return large && number % 50 == 7 ? 65'536 + number * 7919 % 600'000 : number * 31 % 1500;
}

CHILD_PROCESS(BackupWriter) {
  LiveAtMost(120);
  auto store = Open(arguments[0], kMaxBytes);
  ASSERT_TRUE(store != nullptr);
  const uint64_t writer = std::stoull(arguments[1]);
  const bool large = arguments[2] == "large";
  const Board board(arguments[3]);
  for (uint64_t number = 1; board[0].load() == 0; number++) {
    const std::string key = KeyOf(writer, number);
    bool existed;
    if (Deletes(number)) {
      ASSERT_OK(Delete(*store, key, &existed));
    } else {
      ASSERT_OK(Set(*store, key, MakeValue(key, number, SizeOf(number, large))));
    }
    board[writer].store(number);
  }
  ASSERT_OK(store->Close());
}

/** The copy is what the writer had after some number that it came to between `before` and `after`. */
void ExpectPrefix(const Model& copy, uint64_t writer, uint64_t before, uint64_t after) {
  uint64_t last = 0;
  std::map<uint64_t, uint64_t> numbers;
  for (uint64_t i = 0; i < kKeys; i++) {
    const std::string key = KeyOf(writer, i);
    const auto found = copy.find(key);
    if (found == copy.end()) continue;
    numbers[i] = NumberOf(key, found->second);
    ASSERT_NE(numbers[i], 0);
    last = std::max(last, numbers[i]);
  }
  // Deletes leave no number behind: any end from the youngest number on that explains all keys will do.
  bool explained = false;
  for (uint64_t end = std::max(last, before); end <= std::min(last + kKeys, after + 1) && !explained; end++) {
    explained = true;
    for (uint64_t i = 0; i < kKeys && explained; i++) {
      const uint64_t newest = end < i ? 0 : end - (end - i) % kKeys;
      const uint64_t expected = newest == 0 || Deletes(newest) ? 0 : newest;
      const auto found = numbers.find(i);
      explained = (found == numbers.end() ? 0 : found->second) == expected;
    }
  }
  EXPECT_TRUE(explained) << "writer" << writer << "youngest" << last << "before" << before << "after" << after;
}

void BackUpUnderLoad(const std::string& kind, int backups) {
  TemporaryDirectory directory;
  const std::string path = directory.File("store");
  const Board board(directory.File("board"));
  auto store = Open(path, kMaxBytes);
  std::vector<Child> children;
  for (uint64_t writer = 1; writer <= 3; writer++) {
    children.push_back(Child::Start("BackupWriter", {path, std::to_string(writer), kind, directory.File("board")}));
  }
  for (uint64_t writer = 1; writer <= 3; writer++) {
    while (board[writer].load() < 2 * kKeys) std::this_thread::yield();
  }
  for (int i = 0; i < backups; i++) {
    const std::string to = directory.File("backup" + std::to_string(i));
    std::shared_ptr<Store> reader;
    if (i % 3 == 2) {
      OpenOptions options;
      options.path = path;
      options.read_only = true;
      ASSERT_OK(Store::Open(options, &reader));
    }
    uint64_t before[4];
    for (uint64_t writer = 1; writer <= 3; writer++) before[writer] = board[writer].load();
    int rounds = 0;
    ASSERT_OK(RunBackup(reader == nullptr ? *store : *reader, to, &rounds));
    uint64_t after[4];
    for (uint64_t writer = 1; writer <= 3; writer++) after[writer] = board[writer].load();
    if (reader != nullptr) {
      ASSERT_OK(reader->Close());
    }
    ExpectWhole(to, "under load");
    auto copy = Open(to, kMaxBytes);
    const Model contents = Contents(*copy);
    for (uint64_t writer = 1; writer <= 3; writer++) ExpectPrefix(contents, writer, before[writer], after[writer]);
    ASSERT_OK(copy->Close());
    ASSERT_EQ(::unlink(to.c_str()), 0);
    std::printf("  %d rounds\n", rounds);
  }
  board[0].store(1);
  for (Child& child : children) EXPECT_EQ(child.Wait(), 0);
  ASSERT_OK(store->Close());
  ExpectWhole(path, "the source");
}

TEST(Backup, ShowsOneMomentOfSmallValues) { BackUpUnderLoad("small", kSanitized ? 3 : 6); }
TEST(Backup, ShowsOneMomentOfLargeValues) { BackUpUnderLoad("large", kSanitized ? 3 : 6); }

}  // namespace
