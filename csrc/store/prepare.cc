#include "store/prepare.h"

#include <algorithm>
#include <vector>

#include "base/hash.h"
#include "format/record.h"
#include "store/index.h"

namespace faultless::store {
namespace {

constexpr uint64_t kLineBytes = 64;
/** Of a record: its header, a key and a value of some length. Further lines follow each other: the processor sees that.
 */
constexpr uint64_t kRecordLines = 3;
constexpr uint64_t kMostGuessedBytes = 64 * 1024;

void Prefetch(const void* address) { __builtin_prefetch(address, /*rw=*/0, /*locality=*/3); }

/** What is known of one key so far: the place of the word or line that is looked at next; 0: nothing more to do. */
struct Walk {
  uint64_t place;
  uint32_t depth;
};

/** Keys that go through the levels together. */
class Group {
 public:
  /** `advise`: what is not in memory is asked of the kernel, and waited for where the next level needs it. */
  Group(const Context& context, bool advise)
      : context_(context),
        advise_(advise),
        asks_(context.residency->IsKnown()),
        moment_(asks_ ? ResidencyMoment::Now(true) : ResidencyMoment{}) {}

  void Prepare(std::span<const Bytes> keys, std::span<uint64_t> hashes, std::span<Walk> walks) {
    for (size_t i = 0; i < keys.size(); i++) {
      const uint64_t hash = hashes[i] = HashOf(context_, keys[i]);
      const uint32_t shard_index = context_.ShardOfHash(hash);
      Prefetch(&context_.version(shard_index, context_.SlotOfHash(hash)));
      SegmentRoute route;
      const uint64_t directory = context_.shard(shard_index).directory.load(std::memory_order_acquire);
      const bool found = directory != 0 && RouteOf(context_, directory, format::TagOf(hash), &route);
      walks[i] = {found ? route.word : 0, found ? route.depth : 0};
      if (found && (!advise_ || Ask(route.word, sizeof(uint64_t)))) Prefetch(context_.base + route.word);
    }
    for (size_t i = 0; i < keys.size(); i++) ToLine(&walks[i], hashes[i]);
    for (size_t i = 0; i < keys.size(); i++) ToRecord(walks[i], hashes[i], keys[i].size());
  }

 private:
  bool IsThere(uint64_t offset, uint64_t size) { return !asks_ || context_.IsKnownResident(offset, size, moment_); }
  /** Whether it is there. */
  bool Ask(uint64_t offset, uint64_t size) {
    if (IsThere(offset, size)) return true;
    if (advise_) context_.storage->WillNeed(offset, size);
    return false;
  }
  /** What has been asked for is waited for: then it is there. */
  bool MayLoad(uint64_t offset, uint64_t size) { return advise_ || IsThere(offset, size); }
  uint64_t Load(uint64_t offset) const { return context_.WordAt(offset).load(std::memory_order_acquire); }

  void ToLine(Walk* walk, uint64_t hash) {
    const uint64_t word = walk->place;
    walk->place = 0;
    if (word == 0 || !MayLoad(word, sizeof(uint64_t))) return;
    uint64_t segment;
    uint32_t local_depth;
    if (!SegmentOf(context_, Load(word), walk->depth, &segment, &local_depth)) return;
    const uint64_t line = segment + format::LineOf(format::TagOf(hash)) * sizeof(format::IndexLine);
    if (Ask(line, sizeof(format::IndexLine))) {
      Prefetch(context_.base + line);
    } else if (!advise_) {
      return;
    }
    walk->place = line;
  }

  void ToRecord(const Walk& walk, uint64_t hash, size_t key_bytes) {
    if (walk.place == 0) return;
    const auto& line = *reinterpret_cast<const format::IndexLine*>(context_.base + walk.place);
    for (uint32_t entry = 0; entry < format::kEntriesPerLine; entry++) {
      if (TagInLine(line, entry, std::memory_order_acquire) != format::TagOf(hash)) continue;
      const uint64_t place = PlaceInLine(line, entry).load(std::memory_order_acquire);
      const uint64_t position = format::PositionOf(place);
      const uint64_t bytes = sizeof(format::RecordHeader) + key_bytes;
      if (place == 0 || !context_.Contains(position, bytes)) continue;
      if (advise_ && !Ask(position, GuessBytes(position, bytes, hash))) continue;
      // A prefetch never faults: what is not there, or lies elsewhere by now, is left alone.
      const std::byte* const first = context_.base + position / kLineBytes * kLineBytes;
      for (uint64_t i = 0; i < kRecordLines; i++) Prefetch(first + i * kLineBytes);
    }
  }

  /**
   * How much of a record to ask for: nothing tells its length before it is there, and asking for its second page only
   * then would take the device's latency once more. So it counts as long as its shard's records are on the average.
   */
  uint64_t GuessBytes(uint64_t position, uint64_t least, uint64_t hash) const {
    const format::ShardControl& shard = context_.shard(context_.ShardOfHash(hash));
    const uint64_t keys = std::max<uint64_t>(shard.keys.load(std::memory_order_relaxed), 1);
    const uint64_t average = std::min(shard.live_bytes.load(std::memory_order_relaxed) / keys, kMostGuessedBytes);
    return average > least && context_.Contains(position, average) ? average : least;
  }

  const Context& context_;
  const bool advise_;
  const bool asks_;
  const ResidencyMoment moment_;
};

}  // namespace

uint64_t HashOf(const Context& context, Bytes key) {
  return HashBytes(key.data(), key.size(), context.superblock.hash_seed);
}

void PrepareKeys(const Context& context, std::span<const Bytes> keys, std::span<uint64_t> hashes, bool advise) {
  Group group(context, advise);
  if (advise) {
    // All of a level before the next one: the device is to see as many as there are.
    std::vector<Walk> walks(keys.size());
    group.Prepare(keys, hashes, walks);
    return;
  }
  Walk walks[kPreparedTogether];
  for (size_t at = 0; at < keys.size(); at += kPreparedTogether) {
    const size_t count = std::min(kPreparedTogether, keys.size() - at);
    group.Prepare(keys.subspan(at, count), hashes.subspan(at, count), {walks, count});
  }
}

}  // namespace faultless::store
