// Purpose: reading keys without a lock. A read looks at its version slot and the shard's structure version, copies, and
// looks again: both even and unchanged means that what was copied, or that the key is absent, was true at one moment in
// between. Source: sequence locks, as in Boehm, "Can Seqlocks Get Along With Programming Language Memory Models?"
// (2012). Thread safety: any thread. kResidentOnly never waits; kMayFault may wait for the device and, 1 ms at most,
// for a lock.
#pragma once

#include "base/status.h"
#include "format/record.h"
#include "store/context.h"
#include "store/store.h"

namespace faultless::store {

/** Codes as Store::Get; sink nullptr: only whether the key is there. `freshness` may be nullptr. */
Status ReadKey(const Context& context, Bytes key, uint64_t hash, ValueSink* sink, ReadMode mode, Freshness* freshness);
/** Codes as Store::GetMany. */
Status ReadKeys(const Context& context, std::span<const Bytes> keys, std::span<ValueSink* const> sinks,
                std::span<Code> results);

/**
 * Reads the key's record, as ReadKey with kMayFault does, and adds the value runs that it refers to, each of which lies
 * within the file. What they hold is not read.
 */
Status ReadKeyRuns(const Context& context, Bytes key, uint64_t hash, std::vector<format::RunReference>* runs);

/** Receives every entry that matches a hash tag (48 bits: more than one key may). */
class TagSink {
 public:
  virtual ~TagSink() = default;
  /** Forget what has been delivered: the read begins anew. */
  virtual void Restart() = 0;
  virtual void Entry(const format::RecordView& record, std::span<const uint8_t> run_bytes) = 0;
};
/** All live entries of the tag, as of one moment. want_values: the bytes in value runs are read as well. */
Status ReadTag(const Context& context, uint32_t shard_index, uint64_t tag48, bool want_values, TagSink* sink);

/** The bits of a hash that its index entry keeps. */
constexpr uint64_t Tag48OfHash(uint64_t hash) { return hash >> 8 & 0xFFFF'FFFF'FFFF; }

/**
 * Adds all entries of the segment that covers `prefix` (24 directory bits), as of one moment; *next_prefix: where the
 * next segment begins (1 << kDirectoryBits: none). Codes: kOk, kWouldBlock, kIo, kCorrupt: nothing is added.
 */
Status SnapshotSegment(const Context& context, uint32_t shard_index, uint64_t prefix, std::vector<ScanEntry>* entries,
                       uint64_t* next_prefix);

}  // namespace faultless::store
