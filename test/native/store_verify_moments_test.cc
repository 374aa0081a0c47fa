// Verification beside writers that stand still at any of their stores to shared memory (base/fail_point.h), go on, or
// are killed there: a sound store is never called damaged, and what is leaked is found.
#include <sys/wait.h>

#include <array>

#include "store/verify.h"
#include "store_killer.h"

// In the place of libc's: processes are stopped here, never the machine.
extern "C" int fdatasync(int) { return 0; }

namespace {

using namespace store_test;
using faultless::store::Verification;
using harness::TemporaryDirectory;

constexpr uint64_t kMaxBytes = uint64_t{256} << 20;

/** Where the next stop is: mostly near, so that many fall into one change; at times far, so that much is done. */
void ChooseNextStop() {
  static std::mt19937_64 random(fail_points.fail_at);
  fail_points.fail_at = fail_points.passed.load() + 1 + random() % (uint64_t{1} << (1 + random() % 14));
}

/** File, seed, keys: writes for ever, and stops at some of the points that it passes. */
CHILD_PROCESS(Halting) {
  LiveAtMost(300);
  const std::string& path = arguments[0];
  std::mt19937_64 random(std::stoull(arguments[1]));
  const std::vector<std::string> keys = KeysInShards(path, 2, 40, "k");
  fail_points.fail_at = random();
  fail_points.fail = [] {
    ::raise(SIGSTOP);
    ChooseNextStop();
  };
  ChooseNextStop();
  fail_points.armed = true;
  const auto store = Open(path, kMaxBytes);
  ASSERT_TRUE(store != nullptr);
  for (uint64_t number = 1;; number++) {
    const std::string& key = keys[random() % keys.size()];
    const uint64_t draw = random() % 100;
    faultless::store::ClearProgress shard{static_cast<uint32_t>(random() % 2)};
    bool existed;
    Status status;
    if (draw < 2) {
      status = store->Clear(&shard);
    } else if (draw < 20) {
      status = store->Delete(AsBytes(key), &existed);
    } else if (draw < 40) {
      status = store->Set(AsBytes(key),
                          AsBytes(MakeValue(key, number, 65'536 + random() % (draw < 24 ? 300'000 : 2000))), {});
    } else if (draw < 43) {
      status = store->Flush();
    } else {
      status = store->Set(AsBytes(key), AsBytes(MakeValue(key, number, random() % (draw < 60 ? 4000 : 300))), {});
    }
    if (status.code() == Code::kWouldBlock) continue;
    ASSERT_OK(status);
  }
}

/** Seconds for each kind of place; FAULTLESS_VERIFY_SECONDS asks for more. */
double Seconds() {
  const char* const given = ::getenv("FAULTLESS_VERIFY_SECONDS");
  return given != nullptr ? std::stod(given) : 2;
}

class Scene {
 public:
  Scene(const TemporaryDirectory& directory, uint64_t seed, bool kills)
      : path_(directory.File("store")), random_(seed), kills_(kills), seed_(seed) {
    ::unlink(path_.c_str());
    store_ = Open(path_, kMaxBytes);
    OpenOptions options;
    options.path = path_;
    options.read_only = true;
    EXPECT_OK(Store::Open(options, &reader_));
  }

  /** `stops` stops, and some steps of a verification at each of them. */
  void Play(int stops) {
    for (auto& child : children_) child.emplace(Start());
    for (int i = 0; i < stops; i++) {
      std::optional<Child>& child = children_[random_() % children_.size()];
      if (!WaitForStop(child->pid())) continue;
      stops_++;
      // A few steps; at times as far as it gets.
      for (uint64_t step = random_() % 3 == 0 ? 10'000 : random_() % 32; step > 0 && Step(); step--) {
      }
      if (kills_ && random_() % 64 == 0) {
        child->Signal(SIGKILL);
        EXPECT_EQ(child->Wait(), -SIGKILL);
        child.emplace(Start());
        deaths_++;
      } else {
        child->Signal(SIGCONT);
      }
    }
  }

