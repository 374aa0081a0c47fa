// Whole store files with damage that knows the format: words of every structure are changed, checksums made right again
// or not, and then everything is done with the file that can be done. Whatever the file says: no crash, no access
// outside the mapping, no operation without end, and a value that is answered is one of that key.
#include <unistd.h>

#include "format/record.h"
#include "format/superblock.h"
#include "fuzz_fixture.h"

namespace {

using namespace fuzz;
using faultless::store::ReadMode;
namespace format = faultless::format;

constexpr uint64_t kMaxBytes = uint64_t{12} << 20;
constexpr uint64_t kUnitWords = format::kUnitBytes / 8;
constexpr int kKeys = 96;
constexpr int kMaxChanges = 40;
constexpr int kMaxOperations = 60;

std::string KeyOf(int i) { return "key" + std::to_string(i); }
uint64_t SizeOf(int i) {
  return i % 30 == 7 ? 70'000 + static_cast<uint64_t>(i) * 500 : 20 + static_cast<uint64_t>(i) * 11 % 700;
}

/** The files that are damaged, made once. */
struct Originals {
  Image closed;
  Image open;  // as a kill leaves it: same boot, same inode
  format::Superblock superblock{};

  Originals() {
    SeedRandom(1);
    SetDurable(true);
    ::unlink(FilePath().c_str());
    std::shared_ptr<Store> store;
    FUZZ_REQUIRE(OpenStore(FilePath(), kMaxBytes, false, &store).ok(), "open");
    for (uint64_t round = 1; round <= 3; round++) {
      for (int i = 0; i < kKeys; i++) {
        if (round == 3 && i % 3 == 0) continue;
        FUZZ_REQUIRE(store->Set(AsBytes(KeyOf(i)), AsBytes(MakeValue(KeyOf(i), round, SizeOf(i))), {}).ok(), "set");
      }
      for (int i = static_cast<int>(round); i < kKeys; i += 9) {
        bool existed;
        FUZZ_REQUIRE(store->Delete(AsBytes(KeyOf(i)), &existed).ok(), "delete");
      }
      if (round == 2) FUZZ_REQUIRE(store->Flush().ok(), "flush");
    }
    open = ReadImage(FilePath());
    FUZZ_REQUIRE(store->Close().ok(), "close");
    closed = ReadImage(FilePath());
    std::memcpy(&superblock, open.data(), sizeof superblock);
  }
};

/** Changes words of an image as the fuzzer's bytes say. */
class Damager {
 public:
  Damager(Image* image, const format::Superblock& superblock, Decisions* decisions)
      : image_(*image), superblock_(superblock), decisions_(*decisions) {}

  void ChangeOne() {
    const uint8_t area = decisions_.Byte();
    switch (area % 16) {
      case 0:
        ChangeSuperblock();
        break;
      case 1:
        Change(At(format::kControlOffset) + decisions_.Byte() % 8);
        break;
      case 2:
      case 3:
        Change(At(format::kAllocatorOffset) + decisions_.Byte() % 29);
        break;
      case 4:
        ChangeIntent(format::kAllocatorOffset + offsetof(format::AllocatorControl, intent));
        break;
      case 5:
        Change(At(format::kOpenersOffset) + decisions_.Short() % 4 * 8);
        break;
      case 6:
        Change(At(format::kPendingOffset) + decisions_.Short() % 64);
        break;
      case 7:
      case 8:
      case 9:
        Change(At(ShardOffset()) + decisions_.Byte() % 40);
        break;
      case 10:
        ChangeIntent(ShardOffset() + offsetof(format::ShardControl, intent));
        break;
      case 11:
        Change(At(format::VersionsOffset(format::kDefaultShards)) + decisions_.Short() % (format::kVersionSlots / 2));
        break;
      case 12:
      case 13:
        ChangeEntry();
        break;
      case 14:
        ChangeIndex();
        break;
      case 15:
        ChangeRecord();
        break;
    }
    switch (area / 16) {
      case 1:
        Change(decisions_.Word());
        break;
      case 2:
        image_.resize(std::min<size_t>(image_.size(), decisions_.Short() * kUnitWords / 16));
        break;
      case 3:
        image_.resize(std::min<size_t>(kMaxBytes / 8 + kUnitWords, image_.size() + decisions_.Byte() * kUnitWords));
        break;
      default:
        break;
    }
  }

