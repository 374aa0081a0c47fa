// Several real processes on one file: nobody reads half a value or goes back, totals are exact, and who is stopped
// holds up nobody for good.
#include <sys/wait.h>

#include <chrono>

#include "store_children.h"

namespace {

using namespace store_test;
using harness::Child;

constexpr int kWriters = kSanitized ? 3 : 4;
constexpr int kReaders = kSanitized ? 2 : 4;
constexpr uint64_t kRounds = kSanitized ? 30 : 400;
constexpr int kOwnKeys = 40;
constexpr int kSharedKeys = 12;
constexpr uint64_t kWriterShift = 32;  // a number is round | writer << 32

enum Word : size_t { kReady, kGo, kStop, kCount };

std::string OwnKey(uint64_t writer, int key) { return "own/" + std::to_string(writer) + "/" + std::to_string(key); }
std::string SharedKey(int key) { return "shared/" + std::to_string(key); }
uint64_t SizeOf(uint64_t number) { return number % 61 == 0 ? 65'000 + number % 100'000 : number % 900; }

void WaitFor(const std::atomic<uint64_t>& word, uint64_t value) {
  while (word.load() < value) ::usleep(200);
}

CHILD_PROCESS(Writer) {
  LiveAtMost(240);
  const Board board(arguments[1]);
  const uint64_t writer = std::stoull(arguments[2]);
  auto store = Open(arguments[0]);
  board[kReady]++;
  WaitFor(board[kGo], 1);
  for (uint64_t round = 1; round <= kRounds; round++) {
    const uint64_t number = round | (writer + 1) << kWriterShift;
    for (int i = 0; i < kOwnKeys; i++) {
      const std::string key = OwnKey(writer, i);
      if (round % 10 == 5 && i % 4 == 0) {
        bool existed;
        ASSERT_OK(Delete(*store, key, &existed));
        ASSERT_TRUE(existed);
      } else {
        ASSERT_OK(Set(*store, key, MakeValue(key, number, SizeOf(number + static_cast<uint64_t>(i)))));
      }
      std::string value;
      const std::string shared = SharedKey(i % kSharedKeys);
      if (i < kSharedKeys) {
        ASSERT_OK(Set(*store, shared, MakeValue(shared, number, SizeOf(number))));
      }
      // What has been written is there at once for who wrote it.
      if (round % 10 != 5 || i % 4 != 0) {
        ASSERT_OK(Get(*store, key, &value));
        ASSERT_EQ(NumberOf(key, value), number);
      }
    }
  }
  ASSERT_OK(store->Close());
}

/** Whole values only, and per key and writer never an older number after a younger one. */
CHILD_PROCESS(Reader) {
  LiveAtMost(240);
  const Board board(arguments[1]);
  auto store = Open(arguments[0]);
  board[kReady]++;
  std::map<std::string, uint64_t> last;                         // number seen last
  std::map<std::pair<std::string, uint64_t>, uint64_t> newest;  // round seen, by key and writer
  const auto check = [&](const std::string& key, bool shared, ReadMode mode) {
    std::string value;
    const Status status = Get(*store, key, &value, mode);
    if (status.code() == Code::kCold) return;
    if (status.code() == Code::kAbsent) {
      if (shared) {
        ASSERT_EQ(last[key], 0) << key;
      }
      return;
    }
    ASSERT_OK(status) << key;
    const uint64_t number = NumberOf(key, value);
    ASSERT_NE(number, 0) << key << "of" << value.size() << "bytes is not whole";
    const uint64_t writer = number >> kWriterShift;
    const uint64_t round = number & ((uint64_t{1} << kWriterShift) - 1);
    uint64_t& seen = newest[{key, writer}];
    if (number == last[key]) {
      ASSERT_GE(round, seen) << key;
    } else {
      ASSERT_GT(round, seen) << key << "went back, writer" << writer;  // also A, B, A again
    }
    seen = round;
    last[key] = number;
  };
  uint64_t checks = 0;
  while (board[kStop].load() == 0) {
    const ReadMode mode = checks % 2 == 0 ? ReadMode::kMayFault : ReadMode::kResidentOnly;
    for (int i = 0; i < kSharedKeys; i++) check(SharedKey(i), true, mode);
    for (uint64_t writer = 0; writer < kWriters; writer++) {
      for (int i = 0; i < kOwnKeys; i++) check(OwnKey(writer, i), false, mode);
    }
    MapSink all;
    if (checks % 8 == 0) ScanAll(*store, &all);
    ASSERT_FALSE(all.twice);
    for (const auto& [key, value] : all.entries) ASSERT_NE(NumberOf(key, value), 0) << key << "scanned";
    checks++;
  }
  board[kCount] += checks;
  ASSERT_OK(store->Close());
}

TEST(StoreProcesses, WritersAndReadersAgreeOnEverything) {
  const harness::TemporaryDirectory directory;
  const std::string path = directory.File("a.store");
  const Board board(directory.File("board"));
  std::vector<Child> writers, readers;
  for (int i = 0; i < kReaders; i++) readers.push_back(Child::Start("Reader", {path, directory.File("board")}));
  for (int i = 0; i < kWriters; i++)
    writers.push_back(Child::Start("Writer", {path, directory.File("board"), std::to_string(i)}));
  WaitFor(board[kReady], kWriters + kReaders);
  board[kGo] = 1;
  for (Child& writer : writers) EXPECT_EQ(writer.Wait(), 0);
  board[kStop] = 1;
  for (Child& reader : readers) EXPECT_EQ(reader.Wait(), 0);
  EXPECT_GT(board[kCount].load(), 0);
  auto store = Open(path);
  MapSink all;
  ScanAll(*store, &all);
  EXPECT_EQ(store->Size(), kWriters * kOwnKeys + kSharedKeys);
  EXPECT_EQ(all.entries.size(), kWriters * kOwnKeys + kSharedKeys);
  for (const auto& [key, value] : all.entries) {
    EXPECT_EQ(NumberOf(key, value) & 0xFFFF'FFFF, kRounds) << key;
  }
  ASSERT_OK(store->Close());
}

/** Many processes open and close at once, write between, and each finds what the others left. */
CHILD_PROCESS(Opener) {
  LiveAtMost(120);
  for (int round = 0; round < 12; round++) {
    auto store = Open(arguments[0], 8 << 20);
    ASSERT_TRUE(store != nullptr);
    const std::string key = arguments[1] + "/" + std::to_string(round);
    ASSERT_OK(Set(*store, key, MakeValue(key, 1, 100)));
    if (round > 0) {
      const std::string before = arguments[1] + "/" + std::to_string(round - 1);
      std::string value;
      ASSERT_OK(Get(*store, before, &value)) << before;
    }
    if (round % 4 == 3) {
      store.reset();  // no Close(): like a kill
    } else {
      ASSERT_OK(store->Close());
    }
  }
}

TEST(StoreProcesses, OpenAndCloseAtTheSameTime) {
  const harness::TemporaryDirectory directory;
  const std::string path = directory.File("a.store");
  constexpr int kChildren = 6;
  std::vector<Child> children;
  for (int i = 0; i < kChildren; i++) children.push_back(Child::Start("Opener", {path, std::to_string(i)}));
  for (Child& child : children) EXPECT_EQ(child.Wait(), 0);
  auto store = Open(path, 8 << 20);
  EXPECT_EQ(store->Size(), kChildren * 12);
  ASSERT_OK(store->Close());
}

/** Writes one key again and again, with values that make the time in the lock long. */
CHILD_PROCESS(Holder) {
  LiveAtMost(120);
  auto store = Open(arguments[0]);
  const Board board(arguments[1]);
  for (uint64_t number = 1;; number++) {
    board[kGo] = number;
    ASSERT_OK(Set(*store, "held", MakeValue("held", number, 60'000)));
    board[kReady] = number;
  }
}

uint64_t NowMs() { return faultless::os::MonotonicNs() / 1'000'000; }

/** A child that writes one key over and over, beside 400 others. */
Child StartHolder(const harness::TemporaryDirectory& directory, Store& store, const Board& board) {
  for (int i = 0; i < 400; i++) EXPECT_OK(Set(store, std::to_string(i), "value"));
  Child child = Child::Start("Holder", {directory.File("a.store"), directory.File("board")});
  WaitFor(board[kReady], 1);
  return child;
}

/** Stops the child in the middle of a write, so that the key's shard is locked. */
bool StopHolding(const Child& child, Store& store) {
  for (int attempt = 0; attempt < 3000; attempt++) {
    ::usleep(static_cast<useconds_t>(200 + attempt * 37 % 1000));
    child.Signal(SIGSTOP);
    int status = 0;
    if (::waitpid(child.pid(), &status, WUNTRACED) != child.pid() || !WIFSTOPPED(status)) return false;
    bool existed;
    if (store.Delete(AsBytes("held"), &existed).code() == Code::kWouldBlock) return true;
    child.Signal(SIGCONT);
  }
  return false;
}

TEST(StoreProcesses, AStoppedLockHolderHoldsUpItsShardAlone) {
  const harness::TemporaryDirectory directory;
  const Board board(directory.File("board"));
  const auto store = Open(directory.File("a.store"));
  Child child = StartHolder(directory, *store, board);
  for (int round = 0; round < 3; round++) {
    ASSERT_TRUE(StopHolding(child, *store));
    const uint64_t begin = NowMs();
    int blocked = 0;
    for (int i = 0; i < 20; i++) {
      const std::string value = "mine";
      const Status status = store->Set(AsBytes("held"), AsBytes(value), {});
      EXPECT_CODE(status, Code::kWouldBlock);
      StringSink sink;
      // A reader is let through or sent away, and what it is told is true.
      const Status read = store->Get(AsBytes("held"), &sink, ReadMode::kMayFault);
      if (read.code() == Code::kWouldBlock) {
        blocked++;
      } else if (read.ok()) {
        const uint64_t number = NumberOf("held", sink.value);
        EXPECT_GE(number, board[kReady].load());
        EXPECT_LE(number, board[kGo].load());
      } else {
        EXPECT_CODE(read, Code::kAbsent);  // this test has deleted it before
      }
    }
    EXPECT_LT(NowMs() - begin, 5000) << "writers wait instead of coming again";
    // All other shards go on; only the allocator's lock may be in the stopped hands as well.
    int written = 0;
    for (int i = 0; i < 400; i++) {
      const std::string value = "new";
      const Status status = store->Set(AsBytes(std::to_string(i)), AsBytes(value), {});
      if (status.code() != Code::kWouldBlock) {
        EXPECT_OK(status);
        written++;
      }
    }
    EXPECT_GT(written, 300);
    // Opening waits for nobody who is stopped either.
    harness::Child other = Child::Start("Opener", {directory.File("other" + std::to_string(round)), "x"});
    EXPECT_EQ(other.Wait(), 0);
    if (round == 2) break;
    child.Signal(SIGCONT);
    EXPECT_OK(Set(*store, "held", "mine"));
    const uint64_t seen =
        board[kReady].load();  // read after our own set, so that the second one from here on overwrites it
    WaitFor(board[kReady], seen + 2);
  }
  // Who is killed while stopped holds nothing any more.
  child.Signal(SIGKILL);
  EXPECT_EQ(child.Wait(), -SIGKILL);
  EXPECT_OK(Set(*store, "held", "mine"));
  std::string value;
  EXPECT_OK(Get(*store, "held", &value));
  EXPECT_EQ(value, "mine");
  EXPECT_EQ(store->Size(), 401);
  ASSERT_OK(store->Close());
}

/** A stopped holder does not keep others from opening this store. */
CHILD_PROCESS(OpenOnce) {
  LiveAtMost(30);
  OpenOptions options;
  options.path = arguments[0];
  std::shared_ptr<Store> store;
  ASSERT_OK(Store::Open(options, &store));
  int found = 0;
  for (int i = 0; i < 400; i++) {
    StringSink sink;
    const Status status = store->Get(AsBytes(std::to_string(i)), &sink, ReadMode::kMayFault);
    if (status.ok()) found++;
  }
  EXPECT_GT(found, 300);
}

TEST(StoreProcesses, OpensWhileALockHolderIsStopped) {
  const harness::TemporaryDirectory directory;
  const Board board(directory.File("board"));
  const auto store = Open(directory.File("a.store"));
  Child child = StartHolder(directory, *store, board);
  ASSERT_TRUE(StopHolding(child, *store));
  Child opener = Child::Start("OpenOnce", {directory.File("a.store")});
  EXPECT_EQ(opener.Wait(), 0);
  child.Signal(SIGKILL);
  EXPECT_EQ(child.Wait(), -SIGKILL);
  ASSERT_OK(store->Close());
}

}  // namespace
