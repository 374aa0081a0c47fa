// Damaged files: whatever bytes a file has, opening and using it ends, without a crash, and a value that is answered is
// right.
#include <sys/resource.h>

#include <algorithm>

#include "format/layout.h"
#include "store/verify.h"
#include "store/watch.h"
#include "store_children.h"

// In the place of libc's: every run damages the same file, so that a seed says everything.
static std::mt19937_64 random_source;  // NOLINT
extern "C" ssize_t getrandom(void* target, size_t size, unsigned) {
  for (size_t i = 0; i < size; i++) static_cast<uint8_t*>(target)[i] = static_cast<uint8_t>(random_source());
  return static_cast<ssize_t>(size);
}

namespace {

using namespace store_test;
using harness::Child;
namespace format = faultless::format;

constexpr int kKeys = 700;
constexpr int kFilesPerChild = 10;
constexpr int kChildren = kSanitized ? 6 : 30;

std::string KeyOf(int i) { return "key" + std::to_string(i); }
uint64_t SizeOf(int i) { return i % 90 == 7 ? 200'000 : 50 + static_cast<uint64_t>(i % 400); }

/** A store with overwritten, deleted, moved and large values. clean: closed well; else as a kill leaves it. */
void MakeStore(const std::string& path) {
  auto store = Open(path, uint64_t{64} << 20);
  for (int round = 0; round < 4; round++) {
    for (int i = 0; i < kKeys; i++)
      ASSERT_OK(Set(*store, KeyOf(i), MakeValue(KeyOf(i), 1 + static_cast<uint64_t>(round), SizeOf(i))));
    for (int i = round; i < kKeys; i += 11) {
      bool existed;
      ASSERT_OK(Delete(*store, KeyOf(i), &existed));
    }
    ASSERT_OK(store->Flush());
  }
  ASSERT_OK(store->Close());
}

/** Random damage to what is in use of the file: words, bytes, pages, pieces moved elsewhere. */
void Damage(Image* image, std::mt19937_64* random) {
  auto& next = *random;
  std::vector<size_t> used;  // pages with something in them
  for (size_t page = 0; page < image->size() / 512; page++) {
    const auto begin = image->begin() + static_cast<std::ptrdiff_t>(page * 512);
    if (std::any_of(begin, begin + 512, [](uint64_t word) { return word != 0; })) used.push_back(page);
  }
  constexpr size_t kControlWords = format::ControlEnd(format::kDefaultShards) / 8;
  const uint64_t hits = 1 + next() % (next() % 4 == 0 ? 200 : 4);
  const uint64_t kind = next() % 7;
  for (uint64_t hit = 0; hit < hits; hit++) {
    // Half of the damage where it does most: superblocks, control words, tables, index.
    size_t at = used[next() % used.size()] * 512 + next() % 512;
    if (next() % 3 == 0) at = next() % kControlWords;
    if (next() % 6 == 0)
      at = (format::kShardsOffset + next() % (format::kDefaultShards * sizeof(format::ShardControl))) / 8;
    if (next() % 6 == 0) at = format::kAllocatorOffset / 8 + next() % 40;
    if (next() % 6 == 0) at = format::HeadUnits(format::kDefaultShards) * format::kUnitBytes / 8 + next() % 800;
    uint64_t& word = (*image)[at];
    switch (kind) {
      case 0:
        word ^= uint64_t{1} << next() % 64;
        break;
      case 1:
        word = next();
        break;
      case 2:
        word = next() % 2 == 0 ? 0 : ~uint64_t{0};
        break;
      case 3:
        word += next() % 3 == 0 ? 1 : 1 << 14;
        break;
      case 4:
        word = (*image)[next() % image->size()];
        break;
      case 5:
        std::fill_n(image->begin() + static_cast<std::ptrdiff_t>(at / 512 * 512), 512, next() % 2 == 0 ? 0 : next());
        break;
      default:
        std::copy_n(image->begin() + static_cast<std::ptrdiff_t>(used[next() % used.size()] * 512), 512,
                    image->begin() + static_cast<std::ptrdiff_t>(at / 512 * 512));
    }
  }
  if (next() % 20 == 0) image->resize(image->size() / 512 * (1 + next() % 8) / 9 * 512);
}

bool IsAnswer(Code code) {
  switch (code) {
    case Code::kOk:
    case Code::kAbsent:
    case Code::kCold:
    case Code::kWouldBlock:
    case Code::kFormat:
    case Code::kCorrupt:
    case Code::kIo:
    case Code::kNoSpace:
    case Code::kStoreFull:
    case Code::kUnsupported:
    case Code::kBusy:
    case Code::kMemlock:
      return true;
    default:
      return false;
  }
}
#define EXPECT_ANSWER(status, what)                                                          \
  do {                                                                                       \
    const Code answer_code = (status).code();                                                \
    EXPECT_TRUE(IsAnswer(answer_code)) << (what) << "code" << static_cast<int>(answer_code); \
  } while (false)

void UseDamaged(const std::string& path, bool read_only, bool salvage, const std::string& what) {
  OpenOptions options;
  options.path = path;
  options.read_only = read_only;
  options.salvage = salvage;
  const Image before = read_only ? ReadImage(path) : Image();
  std::shared_ptr<Store> store;
  const Status opened = Store::Open(options, &store);
  EXPECT_ANSWER(opened, what);
  if (!opened.ok()) return;
  for (int i = 0; i < kKeys; i += 3) {
    for (const ReadMode mode : {ReadMode::kResidentOnly, ReadMode::kMayFault}) {
      StringSink sink;
      const Status status = store->Get(AsBytes(KeyOf(i)), &sink, mode);
      EXPECT_ANSWER(status, what);
      if (status.ok()) {
        const uint64_t number = NumberOf(KeyOf(i), sink.value);
        EXPECT_TRUE(number >= 1 && number <= 4) << what << KeyOf(i) << "number" << number;
      }
    }
  }
  static_cast<void>(store->GetStats());
  static_cast<void>(store->Size());
  const auto verification = store->Verify();
  for (int steps = 0; !verification->done(); steps++) {
    const Status step = verification->Step();
    EXPECT_ANSWER(step, what);
    if (!step.ok() || steps > 1'000'000) {
      EXPECT_LT(steps, 1'000'000) << what << "a verification without end";
      break;
    }
  }
  static_cast<void>(verification->Report());
  double share;
  EXPECT_ANSWER(store->Residency(&share), what);
  const auto scan = [&] {
    MapSink all;
    faultless::store::ScanCursor cursor;
    Status status;
    int steps = 0;
    while (!cursor.done && status.ok() && steps++ < 100'000) status = store->Scan(&cursor, {}, true, 50'000, &all);
    EXPECT_ANSWER(status, what);
    EXPECT_LT(steps, 100'000) << what << "a scan without end";
    for (const auto& [key, value] : all.entries) EXPECT_NE(NumberOf(key, value), 0) << what << key;
  };
  scan();
  std::vector<std::string> names;
  for (int i = 0; i < 8; i++) names.push_back(KeyOf(i * 13));
  std::vector<faultless::store::Bytes> keys;
  for (const std::string& name : names) keys.push_back(AsBytes(name));
  StringSink values[8];
  faultless::store::ValueSink* sinks[8];
  for (int i = 0; i < 8; i++) sinks[i] = &values[i];
  Code results[8];
  EXPECT_ANSWER(store->GetMany(keys, sinks, results), what);
  const auto watching = store->Watch({});
  const auto follow = [&] {
    class : public faultless::store::ChangeSink {
     public:
      bool Change(faultless::store::ChangeKind, faultless::store::Bytes, faultless::store::Bytes) override {
        return true;
      }
    } sink;
    for (int i = 0; i < 20; i++) EXPECT_ANSWER(watching->Read(&sink), what);
  };
  follow();
  for (int i = 0; i < 150 && !read_only; i++) {
    const std::string key = KeyOf(i * 7 % kKeys);
    EXPECT_ANSWER(store->Set(AsBytes(key), AsBytes(MakeValue(key, 9, i % 50 == 0 ? 150'000 : 3000)), {}), what);
    bool existed;
    EXPECT_ANSWER(store->Delete(AsBytes(KeyOf(i * 5 % kKeys)), &existed), what);
    const faultless::store::Bytes prepared[] = {AsBytes(key)};
    uint64_t hash;
    store->Prepare(prepared, {&hash, 1}, i % 2 == 0);
  }
  if (!read_only) {
    EXPECT_ANSWER(store->Flush(), what);
    scan();
    faultless::store::ClearProgress shard;
    follow();
    EXPECT_ANSWER(store->Clear(&shard), what);
    follow();
    EXPECT_ANSWER(store->Set(AsBytes("afterwards"), AsBytes(what), {}), what);
    EXPECT_ANSWER(store->Flush(), what);
  }
  EXPECT_ANSWER(store->Close(), what);
  if (read_only) {
    EXPECT_TRUE(ReadImage(path) == before) << what << "a reader changed the file";
  }
}

/** arguments: directory, first seed. The image is in directory/image; copies of it are damaged, opened and used. */
CHILD_PROCESS(Victim) {
  LiveAtMost(kSanitized ? 100 : 40);
  const rlimit no_core{0, 0};
  ::setrlimit(RLIMIT_CORE, &no_core);
  const Image image = ReadImage(arguments[0] + "/image");
  struct stat original {};
  if (::stat((arguments[0] + "/image").c_str(), &original) != 0) ::abort();
  const uint64_t first = std::stoull(arguments[1]);
  for (uint64_t seed = first; seed < first + kFilesPerChild; seed++) {
    std::mt19937_64 random(seed);
    Image damaged = image;
    Damage(&damaged, &random);
    const std::string path = arguments[0] + "/damaged" + std::to_string(seed);
    WriteImage(path, damaged);
    Board last(arguments[0] + "/last" + arguments[1]);
    last[0] = seed;
    const bool read_only = random() % 3 == 0;
    UseDamaged(path, read_only, read_only && random() % 2 == 0, "seed " + std::to_string(seed));
    ::unlink(path.c_str());
  }
}

TEST(StoreHostile, DamagedFilesAreSurvived) {
  const harness::TemporaryDirectory directory;
  MakeStore(directory.File("image"));
  const char* const given = ::getenv("FAULTLESS_TEST_SEED");
  const uint64_t first = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}() % 1'000'000'000;
  printf("  seeds from %llu (FAULTLESS_TEST_SEED=n begins there)\n", static_cast<unsigned long long>(first));
  for (uint64_t i = 0; i < kChildren; i += 2) {
    std::vector<Child> children;
    for (uint64_t j = i; j < i + 2; j++) {
      children.push_back(Child::Start("Victim", {directory.path(), std::to_string(first + j * kFilesPerChild)}));
    }
    for (uint64_t j = i; j < i + 2; j++) {
      const int code = children[j - i].Wait();
      const Board last(directory.File("last" + std::to_string(first + j * kFilesPerChild)));
      EXPECT_EQ(code, 0) << (code == -SIGALRM ? "no end" : "") << "seed" << last[0].load();
    }
  }
}

}  // namespace