 private:
  static uint64_t At(uint64_t offset) { return offset / 8; }
  uint64_t ShardOffset() {
    return format::kShardsOffset + decisions_.Byte() % format::kDefaultShards * sizeof(format::ShardControl);
  }
  uint64_t units() const { return std::max<uint64_t>(image_.size() / kUnitWords, 1); }

  uint64_t NextValue(uint64_t old) {
    const uint8_t how = decisions_.Byte();
    switch (how % 12) {
      case 0:
        return old ^ uint64_t { 1 } << decisions_.Byte() % 64;
      case 1:
        return decisions_.Byte();
      case 2:
        return decisions_.Word();
      case 3:
        return ~uint64_t{0};
      case 4:
        return 0;
      case 5:
        return old + decisions_.Byte() - 128;
      case 6:
        return old + (uint64_t{decisions_.Byte()} << 8 * (decisions_.Byte() % 8));
      case 7:
        return decisions_.Short() % units();
      case 8:
        return decisions_.Short() % units() * format::kUnitBytes;
      case 9:
        return decisions_.Short() % units() * format::kUnitBytes + decisions_.Short() * 8;
      case 10:
        return (decisions_.Short() % (units() * 4)) << 8 | decisions_.Byte() % 24;  // a directory word
      default:
        return image_.empty() ? 0 : image_[decisions_.Word() % image_.size()];
    }
  }

  void Change(uint64_t word) {
    if (image_.empty()) return;
    uint64_t& at = image_[word % image_.size()];
    at = NextValue(at);
  }

  void ChangeSuperblock() {
    const uint64_t block = decisions_.Byte() % 2 * (format::kSuperblockBytes / 8);
    Change(block + decisions_.Byte() % 30);
    if (decisions_.Byte() % 4 != 0 && image_.size() >= 1024) {
      format::SealSuperblock(reinterpret_cast<format::Superblock*>(image_.data() + block));
    }
  }

  /** A decided intent of a few ops. */
  void ChangeIntent(uint64_t offset) {
    const uint64_t first = At(offset);
    if (image_.size() < first + 2 * format::kIntentOps + 2) return;
    const uint64_t ops = 1 + decisions_.Byte() % 6;
    image_[first] = decisions_.Byte() % 8 == 0 ? NextValue(0) : ops;
    image_[first + 1] = decisions_.Byte() % 8 |
                        uint64_t{decisions_.Short() % (format::kVersionSlots / format::kDefaultShards + 8)} << 32;
    for (uint64_t i = 0; i < ops; i++) {
      uint64_t place = NextValue(0) & ~uint64_t{7};
      if (decisions_.Byte() % 2 == 0) place = format::kControlOffset + decisions_.Short() * 8 % (image_.size() * 8);
      image_[first + 2 + 2 * i] = place | (decisions_.Byte() % 4 == 0 ? format::kFillBit : 0);
      image_[first + 3 + 2 * i] = NextValue(0);
    }
  }

  uint64_t EntryWord(uint64_t unit) const {
    const uint64_t group = unit / format::kUnitsPerGroup;
    const uint64_t table = group == 0 ? format::HeadUnits(format::kDefaultShards) : group * format::kUnitsPerGroup;
    return table * kUnitWords + unit % format::kUnitsPerGroup * 8;
  }

