#include "store/engine.h"

#include <bit>
#include <cstring>
#include <vector>

#include "format/superblock.h"
#include "os/os.h"
#include "store/allocator.h"
#include "store/batch_list.h"
#include "store/clock.h"
#include "store/flush.h"
#include "store/give_back.h"
#include "store/holes.h"
#include "store/large_value.h"
#include "store/lock.h"
#include "store/mapped_storage.h"
#include "store/promise.h"
#include "store/recovery.h"
#include "store/temporary_door.h"
#include "store/use_marks.h"

namespace faultless::store {
namespace {

using format::FileState;
using format::Superblock;

constexpr uint64_t kGateTimeoutNs = 60'000'000'000;
constexpr uint32_t kGatePauseUs = 2000;
constexpr uint64_t kPinAgainNs = 1'000'000'000;

void SleepUs(uint32_t microseconds) {
  const std::atomic<uint32_t> nobody_wakes{0};
  os::WaitOnWord(&nobody_wakes, 0, microseconds);
}

}  // namespace

Status Engine::CheckKept(const Superblock& block, const KeptOptions& kept) {
  if (kept.max_bytes != 0 && kept.max_bytes / format::kUnitBytes * format::kUnitBytes != block.max_bytes) {
    return {Code::kFormat, "the store was created with another maxBytes"};
  }
  if (!kept.codec.empty() && kept.codec != block.codec)
    return {Code::kFormat, "the store was created with another encoding"};
  const bool evicts = block.on_full == static_cast<uint32_t>(format::OnFull::kEvict);
  if (kept.on_full != KeptOptions::OnFull::kNotGiven && (kept.on_full == KeptOptions::OnFull::kEvict) != evicts)
    return {Code::kFormat, "the store was created with another onFull"};
  return Code::kOk;
}

Status Engine::ReadSuperblock(int fd, Superblock* block) {
  os::FileInfo info{};
  FAULTLESS_TRY(os::StatFile(fd, &info));
  if (!info.regular) return {Code::kFormat, "not a regular file"};
  if (info.size_bytes < 2 * format::kSuperblockBytes) return {Code::kFormat, "too short for a faultless store"};
  Superblock blocks[2];
  FAULTLESS_TRY(os::ReadAt(fd, blocks, sizeof blocks, 0));
  return format::ChooseSuperblock(blocks[0], blocks[1], block);
}

Status Engine::ComposeEmpty(const KeptOptions& kept, std::vector<uint64_t>* head, uint64_t* units) {
  uint64_t max_bytes = kept.max_bytes == 0 ? kDefaultMaxBytes : kept.max_bytes;
  if (max_bytes < kMinMaxBytes || max_bytes > kLargestMaxBytes) return {Code::kOutOfRange, "maxBytes"};
  if (kept.codec.size() >= sizeof(Superblock::codec))
    return {Code::kInvalidArgValue, "the encoding's name is too long"};
  max_bytes = max_bytes / format::kUnitBytes * format::kUnitBytes;

  Superblock block{};
  block.magic = format::kSuperblockMagic;
  block.version = format::kFormatVersion;
  block.shard_count = format::kDefaultShards;
  block.slots_per_shard = format::kVersionSlots / format::kDefaultShards;
  block.generation = 1;
  block.max_bytes = max_bytes;
  block.created_ms = os::WallClockMs();
  block.state = static_cast<uint32_t>(FileState::kClean);
  block.incarnation_base = 1;
  std::memcpy(block.codec, kept.codec.data(), kept.codec.size());
  if (kept.on_full == KeptOptions::OnFull::kEvict) {
    block.on_full = static_cast<uint32_t>(format::OnFull::kEvict);
    block.features_read_compatible |= format::kReadCompatibleEvicts;
  }
  FAULTLESS_TRY(os::RandomBytes(block.store_id, sizeof block.store_id));
  FAULTLESS_TRY(os::RandomBytes(block.hash_seed, sizeof block.hash_seed));
  format::SealSuperblock(&block);

  *units = format::HeadUnits(block.shard_count) + 1;
  head->assign(format::ControlEnd(block.shard_count) / 8, 0);
  auto* const bytes = reinterpret_cast<std::byte*>(head->data());
  std::memcpy(bytes, &block, sizeof block);
  std::memcpy(bytes + format::kSuperblockBytes, &block, sizeof block);
  InitializeControl(bytes + format::kControlOffset, block.shard_count, *units, block.incarnation_base);
  return Code::kOk;
}

Status Engine::BuildEmpty(int fd, const OpenOptions& options) {
  std::vector<uint64_t> head;
  uint64_t units;
  FAULTLESS_TRY(ComposeEmpty(options.kept, &head, &units));
  os::FileInfo info{};
  FAULTLESS_TRY(os::StatFile(fd, &info));
  if (info.filesystem == os::FilesystemKind::kNetwork && !options.allow_remote) {
    return {Code::kUnsupported, "network filesystems need allowRemote"};
  }
  FAULTLESS_TRY(os::ReserveSpace(fd, 0, units * format::kUnitBytes));
  return os::WriteAt(fd, head.data(), head.size() * 8, 0);
}

Status Engine::Create(const OpenOptions& options) {
  int fd = -1;
  std::string aside;
  FAULTLESS_TRY(os::CreateAside(options.path.c_str(), options.permissions, &fd, &aside));
  const auto build = [&]() -> Status {
    FAULTLESS_TRY(BuildEmpty(fd, options));
    os::FileInfo info{};
    FAULTLESS_TRY(os::StatFile(fd, &info));
    const bool durable = info.filesystem != os::FilesystemKind::kRam;
    if (durable) FAULTLESS_TRY(os::SyncFile(fd));
    FAULTLESS_TRY(os::PublishFile(fd, aside, options.path.c_str()));
    return durable ? os::SyncDirectoryOf(options.path.c_str()) : Status();
  };
  const Status status = build();
  if (!status.ok()) os::AbandonAside(aside);
  os::CloseFile(fd);
  return status;
}

Status Engine::Open(int fd, const OpenOptions& options, std::unique_ptr<Engine>* engine) {
  Superblock block;
  os::FileInfo info{};
  Status status = ReadSuperblock(fd, &block);
  if (status.ok()) status = os::StatFile(fd, &info);
  if (status.ok() && info.filesystem == os::FilesystemKind::kNetwork && !options.allow_remote) {
    status = {Code::kUnsupported, "network filesystems need allowRemote"};
  }
  if (status.ok()) status = CheckKept(block, options.kept);
  if (!status.ok()) {
    os::CloseFile(fd);
    return status;
  }
  std::unique_ptr<MappedStorage> storage;
  const os::Access access = options.read_only ? os::Access::kReadOnly : os::Access::kReadWrite;
  FAULTLESS_TRY(MappedStorage::Create(fd, block.max_bytes, format::ControlEnd(block.shard_count), access,
                                      info.filesystem != os::FilesystemKind::kRam, &storage));
  const os::BootId boot = os::CurrentBootId();
  const FileIdentity identity{{boot.words[0], boot.words[1]}, info.device, info.inode, info.born_ns};
  return OpenOn(std::move(storage), identity, block, options, engine);
}

Status Engine::OpenOn(std::unique_ptr<Storage> storage, const FileIdentity& identity, const Superblock& block,
                      const OpenOptions& options, std::unique_ptr<Engine>* engine) {
  std::unique_ptr<Engine> opened(new Engine);
  opened->storage_ = std::move(storage);
  opened->identity_ = identity;
  Context& context = opened->context_;
  context.storage = opened->storage_.get();
  context.base = context.storage->base();
  context.superblock = block;
  context.shard_bits = static_cast<uint32_t>(std::countr_zero(block.shard_count));
  context.slot_mask = block.slots_per_shard - 1;
  context.read_only = options.read_only;
  context.fresh_copy = options.fresh_copy;
  context.temporary = options.temporary;
  context.residency = std::make_unique<Residency>(context.storage);
  if (block.on_full == static_cast<uint32_t>(format::OnFull::kEvict)) context.uses = std::make_shared<UseMarks>();
  context.hints = std::make_unique<ShardHints[]>(block.shard_count);
  FAULTLESS_TRY(opened->TakeGate());
  const Status status = opened->Begin(options);
  static_cast<void>(context.storage->UnlockByte(format::kGateByte));
  FAULTLESS_TRY(status);
  // A fault costs a fast path, not the store: without the lock the event loop reads nothing.
  context.control_locked =
      context.storage->Lock(format::kControlOffset, format::ControlEnd(block.shard_count) - format::kControlOffset)
          .ok();
  if (options.pin) FAULTLESS_TRY(opened->Pin());
  *engine = std::move(opened);
  return Code::kOk;
}

Status Engine::TakeGate() {
  const uint64_t begin = os::MonotonicNs();
  while (true) {
    bool acquired = false;
    // A read-only descriptor cannot lock exclusively; readers change nothing, so they may pass the gate together.
    FAULTLESS_TRY(storage_->TryLockByte(format::kGateByte, !context_.read_only, &acquired));
    if (acquired) return Code::kOk;
    if (os::MonotonicNs() - begin > kGateTimeoutNs)
      return {Code::kBusy, "another process is opening or recovering the store"};
    SleepUs(kGatePauseUs);
  }
}

bool Engine::MemorySurvived(const Superblock& block) const {
  const auto& header = context_.header();
  const uint64_t* const boot = identity_.boot_id;
  const bool same_boot = (boot[0] | boot[1]) != 0 && header.boot_id[0].load(std::memory_order_acquire) == boot[0] &&
                         header.boot_id[1].load(std::memory_order_acquire) == boot[1] && block.boot_id[0] == boot[0] &&
                         block.boot_id[1] == boot[1];
  return same_boot && header.inode.load(std::memory_order_acquire) == identity_.inode && IsFileOf(block);
}

bool Engine::IsFileOf(const Superblock& block) const {
  return block.inode == identity_.inode && block.device == identity_.device && block.born_ns == identity_.born_ns;
}

Status Engine::RereadSuperblock() {
  Superblock blocks[2];
  std::memcpy(blocks, context_.base, sizeof blocks);
  Superblock now;
  FAULTLESS_TRY(format::ChooseSuperblock(blocks[0], blocks[1], &now));
  const Superblock& opened = context_.superblock;
  // The mapping and its geometry were made for what was read first.
  if (std::memcmp(now.store_id, opened.store_id, sizeof now.store_id) != 0 || now.max_bytes != opened.max_bytes ||
      now.shard_count != opened.shard_count ||
      std::memcmp(now.hash_seed, opened.hash_seed, sizeof now.hash_seed) != 0) {
    return {Code::kFormat, "the file has been replaced by another store meanwhile"};
  }
  context_.superblock = now;
  return Code::kOk;
}

Status Engine::CheckControl() const {
  if (storage_->HasSubstitutes() && storage_->IsSubstituted(0, format::ControlEnd(context_.shards()))) {
    return Status::Io("the control region cannot be read", format::kControlOffset);
  }
  return Code::kOk;
}

Status Engine::Begin(const OpenOptions& options) {
  if (options.salvage) return OpenPrivately(options);  // which trusts nothing of what is looked at here
  bool others = false;
  FAULTLESS_TRY(storage_->IsByteLocked(format::kUsersByte, &others));
  if (!context_.read_only) {
    bool copied = false;
    FAULTLESS_TRY(storage_->IsByteLocked(format::kPrivateByte, &copied));
    if (copied) return {Code::kBusy, "a reader has recovered the store for itself: it must be closed first"};
  }
  uint64_t file_bytes;
  FAULTLESS_TRY(storage_->FileBytes(&file_bytes));
  if (file_bytes < (context_.head_units() + 1) * format::kUnitBytes) {
    return Status::Corrupt("the file ends within its control region", file_bytes);
  }
  storage_->WillNeed(0, format::ControlEnd(context_.shards()));  // at once: page by page it would be a hundred reads
  FAULTLESS_TRY(storage_->PopulateRead(0, format::ControlEnd(context_.shards())));
  FAULTLESS_TRY(RereadSuperblock());
  BeginClock(context_, identity_.boot_id);
  auto& header = context_.header();
  const bool clean = context_.superblock.state == static_cast<uint32_t>(FileState::kClean);
  const bool ours = header.magic.load(std::memory_order_acquire) == format::kControlMagic;
  const bool poisoned = !others && header.flush_poisoned.load(std::memory_order_acquire) != 0;
  const uint64_t published_units = context_.allocator().published_units.load(std::memory_order_acquire);
  // Asked after the word was read: others may let the file grow at any time, and reserve before they publish.
  FAULTLESS_TRY(storage_->FileBytes(&file_bytes));
  const bool published = published_units > context_.head_units() && published_units <= file_bytes / format::kUnitBytes;
  if (clean && ours && !published && !context_.read_only) {
    return Status::Corrupt("the file is shorter than it was when it was closed", file_bytes);
  }
  bool sound = ours && published;
  if (!clean) {
    sound = sound && !poisoned && MemorySurvived(context_.superblock) &&
            header.ready.load(std::memory_order_acquire) == static_cast<uint32_t>(format::ReadyState::kReady);
  }
  FAULTLESS_TRY(CheckControl());
  if (!sound && context_.read_only) return OpenPrivately(options);
  if (!sound && others) {
    bool writers = false;
    FAULTLESS_TRY(storage_->IsByteLocked(format::kWritersByte, &writers));
    return writers ? Status::Corrupt("the control region is damaged while others use it", format::kControlOffset)
                   : Status(Code::kBusy, "the store must be recovered, and readers have it open");
  }
  bool acquired = false;
  if (context_.read_only) {
    FAULTLESS_TRY(storage_->TryLockByte(format::kUsersByte, false, &acquired));
    return acquired ? Status() : Status(Code::kBusy);
  }
  if (!sound) {
    FAULTLESS_TRY(RecoverStore(options));
  } else {
    // Zeros may be holes in a copy: what is stored to from now on has space. What is no copy has it.
    if (clean && !IsFileOf(context_.superblock)) FAULTLESS_TRY(ReserveAll(context_));
    if (clean || !others) {
      // Before the file says that it is open: who dies in between leaves nothing to recover.
      StampControl();
      Status marked = storage_->Sync();  // as in RecoverStore
      if (marked.ok()) marked = WriteSuperblock(FileState::kOpen);
      if (!marked.ok()) {
        // A sync failed: whether what memory shows is on the device is not known. The next opener recovers.
        header.ready.store(static_cast<uint32_t>(format::ReadyState::kNotReady), std::memory_order_release);
        return marked;
      }
    }
    FAULTLESS_TRY(TakeOpenerSlot(true));
  }
  if (!sound) StampControl();
  FollowWallClock(context_);
  FAULTLESS_TRY(CheckControl());
  FAULTLESS_TRY(storage_->TryLockByte(format::kUsersByte, false, &acquired));
  if (acquired) FAULTLESS_TRY(storage_->TryLockByte(format::kWritersByte, false, &acquired));
  return acquired ? Status() : Status(Code::kBusy);
}

void Engine::StampControl() {
  auto& header = context_.header();
  header.boot_id[0].store(identity_.boot_id[0], std::memory_order_release);
  header.boot_id[1].store(identity_.boot_id[1], std::memory_order_release);
  header.inode.store(identity_.inode, std::memory_order_release);
  header.flush_poisoned.store(0, std::memory_order_release);
  header.ready.store(static_cast<uint32_t>(format::ReadyState::kReady), std::memory_order_release);
}

Status Engine::RecoverStore(const OpenOptions& options) {
  auto& header = context_.header();
  // A copy may have a hole wherever there were zeros.
  FAULTLESS_TRY(storage_->Reserve(0, (context_.head_units() + 1) * format::kUnitBytes));
  // After a failed sync the kernel calls pages clean that it could not write: what counts is what the device has.
  storage_->DropCache();
  storage_->WillNeed(0, (context_.head_units() + 1) * format::kUnitBytes);
  header.ready.store(static_cast<uint32_t>(format::ReadyState::kNotReady), std::memory_order_release);
  context_.superblock.incarnation_base += uint64_t{1} << 40;
  // The newest superblock may be in memory only, written by who died before its sync: the other one, which is about to
  // be written, would be all that the device has.
  FAULTLESS_TRY(storage_->Sync());
  // The new incarnations are on the device before anything uses one.
  FAULTLESS_TRY(WriteSuperblock(FileState::kOpen));
  FAULTLESS_TRY(TakeOpenerSlot(false));
  context_.recovering = true;
  const Status recovered = Recover(context_, Salvage::kNone, options.on_progress);
  context_.recovering = false;
  FAULTLESS_TRY(recovered);
  header.recoveries.fetch_add(1, std::memory_order_acq_rel);
  // Recovery has cleared the openers' generations, ours among them.
  context_.opener(context_.opener_slot)
      .generation.store(context_.owner_word >> format::kLockSlotBits, std::memory_order_release);
  FAULTLESS_TRY(storage_->Sync());
  for (uint32_t i = 0; i < context_.shards() && context_.promises(); i++) {
    const QueuePlace end = EndOfQueue(context_, i);
    if (end.position != 0) StorePromise(context_, i, end);
  }
  // Whether free units have space is not known: now it is, and they take none.
  PunchHoles(context_);
  return Code::kOk;
}

Status Engine::TakeOpenerSlot(bool settle) {
  bool found = false;
  for (uint32_t slot = 0; slot < format::kOpenerSlots; slot++) {
    const bool pending = settle && [&] {
      for (const format::Word& chain : context_.pending(slot).chains) {
        if (chain.load(std::memory_order_acquire) != 0) return true;
      }
      return false;
    }();
    if (found && !pending) continue;
    bool acquired = false;
    FAULTLESS_TRY(storage_->TryLockByte(format::kOpenerBytes + slot, true, &acquired));
    if (!acquired) continue;
    if (found) {
      // Another dead opener's: where somebody holds a lock just now, the next opener settles it.
      const Status settled = SettleDead(slot);
      FAULTLESS_TRY(storage_->UnlockByte(format::kOpenerBytes + slot));
      if (!settled.ok() && settled.code() != Code::kWouldBlock) return settled;
      continue;
    }
    auto& opener = context_.opener(slot);
    const uint32_t before = opener.generation.load(std::memory_order_acquire);
    uint32_t generation = before;
    do {
      generation = (generation + 1) & format::kLockGenerationMask;
      if (generation == format::kLockGenerationMask) generation = 1;  // with slot 1,023 and a waiter: all ones
    } while (IsLockWord(generation << format::kLockSlotBits | (slot + 1)));
    opener.process_id.store(os::ProcessId(), std::memory_order_release);
    opener.generation.store(generation, std::memory_order_release);
    context_.opener_slot = slot;
    context_.owner_word = generation << format::kLockSlotBits | (slot + 1);
    // What an earlier user of the slot left decided and not applied may name the slot's own words: a slot is used again
    // only when nothing of that is left.
    const Status settled = settle && (before != 0 || pending) ? SettleDead(slot) : Status();
    if (settled.code() == Code::kWouldBlock) {
      context_.owner_word = 0;
      FAULTLESS_TRY(storage_->UnlockByte(format::kOpenerBytes + slot));
      continue;
    }
    FAULTLESS_TRY(settled);
    found = true;
  }
  return found ? Status() : Status(Code::kBusy, "512 processes have the store open");
}

bool Engine::IsLockWord(uint32_t word) const {
  const auto names = [word](const format::HalfWord& lock) {
    return (lock.load(std::memory_order_acquire) & ~format::kLockWaiters) == word;
  };
  for (uint32_t i = 0; i < context_.shards(); i++) {
    if (names(context_.shard(i).lock)) return true;
  }
  return names(context_.allocator().lock) || names(context_.allocator().flush_lock) ||
         names(context_.header().batch_lock);
}

Status Engine::SettleDead(uint32_t slot) {
  {
    const AllocatorLock lock(context_);
    FAULTLESS_TRY(lock.status());
  }
  {
    const BatchLock lock(context_);
    // The list of a batch that cannot be done is on one of these chains: they stay.
    if (lock.status().code() == Code::kCorrupt) return Code::kOk;
    FAULTLESS_TRY(lock.status());
  }
  for (uint32_t i = 0; i < context_.shards(); i++) {
    const ShardLock lock(context_, i);
    // Damage is that shard's own: the others can be used.
    if (lock.status().code() != Code::kCorrupt) FAULTLESS_TRY(lock.status());
  }
  return FreePendingChains(context_, slot);
}

Status Engine::WriteSuperblock(FileState state) {
  Superblock& block = context_.superblock;
  block.state = static_cast<uint32_t>(state);
  block.generation++;
  block.boot_id[0] = identity_.boot_id[0];
  block.boot_id[1] = identity_.boot_id[1];
  block.inode = identity_.inode;
  block.device = identity_.device;
  block.born_ns = identity_.born_ns;
  if (state == FileState::kClean) {
    block.settled_batches = context_.header().next_batch.load(std::memory_order_acquire);
  }
  format::SealSuperblock(&block);
  FAULTLESS_TRY(storage_->Write(block.generation % 2 * format::kSuperblockBytes, &block, sizeof block));
  return storage_->Sync();
}

void Engine::KeepDoor(std::unique_ptr<TemporaryDoor> door) { door_ = std::move(door); }

Status Engine::Close() {
  Status status;
  if (context_.read_only) {
    // Now, not with the descriptor: somebody may keep the mapping for a while.
    status = storage_->UnlockByte(format::kPrivateByte);
    if (status.ok()) status = storage_->UnlockByte(format::kUsersByte);
  } else {
    status = CloseWriting();
  }
  if (door_ == nullptr) return status;
  const Status left = door_->Leave();
  door_.reset();
  return status.ok() ? left : status;
}

Status Engine::CloseWriting() {
  FAULTLESS_TRY(TakeGate());
  const auto finish = [&]() -> Status {
    FAULTLESS_TRY(storage_->UnlockByte(format::kUsersByte));
    FAULTLESS_TRY(storage_->UnlockByte(format::kWritersByte));
    bool others = false;
    FAULTLESS_TRY(storage_->IsByteLocked(format::kWritersByte, &others));
    if (others || context_.temporary) return Code::kOk;
    if (context_.header().flush_poisoned.load(std::memory_order_acquire) != 0) {
      return {Code::kIo, "an earlier flush failed: the next open recovers"};
    }
    // A substitute page is private: what this process sees is not what the file has.
    if (storage_->HasSubstitutes() && storage_->Restore() > 0) return {Code::kIo, "part of the file cannot be read"};
    // What could not be put back is on a chain that the next opener frees.
    static_cast<void>(FinishPunching(context_));
    NoteClock(context_);
    // What the mark promises must be on the device before the mark is; and what was closed is promised from now on, so
    // that no extent goes that an older mark in a queue still counts. Where there is no room for marks the sync must
    // do.
    const Status flushed = Flush(context_);
    if (flushed.code() == Code::kIo) return flushed;
    Status marked = storage_->Sync();
    if (marked.ok()) {
      FAULTLESS_TRY(RereadSuperblock());
      marked = WriteSuperblock(FileState::kClean);
      // The mark may be in memory only. A younger one takes it back there, in the same place: the other superblock is
      // the one that the device is known to have.
      if (!marked.ok()) {
        context_.superblock.generation++;
        static_cast<void>(WriteSuperblock(FileState::kOpen));
      }
    }
    if (!marked.ok()) {
      // The kernel calls pages clean that the device does not have, and forgets them when it likes: the next opener
      // recovers, also in this boot.
      context_.header().ready.store(static_cast<uint32_t>(format::ReadyState::kNotReady), std::memory_order_release);
    }
    return marked;
  };
  const Status status = finish();
  static_cast<void>(storage_->UnlockByte(format::kOpenerBytes + context_.opener_slot));
  static_cast<void>(storage_->UnlockByte(format::kGateByte));
  return status;
}

Status Engine::Pin() {
  const uint64_t units = context_.PublishedUnits();
  const uint64_t punches = context_.allocator().punches.load(std::memory_order_acquire);
  FAULTLESS_TRY(storage_->Lock(0, units * format::kUnitBytes));
  context_.pinned_punches.store(punches, std::memory_order_release);
  context_.pinned_at_ns.store(os::MonotonicNs(), std::memory_order_relaxed);
  context_.pinned_units.store(units, std::memory_order_release);
  context_.pin.store(true, std::memory_order_release);
  return Code::kOk;
}

void Engine::ExtendPin() {
  if (!context_.pin.load(std::memory_order_acquire)) return;
  const uint64_t published = context_.PublishedUnits();
  const uint64_t pinned = context_.pinned_units.load(std::memory_order_acquire);
  if (context_.allocator().punches.load(std::memory_order_acquire) != context_.pinned_punches.load() &&
      os::MonotonicNs() - context_.pinned_at_ns.load() > kPinAgainNs) {
    // Others have punched what was locked. Until it is locked again, reads prove residency instead.
    static_cast<void>(Pin());
    return;
  }
  if (published <= pinned) return;
  // Where the limit refuses, reads above the watermark prove residency instead.
  if (storage_->Lock(pinned * format::kUnitBytes, (published - pinned) * format::kUnitBytes).ok()) {
    context_.pinned_units.store(published, std::memory_order_release);
  }
}

Engine::~Engine() = default;

}  // namespace faultless::store
