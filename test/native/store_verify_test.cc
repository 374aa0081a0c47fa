// Verification: damage is found where it is, and a sound store is never called damaged, whatever goes on.
#include <algorithm>
#include <bit>
#include <deque>

#include "base/hash.h"
#include "format/record.h"
#include "store/index.h"
#include "store/record_queue.h"
#include "store/verify.h"
#include "store_file_view.h"

namespace {

using namespace store_test;
using faultless::store::Context;
using faultless::store::IndexHit;
using faultless::store::Verification;
using faultless::store::VerifyReport;
using harness::Child;
using harness::TemporaryDirectory;
namespace format = faultless::format;

VerifyReport Verify(Store& store) {
  const auto verification = store.Verify();
  EXPECT_OK(RunToEnd(*verification));
  return verification->Report();
}

void ExpectSound(Store& store, const std::string& when) {
  for (const auto& damage : Verify(store).damaged) {
    EXPECT_TRUE(false) << when << "at" << damage.offset << damage.reason;
  }
}

// ───────────────────────────────────────────────────────────── damage

/** A store's file in memory, looked into by key and by unit. */
class File : public FileView {
 public:
  using FileView::FileView;
  format::Word& WordAt(uint64_t offset) { return context().WordAt(offset); }

  uint64_t HashOf(const std::string& key) const {
    return faultless::HashBytes(key.data(), key.size(), context().superblock.hash_seed);
  }
  uint32_t ShardOf(const std::string& key) const { return context().ShardOfHash(HashOf(key)); }
  IndexHit Find(const std::string& key) const {
    IndexHit hit;
    const uint64_t hash = HashOf(key);
    EXPECT_OK(faultless::store::Probe(
        {context()}, context().shard(context().ShardOfHash(hash)), format::TagOf(hash), format::FingerprintOf(hash),
        faultless::store::NeverStop, [&](const IndexHit& found) -> Status {
          faultless::store::RecordFacts facts;
          hit = found;
          return faultless::store::MatchKey(context(), found.position, AsBytes(key), &facts);
        }));
    return hit;
  }
  static uint64_t PlaceOffset(const IndexHit& hit) { return hit.line + (3 + hit.entry) * 8; }
  static uint64_t TagOffset(const IndexHit& hit) { return hit.line + (hit.entry + 1) / 2 * 8; }
  /** The first run of a kind, or 0. */
  uint64_t FirstRun(format::RunKind kind, uint32_t shard) {
    for (uint64_t unit = context().head_units() + 1; unit < context().PublishedUnits(); unit++) {
      format::EntryView view;
      if (format::ReadEntry(context().entry(unit), unit, &view) && view.kind == kind && view.shard == shard)
        return unit;
    }
    return 0;
  }
};

constexpr int kKeys = 6000;
std::string KeyOf(int i) { return "key" + std::to_string(i); }
bool IsLarge(int i) { return i % 500 == 3; }
bool IsDeleted(int i) { return i % 13 == 5; }

/** Overwritten, deleted, moved and large values; closed well. */
void MakeStore(const std::string& path) {
  auto store = Open(path, uint64_t{256} << 20);
  for (uint64_t round = 1; round <= 2; round++) {
    for (int i = 0; i < kKeys; i++) {
      const uint64_t size = IsLarge(i) ? 300'000 : 100 + static_cast<uint64_t>(i % 700);
      ASSERT_OK(Set(*store, KeyOf(i), MakeValue(KeyOf(i), round, size)));
    }
    for (int i = 0; i < kKeys; i++) {
      bool existed;
      if (!IsDeleted(i)) continue;
      ASSERT_OK(Delete(*store, KeyOf(i), &existed));
    }
    ASSERT_OK(store->Flush());
  }
  ExpectSound(*store, "before it was closed");
  const VerifyReport report = Verify(*store);
  EXPECT_GE(report.records, store->Size());
  EXPECT_GE(report.bytes, store->GetStats().live_bytes);
  ASSERT_OK(store->Close());
}

/** Damages a copy, verifies it, and expects to be told of exactly this place. */
class Scene {
 public:
  Scene() {
    MakeStore(directory_.File("sound"));
    image_ = ReadImage(directory_.File("sound"));
  }
  File Fresh() const { return File(image_); }
  void Expect(const File& damaged, uint64_t place, const char* what) {
    for (const bool read_only : {false, true}) {
      const std::string path = directory_.File("damaged" + std::to_string(count_++));
      WriteImage(path, damaged.image());
      OpenOptions options;
      options.path = path;
      options.read_only = read_only;
      std::shared_ptr<Store> store;
      ASSERT_OK(Store::Open(options, &store));
      const VerifyReport report = Verify(*store);
      bool found = false;
      for (const auto& damage : report.damaged) {
        EXPECT_EQ(damage.offset, place) << what << damage.reason << "read-only" << read_only;
        found = found || damage.offset == place;
      }
      EXPECT_TRUE(found) << what << "was not found; read-only" << read_only;
      static_cast<void>(store->Close());
      ::unlink(path.c_str());
    }
  }