  void ChangeEntry() {
    const uint64_t unit = decisions_.Short() % units();
    const uint64_t word = EntryWord(unit);
    if (word + 8 > image_.size()) return;
    const uint8_t which = decisions_.Byte() % 8;
    if (which < 6) {
      image_[word + which] = NextValue(image_[word + which]);
    } else {
      image_[word] = uint64_t{decisions_.Byte()} % 7 | uint64_t{decisions_.Byte()} % 10 << 8 |
                     uint64_t{decisions_.Byte()} % 17 << 16;
    }
    if (decisions_.Byte() % 4 == 0) return;
    const uint64_t low = image_[word];
    image_[word] = format::IdentityOf(format::KindOf(low), format::ClassOf(low), format::ShardOf(low), image_[word + 1],
                                      image_[word + 2], unit);
  }

  /** The first word of the n-th run of this kind; false where there is none. */
  bool FindRun(format::RunKind kind, uint64_t skip, uint64_t* unit, format::EntryView* view) const {
    std::vector<uint64_t> found;
    for (uint64_t i = format::HeadUnits(format::kDefaultShards) + 1; i < units(); i++) {
      if (EntryWord(i) + 8 > image_.size()) break;
      if (format::ReadEntry(reinterpret_cast<const format::TableEntry*>(image_.data())[EntryWord(i) / 8], i, view) &&
          view->kind == kind) {
        found.push_back(i);
      }
    }
    if (found.empty()) return false;
    *unit = found[skip % found.size()];
    return format::ReadEntry(reinterpret_cast<const format::TableEntry*>(image_.data())[EntryWord(*unit) / 8], *unit,
                             view);
  }

  void ChangeIndex() {
    uint64_t unit;
    format::EntryView view;
    if (!FindRun(format::RunKind::kIndex, decisions_.Byte(), &unit, &view)) return;
    const uint8_t which = decisions_.Byte();
    if (which % 4 == 0) return Change(unit * kUnitWords + decisions_.Short() % kUnitWords);
    // A word that holds something: the n-th of them.
    const uint64_t skip = decisions_.Byte();
    std::vector<uint64_t> used;
    for (uint64_t i = 0; i < kUnitWords && used.size() <= skip; i++) {
      if (image_[unit * kUnitWords + i] != 0) used.push_back(unit * kUnitWords + i);
    }
    if (!used.empty()) Change(used.back());
  }

  void ChangeRecord() {
    uint64_t unit;
    format::EntryView view;
    if (!FindRun(format::RunKind::kQueue, decisions_.Byte(), &unit, &view)) return;
    const uint64_t limit = std::min<uint64_t>((unit + (uint64_t{1} << view.size_class)) * kUnitWords, image_.size());
    uint64_t word = unit * kUnitWords;
    for (int skip = decisions_.Byte(); skip > 0; skip--) {
      const uint64_t length = format::RecordLength(image_[word]) / 8;
      if (length == 0 || word + length + 2 > limit) break;
      word += length;
    }
    // What the record holds is kept only where it is sound: a value of other bytes with the right checksum is a value.
    const uint64_t original_bytes = format::RecordLength(image_[word]);
    std::vector<uint64_t> original;
    if (original_bytes != 0 && word + original_bytes / 8 <= image_.size()) {
      original.assign(image_.begin() + static_cast<std::ptrdiff_t>(word),
                      image_.begin() + static_cast<std::ptrdiff_t>(word + original_bytes / 8));
    }
    Change(word + decisions_.Byte() % 12);
    if (decisions_.Byte() % 4 == 0) return;
    const std::span<const uint8_t> sound(reinterpret_cast<const uint8_t*>(original.data()), original.size() * 8);
    format::RecordView before;
    if (sound.empty() || !format::VerifyChecksum(sound) || !format::DecodeRecord(sound, &before)) return;
    const uint64_t bytes = format::RecordLength(image_[word]);
    if (bytes == 0 || word + bytes / 8 > image_.size()) return;
    auto* const record = reinterpret_cast<uint8_t*>(image_.data() + word);
    format::RecordView decoded;
    if (!format::DecodeRecord({record, bytes}, &decoded)) return;
    if (decoded.value.size() > before.value.size() ||
        !std::equal(decoded.value.begin(), decoded.value.end(), before.value.begin())) {
      return;
    }
    std::vector<uint64_t> encoded(bytes / 8);
    format::EncodeRecord(decoded, reinterpret_cast<uint8_t*>(encoded.data()));
    format::SealRecord(reinterpret_cast<uint8_t*>(encoded.data()), word * 8, view.incarnation, superblock_.hash_seed);
    std::memcpy(record, encoded.data(), bytes);
  }

