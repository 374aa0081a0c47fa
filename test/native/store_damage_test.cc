// Damage in what a flush covered, as opposed to a power cut: a copy of a live file with one thing in it damaged is
// ERR_CORRUPT for who would write it, and gives all that is sound to who reads it.
#include <algorithm>
#include <set>

#include "format/record.h"
#include "store/promise.h"
#include "store/record_queue.h"
#include "store_file_view.h"

namespace {

using namespace store_test;
using faultless::store::QueuePlace;
using harness::TemporaryDirectory;
namespace format = faultless::format;

/** What is in the queues of a store's file. */
class File : public FileView {
 public:
  struct Record {
    uint64_t position;
    uint64_t bytes;
    uint32_t shard;
    uint64_t sequence;
    format::RecordKind kind;
    std::string key;
    std::vector<format::RunReference> runs;
  };

  explicit File(const Image& image) : FileView(image) {
    for (uint32_t shard = 0; shard < context().shards(); shard++) ReadQueue(shard);
  }
  const std::vector<Record>& records() const { return records_; }
  const std::vector<uint64_t>& extents() const { return extents_; }
  void Flip(uint64_t offset, uint32_t bit) {
    reinterpret_cast<uint8_t*>(context().base)[offset] ^= uint8_t(1u << bit % 8);
  }
  /** Whether the record lies before what the shard has been promised. */
  bool IsPromised(const Record& record) const {
    const QueuePlace promised = ReadPromise(context(), record.shard);
    return QueuePlace{0, record.sequence, record.position}.IsBefore(promised);
  }
  void WipeControl() {
    std::memset(context().base + format::kControlOffset, 0,
                format::ControlEnd(context().shards()) - format::kControlOffset);
  }

 private:
  void ReadQueue(uint32_t shard) {
    const format::ShardControl& control = context().shard(shard);
    if (control.head.load() == 0) return;
    for (uint64_t unit = control.tail_unit.load(); unit != 0; unit = context().entry(unit).next.load()) {
      format::EntryView view;
      if (!ReadRun(context(), unit, format::RunKind::kQueue, &view)) ::abort();
      extents_.push_back(unit);
      const uint64_t limit = unit * format::kUnitBytes + (format::kUnitBytes << view.size_class);
      for (uint64_t position = unit * format::kUnitBytes; limit - position >= sizeof(format::RecordHeader);) {
        format::RecordView record;
        uint64_t bytes;
        if (unit == control.head_unit.load() && position == control.head.load()) break;
        if (!ReadRecordAt(context(), position, &record, &bytes).ok()) ::abort();
        records_.push_back({position,
                            bytes,
                            shard,
                            view.sequence,
                            record.kind,
                            std::string(record.key.begin(), record.key.end()),
                            {record.runs.begin(), record.runs.end()}});
        position += bytes;
        if (record.kind == format::RecordKind::kEnd) break;
      }
    }
  }

