// Faults on the map: another process truncates the file while it is in use. Operations answer kIo, kResidentOnly reads
// kCold, this process lives and its other stores go on; when the bytes are back, so is everything.
#include <algorithm>

#include "format/layout.h"
#include "store_children.h"

namespace {

using namespace store_test;
using harness::Child;
namespace format = faultless::format;

constexpr uint64_t kUnit = format::kUnitBytes;

CHILD_PROCESS(Truncate) {
  LiveAtMost(30);
  EXPECT_EQ(::truncate(arguments[0].c_str(), static_cast<off_t>(std::stoull(arguments[1]))), 0);
}

void TruncateFromOutside(const std::string& path, uint64_t bytes) {
  EXPECT_EQ(Child::Start("Truncate", {path, std::to_string(bytes)}).Wait(), 0);
}

/** Puts the bytes back into the same file. */
void RestoreFile(const std::string& path, const Image& image) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0) ::abort();
  const char* const bytes = reinterpret_cast<const char*>(image.data());
  for (size_t at = 0; at < image.size() * 8;) {
    const ssize_t put = ::pwrite(fd, bytes + at, image.size() * 8 - at, static_cast<off_t>(at));
    if (put <= 0) ::abort();
    at += static_cast<size_t>(put);
  }
  ::close(fd);
}