  void End() {
    for (auto& child : children_) {
      child->Signal(SIGKILL);
      EXPECT_EQ(child->Wait(), -SIGKILL);
    }
    verification_.reset();
    ASSERT_OK(reader_->Close());
    ASSERT_OK(store_->Close());
    store_.reset();
    // What dead openers left comes back at the next open.
    store_ = Open(path_, kMaxBytes);
    ASSERT_TRUE(store_ != nullptr);
    ASSERT_OK(store_->Close());
    const Image image = ReadImage(path_);
    EXPECT_EQ(Ledger(image).Check(), "") << "seed" << seed_;
  }

  int stops() const { return stops_; }
  int deaths() const { return deaths_; }
  int verifications() const { return verifications_; }

 private:
  Child Start() { return Child::Start("Halting", {path_, std::to_string(random_() % 1'000'000'000)}); }

  /** False where it does not stop soon: it may wait for a lock that another one holds. */
  static bool WaitForStop(pid_t pid) {
    for (int i = 0; i < 200; i++) {
      int status = 0;
      if (::waitpid(pid, &status, WUNTRACED | WNOHANG) == pid) {
        EXPECT_TRUE(WIFSTOPPED(status)) << "ended with" << status;
        return WIFSTOPPED(status);
      }
      ::usleep(20);
    }
    return false;
  }

  /** False where it has come to its end, or where somebody who stands still is in the way. */
  bool Step() {
    if (verification_ == nullptr) {
      by_reader_ = random_() % 2 == 0;
      verification_ = by_reader_ ? reader_->Verify() : store_->Verify();
    }
    const Status status = verification_->Step();
    EXPECT_TRUE(status.ok() || status.code() == Code::kWouldBlock);
    if (!verification_->done()) return status.ok();
    for (const auto& damage : verification_->Report().damaged) {
      FAIL() << "seed" << seed_ << "stop" << stops_ << (by_reader_ ? "read-only" : "") << "at" << damage.offset
             << damage.reason;
    }
    verification_.reset();
    verifications_++;
    return false;
  }

  const std::string path_;
  std::mt19937_64 random_;
  const bool kills_;
  const uint64_t seed_;
  std::shared_ptr<Store> store_;
  std::shared_ptr<Store> reader_;
  std::array<std::optional<Child>, 2> children_;
  std::shared_ptr<Verification> verification_;
  bool by_reader_ = false;
  int stops_ = 0;
  int deaths_ = 0;
  int verifications_ = 0;
};

void VerifyBetweenStops(bool kills) {
  for (const bool disk : {true, false}) {
    const char* const before = ::getenv("TMPDIR");
    const std::string saved = before == nullptr ? "/tmp" : before;
    if (!(disk ? UseDisk() : ::access("/dev/shm", W_OK) == 0 && ::setenv("TMPDIR", "/dev/shm", 1) == 0)) continue;
    const TemporaryDirectory directory;
    const uint64_t begin = faultless::os::MonotonicNs();
    int rounds = 0;
    int stops = 0;
    int deaths = 0;
    int verifications = 0;
    while (rounds < 2 || static_cast<double>(faultless::os::MonotonicNs() - begin) < Seconds() * 1e9) {
      Scene scene(directory, Seed() + static_cast<uint64_t>(rounds), kills);
      scene.Play(rounds % 4 != 3 ? 60 : 400);
      scene.End();
      rounds++;
      stops += scene.stops();
      deaths += scene.deaths();
      verifications += scene.verifications();
    }
    std::printf("    %s: %d rounds, %d stops, %d deaths, %d verifications; seed %lu\n", disk ? "disk" : "RAM", rounds,
                stops, deaths, verifications, Seed());
    EXPECT_GT(verifications, 5);
    ::setenv("TMPDIR", saved.c_str(), 1);
  }
}

/** File: the first value of a store, a large one. Stops at every point. */
CHILD_PROCESS(FirstValue) {
  LiveAtMost(120);
  const auto store = Open(arguments[0], kMaxBytes);
  ASSERT_TRUE(store != nullptr);
  fail_points.fail_at = 1;
  fail_points.fail = [] {
    fail_points.fail_at++;
    ::raise(SIGSTOP);
  };
  fail_points.armed = true;
  ASSERT_OK(Set(*store, "key", MakeValue("key", 1, 70'000)));
}

bool IsAnythingPending(const std::string& path) {
  std::vector<uint64_t> chains(faultless::format::kOpenerSlots * sizeof(faultless::format::OpenerPending) / 8);
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (::pread(fd, chains.data(), chains.size() * 8, faultless::format::kPendingOffset) < 0) ::abort();
  ::close(fd);
  return std::any_of(chains.begin(), chains.end(), [](uint64_t first) { return first != 0; });
}

/** Begun at every point of taking a run, ended when a pending chain has it. */
TEST(VerifyMoments, NoFalseAlarmsWhileARunIsTaken) {
  const TemporaryDirectory directory;
  const std::string path = directory.File("store");
  const auto store = Open(path, kMaxBytes);
  Child child = Child::Start("FirstValue", {path});
  std::vector<std::shared_ptr<Verification>> verifications;
  size_t waiting = 0;
  for (int after = 0; after < 20;) {
    int status = 0;
    ASSERT_EQ(::waitpid(child.pid(), &status, WUNTRACED), child.pid());
    ASSERT_TRUE(WIFSTOPPED(status)) << status;
    verifications.push_back(store->Verify());
    while (!verifications.back()->done() && verifications.back()->Step().ok()) {
    }
    waiting += verifications.back()->done() ? 0 : 1;
    if (IsAnythingPending(path)) after++;
    child.Signal(SIGCONT);
  }
  // The child goes on to the next point, and has no lock there: it copies the value.
  for (const auto& verification : verifications) {
    while (!verification->done()) ASSERT_OK(Patiently([&] { return verification->Step(); }));
    for (const auto& damage : verification->Report().damaged) FAIL() << damage.offset << damage.reason;
  }
  EXPECT_GT(waiting, 50);  // for who was taking it
  std::printf("    %zu points, at %zu of them the lock was held\n", verifications.size(), waiting);
  child.Signal(SIGKILL);
  EXPECT_EQ(child.Wait(), -SIGKILL);
}

/** Large values that nobody writes again, whose records cleaning moves on and on, past the walk. */
TEST(VerifyMoments, NoFalseAlarmsWhereCleaningIsFaster) {
  const TemporaryDirectory directory;
  const std::string path = directory.File("store");
  const auto store = Open(path, kMaxBytes);
  const std::vector<std::string> keys = KeysInShards(path, 1, 1200, "k");
  constexpr size_t kStill = 100;
  for (size_t i = 0; i < kStill; i++) ASSERT_OK(Set(*store, keys[i], MakeValue(keys[i], 1, 70'000)));
  std::mt19937_64 random(Seed());
  uint64_t written = 1;
  const auto write = [&](uint64_t count) {
    for (; count > 0; count--) {
      const std::string& key = keys[kStill + random() % (keys.size() - kStill)];
      ASSERT_OK(Set(*store, key, MakeValue(key, ++written, 2500)));
    }
  };
  write(3000);
  int verifications = 0;
  for (const uint64_t most : {100, 800}) {
    for (int i = 0; i < 2; i++, verifications++) {
      const auto verification = store->Verify();
      while (!verification->done()) {
        ASSERT_OK(Patiently([&] { return verification->Step(); }));
        write(random() % most);
      }
      for (const auto& damage : verification->Report().damaged) {
        FAIL() << "seed" << Seed() << "writes" << most << "at" << damage.offset << damage.reason;
      }
    }
  }
  std::printf("    %d verifications, %lu writes; seed %lu\n", verifications, written, Seed());
  ASSERT_OK(store->Close());
}

TEST(VerifyMoments, NoFalseAlarmsBesideStoppedWriters) { VerifyBetweenStops(false); }
TEST(VerifyMoments, NoFalseAlarmsBesideDyingWriters) { VerifyBetweenStops(true); }

}  // namespace