  std::vector<Record> records_;
  std::vector<uint64_t> extents_;  // their units
};

constexpr int kKeys = 900;
std::string KeyOf(int i) { return "key" + std::to_string(i); }
bool IsDeleted(int i) { return i % 13 == 5; }
uint64_t SizeOf(int i) { return i % 100 == 3 ? 150'000 : 300 + static_cast<uint64_t>(i % 700) * 3; }

void Write(Store& store, uint64_t round, int step) {
  for (int i = 0; i < kKeys; i += step) ASSERT_OK(Set(store, KeyOf(i), MakeValue(KeyOf(i), round, SizeOf(i))));
  for (int i = 0; i < kKeys; i += step) {
    bool existed;
    if (!IsDeleted(i)) continue;
    ASSERT_OK(Delete(store, KeyOf(i), &existed));
  }
}

struct Answer {
  Status status;
  std::map<std::string, uint64_t> numbers;  // 0: not whole
};

Answer OpenAndRead(const std::string& path, bool read_only, bool salvage = false) {
  OpenOptions options;
  options.path = path;
  options.read_only = read_only;
  options.salvage = salvage;
  std::shared_ptr<Store> store;
  Answer answer{Store::Open(options, &store), {}};
  if (!answer.status.ok()) return answer;
  MapSink all;
  ScanAll(*store, &all);
  EXPECT_FALSE(all.twice);
  EXPECT_EQ(store->Size(), all.entries.size());
  for (const auto& [key, value] : all.entries) answer.numbers[key] = NumberOf(key, value);
  EXPECT_OK(store->Close());
  return answer;
}

/** All that lies behind the control region. */
Image Data(const Image& image) {
  return {image.begin() + format::HeadUnits(format::kDefaultShards) * format::kUnitBytes / 8, image.end()};
}

/** Both ways to open a damaged copy. `lost`: a key that may be missing or old for it; any, where it is empty. */
void ExpectTold(const std::string& path, const Image& image, const std::map<std::string, uint64_t>& all, uint64_t from,
                uint64_t to, const std::set<std::string>& lost, const std::string& what) {
  WriteImage(path, image);
  const Answer reader = OpenAndRead(path, true);
  EXPECT_OK(reader.status) << what;
  const Answer salvaged = OpenAndRead(path, true, true);
  EXPECT_OK(salvaged.status) << what;
  EXPECT_TRUE(ReadImage(path) == image) << what << "a reader changed the file";
  for (const Answer* answer : {&reader, &salvaged}) {
    for (const auto& [key, number] : answer->numbers) {
      EXPECT_NE(number, 0) << what << key << "is not whole";
      if (!lost.contains(key)) {
        EXPECT_TRUE(all.contains(key) && all.at(key) == number) << what << key << "has" << number;
      }
    }
    for (const auto& [key, number] : all) {
      EXPECT_TRUE(answer->numbers.contains(key) || lost.contains(key)) << what << key << "is lost";
    }
  }
  // Again and again: an open that fails changes nothing that the next one looks at.
  for (int i = 0; i < 2; i++) {
    const Answer writer = OpenAndRead(path, false);
    EXPECT_CODE(writer.status, Code::kCorrupt) << what;
    EXPECT_TRUE(writer.status.has_offset() && writer.status.offset() >= from && writer.status.offset() <= to)
        << what << "from" << from << "to" << to << "told" << writer.status.offset();
    EXPECT_TRUE(Data(ReadImage(path)) == Data(image)) << what << "records or tables have changed";
  }
  ::unlink(path.c_str());
}

uint64_t SeedOfRun() {
  const char* const given = ::getenv("FAULTLESS_TEST_SEED");
  const uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}() % 1'000'000'000;
  printf("  FAULTLESS_TEST_SEED=%llu\n", static_cast<unsigned long long>(seed));
  return seed;
}

struct Scene {
  TemporaryDirectory directory;
  std::shared_ptr<Store> store;
  std::map<std::string, uint64_t> contents;

