#include "store/store.h"

#include <algorithm>
#include <cstring>

#include "format/superblock.h"
#include "os/os.h"
#include "store/backup.h"
#include "store/batch.h"
#include "store/cleaner.h"
#include "store/clock.h"
#include "store/compaction.h"
#include "store/engine.h"
#include "store/flush.h"
#include "store/open_engines.h"
#include "store/prepare.h"
#include "store/reader.h"
#include "store/scan.h"
#include "store/temporary_door.h"
#include "store/use_marks.h"
#include "store/verify.h"
#include "store/warm.h"
#include "store/watch.h"
#include "store/watch_bell.h"
#include "store/writer.h"

namespace faultless::store {

Store::Store(std::shared_ptr<Engine> engine) : engine_(std::move(engine)) {}

Store::~Store() {
  if (engine_) AbandonEngine(&engine_);
}

Status Store::Open(const OpenOptions& options, std::shared_ptr<Store>* store) {
  std::shared_ptr<Engine> engine;
  FAULTLESS_TRY(AcquireEngine(options, &engine));
  store->reset(new Store(std::move(engine)));
  return Code::kOk;
}

Status Store::OpenOn(std::unique_ptr<Storage> storage, const FileIdentity& identity, const OpenOptions& options,
                     std::shared_ptr<Store>* store) {
  format::Superblock blocks[2];
  uint64_t bytes;
  FAULTLESS_TRY(storage->FileBytes(&bytes));
  if (bytes < sizeof blocks) return {Code::kFormat, "too short for a faultless store"};
  std::memcpy(blocks, storage->base(), sizeof blocks);
  format::Superblock block;
  FAULTLESS_TRY(format::ChooseSuperblock(blocks[0], blocks[1], &block));
  if (block.max_bytes > storage->max_bytes()) return {Code::kOutOfRange, "the storage has too few addresses"};
  std::unique_ptr<Engine> engine;
  FAULTLESS_TRY(Engine::OpenOn(std::move(storage), identity, block, options, &engine));
  store->reset(new Store(std::move(engine)));
  return Code::kOk;
}

Status Store::Destroy(const std::string& path) {
  int fd = -1;
  FAULTLESS_TRY(os::OpenFile(path.c_str(), os::Access::kReadOnly, &fd));
  format::Superblock block;
  bool is_door = false;
  Status ours = TemporaryDoor::IsDoor(fd, &is_door);
  if (ours.ok() && !is_door) ours = Engine::ReadSuperblock(fd, &block);
  os::CloseFile(fd);
  // A damaged store is a store all the same.
  if (!ours.ok() && ours.code() != Code::kCorrupt) return ours;
  FAULTLESS_TRY(os::Unlink(path.c_str()));
  return os::SyncDirectoryOf(path.c_str());
}

Status Store::Close() { return ReleaseEngine(&engine_); }

Status Store::Get(Bytes key, ValueSink* sink, ReadMode mode, Freshness* freshness) {
  return Get(key, HashOf(engine_->context(), key), sink, mode, freshness);
}

Status Store::Has(Bytes key, ReadMode mode) { return Has(key, HashOf(engine_->context(), key), mode); }

Status Store::Get(Bytes key, uint64_t hash, ValueSink* sink, ReadMode mode, Freshness* freshness) {
  return ReadKey(engine_->context(), key, hash, sink, mode, freshness);
}

Status Store::Has(Bytes key, uint64_t hash, ReadMode mode) {
  return ReadKey(engine_->context(), key, hash, nullptr, mode, nullptr);
}

Status Store::GetMany(std::span<const Bytes> keys, std::span<ValueSink* const> sinks, std::span<Code> results) {
  return ReadKeys(engine_->context(), keys, sinks, results);
}

void Store::Prepare(std::span<const Bytes> keys, std::span<uint64_t> hashes, bool advise) {
  PrepareKeys(engine_->context(), keys, hashes, advise);
}

Status Store::Set(Bytes key, Bytes value, const WriteOptions& options) {
  const Status status = SetRecord(engine_->context(), key, value, options);
  engine_->ExtendPin();
  return status;
}

Status Store::Delete(Bytes key, bool* existed) { return DeleteRecord(engine_->context(), key, existed); }

Status Store::CompareAndSet(Bytes key, const Bytes* expected, const Bytes* value, const WriteOptions& options,
                            bool* done) {
  ExpectRule rule(expected);
  bool existed = false;
  const Status status = value == nullptr ? DeleteRecord(engine_->context(), key, &existed, &rule)
                                         : SetRecord(engine_->context(), key, *value, options, &rule);
  engine_->ExtendPin();
  *done = status.ok();
  return status.code() == Code::kAbsent ? Status() : status;
}

Status Store::Increment(Bytes key, double by, const WriteOptions& options, double* result) {
  IncrementRule rule(by);
  const Status status = SetRecord(engine_->context(), key, rule.value(), options, &rule);
  engine_->ExtendPin();
  *result = rule.result();
  return status;
}

Status Store::CommitBatch(std::span<const BatchEntry> entries, bool* done) {
  const Status status = store::CommitBatch(engine_->context(), entries, done);
  engine_->ExtendPin();
  return status;
}

Status Store::Touch(Bytes key, const WriteOptions& options, bool* existed) {
  const Status status = TouchRecord(engine_->context(), key, options, existed);
  engine_->ExtendPin();
  return status;
}

Status Store::Clear(ClearProgress* progress) {
  Context& context = engine_->context();
  if (progress->number == 0) progress->number = BeginClear(context);
  for (; progress->next_shard < context.shards(); progress->next_shard++) {
    FAULTLESS_TRY(ClearShard(context, progress->next_shard, progress->number));
  }
  TellWatchers(context);  // of shards that had no queue
  return Code::kOk;
}

Status Store::Scan(ScanCursor* cursor, Bytes prefix, bool want_values, uint64_t max_bytes, ScanSink* sink) {
  return ScanStep(engine_->context(), cursor, prefix, want_values, max_bytes, sink);
}

Status Store::Flush() { return store::Flush(engine_->context()); }

void Store::CarryUses(std::span<const uint32_t> tags) {
  const Context& context = engine_->context();
  if (!context.evicts() || context.read_only) return;
  for (const uint32_t tag : tags) context.uses->Mark(context, tag);
  context.uses->Carry(context);
}

bool Store::evicts() const { return engine_->context().evicts(); }

Status Store::Residency(double* share) {
  const Context& context = engine_->context();
  const uint64_t bytes = context.PublishedUnits() * format::kUnitBytes;
  uint64_t pages;
  FAULTLESS_TRY(context.storage->CountResident(0, bytes, &pages));
  *share = static_cast<double>(pages * os::PageSize()) / static_cast<double>(bytes);
  return Code::kOk;
}

std::shared_ptr<Verification> Store::Verify() { return std::make_shared<Verification>(engine_->context()); }

std::shared_ptr<Warming> Store::Warm(std::vector<uint8_t> packed_keys) {
  return std::make_shared<Warming>(engine_->context(), std::move(packed_keys));
}

std::shared_ptr<Compaction> Store::Compact() { return std::make_shared<Compaction>(engine_->context()); }

std::shared_ptr<Backup> Store::BackupTo(const std::string& path) {
  return std::make_shared<Backup>(engine_->context(), path);
}

std::shared_ptr<Watching> Store::Watch(Bytes prefix) { return std::make_shared<Watching>(engine_->context(), prefix); }

void Store::RenewWatch() { store::RenewWatch(engine_->context()); }

WatchBell Store::Bell() const { return {&engine_->context().header().watch_bell, engine_}; }

uint64_t Store::Size() const {
  const Context& context = engine_->context();
  uint64_t keys = 0;
  for (uint32_t i = 0; i < context.shards(); i++) keys += context.shard(i).keys.load(std::memory_order_relaxed);
  return keys;
}

uint64_t Store::NowMs() const { return store::NowMs(engine_->context()); }

uint64_t Store::ExpiryAfter(uint64_t ttl_ms) {
  if (ttl_ms == 0) return 0;
  FollowWallClock();
  return std::min(NowMs() + std::min(ttl_ms, kLatestExpiryMs), kLatestExpiryMs);
}

double Store::MsLeft(uint64_t expires_at_ms) const {
  if (expires_at_ms == 0) return 0;
  const uint64_t now_ms = NowMs();
  return expires_at_ms > now_ms ? static_cast<double>(expires_at_ms - now_ms) : 1;  // it was alive when it was read
}

void Store::FollowWallClock() { store::FollowWallClock(engine_->context()); }

Stats Store::GetStats() const {
  const Context& context = engine_->context();
  constexpr auto kRelaxed = std::memory_order_relaxed;
  Stats stats{};
  uint64_t places = 0;
  for (uint32_t i = 0; i < context.shards(); i++) {
    const format::ShardControl& shard = context.shard(i);
    stats.keys += shard.keys.load(kRelaxed);
    stats.live_bytes += shard.live_bytes.load(kRelaxed) + shard.value_bytes.load(kRelaxed);
    stats.garbage_bytes += GarbageBytes(context, i);
    places += shard.entry_places.load(kRelaxed);
    stats.evictions += shard.evictions.load(kRelaxed);
  }
  stats.garbage_bytes += context.allocator().limbo_units.load(kRelaxed) * format::kUnitBytes;
  stats.file_bytes = context.PublishedUnits() * format::kUnitBytes;
  stats.free_bytes = context.allocator().free_units.load(kRelaxed) * format::kUnitBytes;
  stats.max_bytes = context.superblock.max_bytes;
  stats.shards = context.shards();
  stats.buckets = places / format::kEntriesPerLine;
  // Were all of it index: what a segment of 256 buckets takes is 16 KiB.
  stats.max_buckets = context.superblock.max_bytes / format::kPieceBytes * format::kLinesPerSegment;
  stats.load_factor = places == 0 ? 0 : static_cast<double>(stats.keys) / static_cast<double>(places);
  stats.max_load_factor = 1;
  const uint64_t control = format::ControlEnd(context.shards()) - format::kControlOffset;
  const uint64_t pinned = context.pinned_units.load(kRelaxed) * format::kUnitBytes;
  stats.locked_bytes = std::max(pinned, context.control_locked ? control : 0);
  stats.fast_path = context.FastPath();
  if (!stats.fast_path) {
    stats.fast_path_reason = context.control_locked
                                 ? "the system does not tell this process what is in memory"
                                 : "the control region could not be locked into memory (RLIMIT_MEMLOCK)";
  }
  return stats;
}

VersionTable Store::Versions() const {
  const Context& context = engine_->context();
  if (!context.control_locked) return {};
  const uint64_t begin = format::kControlOffset;
  return {context.base + begin, format::ControlEnd(context.shards()) - begin,
          offsetof(format::ControlHeader, epoch) / sizeof(uint32_t),
          (format::VersionsOffset(context.shards()) - begin) / sizeof(uint32_t), engine_};
}

bool Store::read_only() const { return engine_->context().read_only; }

std::string Store::codec() const { return engine_->context().superblock.codec; }

}  // namespace faultless::store
