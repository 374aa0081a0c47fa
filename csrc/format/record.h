// Purpose: records of a shard's queue: bytes in a private buffer ↔ a checked view. Untrusted bytes never leave this
// file unchecked. Thread safety: pure functions over private memory; copying from and to shared memory is the caller's
// (store/shared_bytes.h).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "format/layout.h"

namespace faultless::format {

/** What a record says. The spans point into the buffer that it was decoded from, or at what is to be encoded. */
struct RecordView {
  RecordKind kind = RecordKind::kNone;
  uint8_t flags = 0;
  uint64_t expires_at_ms = 0;  // with kRecordExpires
  uint64_t uid = 0;            // with kRecordUid
  LargeHeader large{};         // with kRecordLarge
  std::span<const RunReference> runs;
  std::span<const uint8_t> key;
  std::span<const uint8_t> value;  // with kRecordLarge: what follows the runs' bytes

  uint64_t value_bytes() const { return large.run_bytes + value.size(); }
};

/** Bytes that the record takes in a queue. */
uint64_t RecordBytes(const RecordView& record);
/** Encodes into `target`, which holds RecordBytes(record) bytes and is 8-aligned; without the seal. */
void EncodeRecord(const RecordView& record, uint8_t* target);
/** Binds an encoded record to its place: records that an earlier use of the extent left behind do not pass VerifySeal.
 */
void SealRecord(uint8_t* record, uint64_t position, uint64_t incarnation, const uint64_t seed[2]);

/** Length of the record whose first word this is, or 0 where no record can begin like that. */
inline uint64_t RecordLength(uint64_t first_word) {
  const auto length = static_cast<uint32_t>(first_word) & ~uint32_t{7};
  const auto kind = static_cast<uint8_t>(first_word >> 48);
  if (length < sizeof(RecordHeader) || length > kMaxRecordBytes || kind == 0 || kind > 6) return 0;
  return length;
}
inline uint16_t RecordKeyLength(uint64_t first_word) { return static_cast<uint16_t>(first_word >> 32); }
inline RecordKind RecordKindOf(uint64_t first_word) { return static_cast<RecordKind>(first_word >> 48 & 0xFF); }
inline uint8_t RecordFlags(uint64_t first_word) { return static_cast<uint8_t>(first_word >> 56); }

/** Decodes `bytes`, exactly one record, 8-aligned. False where lengths contradict each other; the checksum is not
 * looked at. */
bool DecodeRecord(std::span<const uint8_t> bytes, RecordView* record);
bool VerifyChecksum(std::span<const uint8_t> bytes);
bool VerifySeal(std::span<const uint8_t> bytes, uint64_t position, uint64_t incarnation, const uint64_t seed[2]);

}  // namespace faultless::format