 private:
  TemporaryDirectory directory_;
  Image image_;
  int count_ = 0;
};

void Flip(File* file, uint64_t offset, uint64_t bits) {
  auto& word = file->WordAt(offset);
  word.store(word.load() ^ bits);
}

/** Takes a run off the free lists for shard 1, as if long ago, and lets nothing refer to it. Where its entry is. */
uint64_t Leak(File* file, format::RunKind kind) {
  auto& allocator = file->context().allocator();
  for (uint32_t size_class = 0; size_class <= format::kMaxQueueClass; size_class++) {
    const uint64_t unit = allocator.free_heads[size_class].load();
    if (unit == 0) continue;
    auto& entry = file->context().entry(unit);
    allocator.free_heads[size_class].store(entry.next.load());
    if (entry.next.load() != 0) file->context().entry(entry.next.load()).previous.store(0);
    allocator.free_units.store(allocator.free_units.load() - (uint64_t{1} << size_class));
    entry.incarnation.store(1);
    entry.next.store(0);
    entry.identity.store(format::IdentityOf(kind, size_class, 1, 1, 0, unit));
    return file->context().OffsetOf(&entry);
  }
  FAIL() << "no run is free";
  return 0;
}

TEST(Verify, FindsDamagedRecordsAndValues) {
  Scene scene;
  {
    File file = scene.Fresh();
    const uint64_t position = file.Find(KeyOf(100)).position;
    Flip(&file, position + 64, 1 << 20);
    scene.Expect(file, position, "a byte of a value");
  }
  {
    File file = scene.Fresh();
    const uint64_t position = file.Find(KeyOf(101)).position;
    Flip(&file, position + 16, 1);
    scene.Expect(file, position, "a byte of a key");
  }
  {
    File file = scene.Fresh();
    const uint64_t position = file.Find(KeyOf(102)).position;
    file.WordAt(position).store(0);
    scene.Expect(file, position, "a record's first word");
  }
  {
    File file = scene.Fresh();
    const uint64_t position = file.Find(KeyOf(104)).position;
    Flip(&file, position + 8, uint64_t{1} << 50);
    scene.Expect(file, position, "a record's seal");
  }
  {
    File file = scene.Fresh();
    const uint64_t position = file.Find(KeyOf(3)).position;
    const uint64_t unit = file.WordAt(position + 32).load() & 0xFFFF'FFFF;  // behind header and large header
    Flip(&file, unit * format::kUnitBytes + 12'344, 1);
    scene.Expect(file, position, "a byte of a value's run");
  }
}

TEST(Verify, FindsDamageOfTheIndex) {
  Scene scene;
  const auto same_shard = [](const File& file, int first) {
    for (int i = first + 1;; i++) {
      if (!IsDeleted(i) && !IsLarge(i) && file.ShardOf(KeyOf(i)) == file.ShardOf(KeyOf(first))) return i;
    }
  };
  {
    File file = scene.Fresh();
    const IndexHit hit = file.Find(KeyOf(206));
    const IndexHit other = file.Find(KeyOf(same_shard(file, 206)));
    const uint64_t fingerprint = format::FingerprintOf(file.HashOf(KeyOf(206)));
    file.WordAt(File::PlaceOffset(hit)).store(format::PlaceOf(fingerprint, other.position));
    scene.Expect(file, File::PlaceOffset(hit), "an entry that points at another key");
  }
  {
    File file = scene.Fresh();
    const IndexHit hit = file.Find(KeyOf(201));
    Flip(&file, File::PlaceOffset(hit), 1 << 3);
    scene.Expect(file, File::PlaceOffset(hit), "an entry that points beside its record");
  }
  {
    File file = scene.Fresh();
    const IndexHit hit = file.Find(KeyOf(202));
    Flip(&file, File::PlaceOffset(hit), uint64_t{1} << 40);
    scene.Expect(file, File::PlaceOffset(hit), "an entry that points outside");
  }
  {
    File file = scene.Fresh();
    const IndexHit hit = file.Find(KeyOf(203));
    Flip(&file, File::TagOffset(hit), uint64_t{1} << ((hit.entry + 1) % 2 * 32));
    scene.Expect(file, File::TagOffset(hit), "a hash tag");
  }
  {
    File file = scene.Fresh();
    const IndexHit hit = file.Find(KeyOf(204));
    file.WordAt(hit.line).store(file.WordAt(hit.line).load() + 1);
    scene.Expect(file, hit.line, "an overflow count");
  }
  {
    File file = scene.Fresh();
    for (int i = 300;; i++) {
      if (IsDeleted(i)) continue;
      const IndexHit hit = file.Find(KeyOf(i));
      if (hit.steps != 0) continue;
      file.WordAt(File::PlaceOffset(hit)).store(0);
      scene.Expect(file, hit.position, "an entry that is gone");
      break;
    }
  }
  {
    // The newest record points back to where the first one still lies: what it was before the second round.
    File file = scene.Fresh();
    const Context& context = file.context();
    bool found = false;
    for (uint64_t unit = context.head_units() + 1; unit < context.PublishedUnits() && !found; unit++) {
      format::EntryView view;
      if (!format::ReadEntry(context.entry(unit), unit, &view) || view.kind != format::RunKind::kQueue) continue;
      if (view.sequence < context.shard(view.shard).tail_sequence.load()) continue;
      const uint64_t end = unit * format::kUnitBytes + faultless::store::RunBytes(view.size_class);
      for (uint64_t at = unit * format::kUnitBytes; at + 16 < end;) {
        format::RecordView record;
        uint64_t bytes;
        if (!faultless::store::ReadRecordAt(context, at, &record, &bytes).ok()) break;
        const std::string key(record.key.begin(), record.key.end());
        if (record.kind == format::RecordKind::kSet && !IsDeleted(std::stoi(key.substr(3))) &&
            !IsLarge(std::stoi(key.substr(3)))) {
          const IndexHit hit = file.Find(key);
          if (hit.position != at) {
            file.WordAt(File::PlaceOffset(hit)).store(format::PlaceOf(format::FingerprintOf(file.HashOf(key)), at));
            scene.Expect(file, File::PlaceOffset(hit), "an entry that points at an older record");
            found = true;
            break;
          }
        }
        at += bytes;
      }
    }
    EXPECT_TRUE(found);
  }
  {
    File file = scene.Fresh();
    auto& shard = file.context().shard(3);
    const uint64_t directory = (shard.directory.load() >> 8) * format::kPieceBytes;
    file.WordAt(directory).store(~uint64_t{0} << 8);
    scene.Expect(file, directory, "a directory word");
  }
  {
    File file = scene.Fresh();
    auto& shard = file.context().shard(4);
    const uint64_t unit = file.FirstRun(format::RunKind::kIndex, 4);
    const uint64_t free = file.context().entry(unit).free_pieces().load();
    ASSERT_TRUE(free != 0 && free != format::kAllPieces);
    auto& head = shard.free_units[std::popcount(free) - 1];
    ASSERT_EQ(head.load(), unit);
    head.store(unit + 1000);
    scene.Expect(file, file.context().OffsetOf(&head), "a list of free pieces");
    head.store(0);
    scene.Expect(file, file.context().OffsetOf(&shard.index_units), "pieces on no list");
  }
  {
    File file = scene.Fresh();
    const uint64_t unit = file.FirstRun(format::RunKind::kIndex, 4);
    auto& free = file.context().entry(unit).free_pieces();
    const uint64_t sound = free.load();
    free.store(sound ^ (sound & -sound) ^ (~sound & -~sound));  // as many, but another one
    scene.Expect(file, file.context().OffsetOf(&free), "a piece in use that is called free");
    free.store(sound & (sound - 1));
    scene.Expect(file, file.context().OffsetOf(&free), "fewer free pieces than its list is for");
    free.store(sound);
    auto& back = file.context().entry(unit).free_links;
    back.store((back.load() & 0xFFFF'FFFF) | (unit + 1) << 32);
    scene.Expect(file, file.context().OffsetOf(&back), "the back link of a list of free pieces");
  }
  {
    File file = scene.Fresh();
    const uint64_t unit = file.FirstRun(format::RunKind::kIndex, 4);
    auto& back = file.context().entry(unit).previous;
    back.store(unit + 1);
    scene.Expect(file, file.context().OffsetOf(&back), "the back link of the chain of index units");
  }
}

TEST(Verify, FindsDamageOfTheTables) {
  Scene scene;
  const auto in_queue = [](File* file, uint32_t shard) {
    const uint64_t unit = file->context().shard(shard).tail_unit.load();
    return file->context().entry(unit).next.load();
  };
  {
    File file = scene.Fresh();
    const uint64_t unit = in_queue(&file, 2);
    ASSERT_NE(unit, 0);
    const uint64_t place = file.context().OffsetOf(&file.context().entry(unit));
    Flip(&file, place, 1 << 20);
    scene.Expect(file, place, "the entry of an extent");
  }
  {
    File file = scene.Fresh();
    const uint64_t unit = file.context().shard(2).tail_unit.load();
    const uint64_t place = file.context().OffsetOf(&file.context().entry(unit).next);
    file.WordAt(place).store(file.context().shard(5).tail_unit.load());
    scene.Expect(file, place, "a link between extents");
  }
  {
    File file = scene.Fresh();
    const uint64_t unit = file.FirstRun(format::RunKind::kValue, file.ShardOf(KeyOf(3)));
    ASSERT_NE(unit, 0);
    const uint64_t place = file.context().OffsetOf(&file.context().entry(unit));
    Flip(&file, place + 8, 2);
    scene.Expect(file, place, "the entry of a value's run");
  }
  for (const bool forward : {true, false}) {
    File file = scene.Fresh();
    const auto& heads = file.context().allocator().free_heads;
    bool found = false;
    for (uint32_t size_class = 0; size_class < format::kClasses && !found; size_class++) {
      const uint64_t first = heads[size_class].load();
      if (first == 0 || file.context().entry(first).next.load() == 0) continue;
      auto& entry = file.context().entry(forward ? first : file.context().entry(first).next.load());
      const uint64_t place = file.context().OffsetOf(forward ? &entry.next : &entry.previous);
      file.WordAt(place).store(file.context().shard(5).tail_unit.load());
      scene.Expect(file, place, forward ? "a free list's next" : "a free list's previous");
      found = true;
    }
    EXPECT_TRUE(found);
  }
  {
    File file = scene.Fresh();
    auto& heads = file.context().allocator().free_heads;
    auto* const head = std::find_if(std::begin(heads), std::end(heads), [](auto& word) { return word.load() != 0; });
    const uint64_t place = file.context().OffsetOf(head);
    file.WordAt(place).store(file.context().shard(5).tail_unit.load());
    scene.Expect(file, place, "the head of a free list");
  }
  {
    File file = scene.Fresh();
    auto& hollow_units = file.context().allocator().hollow_units;
    hollow_units.store(hollow_units.load() + 1);
    scene.Expect(file, file.context().OffsetOf(&hollow_units), "how many units are holes");
  }
  {
    // Its space would be reserved again only after somebody had stored to it.
    File file = scene.Fresh();
    const uint64_t unit = file.FirstRun(format::RunKind::kQueue, file.ShardOf(KeyOf(3)));
    auto& holes = file.context().entry(unit & ~uint64_t{63}).holes;
    holes.store(holes.load() | uint64_t{1} << unit % 64);
    scene.Expect(file, file.context().OffsetOf(&holes), "an extent that is marked as a hole");
  }
  {
    // A run that nothing refers to: its value was never there.
    File file = scene.Fresh();
    const uint64_t place = Leak(&file, format::RunKind::kValue);
    scene.Expect(file, place, "a run that belongs to nothing");
  }
}

TEST(Verify, FindsWrongCounters) {
  Scene scene;
  for (int i = 0; i < 7; i++) {
    File file = scene.Fresh();
    auto& shard = file.context().shard(6);
    auto& allocator = file.context().allocator();
    format::Word* const words[] = {&shard.keys,           &shard.live_bytes,   &shard.value_bytes,
                                   &shard.queue_bytes,    &shard.wasted_bytes, &allocator.free_units,
                                   &allocator.limbo_units};
    const uint64_t place = file.context().OffsetOf(words[i]);
    words[i]->store(words[i]->load() + 1);
    scene.Expect(file, place, ("counter " + std::to_string(i)).c_str());
  }
}

// ───────────────────────────────────────────────────────────── no false alarms

/** File, seed, maxBytes in MiB; without clears where there is a fourth argument. */
CHILD_PROCESS(VerifyLoad) {
  LiveAtMost(300);
  const uint64_t max_mebibytes = arguments.size() > 2 ? std::stoull(arguments[2]) : 1024;
  auto store = Open(arguments[0], max_mebibytes << 20);
  ASSERT_TRUE(store != nullptr);
  std::mt19937_64 random(std::stoull(arguments[1]));
  for (uint64_t number = 1;; number++) {
    const std::string key = "key" + std::to_string(random() % 3000);
    const uint64_t draw = random() % 1000;
    bool existed;
    Status status;
    if (draw == 0 && arguments.size() < 4) {
      faultless::store::ClearProgress shard{static_cast<uint32_t>(random() % format::kDefaultShards)};
      status = store->Clear(&shard);
    } else if (draw < 200) {
      status = store->Delete(AsBytes(key), &existed);
    } else if (draw < 220) {
      status = store->Set(AsBytes(key), AsBytes(MakeValue(key, number, 65'536 + random() % 300'000)), {});
    } else if (draw < 222) {
      status = store->Flush();
    } else {
      status = store->Set(AsBytes(key), AsBytes(MakeValue(key, number, random() % 2000)), {});
    }
    if (status.code() == Code::kWouldBlock) continue;
    ASSERT_OK(status);
  }
}

void VerifyUnderLoad(bool kills) {
  if (!UseDisk()) return harness::Skip("no disk");
  const TemporaryDirectory directory;
  const std::string path = directory.File("store");
  auto store = Open(path, uint64_t{1} << 30);
  OpenOptions options;
  options.path = path;
  options.read_only = true;
  std::shared_ptr<Store> reader;
  ASSERT_OK(Store::Open(options, &reader));
  std::mt19937_64 random(7);
  std::deque<Child> children;
  const auto start = [&] { return Child::Start("VerifyLoad", {path, std::to_string(random() % 1'000'000)}); };
  for (int i = 0; i < 3; i++) children.push_back(start());
  const uint64_t begin = faultless::os::MonotonicNs();
  int rounds = 0;
  while (faultless::os::MonotonicNs() - begin < 6'000'000'000 || rounds < 4) {
    if (kills) {
      ::usleep(static_cast<useconds_t>(random() % 50'000));
      Child victim = std::move(children.front());
      children.pop_front();
      victim.Signal(SIGKILL);
      EXPECT_EQ(victim.Wait(), -SIGKILL);
      if (rounds % 3 == 0) ExpectSound(*reader, "after a kill, read-only");
      ExpectSound(*store, "after a kill");
      children.push_back(start());
    } else {
      ExpectSound(rounds % 2 == 0 ? *store : *reader, rounds % 2 == 0 ? "under load" : "under load, read-only");
    }
    rounds++;
  }
  for (Child& child : children) {
    child.Signal(SIGKILL);
    EXPECT_EQ(child.Wait(), -SIGKILL);
  }
  ExpectSound(*store, "afterwards");
  EXPECT_OK(reader->Close());
  // A copy of an open store is recovered when it is opened.
  WriteImage(directory.File("copy"), ReadImage(path));
  auto copy = Open(directory.File("copy"), uint64_t{1} << 30);
  ASSERT_TRUE(copy != nullptr);
  ExpectSound(*copy, "after a recovery");
  EXPECT_OK(copy->Close());
  EXPECT_OK(store->Close());
}

TEST(Verify, NoFalseAlarmsUnderLoad) { VerifyUnderLoad(false); }
TEST(Verify, NoFalseAlarmsAfterKills) { VerifyUnderLoad(true); }

TEST(Verify, FindsDamageUnderLoad) {
  const TemporaryDirectory directory;
  const std::string path = directory.File("store");
  auto store = Open(path, uint64_t{1} << 30);
  ASSERT_OK(Set(*store, "still", MakeValue("still", 1, 500)));
  const File file(ReadImage(path));
  const uint64_t position = file.Find("still").position;
  const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  ASSERT_EQ(::pwrite(fd, "?", 1, static_cast<off_t>(position + 100)), 1);
  ::close(fd);
  std::deque<Child> children;
  for (int i = 0; i < 2; i++)
    children.push_back(Child::Start("VerifyLoad", {path, std::to_string(i), "1024", "no clear"}));
  for (int round = 0; round < 10; round++) {
    ::usleep(50'000);
    const VerifyReport report = Verify(*store);
    ASSERT_EQ(report.damaged.size(), 1);
    EXPECT_EQ(report.damaged[0].offset, position);
  }
  for (Child& child : children) {
    child.Signal(SIGKILL);
    EXPECT_EQ(child.Wait(), -SIGKILL);
  }
  EXPECT_OK(store->Close());
}

/** Runs that were lost before it began are found, whatever becomes of their shard meanwhile. */
TEST(Verify, FindsLeakedRunsUnderLoad) {
  if (!UseDisk()) return harness::Skip("no disk");
  const TemporaryDirectory directory;
  MakeStore(directory.File("sound"));
  File file(ReadImage(directory.File("sound")));
  std::map<uint64_t, int> found;
  for (const auto kind : {format::RunKind::kQueue, format::RunKind::kIndex, format::RunKind::kDirectory,
                          format::RunKind::kValue, format::RunKind::kValue}) {
    found[Leak(&file, kind)] = 0;
  }
  ASSERT_EQ(found.size(), 5);
  const std::string path = directory.File("leaking");
  WriteImage(path, file.image());
  auto store = Open(path, uint64_t{256} << 20);
  std::deque<Child> children;
  for (int i = 0; i < 3; i++) children.push_back(Child::Start("VerifyLoad", {path, std::to_string(i), "256"}));
  constexpr int kRounds = kSanitized ? 4 : 10;
  for (int round = 0; round < kRounds; round++) {
    for (const auto& damage : Verify(*store).damaged) {
      EXPECT_TRUE(found.contains(damage.offset)) << damage.offset << damage.reason;
      found[damage.offset]++;
    }
  }
  for (Child& child : children) {
    child.Signal(SIGKILL);
    EXPECT_EQ(child.Wait(), -SIGKILL);
  }
  // Where cleaning is faster than the walk time and again nothing is said; that is seldom.
  for (const auto& [place, times] : found) EXPECT_GE(times, kRounds - 2) << place;
  EXPECT_OK(store->Close());
}

TEST(Verify, AnEmptyStoreIsSound) {
  const TemporaryDirectory directory;
  auto store = Open(directory.File("store"));
  const VerifyReport report = Verify(*store);
  EXPECT_EQ(report.records, 0);
  EXPECT_TRUE(report.damaged.empty());
  EXPECT_OK(store->Close());
}

}  // namespace
