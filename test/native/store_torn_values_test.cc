// Recovery of a store whose large values never reached the device, whole as the rest of it is.
#include <cstring>
#include <ctime>

#include "base/hash.h"
#include "format/superblock.h"
#include "store_children.h"

namespace {

using namespace store_test;
namespace format = faultless::format;

/** What a value run holds on the device is something else. */
void TearValues(Image* image) {
  constexpr uint64_t kUnitWords = format::kUnitBytes / 8;
  const uint64_t table = format::HeadUnits(format::kDefaultShards) * kUnitWords;
  const auto* const entries = reinterpret_cast<const format::TableEntry*>(image->data() + table);
  for (uint64_t unit = 0; unit < std::min(image->size() / kUnitWords, format::kUnitsPerGroup); unit++) {
    format::EntryView view;
    if (!format::ReadEntry(entries[unit], unit, &view)) continue;
    if (view.kind == format::RunKind::kValue || view.kind == format::RunKind::kFree) (*image)[unit * kUnitWords] ^= 1;
  }
}

// Each of the key's records refers to runs that a later one has used again: none is whole. Looked for one after the
// other, with a replay of the queue for each, the end of what counts would take minutes here.
TEST(StoreTornValues, OfOneKeyCostOneReplay) {
  if (!UseDisk()) return harness::Skip("no directory on a disk");
  const harness::TemporaryDirectory directory;
  auto store = Open(directory.File("a.store"), 60 << 20);
  constexpr int kOverwrites = kSanitized ? 3000 : 20'000;
  format::Superblock block;
  std::memcpy(&block, ReadImage(directory.File("a.store")).data(), sizeof block);
  const auto shard_of = [&](const std::string& key) {
    return faultless::HashBytes(key.data(), key.size(), block.hash_seed) >> 60;
  };
  // A long queue has long extents, and all that was overwritten in one of them is still there.
  std::vector<std::string> neighbours;
  for (int i = 0; neighbours.size() < 40'000; i++) {
    const std::string key = "small" + std::to_string(i);
    if (shard_of(key) == shard_of("large")) neighbours.push_back(key);
  }
  const std::string filling(500, 'f');
  for (const std::string& key : neighbours) ASSERT_OK(Set(*store, key, key + filling));
  // No flush: what one had covered would be damage, and not torn.
  for (int i = 0; i < kOverwrites; i++) ASSERT_OK(Set(*store, "large", std::string(65'536, static_cast<char>(i))));
  Image image = ReadImage(directory.File("a.store"));
  ASSERT_OK(store->Close());
  TearValues(&image);
  WriteImage(directory.File("b.store"), image);

  const clock_t begin = clock();
  store = Open(directory.File("b.store"), 60 << 20);
  ASSERT_TRUE(store != nullptr);
  const double seconds = static_cast<double>(clock() - begin) / CLOCKS_PER_SEC;
  EXPECT_LT(seconds, kSanitized ? 30 : 3);
  std::string value;
  EXPECT_CODE(Get(*store, "large", &value), Code::kAbsent);
  for (const std::string& key : neighbours) {
    ASSERT_OK(Get(*store, key, &value)) << key;
    ASSERT_TRUE(value == key + filling);
  }
  ASSERT_OK(store->Close());
}

}  // namespace
