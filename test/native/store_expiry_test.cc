// Values that expire: when, by which clock, and how their space comes back. The clocks are the test's own.
#include <sys/syscall.h>

#include "store_ledger.h"

static uint64_t wall_ms = 2'000'000'000'000;  // NOLINT
static uint64_t boot_ms = 50'000;             // NOLINT

// In the place of libc's.
extern "C" int clock_gettime(clockid_t clock, timespec* time) noexcept {
  if (clock != CLOCK_REALTIME && clock != CLOCK_BOOTTIME) {
    return static_cast<int>(::syscall(SYS_clock_gettime, clock, time));
  }
  const uint64_t now_ms = clock == CLOCK_REALTIME ? wall_ms : boot_ms;
  time->tv_sec = static_cast<time_t>(now_ms / 1000);
  time->tv_nsec = static_cast<long>(now_ms % 1000 * 1'000'000);
  return 0;
}

namespace {

using namespace store_test;
using faultless::store::Freshness;
using faultless::store::ValueSink;
using faultless::store::WriteOptions;

void Pass(uint64_t ms) {
  wall_ms += ms;
  boot_ms += ms;
}

Status SetFor(Store& store, const std::string& key, const std::string& value, uint64_t ttl_ms) {
  return Patiently([&] { return store.Set(AsBytes(key), AsBytes(value), {store.ExpiryAfter(ttl_ms)}); });
}

bool IsThere(Store& store, const std::string& key) {
  const Status status = Patiently([&] { return store.Has(AsBytes(key), ReadMode::kMayFault); });
  EXPECT_TRUE(status.ok() || status.code() == Code::kAbsent);
  return status.ok();
}

void CloseAndAudit(const std::string& path, const std::shared_ptr<Store>& store) {
  EXPECT_OK(store->Close());
  EXPECT_EQ(Ledger(ReadImage(path)).Check(), "");
}

TEST(StoreExpiry, IsExactToTheMillisecondForEveryRead) {
  const harness::TemporaryDirectory directory;
  const auto store = Open(directory.File("exact.store"));
  ASSERT_OK(SetFor(*store, "goes", "value", 100));
  ASSERT_OK(SetFor(*store, "stays", "value", 0));
  const auto reads = [&](bool there) {
    std::string value;
    const Code code = there ? Code::kOk : Code::kAbsent;
    EXPECT_CODE(Get(*store, "goes", &value), code);
    const Status resident = Get(*store, "goes", &value, ReadMode::kResidentOnly);
    EXPECT_TRUE(resident.code() == code || resident.code() == Code::kCold);
    EXPECT_EQ(IsThere(*store, "goes"), there);
    MapSink all;
    ScanAll(*store, &all);
    EXPECT_EQ(all.entries.size(), there ? 2 : 1);
    const std::string names[2] = {"goes", "stays"};
    const Bytes keys[2] = {AsBytes(names[0]), AsBytes(names[1])};
    StringSink values[2];
    ValueSink* const sinks[2] = {&values[0], &values[1]};
    Code codes[2];
    EXPECT_OK(Patiently([&] { return store->GetMany(keys, sinks, codes); }));
    EXPECT_TRUE(codes[0] == code && codes[1] == Code::kOk);
  };
  Pass(99);
  reads(true);
  Freshness freshness;
  StringSink sink;
  const std::string key = "goes";
  ASSERT_OK(store->Get(AsBytes(key), &sink, ReadMode::kMayFault, &freshness));
  EXPECT_EQ(freshness.expires_at_ms, store->NowMs() + 1);
  EXPECT_EQ(store->MsLeft(freshness.expires_at_ms), 1);
  Pass(1);
  reads(false);
  EXPECT_EQ(store->Size(), 2);  // not swept yet
  bool existed = true;
  EXPECT_OK(Delete(*store, "goes", &existed));
  EXPECT_FALSE(existed);
  EXPECT_OK(store->Close());
}

TEST(StoreExpiry, StaysSoWhenTheWallClockGoesBack) {
  const harness::TemporaryDirectory directory;
  const std::string path = directory.File("back.store");
  auto store = Open(path);
  ASSERT_OK(SetFor(*store, "key", "value", 1000));
  Pass(1000);
  EXPECT_FALSE(IsThere(*store, "key"));
  const uint64_t before_ms = store->NowMs();
  wall_ms -= 3'600'000;
  EXPECT_FALSE(IsThere(*store, "key"));
  store->FollowWallClock();
  EXPECT_EQ(store->NowMs(), before_ms);
  // What comes now lives as long as it is told, and no longer.
  ASSERT_OK(SetFor(*store, "young", "value", 1000));
  Pass(999);
  EXPECT_TRUE(IsThere(*store, "young"));
  Pass(1);
  EXPECT_FALSE(IsThere(*store, "young"));
  EXPECT_OK(store->Close());
  // Opened again; also where the machine was started anew meanwhile, which counts from 0 then.
  boot_ms = 100;
  store = Open(path);
  EXPECT_FALSE(IsThere(*store, "key"));
  EXPECT_FALSE(IsThere(*store, "young"));
  EXPECT_GE(store->NowMs(), before_ms + 1000);
  // A reader that may not write tells the same time.
  std::shared_ptr<Store> reader;
  ASSERT_OK(OpenWith(
      path, [](OpenOptions* options) { options->read_only = true; }, &reader));
  EXPECT_EQ(reader->NowMs(), store->NowMs());
  EXPECT_FALSE(IsThere(*reader, "key"));
  EXPECT_OK(reader->Close());
  CloseAndAudit(path, store);
  wall_ms += 3'600'000;
}

TEST(StoreExpiry, FollowsAWallClockThatIsSetForward) {
  const harness::TemporaryDirectory directory;
  const std::string path = directory.File("forward.store");
  const auto store = Open(path);
  std::shared_ptr<Store> reader;
  ASSERT_OK(OpenWith(
      path, [](OpenOptions* options) { options->read_only = true; }, &reader));
  ASSERT_OK(SetFor(*store, "key", "value", 60'000));
  wall_ms += 60'000;
  EXPECT_TRUE(IsThere(*reader, "key"));  // nobody has told the store
  store->FollowWallClock();
  EXPECT_FALSE(IsThere(*reader, "key"));
  EXPECT_FALSE(IsThere(*store, "key"));
  wall_ms -= 60'000;
  EXPECT_FALSE(IsThere(*reader, "key"));
  EXPECT_OK(reader->Close());
  CloseAndAudit(path, store);
}

TEST(StoreExpiry, ADamagedClockExpiresNothing) {
  const harness::TemporaryDirectory directory;
  const std::string path = directory.File("damaged.store");
  auto store = Open(path);
  ASSERT_OK(SetFor(*store, "key", "value", 60'000));
  EXPECT_OK(store->Close());
  for (const uint64_t word : {~uint64_t{0}, uint64_t{1} << 62, uint64_t{12345}}) {
    Image image = ReadImage(path);
    auto* const header =
        reinterpret_cast<faultless::format::ControlHeader*>(image.data() + faultless::format::kControlOffset / 8);
    header->clock_watermark.store(word);
    header->clock_offset.store(word);
    ::unlink(path.c_str());
    WriteImage(path, image);
    store = Open(path);
    EXPECT_TRUE(IsThere(*store, "key"));
    EXPECT_EQ(store->NowMs(), wall_ms);
    CloseAndAudit(path, store);
  }
}

TEST(StoreExpiry, GivesSpaceBackWithoutAnyoneReading) {
  const harness::TemporaryDirectory directory;
  const std::string path = directory.File("swept.store");
  const auto store = Open(path);
  constexpr int kKeys = 20'000;
  const std::string value(500, 'v');
  for (int i = 0; i < kKeys; i++) ASSERT_OK(SetFor(*store, "key" + std::to_string(i), value, 10'000));
  for (int i = 0; i < 100; i++) ASSERT_OK(Set(*store, "stays" + std::to_string(i), value));
  ASSERT_OK(SetFor(*store, "large", std::string(3'000'000, 'l'), 10'000));
  ASSERT_OK(SetFor(*store, "later", value, 50'000));
  Pass(10'000);
  const auto before = store->GetStats();
  EXPECT_EQ(before.keys, kKeys + 102);
  // One key alone is written, now and then: all shards are swept by that, a bounded part at a time.
  uint64_t most_per_write = 0;
  int writes = 0;
  for (; store->Size() > 102 && writes < 4000; writes++) {
    const uint64_t keys = store->Size();
    ASSERT_OK(Set(*store, "only", value));
    most_per_write = std::max(most_per_write, keys - store->Size());
  }
  EXPECT_EQ(store->Size(), 102);  // 100, "later" and "only"
  EXPECT_LE(most_per_write, 96);  // swept and cleaned, in two shards
  for (int i = 0; i < 1000; i++) ASSERT_OK(Set(*store, "only", value));
  const auto after = store->GetStats();
  std::printf("    swept by %d writes; live %lu -> %lu, garbage %lu, free %lu of %lu bytes\n", writes,
              before.live_bytes, after.live_bytes, after.garbage_bytes, after.free_bytes, after.file_bytes);
  EXPECT_LT(after.live_bytes, 200'000);
  EXPECT_LT(after.garbage_bytes, 4'000'000);
  EXPECT_TRUE(IsThere(*store, "later"));
  Pass(40'000);
  EXPECT_FALSE(IsThere(*store, "later"));
  for (int i = 0; i < 100; i++) ASSERT_OK(Set(*store, "only", value));
  EXPECT_EQ(store->Size(), 101);
  CloseAndAudit(path, store);
}

TEST(StoreExpiry, AFullStoreTakesTheSpaceOfWhatHasExpired) {
  const harness::TemporaryDirectory directory;
  const std::string path = directory.File("full.store");
  const auto store = Open(path, faultless::store::kMinMaxBytes);
  const std::string value(2000, 'v');
  int number = 0;
  for (int round = 0; round < 4; round++) {
    int count = 0;
    Status status;
    while (status.ok()) {
      status = SetFor(*store, "key" + std::to_string(number++), round == 2 ? std::string(100'000, 'l') : value, 1000);
      count++;
    }
    EXPECT_CODE(status, Code::kStoreFull);
    EXPECT_GT(count, round == 2 ? 30 : 1000) << round;
    Pass(1000);
  }
  CloseAndAudit(path, store);
}

TEST(StoreExpiry, TouchingKeepsTheValueAndItsRuns) {
  const harness::TemporaryDirectory directory;
  const std::string path = directory.File("touched.store");
  auto store = Open(path);
  const std::string large(500'000, 'l');
  const std::string small = "small";
  ASSERT_OK(Set(*store, "large", large));
  ASSERT_OK(SetFor(*store, "small", small, 100));
  ASSERT_OK(store->Flush());
  const auto touch = [&](const std::string& key, uint64_t ttl_ms) {
    bool existed = false;
    EXPECT_OK(Patiently([&] { return store->Touch(AsBytes(key), {store->ExpiryAfter(ttl_ms)}, &existed); }));
    return existed;
  };
  EXPECT_FALSE(touch("absent", 100));
  EXPECT_TRUE(touch("small", 0));
  for (int i = 0; i < 50; i++) EXPECT_TRUE(touch("large", 200));
  Pass(199);
  std::string value;
  EXPECT_OK(Get(*store, "large", &value));
  EXPECT_TRUE(value == large);
  EXPECT_OK(store->Close());
  store = Open(path);
  Pass(1);
  EXPECT_FALSE(IsThere(*store, "large"));
  EXPECT_FALSE(touch("large", 100));
  EXPECT_OK(Get(*store, "small", &value));
  EXPECT_EQ(value, small);
  CloseAndAudit(path, store);
}

TEST(StoreExpiry, WritesKeepItOrClearIt) {
  const harness::TemporaryDirectory directory;
  const auto store = Open(directory.File("kept.store"));
  const auto left = [&](const std::string& key) {
    Freshness freshness;
    EXPECT_OK(store->Get(AsBytes(key), nullptr, ReadMode::kMayFault, &freshness));
    return store->MsLeft(freshness.expires_at_ms);
  };
  const std::string key = "key";
  const std::string value = "value";
  const Bytes expected = AsBytes(value);
  double sum = 0;
  bool done = false;
  ASSERT_OK(store->Increment(AsBytes(key), 1, {store->ExpiryAfter(100), true}, &sum));
  Pass(40);
  ASSERT_OK(store->Increment(AsBytes(key), 1, {store->ExpiryAfter(100), true}, &sum));
  EXPECT_EQ(sum, 2);
  EXPECT_EQ(left(key), 60);
  Pass(60);  // absent: from 0, with what the write says
  ASSERT_OK(store->Increment(AsBytes(key), 1, {store->ExpiryAfter(100), true}, &sum));
  EXPECT_EQ(sum, 1);
  EXPECT_EQ(left(key), 100);
  ASSERT_OK(store->Increment(AsBytes(key), 1, {}, &sum));
  EXPECT_EQ(left(key), 0);
  ASSERT_OK(SetFor(*store, key, value, 100));
  ASSERT_OK(store->CompareAndSet(AsBytes(key), &expected, &expected, {0, true}, &done));
  EXPECT_TRUE(done);
  EXPECT_EQ(left(key), 100);
  ASSERT_OK(store->CompareAndSet(AsBytes(key), &expected, &expected, {}, &done));
  EXPECT_EQ(left(key), 0);
  ASSERT_OK(SetFor(*store, key, value, 100));
  ASSERT_OK(Set(*store, key, value));
  EXPECT_EQ(left(key), 0);
  EXPECT_OK(store->Close());
}

}  // namespace
