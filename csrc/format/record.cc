#include "format/record.h"

#include <cstring>

#include "base/checksum.h"
#include "base/hash.h"

namespace faultless::format {
namespace {

uint64_t UnpaddedBytes(const RecordView& record) {
  uint64_t size = sizeof(RecordHeader);
  if (record.flags & kRecordExpires) size += 8;
  if (record.flags & kRecordUid) size += 8;
  if (record.flags & kRecordLarge) size += sizeof(LargeHeader) + record.runs.size_bytes();
  return size + record.key.size() + record.value.size();
}

uint32_t ChecksumOf(std::span<const uint8_t> bytes) {
  static constexpr uint8_t kZeros[8] = {};
  uint32_t crc = Crc32c(0, bytes.data(), 8);
  crc = Crc32c(crc, kZeros, 8);  // checksum and seal
  return Crc32c(crc, bytes.data() + sizeof(RecordHeader), bytes.size() - sizeof(RecordHeader));
}

uint32_t SealOf(uint32_t checksum, uint64_t position, uint64_t incarnation, const uint64_t seed[2]) {
  const uint64_t words[3] = {checksum, position, incarnation};
  return static_cast<uint32_t>(HashBytes(words, sizeof words, seed));
}

}  // namespace

uint64_t RecordBytes(const RecordView& record) { return (UnpaddedBytes(record) + 7) & ~uint64_t{7}; }

void EncodeRecord(const RecordView& record, uint8_t* target) {
  const uint64_t unpadded = UnpaddedBytes(record);
  const uint64_t length = (unpadded + 7) & ~uint64_t{7};
  RecordHeader header{};
  header.length = static_cast<uint32_t>(length | (length - unpadded));
  header.key_length = static_cast<uint16_t>(record.key.size());
  header.kind = static_cast<uint8_t>(record.kind);
  header.flags = record.flags;
  std::memcpy(target, &header, sizeof header);
  uint8_t* at = target + sizeof header;
  const auto put = [&at](const void* data, size_t size) {
    if (size != 0) std::memcpy(at, data, size);
    at += size;
  };
  if (record.flags & kRecordExpires) put(&record.expires_at_ms, 8);
  if (record.flags & kRecordUid) put(&record.uid, 8);
  if (record.flags & kRecordLarge) {
    put(&record.large, sizeof record.large);
    put(record.runs.data(), record.runs.size_bytes());
  }
  put(record.key.data(), record.key.size());
  put(record.value.data(), record.value.size());
  std::memset(at, 0, length - unpadded);
  header.checksum = ChecksumOf({target, length});
  std::memcpy(target, &header, sizeof header);
}

void SealRecord(uint8_t* record, uint64_t position, uint64_t incarnation, const uint64_t seed[2]) {
  RecordHeader header;
  std::memcpy(&header, record, sizeof header);
  header.seal = SealOf(header.checksum, position, incarnation, seed);
  std::memcpy(record, &header, sizeof header);
}

bool DecodeRecord(std::span<const uint8_t> bytes, RecordView* record) {
  if (bytes.size() < sizeof(RecordHeader)) return false;
  RecordHeader header;
  std::memcpy(&header, bytes.data(), sizeof header);
  uint64_t first_word;
  std::memcpy(&first_word, bytes.data(), 8);
  if (RecordLength(first_word) != bytes.size()) return false;
  const uint64_t end = bytes.size() - (header.length & 7);
  *record = RecordView{};
  record->kind = static_cast<RecordKind>(header.kind);
  record->flags = header.flags;
  uint64_t at = sizeof header;
  const auto take = [&](void* target, size_t size) {
    if (end - at < size) return false;
    std::memcpy(target, bytes.data() + at, size);
    at += size;
    return true;
  };
  if (end < at) return false;
  if ((header.flags & kRecordExpires) && !take(&record->expires_at_ms, 8)) return false;
  if ((header.flags & kRecordUid) && !take(&record->uid, 8)) return false;
  if (header.flags & kRecordLarge) {
    if (!take(&record->large, sizeof record->large)) return false;
    const uint64_t count = record->large.run_count;
    if (count == 0 || count > kMaxRuns || end - at < count * sizeof(RunReference)) return false;
    record->runs = {reinterpret_cast<const RunReference*>(bytes.data() + at), count};
    at += record->runs.size_bytes();
    uint64_t run_bytes = 0;
    for (const RunReference& run : record->runs) {
      if (run.size_class > kMaxQueueClass) return false;
      run_bytes += kUnitBytes << run.size_class;
    }
    if (run_bytes != record->large.run_bytes) return false;
  }
  if (end - at < header.key_length) return false;
  record->key = bytes.subspan(at, header.key_length);
  record->value = bytes.subspan(at + header.key_length, end - at - header.key_length);
  return true;
}

bool VerifyChecksum(std::span<const uint8_t> bytes) {
  if (bytes.size() < sizeof(RecordHeader)) return false;
  RecordHeader header;
  std::memcpy(&header, bytes.data(), sizeof header);
  return header.checksum == ChecksumOf(bytes);
}

bool VerifySeal(std::span<const uint8_t> bytes, uint64_t position, uint64_t incarnation, const uint64_t seed[2]) {
  RecordHeader header;
  std::memcpy(&header, bytes.data(), sizeof header);
  return header.seal == SealOf(header.checksum, position, incarnation, seed);
}

}  // namespace faultless::format