constexpr int kKeys = 4000;
std::string KeyOf(int i) { return "key" + std::to_string(i); }
uint64_t SizeOf(int i) { return i % 400 == 7 ? 200'000 : 50 + static_cast<uint64_t>(i % 300); }

void Fill(Store& store) {
  for (int i = 0; i < kKeys; i++) ASSERT_OK(Set(store, KeyOf(i), MakeValue(KeyOf(i), 1, SizeOf(i))));
}

bool IsOneOf(Code code, std::initializer_list<Code> allowed) {
  return std::find(allowed.begin(), allowed.end(), code) != allowed.end();
}

/** Every operation once, on a file whose end is gone from `bytes` on. What answers kOk answers right. */
void UseTruncated(Store& store, uint64_t bytes, int* ok, int* failed) {
  *ok = *failed = 0;
  for (int i = 0; i < kKeys; i += 7) {
    for (const ReadMode mode : {ReadMode::kResidentOnly, ReadMode::kMayFault, ReadMode::kResidentOnly}) {
      StringSink sink;
      const Status status = store.Get(AsBytes(KeyOf(i)), &sink, mode);
      if (status.ok()) {
        ASSERT_TRUE(sink.value == MakeValue(KeyOf(i), 1, SizeOf(i))) << bytes << i;
        ++*ok;
        continue;
      }
      ++*failed;
      // "Absent" would be a lie.
      ASSERT_TRUE(status.code() == (mode == ReadMode::kResidentOnly ? Code::kCold : Code::kIo))
          << bytes << i << "code" << static_cast<int>(status.code()) << (status.message() ? status.message() : "");
    }
    const Status has = store.Has(AsBytes(KeyOf(i)), ReadMode::kMayFault);
    ASSERT_TRUE(has.ok() || has.code() == Code::kIo) << bytes << i << static_cast<int>(has.code());
  }
  MapSink all;
  faultless::store::ScanCursor cursor;
  Status status;
  while (!cursor.done && status.ok()) status = store.Scan(&cursor, {}, true, 100'000, &all);
  ASSERT_TRUE(status.ok() || status.code() == Code::kIo) << bytes << static_cast<int>(status.code());
  ASSERT_FALSE(all.twice);
  if (status.ok()) {
    ASSERT_EQ(all.entries.size(), kKeys);
  }
  for (const auto& [key, value] : all.entries) ASSERT_EQ(NumberOf(key, value), 1) << key;
  const std::string names[] = {KeyOf(1), KeyOf(2), KeyOf(3)};
  const faultless::store::Bytes keys[] = {AsBytes(names[0]), AsBytes(names[1]), AsBytes(names[2])};
  StringSink values[3];
  faultless::store::ValueSink* sinks[] = {&values[0], &values[1], &values[2]};
  Code results[3];
  const Status many = store.GetMany(keys, sinks, results);
  ASSERT_TRUE(many.ok() || many.code() == Code::kIo) << static_cast<int>(many.code());
  double share;
  static_cast<void>(store.Residency(&share));
  static_cast<void>(store.GetStats());
  static_cast<void>(store.Size());
  uint64_t hashes[3];
  for (const bool advise : {false, true}) store.Prepare(keys, hashes, advise);
}

void RunTruncation(uint64_t keep_units, bool write_while_gone) {
  const harness::TemporaryDirectory directory;
  const std::string path = directory.File("a.store");
  auto store = Open(path);
  auto other = Open(directory.File("b.store"));
  Fill(*store);
  ASSERT_OK(Set(*other, "a", "b"));
  const Image image = ReadImage(path);
  const uint64_t bytes = std::min(keep_units * kUnit, image.size() * 8);
  TruncateFromOutside(path, bytes);
  int ok, failed;
  UseTruncated(*store, bytes, &ok, &failed);
  EXPECT_GT(failed, 0) << keep_units;
  if (write_while_gone) {
    const std::string value = "value";
    bool existed;
    faultless::store::ClearProgress shard;
    const Code set = store->Set(AsBytes("key1"), AsBytes(value), {}).code();
    EXPECT_TRUE(IsOneOf(set, {Code::kIo, Code::kCorrupt, Code::kWouldBlock})) << keep_units << static_cast<int>(set);
    const Code deleted = store->Delete(AsBytes("key2"), &existed).code();
    EXPECT_TRUE(IsOneOf(deleted, {Code::kIo, Code::kCorrupt, Code::kWouldBlock}))
        << keep_units << static_cast<int>(deleted);
    const Code cleared = store->Clear(&shard).code();
    EXPECT_TRUE(IsOneOf(cleared, {Code::kIo, Code::kCorrupt, Code::kWouldBlock}))
        << keep_units << static_cast<int>(cleared);
  }
  // The other store does not notice.
  std::string value;
  EXPECT_OK(Get(*other, "a", &value));
  EXPECT_EQ(value, "b");
  EXPECT_OK(Set(*other, "a", "c"));

  RestoreFile(path, image);
  for (int i = 0; i < kKeys; i++) {
    StringSink sink;
    const Status status = Patiently([&] { return store->Get(AsBytes(KeyOf(i)), &sink, ReadMode::kMayFault); });
    ASSERT_OK(status) << keep_units << i;
    ASSERT_TRUE(sink.value == MakeValue(KeyOf(i), 1, SizeOf(i))) << keep_units << i;
  }
  MapSink all;
  ScanAll(*store, &all);
  EXPECT_EQ(all.entries.size(), kKeys) << keep_units;
  EXPECT_EQ(store->Size(), kKeys) << keep_units;
  EXPECT_OK(Set(*store, "key1", "new")) << keep_units;
  EXPECT_OK(Get(*store, "key1", &value)) << keep_units;
  EXPECT_EQ(value, "new");
  bool existed;
  EXPECT_OK(Delete(*store, "key2", &existed)) << keep_units;
  EXPECT_TRUE(existed);
  EXPECT_OK(Clear(*store));
  EXPECT_EQ(store->Size(), 0);
  EXPECT_OK(store->Close());
  EXPECT_OK(other->Close());
}

constexpr uint64_t kHead = format::HeadUnits(format::kDefaultShards);

TEST(StoreFaults, NothingIsLeftOfTheFile) { RunTruncation(0, true); }
TEST(StoreFaults, TheControlRegionEndsInTheMiddle) { RunTruncation(kHead / 2, true); }
TEST(StoreFaults, TheVersionTableIsGone) {
  RunTruncation(format::VersionsOffset(format::kDefaultShards) / kUnit, false);
}
TEST(StoreFaults, OnlyTheControlRegionIsLeft) { RunTruncation(kHead, true); }
TEST(StoreFaults, TheFirstExtentsAreLeft) { RunTruncation(kHead + 5, true); }
TEST(StoreFaults, HalfOfItIsLeft) { RunTruncation(40, false); }

/** Truncated and restored again and again while two threads use it. What they are told is true each time. */
TEST(StoreFaults, ComesBackEachTime) {
  const harness::TemporaryDirectory directory;
  const std::string path = directory.File("a.store");
  auto store = Open(path);
  Fill(*store);
  const Image image = ReadImage(path);
  std::mt19937_64 random(std::random_device{}());
  for (int round = 0; round < 8; round++) {
    const uint64_t bytes = (kHead + 1 + random() % (image.size() * 8 / kUnit - kHead)) * kUnit - random() % 16 * 4096;
    TruncateFromOutside(path, bytes);
    int ok, failed;
    UseTruncated(*store, bytes, &ok, &failed);
    RestoreFile(path, image);
    for (int i = 0; i < kKeys; i += 3) {
      std::string value;
      ASSERT_OK(Get(*store, KeyOf(i), &value)) << bytes << i;
      ASSERT_TRUE(value == MakeValue(KeyOf(i), 1, SizeOf(i))) << bytes << i;
    }
  }
  ASSERT_OK(store->Close());
}

/** A file without its end cannot be closed well, and Close says so, or leaves it to the next open to find out; nobody
 * dies of it. */
TEST(StoreFaults, CanBeClosedWithoutItsFile) {
  for (const uint64_t units : {uint64_t{0}, kHead, kHead + 6}) {
    const harness::TemporaryDirectory directory;
    const std::string path = directory.File("a.store");
    auto store = Open(path);
    Fill(*store);
    TruncateFromOutside(path, units * kUnit);
    std::string value;
    static_cast<void>(store->Has(AsBytes("key1"), ReadMode::kMayFault));
    static_cast<void>(store->Flush());
    static_cast<void>(store->Close());
    OpenOptions options;
    options.path = path;
    const Status status = Store::Open(options, &store);
    if (!status.ok()) {
      EXPECT_TRUE(IsOneOf(status.code(), {Code::kFormat, Code::kCorrupt, Code::kIo}))
          << units << static_cast<int>(status.code());
      continue;
    }
    MapSink all;
    ScanAll(*store, &all);
    for (const auto& [key, bytes] : all.entries) EXPECT_EQ(NumberOf(key, bytes), 1) << units << key;
    EXPECT_OK(store->Close());
  }
}

}  // namespace