  Scene() : store(Open(directory.File("live"), uint64_t{256} << 20)) {
    Write(*store, 1, 1);
    EXPECT_OK(store->Flush());
    Write(*store, 2, 2);
    EXPECT_OK(store->Flush());
    for (int i = 0; i < kKeys; i++) {
      if (!IsDeleted(i)) contents[KeyOf(i)] = i % 2 == 0 ? 2 : 1;
    }
  }
  Image Copy() { return ReadImage(directory.File("live")); }
};

constexpr int kOfEachKind = kSanitized ? 3 : 8;

TEST(StoreDamage, RecordsThatAFlushCoveredAreTold) {
  if (!UseDisk()) return harness::Skip("no directory on a disk");
  std::mt19937_64 random(SeedOfRun());
  Scene scene;
  const Image image = scene.Copy();
  const File file(image);
  std::map<format::RecordKind, std::vector<const File::Record*>> kinds;
  for (const File::Record& record : file.records()) {
    if (file.IsPromised(record)) kinds[record.kind].push_back(&record);
  }
  ASSERT_TRUE(kinds.contains(format::RecordKind::kSet) && kinds.contains(format::RecordKind::kTombstone));
  ASSERT_TRUE(kinds.contains(format::RecordKind::kMark) && kinds.contains(format::RecordKind::kEnd));
  for (const auto& [kind, records] : kinds) {
    for (int i = 0; i < kOfEachKind; i++) {
      const File::Record& record = *records[random() % records.size()];
      File damaged(image);
      damaged.Flip(record.position + random() % record.bytes, static_cast<uint32_t>(random()));
      ExpectTold(scene.directory.File("copy"), damaged.image(), scene.contents, record.position,
                 record.position + record.bytes, {record.key},
                 "record at " + std::to_string(record.position) + " of kind " + std::to_string(static_cast<int>(kind)));
    }
  }
  // The last record of a queue and the mark behind it: only the control words say that they were there.
  for (uint32_t shard = 0; shard < format::kDefaultShards; shard += 5) {
    const File::Record* last = nullptr;
    for (const File::Record& record : file.records()) {
      if (record.shard == shard && record.kind == format::RecordKind::kSet) last = &record;
    }
    File damaged(image);
    std::set<std::string> lost;
    for (const File::Record& record : file.records()) {
      if (record.shard != shard || last == nullptr || record.sequence != last->sequence) continue;
      if (record.position < last->position) continue;
      damaged.Flip(record.position + 8, 1);
      lost.insert(record.key);
    }
    ASSERT_TRUE(last != nullptr);
    ExpectTold(scene.directory.File("copy"), damaged.image(), scene.contents, last->position,
               last->position + last->bytes, lost, "end of shard " + std::to_string(shard));
  }
  EXPECT_OK(scene.store->Close());
}

TEST(StoreDamage, TablesAndValuesThatAFlushCoveredAreTold) {
  if (!UseDisk()) return harness::Skip("no directory on a disk");
  std::mt19937_64 random(SeedOfRun());
  Scene scene;
  const Image image = scene.Copy();
  const File file(image);
  const std::string copy = scene.directory.File("copy");
  for (int i = 0; i < kOfEachKind; i++) {
    // One word of an extent's entry: everything of it comes back in a salvage.
    const uint64_t unit = file.extents()[random() % file.extents().size()];
    File damaged(image);
    const uint64_t entry = file.context().OffsetOf(&file.context().entry(unit));
    damaged.Flip(entry + random() % 24, static_cast<uint32_t>(random()));
    ExpectTold(copy, damaged.image(), scene.contents, 0, image.size() * 8, {}, "entry of unit " + std::to_string(unit));
  }
  std::vector<const File::Record*> large;
  std::map<std::string, const File::Record*> newest;
  for (const File::Record& record : file.records()) newest[record.key] = &record;
  for (const auto& [key, record] : newest) {
    if (record->kind == format::RecordKind::kSet && !record->runs.empty()) large.push_back(record);
  }
  ASSERT_FALSE(large.empty());
  for (int i = 0; i < kOfEachKind; i++) {
    const File::Record& record = *large[random() % large.size()];
    const format::RunReference& run = record.runs[random() % record.runs.size()];
    const uint64_t begin = uint64_t{run.unit} * format::kUnitBytes;
    const uint64_t first = uint64_t{record.runs.front().unit} * format::kUnitBytes;
    File damaged(image);
    damaged.Flip(begin + random() % format::kUnitBytes, static_cast<uint32_t>(random()));
    ExpectTold(copy, damaged.image(), scene.contents, first, first, {record.key}, "value of " + record.key);
    // Only its entry: what the record says of it is enough.
    File unlisted(image);
    unlisted.Flip(file.context().OffsetOf(&file.context().entry(run.unit)) + random() % 16,
                  static_cast<uint32_t>(random()));
    ExpectTold(copy, unlisted.image(), scene.contents, begin, begin, {}, "entry of the value of " + record.key);
  }
  EXPECT_OK(scene.store->Close());
}

TEST(StoreDamage, MarksAloneTellIt) {
  if (!UseDisk()) return harness::Skip("no directory on a disk");
  std::mt19937_64 random(SeedOfRun());
  Scene scene;
  const Image flushed = scene.Copy();
  const File before(flushed);
  Write(*scene.store, 3, 1);
  ASSERT_OK(scene.store->Flush());  // its marks tell of the flush before
  for (auto& [key, number] : scene.contents) number = 3;
  const Image image = scene.Copy();
  const File file(image);
  std::set<uint64_t> still_there;
  for (const File::Record& record : file.records()) still_there.insert(record.position);
  int damages = 0;
  for (int i = 0; i < 100 && damages < kOfEachKind; i++) {
    const File::Record& record = before.records()[random() % before.records().size()];
    if (!before.IsPromised(record) || !still_there.contains(record.position)) continue;
    damages++;
    File damaged(image);
    damaged.Flip(record.position + random() % record.bytes, static_cast<uint32_t>(random()));
    damaged.WipeControl();
    ExpectTold(scene.directory.File("copy"), damaged.image(), scene.contents, record.position,
               record.position + record.bytes, {record.key},
               "without control words, at " + std::to_string(record.position));
  }
  EXPECT_EQ(damages, kOfEachKind);
  EXPECT_OK(scene.store->Close());
}

TEST(StoreDamage, BehindWhatWasFlushedIsAPowerCut) {
  if (!UseDisk()) return harness::Skip("no directory on a disk");
  std::mt19937_64 random(SeedOfRun());
  Scene scene;
  Write(*scene.store, 3, 3);
  const Image image = scene.Copy();
  const File file(image);
  std::vector<const File::Record*> unflushed;
  for (const File::Record& record : file.records()) {
    if (!file.IsPromised(record)) unflushed.push_back(&record);
  }
  ASSERT_TRUE(unflushed.size() > 100);
  const std::string copy = scene.directory.File("copy");
  for (int i = 0; i < 2 * kOfEachKind; i++) {
    const File::Record& record = *unflushed[random() % unflushed.size()];
    File damaged(image);
    damaged.Flip(record.position + random() % record.bytes, static_cast<uint32_t>(random()));
    WriteImage(copy, damaged.image());
    const Answer reader = OpenAndRead(copy, true);
    EXPECT_TRUE(ReadImage(copy) == damaged.image()) << "a reader changed the file";
    const Answer writer = OpenAndRead(copy, false);
    EXPECT_OK(writer.status) << "at" << record.position;
    EXPECT_OK(reader.status) << "at" << record.position;
    EXPECT_TRUE(reader.numbers == writer.numbers) << "at" << record.position;
    for (const auto& [key, number] : scene.contents) {
      const auto found = writer.numbers.find(key);
      EXPECT_TRUE(found != writer.numbers.end() && (found->second == number || found->second == 3)) << key;
    }
    ::unlink(copy.c_str());
  }
  EXPECT_OK(scene.store->Close());
}

TEST(StoreDamage, ReadersRecoverForThemselvesAndKeepWritersOut) {
  if (!UseDisk()) return harness::Skip("no directory on a disk");
  Scene scene;
  const Image image = scene.Copy();
  const std::string copy = scene.directory.File("copy");
  WriteImage(copy, image);
  OpenOptions options;
  options.path = copy;
  options.read_only = true;
  uint64_t told = 0;
  uint64_t told_total = 0;
  options.on_progress = [&](uint64_t done, uint64_t total) {
    EXPECT_TRUE(done >= told && done <= total);
    told = done;
    told_total = total;
  };
  std::shared_ptr<Store> first;
  std::shared_ptr<Store> second;
  ASSERT_OK(Store::Open(options, &first));
  EXPECT_TRUE(told > 0 && told == told_total);
  options.on_progress = nullptr;
  ASSERT_OK(Store::Open(options, &second));
  options.salvage = true;
  std::shared_ptr<Store> third;
  ASSERT_OK(Store::Open(options, &third));
  EXPECT_CODE(Set(*first, "k", "v"), Code::kReadOnly);
  OpenOptions writing;
  writing.path = copy;
  std::shared_ptr<Store> writer;
  EXPECT_CODE(Store::Open(writing, &writer), Code::kBusy);
  EXPECT_OK(first->Close());
  EXPECT_OK(third->Close());
  EXPECT_CODE(Store::Open(writing, &writer), Code::kBusy);
  for (const auto& [key, number] : scene.contents) {
    std::string value;
    EXPECT_OK(Get(*second, key, &value)) << key;
    EXPECT_EQ(NumberOf(key, value), number) << key;
  }
  EXPECT_OK(second->Close());
  EXPECT_TRUE(ReadImage(copy) == image);
  ASSERT_OK(Store::Open(writing, &writer));
  // A salvage needs a file that stands still; any other reader joins in.
  EXPECT_CODE(Store::Open(options, &third), Code::kBusy);
  options.salvage = false;
  ASSERT_OK(Store::Open(options, &first));
  ASSERT_OK(Set(*writer, "new", "value"));
  std::string value;
  EXPECT_OK(Get(*first, "new", &value));
  EXPECT_OK(first->Close());
  EXPECT_OK(writer->Close());
  options.read_only = false;
  options.salvage = true;
  EXPECT_CODE(Store::Open(options, &third), Code::kInvalidArgValue);
  EXPECT_OK(scene.store->Close());
}

}  // namespace
