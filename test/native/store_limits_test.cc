// Every limit of store.h at, just below and just above, and every answer of Open.
#include <sys/statfs.h>

#include <algorithm>
#include <chrono>
#include <fstream>

#include "store_children.h"

namespace {

using namespace store_test;
using faultless::store::kDefaultMaxBytes;
using faultless::store::kLargestMaxBytes;
using faultless::store::kMaxKeyBytes;
using faultless::store::kMaxValueBytes;
using faultless::store::kMinMaxBytes;

std::string ValueOfSize(uint64_t size, uint64_t number) {
  std::string bytes = MakeValue("", number, size);
  bytes.resize(size);
  return bytes;
}

TEST(StoreLimits, Keys) {
  const harness::TemporaryDirectory directory;
  const std::string path = directory.File("a.store");
  auto store = Open(path);
  bool existed;
  std::string value;
  EXPECT_CODE(Set(*store, "", "x"), Code::kKeyEmpty);
  EXPECT_CODE(Get(*store, "", &value), Code::kKeyEmpty);
  EXPECT_CODE(Get(*store, "", &value, ReadMode::kResidentOnly), Code::kKeyEmpty);
  EXPECT_CODE(store->Has({}, ReadMode::kMayFault), Code::kKeyEmpty);
  EXPECT_CODE(Delete(*store, "", &existed), Code::kKeyEmpty);
  const std::string too_long(kMaxKeyBytes + 1, 'k');
  EXPECT_CODE(Set(*store, too_long, "x"), Code::kKeyTooLong);
  EXPECT_CODE(Get(*store, too_long, &value), Code::kKeyTooLong);
  EXPECT_CODE(store->Has(AsBytes(too_long), ReadMode::kMayFault), Code::kKeyTooLong);
  EXPECT_CODE(Delete(*store, too_long, &existed), Code::kKeyTooLong);
  const faultless::store::Bytes wrong[] = {{}, AsBytes(too_long)};
  uint64_t hashes[2];
  for (const bool advise : {false, true}) store->Prepare(wrong, hashes, advise);
  EXPECT_CODE(store->Has({}, hashes[0], ReadMode::kMayFault), Code::kKeyEmpty);
  EXPECT_CODE(store->Has(AsBytes(too_long), hashes[1], ReadMode::kMayFault), Code::kKeyTooLong);
  const std::string good = "a";
  const faultless::store::Bytes many[] = {AsBytes(good), AsBytes(too_long)};
  StringSink sink;
  faultless::store::ValueSink* sinks[] = {&sink, &sink};
  Code results[2];
  EXPECT_CODE(store->GetMany(many, sinks, results), Code::kKeyTooLong);
  EXPECT_EQ(store->Size(), 0);

  // Also keys that differ only in length or in their last byte, and NUL bytes.
  const std::vector<size_t> sizes = {1,           2, 7, 8, 9, 255, 256, 4095, 4096, 32'767, 32'768, kMaxKeyBytes - 1,
                                     kMaxKeyBytes};
  std::map<std::string, std::string> model;
  for (const size_t size : sizes) {
    for (const char last : {'\0', 'a'}) {
      std::string key(size, '\0');
      key.back() = last;
      model[key] = std::to_string(size) + last;
      ASSERT_OK(Set(*store, key, model[key])) << size;
    }
  }
  // The longest key with values around the border to large ones, and a large one.
  for (const uint64_t size : {uint64_t{65'535}, uint64_t{65'536}, uint64_t{10} << 20}) {
    std::string key(kMaxKeyBytes, 'z');
    key[0] = static_cast<char>('a' + size % 20);
    model[key] = ValueOfSize(size, size);
    ASSERT_OK(Set(*store, key, model[key])) << size;
  }
  for (int round = 0; round < 2; round++) {
    for (const auto& [key, expected] : model) {
      ASSERT_OK(Get(*store, key, &value)) << key.size();
      EXPECT_TRUE(value == expected) << key.size();
    }
    MapSink all;
    ScanAll(*store, &all);
    EXPECT_TRUE(all.entries == model);
    EXPECT_FALSE(all.twice);
    ASSERT_OK(store->Close());
    store = Open(path);
  }
  for (const auto& entry : model) {
    ASSERT_OK(Delete(*store, entry.first, &existed));
    EXPECT_TRUE(existed);
  }
  EXPECT_EQ(store->Size(), 0);
  ASSERT_OK(store->Close());
}

TEST(StoreLimits, Values) {
  const harness::TemporaryDirectory directory;
  const std::string path = directory.File("a.store");
  auto store = Open(path);
  const std::vector<uint64_t> sizes = {0,
                                       1,
                                       7,
                                       8,
                                       9,
                                       4095,
                                       4096,
                                       65'534,
                                       65'535,
                                       65'536,
                                       65'537,
                                       131'071,
                                       131'072,
                                       131'073,
                                       196'608,
                                       1'048'575,
                                       1'048'576,
                                       1'048'577,
                                       uint64_t{10} << 20};
  for (const uint64_t size : sizes) ASSERT_OK(Set(*store, std::to_string(size), ValueOfSize(size, size))) << size;
  for (int round = 0; round < 2; round++) {
    for (const uint64_t size : sizes) {
      std::string value = "before";
      ASSERT_OK(Get(*store, std::to_string(size), &value)) << size;
      EXPECT_TRUE(value == ValueOfSize(size, size)) << size;
      EXPECT_OK(store->Has(AsBytes(std::to_string(size)), ReadMode::kMayFault)) << size;
    }
    ASSERT_OK(store->Close());
    store = Open(path);
  }
  // Each size in the place of each other one.
  for (size_t i = 0; i < sizes.size(); i++) {
    for (size_t j = 0; j < sizes.size(); j += 3) {
      const std::string expected = ValueOfSize(sizes[j], i * 100 + j + 1);
      ASSERT_OK(Set(*store, std::to_string(sizes[i]), expected));
      std::string value;
      ASSERT_OK(Get(*store, std::to_string(sizes[i]), &value));
      EXPECT_TRUE(value == expected) << sizes[i] << sizes[j];
    }
  }
  EXPECT_EQ(store->Size(), sizes.size());
  ASSERT_OK(store->Close());
}

/** A sink that refuses, as the caller does where a value is too large for it. */
class NoMemory final : public faultless::store::ValueSink {
 public:
  uint8_t* Allocate(uint64_t size) override {
    asked = size;
    return nullptr;
  }
  uint64_t asked = 0;
};

TEST(StoreLimits, ASinkMayRefuse) {
  const harness::TemporaryDirectory directory;
  auto store = Open(directory.File("a.store"));
  for (const uint64_t size : {uint64_t{0}, uint64_t{5}, uint64_t{200'000}}) {
    ASSERT_OK(Set(*store, "a", ValueOfSize(size, 1)));
    NoMemory sink;
    EXPECT_CODE(store->Get(AsBytes("a"), &sink, ReadMode::kMayFault), Code::kValueTooLarge);
    EXPECT_EQ(sink.asked, size);
  }
  ASSERT_OK(store->Close());
}

/** An address range of any size over 16 MiB of memory that repeat: what is stored last stays. */
class WindowSink final : public faultless::store::ValueSink {
 public:
  static constexpr uint64_t kWindow = uint64_t{16} << 20;
  WindowSink() : fd_(::memfd_create("window", MFD_CLOEXEC)) {
    if (fd_ < 0 || ::ftruncate(fd_, kWindow) != 0) ::abort();
  }
  ~WindowSink() override {
    Release();
    ::close(fd_);
  }
  uint8_t* Allocate(uint64_t size) override {
    Release();
    bytes = size;
    mapped_ = (size + kWindow - 1) / kWindow * kWindow;
    void* const range = ::mmap(nullptr, mapped_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (range == MAP_FAILED) ::abort();
    data = static_cast<uint8_t*>(range);
    for (uint64_t at = 0; at < mapped_; at += kWindow) {
      if (::mmap(data + at, kWindow, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd_, 0) == MAP_FAILED) ::abort();
    }
    return data;
  }
  uint8_t* data = nullptr;
  uint64_t bytes = 0;

 private:
  void Release() {
    if (data != nullptr) ::munmap(data, mapped_);
  }
  int fd_;
  uint64_t mapped_ = 0;
};

/** Bytes that can be had without swapping: free ones, and those of files that can be read again. */
uint64_t AvailableMemory() {
  std::ifstream lines("/proc/meminfo");
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("MemAvailable:"))
      return std::strtoull(line.c_str() + sizeof "MemAvailable:", nullptr, 10) << 10;
  }
  return 0;
}

TEST(StoreLimits, TheLargestValue) {
  if (kSanitized) {
    printf("  values of 4 GiB: tested in the plain run alone\n");  // shadow memory would take as much again
    return;
  }
  struct statfs place {};
  constexpr uint64_t kNeeded = uint64_t{10} << 30;
  if (AvailableMemory() < kNeeded || ::statfs("/dev/shm", &place) != 0 ||
      place.f_bavail * static_cast<uint64_t>(place.f_bsize) < kNeeded) {
    harness::Skip("values of 4 GiB need 10 GiB of memory and of /dev/shm");
    return;
  }
  const std::string path = "/dev/shm/faultless-test-" + std::to_string(::getpid()) + ".store";
  // Zeros that take no memory, with a few bytes that tell where they are.
  constexpr uint64_t kTooLarge = kMaxValueBytes + 1;
  void* const source =
      ::mmap(nullptr, kTooLarge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ASSERT_TRUE(source != MAP_FAILED);
  auto* const bytes = static_cast<uint8_t*>(source);
  for (uint64_t i = 1; i <= 40; i++) bytes[kMaxValueBytes - i * i * 10'001 % kMaxValueBytes] = static_cast<uint8_t>(i);
  bytes[kMaxValueBytes - 1] = 77;
  auto store = Open(path, uint64_t{16} << 30);
  ::unlink(path.c_str());
  EXPECT_CODE(store->Set(AsBytes("a"), {bytes, kTooLarge}, {}), Code::kValueTooLarge);
  EXPECT_EQ(store->Size(), 0);
  EXPECT_LT(store->GetStats().file_bytes, 1 << 20);
  ASSERT_OK(Patiently([&] { return store->Set(AsBytes("a"), {bytes, kMaxValueBytes}, {}); }));
  {
    // The store has compared the checksum of all of it; here the last bytes are looked at.
    WindowSink sink;
    ASSERT_OK(Patiently([&] { return store->Get(AsBytes("a"), &sink, ReadMode::kMayFault); }));
    ASSERT_EQ(sink.bytes, kMaxValueBytes);
    const uint64_t from = kMaxValueBytes / WindowSink::kWindow * WindowSink::kWindow;
    for (uint64_t at = from; at < kMaxValueBytes; at++) {
      ASSERT_TRUE(sink.data[at] == bytes[at]) << at;
    }
  }
  bool existed;
  ASSERT_OK(Delete(*store, "a", &existed));
  EXPECT_TRUE(existed);
  EXPECT_GT(store->GetStats().free_bytes, uint64_t{4'000'000'000});
  ASSERT_OK(store->Close());
  ::munmap(source, kTooLarge);
}

TEST(StoreLimits, MaxBytes) {
  const harness::TemporaryDirectory directory;
  int count = 0;
  const auto create = [&](uint64_t max_bytes, std::shared_ptr<Store>* store) {
    return OpenWith(
        directory.File(std::to_string(count++)), [&](OpenOptions* options) { options->kept.max_bytes = max_bytes; },
        store);
  };
  std::shared_ptr<Store> store;
  EXPECT_CODE(create(1, &store), Code::kOutOfRange);
  EXPECT_CODE(create(kMinMaxBytes - 1, &store), Code::kOutOfRange);
  EXPECT_CODE(create(kLargestMaxBytes + 1, &store), Code::kOutOfRange);
  EXPECT_CODE(create(~uint64_t{0}, &store), Code::kOutOfRange);
  for (int i = 0; i < count; i++) EXPECT_NE(::access(directory.File(std::to_string(i)).c_str(), F_OK), 0) << i;
  for (const uint64_t size : {kMinMaxBytes, kMinMaxBytes + 1, kMinMaxBytes + 65'535, uint64_t{0}}) {
    ASSERT_OK(create(size, &store)) << size;
    EXPECT_EQ(store->GetStats().max_bytes, size == 0 ? kDefaultMaxBytes : size / 65'536 * 65'536);
    EXPECT_OK(Set(*store, "a", "b"));
    EXPECT_LT(store->GetStats().file_bytes, uint64_t{1} << 20);
    ASSERT_OK(store->Close());
    // The same number opens it again.
    ASSERT_OK(OpenWith(
        directory.File(std::to_string(count - 1)), [&](OpenOptions* options) { options->kept.max_bytes = size; },
        &store));
    ASSERT_OK(store->Close());
  }
  if (!kSanitized) {  // which leave less of the address space
    for (const uint64_t size : {kLargestMaxBytes, kLargestMaxBytes - 1}) {
      ASSERT_OK(create(size, &store)) << size;
      EXPECT_OK(Set(*store, "a", "b"));
      ASSERT_OK(store->Close());
    }
  }
  // The smallest store holds something in each shard, fills up, and can be emptied.
  ASSERT_OK(create(kMinMaxBytes, &store));
  int written = 0;
  for (; written < 100'000; written++) {
    const Status status = Set(*store, std::to_string(written), std::string(100, 'v'));
    if (status.code() == Code::kStoreFull) break;
    ASSERT_OK(status) << written;
  }
  EXPECT_GT(written, 5000);
  EXPECT_LE(store->GetStats().file_bytes, kMinMaxBytes);
  EXPECT_OK(store->Flush());
  for (int i = 0; i < written; i++) {
    bool existed;
    ASSERT_OK(Delete(*store, std::to_string(i), &existed)) << i;
    EXPECT_TRUE(existed);
  }
  EXPECT_EQ(store->Size(), 0);
  for (int i = 0; i < written / 2; i++) ASSERT_OK(Set(*store, std::to_string(i), std::string(100, 'w'))) << i;
  ASSERT_OK(store->Close());
}

TEST(StoreLimits, KeptOptions) {
  const harness::TemporaryDirectory directory;
  const std::string path = directory.File("a.store");
  std::shared_ptr<Store> store;
  const auto open = [&](const std::string& codec, uint64_t max_bytes) {
    return OpenWith(
        path,
        [&](OpenOptions* options) {
          options->kept = {max_bytes, codec};
        },
        &store);
  };
  const std::string name(63, 'c');
  EXPECT_CODE(open(name + "c", 0), Code::kInvalidArgValue);
  EXPECT_NE(::access(path.c_str(), F_OK), 0);
  for (const bool while_open : {false, true}) {
    ASSERT_OK(open(name, uint64_t{8} << 20));
    EXPECT_EQ(store->codec(), name);
    const std::shared_ptr<Store> first = store;
    if (!while_open) {
      ASSERT_OK(store->Close());
    }
    EXPECT_CODE(open(std::string(62, 'c'), 0), Code::kFormat) << while_open;
    EXPECT_CODE(open(name + "c", 0), Code::kFormat) << while_open;
    EXPECT_CODE(open("other", 0), Code::kFormat) << while_open;
    EXPECT_CODE(open(name, uint64_t{9} << 20), Code::kFormat) << while_open;
    EXPECT_CODE(open("", uint64_t{8} << 20 | 1 << 16), Code::kFormat) << while_open;
    ASSERT_OK(open("", 0)) << while_open;
    EXPECT_EQ(store->codec(), name);
    ASSERT_OK(store->Close());
    if (while_open) {
      ASSERT_OK(first->Close());
    }
  }
}

TEST(StoreLimits, ClearedLargeValuesGiveTheirSpaceBack) {
  const harness::TemporaryDirectory directory;
  auto store = Open(directory.File("a.store"), uint64_t{48} << 20);
  const std::string value(1 << 20, 'x');  // in runs alone: the records are small
  for (int round = 0; round < 6; round++) {
    for (int i = 0; i < 30; i++) ASSERT_OK(Set(*store, "key" + std::to_string(i), value)) << round << i;
    ASSERT_OK(Clear(*store));
  }
  ASSERT_OK(store->Close());
}

TEST(StoreLimits, AScanAcrossAClearDeliversNothingTwice) {
  const harness::TemporaryDirectory directory;
  auto store = Open(directory.File("a.store"));
  const auto fill = [&](int every) {
    for (int i = 0; i < 60'000; i += every) ASSERT_OK(Set(*store, std::to_string(i), "value"));
  };
  fill(1);
  MapSink all;
  faultless::store::ScanCursor cursor;
  for (int step = 1; !cursor.done; step++) {
    ASSERT_OK(Patiently([&] { return store->Scan(&cursor, {}, true, 10'000, &all); }));
    if (step != 20 && step != 30) continue;
    // Segments are wider afterwards: what has been delivered lies in one with what has not.
    ASSERT_OK(Clear(*store));
    fill(step == 20 ? 40 : 1);
  }
  EXPECT_FALSE(all.twice);
  EXPECT_GT(all.entries.size(), 1000);
  ASSERT_OK(store->Close());
}

}  // namespace
