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
  enum class OnFull : uint8_t { kNotGiven, kError, kEvict } on_full = OnFull::kNotGiven;  // kError when creating
};

struct OpenOptions {
  std::string path;
  bool read_only = false;
  bool create = true;
  bool exclusive = false;
  uint32_t permissions = 0600;
  bool pin = false;           // lock everything into memory: kMemlock where the system refuses
  bool salvage = false;       // with read_only: trust nothing but superblock, tables and records
  bool allow_remote = false;  // otherwise a network filesystem is kUnsupported
  bool temporary = false;     // gone with the last process that has it open; one that is, is joined whatever this says
  bool fresh_copy = false;    // of a store's queues, by a backup: what flushes of the store promised says nothing of it
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
  kMayFault,        // may wait for the device, and for a lock as said above
  kLikelyResident,  // as kResidentOnly, but what was in memory a moment ago may have to be waited for
  kResidentOnly,    // never waits: kCold unless every byte needed is proven to be in memory and nothing is in the way
};

/**
 * Until when a copy of what was read is the newest: as long as the version slot holds `version` and the epoch has not
 * moved (VersionTable), and the store's clock has not come to `expires_at_ms`.
 */
struct Freshness {
  static constexpr uint32_t kUnknown = 1;  // odd: no slot ever keeps that
  uint32_t slot = 0;
  uint32_t version = kUnknown;
  uint32_t tag = 0;            // of the key's hash: 32 bits
  uint64_t expires_at_ms = 0;  // 0: never
};

/**
 * The control region, for who keeps copies: 32-bit words, changed by other processes at any time, to be read atomically
 * and never to be written. It is locked into memory; a page of it that could not be had reads as ones.
 */
struct VersionTable {
  const std::byte* base = nullptr;  // nullptr: not locked, so that it must not be read where nobody may wait
  size_t size_bytes = 0;
  size_t epoch_word = 0;              // index of the low word of the epoch
  size_t first_slot_word = 0;         // of slot 0
  std::shared_ptr<const void> owner;  // the mapping stays as long as this does. Letting go of the last one may wait
};

struct WriteOptions {
  uint64_t expires_at_ms = 0;  // by the store's clock (Store::ExpiryAfter); 0: never
  bool keep_expiry = false;    // where the key is there, its own counts instead
};

/** How far a clear has come: a fresh one for each. */
struct ClearProgress {
  uint32_t next_shard = 0;
  uint64_t number = 0;
};

/** One thing that a batch does, or asks. Of several that write one key the last one counts. */
struct BatchEntry {
  enum class Kind : uint8_t {
    kSet,
    kDelete,
    kExpect,        // the key holds `value`, byte for byte, before the batch
    kExpectAbsent,  // …, or nothing
  };
  Kind kind = Kind::kSet;
  Bytes key;
  Bytes value;
  uint64_t expires_at_ms = 0;  // of what is set; 0: never
};
constexpr size_t kMaxBatchEntries = 65'536;

/** What Increment takes for a number: this byte, then a float64, little-endian. (The encoding 'auto' of ts/codec.) */
constexpr uint8_t kNumberMark = 4;
constexpr size_t kNumberBytes = 1 + sizeof(double);

struct Stats {
  uint64_t keys, live_bytes, garbage_bytes, file_bytes, free_bytes, max_bytes;
  uint64_t shards, buckets, max_buckets;  // buckets: lines of the index; max_buckets: how many max_bytes has room for
  double load_factor, max_load_factor;    // entries per entry place of the index
  uint64_t evictions;                     // by all processes, since the store was created or recovered last
  uint64_t locked_bytes;
  bool fast_path;                // whether kResidentOnly reads can answer at all
  const char* fast_path_reason;  // why not; nullptr where they can
};

/** An index entry that an iteration is still to read; a hint (scan_batch.h). */
struct ScanEntry {
  uint64_t place = 0;  // as in the index: 16 bits of the hash, and where the record lies
  uint32_t tag = 0;    // 32 bits of the hash
  uint32_t version = 0;

  uint64_t tag48() const { return uint64_t{tag} << 16 | place >> 48; }
  uint64_t position() const { return (place & 0xFFFF'FFFF'FFFF) << 3; }
};

/** Where an iteration stands. Plain data, 72 bytes and the pending entries: 4 MiB at most, as much again while they are
 * sorted. A fresh one starts at the beginning. */
struct ScanCursor {
  uint32_t shard = 0;
  uint32_t pending_shard = 0;
  uint64_t next_prefix = 0;  // of the hash bits that choose a segment; the end of the shard: 1 << kDirectoryBits
  std::vector<ScanEntry> pending;
  size_t next_pending = 0;      // the first that has not been delivered
  size_t advised = 0;           // the first that the kernel has not been told of
  size_t advise_at = 0;         // once this one is delivered, the kernel is told of more
  uint64_t epoch = 0;           // when the versions of the pending entries were taken
  uint32_t batch_segments = 1;  // that went into the pending entries: few at first, for who wants little
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

class Compaction;
class Engine;
class Storage;
class Verification;
class Warming;
class Watching;
struct WatchBell;
class Backup;
struct FileIdentity;

class Store {
 public:
  /** May wait. Opens or creates; recovers where it must. Codes: all of OpenFlags in the public contract. */
  static Status Open(const OpenOptions& options, std::shared_ptr<Store>* store);
  /**
   * May wait. The same on a storage of the caller's (storage.h) that holds a store, in the place of a mapped file: so a
   * test puts a simulated disk under everything. Nobody else shares it; it is destroyed with the store, by ~Store on
   * the calling thread. options.path, .create and .exclusive mean nothing here.
   */
  static Status OpenOn(std::unique_ptr<Storage> storage, const FileIdentity& identity, const OpenOptions& options,
                       std::shared_ptr<Store>* store);
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
  /** `freshness` (may be nullptr) is filled in for kOk and kAbsent. */
  Status Get(Bytes key, ValueSink* sink, ReadMode mode, Freshness* freshness = nullptr);
  Status Has(Bytes key, ReadMode mode);
  /** The same for who knows the key's hash. */
  Status Get(Bytes key, uint64_t hash, ValueSink* sink, ReadMode mode, Freshness* freshness);
  Status Has(Bytes key, uint64_t hash, ReadMode mode);
  /** May wait. One consistent view of all keys: no write lands between two of them. results[i] is kOk or kAbsent. */
  Status GetMany(std::span<const Bytes> keys, std::span<ValueSink* const> sinks, std::span<Code> results);
  /**
   * What reading these keys needs is asked for before it is needed: of the processor where it is in memory, with
   * `advise` of the kernel where it is not, all at once. Then read, 32 keys at a time. hashes[i] is that of keys[i].
   */
  void Prepare(std::span<const Bytes> keys, std::span<uint64_t> hashes, bool advise);

