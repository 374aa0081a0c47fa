// Purpose: the key-value store as the binding and the native tests see it: one file, mapped once per process, shared by
// every handle, thread and process that has it open.
//
// Thread safety: every method may be called from any thread at any time until Close() has been called; Close() only
// when no other call is running or will start (the binding counts its jobs). Methods say whether they may wait for a
// device or a lock; those that may must not run on an event loop. Ownership: Open hands out a shared_ptr; all opens of
// one file in one process share one mapping, one opener slot and one set of counters, and the last Close() releases
// them. Key and value bytes are borrowed for the call.
//
// Codes besides failures: kAbsent (no such key), kCold (only from kResidentOnly reads), kWouldBlock (a lock is held by
// a process that does not move: nothing was done, run the same call again after a short pause, without holding a
// thread; give up with kBusy after a time-out of the caller's choosing).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"

namespace faultless::store {

using Bytes = std::span<const uint8_t>;

constexpr size_t kMaxKeyBytes = 65'535;
constexpr uint64_t kMaxValueBytes = 4'294'967'295;    // 4 GiB − 1
constexpr uint64_t kMinMaxBytes = uint64_t{8} << 20;  // room for what each shard keeps back
constexpr uint64_t kDefaultMaxBytes = uint64_t{1} << 40;
constexpr uint64_t kLargestMaxBytes = uint64_t{1} << 46;

/** Kept in the file; at a later open a value that is given must match: kFormat. */
struct KeptOptions {
  uint64_t max_bytes = 0;  // 0: not given (default when creating, whatever the file has when opening)
  std::string codec;       // name of the encoding, at most 63 bytes; empty: not given
};

struct OpenOptions {
  std::string path;
  bool read_only = false;
  bool create = true;
  bool exclusive = false;
  uint32_t permissions = 0600;
  bool pin = false;           // lock everything into memory: kMemlock where the system refuses
  bool allow_remote = false;  // otherwise a network filesystem is kUnsupported
  KeptOptions kept;
  std::function<void(uint64_t done, uint64_t total)> on_progress;  // of a recovery; called on the opening thread
};

/** Receives a value. Allocate may be called several times for one value (the read was repeated): only the last one
 * counts. */
class ValueSink {
 public:
  virtual ~ValueSink() = default;
  /** Memory for exactly `size` bytes, valid until the read returns; nullptr: kValueTooLarge. */
  virtual uint8_t* Allocate(uint64_t size) = 0;
};

enum class ReadMode : uint8_t {
  kMayFault,      // may wait for the device, and for a lock as said above
  kResidentOnly,  // never waits: kCold unless every byte needed is proven to be in memory and nothing is in the way
};

struct WriteOptions {
  uint64_t expires_at_ms = 0;  // wall clock; 0: never
};

struct Stats {
  uint64_t keys, live_bytes, garbage_bytes, file_bytes, free_bytes, max_bytes;
  uint64_t shards, buckets, max_buckets;  // buckets: lines of the index; max_buckets: how many max_bytes has room for
  double load_factor, max_load_factor;    // entries per entry place of the index
  uint64_t locked_bytes;
  bool fast_path;                // whether kResidentOnly reads can answer at all
  const char* fast_path_reason;  // why not; nullptr where they can
};

/** Where an iteration stands. Plain data, 64 bytes at most beyond the pending entries; a fresh one starts at the
 * beginning. */
struct ScanCursor {
  uint32_t shard = 0;
  uint64_t next_prefix = 0;  // of the hash bits that choose a segment; the end of the shard: 1 << kDirectoryBits
  uint32_t pending_shard = 0;
  std::vector<uint64_t> pending;  // hash tags of the current segment that are still to be delivered
  bool done = false;
};

/** Receives the entries of a scan step, in no order. Returns false to end the step after this entry. */
class ScanSink {
 public:
  virtual ~ScanSink() = default;
  /** The bytes are valid during the call only. */
  virtual bool Entry(Bytes key, Bytes value) = 0;
};

struct VerifyReport {
  struct Damage {
    uint64_t offset;  // in the file, bytes
    const char* reason;
  };
  uint64_t records;             // of the queues, dead ones included
  uint64_t bytes;               // of these records and of the live values
  std::vector<Damage> damaged;  // by offset; at most 10,000
};

class Engine;
class Verification;

class Store {
 public:
  /** May wait. Opens or creates; recovers where it must. Codes: all of OpenFlags in the public contract. */
  static Status Open(const OpenOptions& options, std::shared_ptr<Store>* store);
  /** May wait. Unlinks the file of a store; whoever has it open goes on with it. kNotFound, kFormat (not ours:
   * untouched). */
  static Status Destroy(const std::string& path);

  ~Store();  // without Close(): like a kill, and as harmless; never waits for a device
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  /** May wait. The last one of the last process writes the checkpoint and the clean mark. A failure is reported, and it
   * is closed all the same. */
  Status Close();

  // ── reads. kOk, kAbsent, kCold, kWouldBlock, kIo, kCorrupt, kKeyEmpty, kKeyTooLong.
  Status Get(Bytes key, ValueSink* sink, ReadMode mode);
  Status Has(Bytes key, ReadMode mode);
  /** May wait. One consistent view of all keys: no write lands between two of them. results[i] is kOk or kAbsent. */
  Status GetMany(std::span<const Bytes> keys, std::span<ValueSink* const> sinks, std::span<Code> results);
  /** Tells the kernel which pages the key needs, as far as can be told without waiting. Call for all keys of a batch,
   * then read. */
  void Advise(Bytes key);

  // ── writes. May wait. kOk, kWouldBlock, kReadOnly, kStoreFull, kNoSpace, kValueTooLarge, kKeyEmpty, kKeyTooLong,
  // kIo, kCorrupt.
  Status Set(Bytes key, Bytes value, const WriteOptions& options);
  Status Delete(Bytes key, bool* existed);
  /** Drops every key that is there when it begins, shard by shard. After kWouldBlock call again with the same
   * *next_shard (begin with 0). */
  Status Clear(uint32_t* next_shard);

  // ── iteration. May wait. A key that is there throughout is delivered exactly once, one that comes or goes meanwhile
  // at most once.
  /** One step: about as many entries as make `max_bytes` of keys and values (at least one, unless done). want_values =
   * false: values come empty. */
  Status Scan(ScanCursor* cursor, Bytes prefix, bool want_values, uint64_t max_bytes, ScanSink* sink);

  // ── the whole.
  /** May wait. A power cut cannot undo what had returned before the call began. After a failure all later ones fail:
   * reopen. */
  Status Flush();
  /** May wait. Share of the store's bytes that is in memory, 0 … 1. kUnsupported where it cannot be known. */
  Status Residency(double* share);

  /** Begins to look for damage: call its Step (store/verify.h) until it is done. The store outlives it. */
  std::shared_ptr<Verification> Verify();

  /** Never wait: answered from the control region, which is locked into memory. */
  Stats GetStats() const;
  uint64_t Size() const;  // live keys
  bool read_only() const;
  std::string codec() const;

 private:
  explicit Store(std::shared_ptr<Engine> engine);
  std::shared_ptr<Engine> engine_;
};

}  // namespace faultless::store