  Image& image_;
  const format::Superblock& superblock_;
  Decisions& decisions_;
};

/** Failures that a damaged file may cause. */
void RequireAnswer(const Status& status, const char* what) {
  switch (status.code()) {
    case Code::kOk:
    case Code::kAbsent:
    case Code::kCold:
    case Code::kFormat:
    case Code::kIo:
    case Code::kNoSpace:
    case Code::kStoreFull:
    case Code::kUnsupported:
    case Code::kMemlock:
      return;
    case Code::kCorrupt:
      FUZZ_REQUIRE(status.has_offset(), what);
      return;
    default:
      fprintf(stderr, "code %d\n", static_cast<int>(status.code()));
      FUZZ_REQUIRE(false, what);
  }
}

/** Whether it went well. There is nobody to wait for: "come again" must come to an end. */
template <typename Call>
bool Settled(const char* what, const Call& call) {
  Status status = call();
  for (int i = 0; i < 4 && status.code() == Code::kWouldBlock; i++) status = call();
  RequireAnswer(status, what);
  return status.ok();
}

void GetOne(Store& store, const std::string& key, ReadMode mode) {
  StringSink sink;
  const Status status = store.Get(AsBytes(key), &sink, mode);
  if (status.code() == Code::kWouldBlock || status.code() == Code::kValueTooLarge) {
    Settled("get", [&] {
      const Status again = store.Get(AsBytes(key), &sink, mode);
      return again.code() == Code::kValueTooLarge ? Status(Code::kAbsent) : again;
    });
    return;
  }
  RequireAnswer(status, "get");
  if (status.ok()) FUZZ_REQUIRE(NumberOf(key, sink.value) != 0, "a wrong value");
}

void ScanAll(Store& store, bool want_values) {
  MapSink all;
  faultless::store::ScanCursor cursor;
  int steps = 0;
  bool ok = true;
  while (!cursor.done && ok) {
    ok = Settled("scan", [&] { return store.Scan(&cursor, {}, want_values, 50'000, &all); });
    FUZZ_REQUIRE(steps++ < 100'000, "a scan without end");
  }
  FUZZ_REQUIRE(!all.twice, "a key twice");
  if (!want_values) return;
  for (const auto& [key, value] : all.entries) {
    if (NumberOf(key, value) == 0)
      fprintf(stderr, "key %s, value of %zu bytes: %.40s\n", key.c_str(), value.size(), value.c_str());
    FUZZ_REQUIRE(NumberOf(key, value) != 0, "a wrong value in a scan");
  }
}

void GetSeveral(Store& store, int first) {
  constexpr int kCount = 6;
  std::vector<std::string> names;
  for (int i = 0; i < kCount; i++) names.push_back(KeyOf((first + i * 7) % kKeys));
  std::vector<Bytes> keys(names.size());
  StringSink values[kCount];
  faultless::store::ValueSink* sinks[kCount];
  Code results[kCount];
  for (int i = 0; i < kCount; i++) {
    keys[i] = AsBytes(names[i]);
    sinks[i] = &values[i];
  }
  const bool ok = Settled("getMany", [&] {
    const Status got = store.GetMany(keys, sinks, results);
    return got.code() == Code::kValueTooLarge ? Status(Code::kAbsent) : got;
  });
  for (int i = 0; i < kCount && ok; i++) {
    if (results[i] == Code::kOk) FUZZ_REQUIRE(NumberOf(names[i], values[i].value) != 0, "a wrong value in getMany");
  }
}

void UseOne(Store& store, Decisions* decisions) {
  const uint8_t operation = decisions->Byte();
  const int i = operation / 8 * 3 + decisions->Byte() % 3;
  const std::string key = KeyOf(i % kKeys);
  bool existed;
  faultless::store::ClearProgress shard;
  switch (operation % 8) {
    case 0:
      GetOne(store, key, ReadMode::kMayFault);
      break;
    case 1:
      Settled("delete", [&] {
        const Status status = store.Delete(AsBytes(key), &existed);
        return status.code() == Code::kReadOnly ? Status() : status;
      });
      break;
    case 2:
      if (i % 4 == 0)
        Settled("clear", [&] {
          const Status status = store.Clear(&shard);
          return status.code() == Code::kReadOnly ? Status() : status;
        });
      break;
    case 3:
      Settled("flush", [&] { return store.Flush(); });
      break;
    case 4:
      ScanAll(store, i % 2 == 0);
      break;
    case 5:
      GetSeveral(store, i);
      break;
    default: {
      const std::string value = MakeValue(key, 9, operation % 8 == 7 ? decisions->Byte() * 1000 : decisions->Byte());
      const bool ok = Settled("set", [&] {
        const Status set = store.Set(AsBytes(key), AsBytes(value), {});
        return set.code() == Code::kReadOnly ? Status(Code::kAbsent) : set;
      });
      // What has resolved is there.
      if (ok) GetOne(store, key, ReadMode::kMayFault);
    }
  }
}

void UseStore(const std::string& path, bool read_only, bool salvage, Decisions* decisions) {
  std::shared_ptr<Store> store;
  const Image before = read_only ? ReadImage(path) : Image();
  const Status opened = OpenStore(path, 0, read_only, &store, salvage);
  RequireAnswer(opened, "open");
  if (!opened.ok()) return;
  static_cast<void>(store->GetStats());
  static_cast<void>(store->Size());
  double share;
  RequireAnswer(store->Residency(&share), "residency");
  for (int i = 0; i < kMaxOperations && !decisions->empty(); i++) UseOne(*store, decisions);
  for (int i = 0; i < kKeys; i += 5) {
    const std::string key = KeyOf(i);
    const faultless::store::Bytes prepared[] = {AsBytes(key)};
    uint64_t hash;
    store->Prepare(prepared, {&hash, 1}, i % 2 == 0);
    GetOne(*store, key, i % 2 == 0 ? ReadMode::kResidentOnly : ReadMode::kMayFault);
  }
  ScanAll(*store, true);
  RequireAnswer(store->Close(), "close");
  if (read_only) FUZZ_REQUIRE(ReadImage(path) == before, "a reader changed the file");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Originals originals;
  Decisions decisions(data, size);
  const uint8_t options = decisions.Byte();
  SeedRandom(options);
  SetDurable((options & 1) != 0);
  Image image = (options & 2) != 0 ? originals.closed : originals.open;
  if ((options & 4) != 0) image[(format::kControlOffset + offsetof(format::ControlHeader, ready)) / 8] = 0;  // recover
  // Few, most of the time: a file that is not opened is soon explored.
  const uint8_t many = decisions.Byte();
  const int changes = many % (many < 192 ? 4 : kMaxChanges);
  Damager damager(&image, originals.superblock, &decisions);
  for (int i = 0; i < changes; i++) damager.ChangeOne();
  WriteImage(FilePath(), image);
  const bool read_only = (options & 8) != 0;
  UseStore(FilePath(), read_only, read_only && (options & 64) != 0, &decisions);
  if ((options & 16) != 0) UseStore(FilePath(), (options & 32) != 0, false, &decisions);
  return 0;
}