  // ── writes. May wait. kOk, kWouldBlock, kReadOnly, kStoreFull, kNoSpace, kValueTooLarge, kKeyEmpty, kKeyTooLong,
  // kIo, kCorrupt.
  Status Set(Bytes key, Bytes value, const WriteOptions& options);
  Status Delete(Bytes key, bool* existed);
  /**
   * Sets `value` (nullptr: deletes) only where the key holds `expected`, byte for byte (nullptr: is absent); false in
   * *done where it does not: nothing has changed.
   */
  Status CompareAndSet(Bytes key, const Bytes* expected, const Bytes* value, const WriteOptions& options, bool* done);
  /** Adds to the number that the key holds, 0 where it is absent. kNotANumber; kOutOfRange where the result would be
   * beyond ±2^53. Then nothing has changed. */
  Status Increment(Bytes key, double by, const WriteOptions& options, double* result);
  /** All of the batch, or nothing: to readers of every process, and whoever dies when. False in *done: a check did not
   * hold. kOutOfRange: it is too large. (batch.h) */
  Status CommitBatch(std::span<const BatchEntry> entries, bool* done);
  /** The value stays and gets another expiry. */
  Status Touch(Bytes key, const WriteOptions& options, bool* existed);
  /** Drops every key that is there when it begins, shard by shard. After kWouldBlock call again with the same progress.
   */
  Status Clear(ClearProgress* progress);

  // ── iteration. May wait. A key that is there throughout is delivered exactly once, one that comes or goes meanwhile
  // at most once.
  /** One step: about as many entries as make `max_bytes` of keys and values (at least one, unless done). want_values =
   * false: values come empty. */
  Status Scan(ScanCursor* cursor, Bytes prefix, bool want_values, uint64_t max_bytes, ScanSink* sink);

  // ── the whole.
  /** May wait. A power cut cannot undo what had returned before the call began. After a failure all later ones fail:
   * reopen. */
  Status Flush();
  /** May wait. Of a store that evicts: values with these tags (Freshness) have been used, by copies that somebody
   * keeps; and so have those that reads which never wait have answered since the last call. */
  void CarryUses(std::span<const uint32_t> tags);
  bool evicts() const;
  /** May wait. Share of the store's bytes that is in memory, 0 … 1. kUnsupported where it cannot be known. */
  Status Residency(double* share);

  /** Begins to look for damage: call its Step (store/verify.h) until it is done. The store outlives it. */
  std::shared_ptr<Verification> Verify();

  /** Begins to give back all that no live record needs: call its Step (store/compaction.h) until it is done. The store
   * outlives it. */
  std::shared_ptr<Compaction> Compact();

  /** Begins to bring keys into memory: call its Step (store/warm.h) until it is done. The store outlives it. */
  std::shared_ptr<Warming> Warm(std::vector<uint8_t> packed_keys);

  /** Begins to copy the store to a new file: likewise (store/backup.h). */
  std::shared_ptr<Backup> BackupTo(const std::string& path);

  /** Never waits, and stores nothing. Follows what changes from now on (store/watch.h). The store outlives it. */
  std::shared_ptr<Watching> Watch(Bytes prefix);
  /** May wait. What expires is told to who watches, from now on for a while. Nothing where the store is read-only. */
  void RenewWatch();
  /** The word that moves when there may be something new for who watches (Watching::bell). */
  WatchBell Bell() const;

  /** Never wait: answered from the control region, which is locked into memory. */
  Stats GetStats() const;
  uint64_t Size() const;  // live keys, expired ones that were not swept yet included
  /** The store's clock, milliseconds since 1970: the same for all processes, and it never goes back. */
  uint64_t NowMs() const;
  /** When what is written now with so many milliseconds to live expires; moves the clock on where the wall clock is
   * ahead. 0 (never) for 0. */
  uint64_t ExpiryAfter(uint64_t ttl_ms);
  /** Milliseconds that are left to something alive that expires then, 1 at least; 0 for 0 (never). */
  double MsLeft(uint64_t expires_at_ms) const;
  /** Moves the clock on where the wall clock is ahead of it: for who works on the store, now and then. */
  void FollowWallClock();
  VersionTable Versions() const;
  bool read_only() const;
  std::string codec() const;

 private:
  explicit Store(std::shared_ptr<Engine> engine);
  std::shared_ptr<Engine> engine_;
};

}  // namespace faultless::store
