// Decoding of what a file holds: records, superblocks, table entries. What is accepted lies within the bytes given, and
// says the same when it is encoded again.
#include "format/record.h"
#include "format/superblock.h"
#include "fuzz_fixture.h"

namespace {

using namespace fuzz;
namespace format = faultless::format;

constexpr uint64_t kSeed[2] = {1, 2};

template <typename T>
bool IsWithin(std::span<const T> part, std::span<const uint8_t> whole) {
  const auto* const begin = reinterpret_cast<const uint8_t*>(part.data());
  return part.empty() || (begin >= whole.data() && begin + part.size_bytes() <= whole.data() + whole.size());
}

void DecodeOneRecord(const uint8_t* data, size_t size) {
  // Exactly as large as the record: AddressSanitizer sees what goes past it.
  const size_t words = size / 8;
  std::unique_ptr<uint64_t[]> copy(new uint64_t[words]);
  if (words != 0) std::memcpy(copy.get(), data, words * 8);
  const std::span<uint8_t> bytes(reinterpret_cast<uint8_t*>(copy.get()), words * 8);
  format::RecordView record;
  static_cast<void>(format::VerifyChecksum(bytes));
  if (!format::DecodeRecord(bytes, &record)) return;
  FUZZ_REQUIRE(IsWithin(record.key, bytes) && IsWithin(record.value, bytes) && IsWithin(record.runs, bytes),
               "a part lies outside");
  uint64_t first;
  std::memcpy(&first, bytes.data(), 8);
  FUZZ_REQUIRE(format::RecordLength(first) == bytes.size(), "length");
  FUZZ_REQUIRE(format::RecordKeyLength(first) == record.key.size() && format::RecordKindOf(first) == record.kind &&
                   format::RecordFlags(first) == record.flags,
               "first word");
  uint64_t run_bytes = 0;
  for (const format::RunReference& run : record.runs) run_bytes += format::kUnitBytes << run.size_class;
  FUZZ_REQUIRE(run_bytes == record.large.run_bytes, "runs");
  // Padding may be more than what it takes to fill up the last word; then the record comes out shorter.
  const uint64_t encoded_bytes = format::RecordBytes(record);
  FUZZ_REQUIRE(encoded_bytes <= bytes.size(), "longer than it was");
  std::unique_ptr<uint64_t[]> encoded(new uint64_t[encoded_bytes / 8]);
  auto* const target = reinterpret_cast<uint8_t*>(encoded.get());
  format::EncodeRecord(record, target);
  format::SealRecord(target, 4096, 7, kSeed);
  const std::span<const uint8_t> again(target, encoded_bytes);
  FUZZ_REQUIRE(format::VerifyChecksum(again) && format::VerifySeal(again, 4096, 7, kSeed), "checksum");
  FUZZ_REQUIRE(!format::VerifySeal(again, 4104, 7, kSeed) && !format::VerifySeal(again, 4096, 8, kSeed), "seal");
  format::RecordView twice;
  FUZZ_REQUIRE(format::DecodeRecord(again, &twice), "decoding again");
  FUZZ_REQUIRE(twice.kind == record.kind && twice.flags == record.flags &&
                   twice.expires_at_ms == record.expires_at_ms && twice.uid == record.uid &&
                   twice.runs.size() == record.runs.size() && std::ranges::equal(twice.key, record.key) &&
                   std::ranges::equal(twice.value, record.value),
               "contents");
}

/** Bytes at offsets of two blocks that are valid otherwise; the checksums are right or not. */
void ChooseSuperblock(Decisions* decisions) {
  format::Superblock blocks[2]{};
  for (format::Superblock& block : blocks) {
    block.magic = format::kSuperblockMagic;
    block.version = format::kFormatVersion;
    block.shard_count = format::kDefaultShards << decisions->Byte() % 5;
    block.slots_per_shard = format::kVersionSlots / block.shard_count;
    block.max_bytes = decisions->Byte() * format::kUnitBytes;
    block.state = static_cast<uint32_t>(format::FileState::kClean);
    block.generation = decisions->Byte();
  }
  const uint8_t seals = decisions->Byte();
  for (int i = 0; i < 24 && !decisions->empty(); i++) {
    const uint32_t at = decisions->Short() % (2 * 300);  // what is behind is reserved
    reinterpret_cast<uint8_t*>(&blocks[at / 300])[at % 300] = decisions->Byte();
  }
  for (int i = 0; i < 2; i++) {
    if ((seals >> i & 1) == 0) format::SealSuperblock(&blocks[i]);
  }
  format::Superblock chosen;
  const Status status = format::ChooseSuperblock(blocks[0], blocks[1], &chosen);
  if (!status.ok()) {
    FUZZ_REQUIRE(status.code() == Code::kFormat || (status.code() == Code::kCorrupt && status.has_offset()), "code");
    return;
  }
  FUZZ_REQUIRE(chosen.max_bytes % format::kUnitBytes == 0 && chosen.max_bytes <= uint64_t{1} << 46, "max_bytes");
  FUZZ_REQUIRE((format::HeadUnits(chosen.shard_count) + 1) * format::kUnitBytes <= chosen.max_bytes,
               "the head is longer than the mapping");
  FUZZ_REQUIRE(chosen.shard_count * chosen.slots_per_shard == format::kVersionSlots, "slots");
  FUZZ_REQUIRE(std::memchr(chosen.codec, 0, sizeof chosen.codec) != nullptr, "codec");
}

void ReadTableEntry(Decisions* decisions) {
  format::TableEntry entry{};
  const uint64_t unit = decisions->Word();
  const bool sealed = decisions->Byte() % 2 == 0;
  const uint64_t low = decisions->Word();
  entry.identity = low;
  entry.incarnation = decisions->Word();
  entry.sequence = decisions->Word();
  entry.next = decisions->Word();
  if (sealed) {
    entry.identity = format::IdentityOf(format::KindOf(low), format::ClassOf(low), format::ShardOf(low),
                                        entry.incarnation, entry.sequence, unit);
  }
  format::EntryView view;
  if (!format::ReadEntry(entry, unit, &view)) return;
  FUZZ_REQUIRE(view.kind >= format::RunKind::kFree && view.kind <= format::RunKind::kUse, "kind");
  FUZZ_REQUIRE(view.size_class <= format::kMaxClass && unit % (uint64_t{1} << view.size_class) == 0, "class");
  FUZZ_REQUIRE(view.incarnation == entry.incarnation && view.sequence == entry.sequence && view.next == entry.next,
               "words");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  Decisions decisions(data + 1, size - 1);
  switch (data[0] % 4) {
    case 0:
      ChooseSuperblock(&decisions);
      break;
    case 1:
      ReadTableEntry(&decisions);
      break;
    default:
      DecodeOneRecord(data + 1, size - 1);
  }
  return 0;
}
