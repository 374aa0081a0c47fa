#include "store/backup_target.h"

#include <bit>

#include "os/os.h"
#include "store/allocator.h"
#include "store/clock.h"
#include "store/engine.h"
#include "store/flush.h"
#include "store/give_back.h"
#include "store/recovery.h"
#include "store/shared_bytes.h"

namespace faultless::store {
namespace {

using format::EntryView;
using format::FileState;
using format::RunKind;
using format::TableEntry;

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr uint32_t kPermissions = 0600;
constexpr uint64_t kGrowthUnits = 1024;  // 64 MiB: the file is lengthened in steps, which costs no space

}  // namespace

BackupTarget::BackupTarget(const Context& source, std::string path)
    : source_(source), path_(std::move(path)), superblock_(source.superblock) {}

BackupTarget::~BackupTarget() {
  storage_.reset();
  if (fd_ < 0) return;
  os::AbandonAside(aside_);
  os::CloseFile(fd_);
}

Status BackupTarget::Create(const Context& source, const std::string& path, std::unique_ptr<BackupTarget>* target) {
  // Who names a file that is there is told so before the long copy, not only after it.
  os::FileInfo there{};
  const Status found = os::StatPath(path.c_str(), &there);
  if (found.ok()) return Code::kExists;
  if (found.code() != Code::kNotFound) return found;
  std::unique_ptr<BackupTarget> created(new BackupTarget(source, path));
  FAULTLESS_TRY(os::CreateAside(path.c_str(), kPermissions, &created->fd_, &created->aside_));
  FAULTLESS_TRY(created->Initialize());
  *target = std::move(created);
  return Code::kOk;
}

Status BackupTarget::Initialize() {
  // From now on it and its source go separate ways: another store, with the same seed, or no seal would fit.
  FAULTLESS_TRY(os::RandomBytes(superblock_.store_id, sizeof superblock_.store_id));
  superblock_.created_ms = os::WallClockMs();
  superblock_.generation = 1;
  superblock_.state = static_cast<uint32_t>(FileState::kOpen);
  superblock_.boot_id[0] = superblock_.boot_id[1] = 0;
  superblock_.inode = superblock_.device = superblock_.born_ns = 0;
  format::SealSuperblock(&superblock_);

  os::FileInfo info{};
  FAULTLESS_TRY(os::StatFile(fd_, &info));
  durable_ = info.filesystem != os::FilesystemKind::kRam;
  int mapped = -1;
  FAULTLESS_TRY(os::Duplicate(fd_, &mapped));
  FAULTLESS_TRY(MappedStorage::Create(mapped, superblock_.max_bytes, format::ControlEnd(superblock_.shard_count),
                                      os::Access::kReadWrite, durable_, &storage_));
  context_.storage = storage_.get();
  context_.base = storage_->base();
  context_.superblock = superblock_;
  context_.shard_bits = static_cast<uint32_t>(std::countr_zero(superblock_.shard_count));
  context_.slot_mask = superblock_.slots_per_shard - 1;

  units_ = context_.head_units() + 1;
  FAULTLESS_TRY(storage_->Reserve(0, units_ * format::kUnitBytes));
  FAULTLESS_TRY(storage_->Write(0, &superblock_, sizeof superblock_));
  FAULTLESS_TRY(storage_->Write(format::kSuperblockBytes, &superblock_, sizeof superblock_));
  FAULTLESS_TRY(storage_->PopulateWrite(0, units_ * format::kUnitBytes));
  InitializeControl(context_.base + format::kControlOffset, context_.shards(), units_, superblock_.incarnation_base);
  CarryClock(source_, context_);
  return Code::kOk;
}

Status BackupTarget::Extend(uint64_t end_unit) {
  if (end_unit <= units_) return Code::kOk;
  const uint64_t end = std::min(std::max(end_unit, units_ + kGrowthUnits), context_.max_units());
  FAULTLESS_TRY(os::SetFileSize(fd_, end * format::kUnitBytes));
  // Tables are stored to by the mapping: their space must be there.
  constexpr uint64_t kGroup = format::kUnitsPerGroup;
  for (uint64_t table = (units_ + kGroup - 1) / kGroup * kGroup; table < end; table += kGroup) {
    FAULTLESS_TRY(storage_->Reserve(table * format::kUnitBytes, format::kUnitBytes));
    FAULTLESS_TRY(storage_->PopulateWrite(table * format::kUnitBytes, format::kUnitBytes));
  }
  units_ = end;
  context_.allocator().published_units.store(end, kRelaxed);
  return Code::kOk;
}

bool BackupTarget::Holds(uint64_t unit, const EntryView& run) const {
  EntryView view;
  return ReadRun(context_, unit, run.kind, &view) && view.incarnation == run.incarnation &&
         view.size_class == run.size_class;
}

Status BackupTarget::Prepare(uint64_t unit, uint32_t size_class) {
  const uint64_t end = unit + (uint64_t{1} << size_class);
  FAULTLESS_TRY(Extend(end));
  for (uint32_t larger = size_class + 1; larger <= format::kMaxExtentClass; larger++) {
    TableEntry& entry = context_.entry(unit & ~((uint64_t{1} << larger) - 1));
    if (format::ClassOf(entry.identity.load(kRelaxed)) >= larger) entry.identity.store(0, kRelaxed);
  }
  for (uint64_t i = unit; i < end; i++) context_.entry(i).identity.store(0, kRelaxed);
  return Code::kOk;
}

Status BackupTarget::Copy(uint64_t offset, uint64_t length, bool share, bool* of_source) {
  Storage& source = *source_.storage;
  *of_source = false;
  if (share && can_share_) {
    const Status copied = source.CopyTo(fd_, offset, length);
    if (copied.ok()) return Code::kOk;
    // Whose failure it was, writing will tell.
    can_share_ = copied.code() != Code::kUnsupported;
  }
  while (length > 0) {
    const uint64_t part = std::min<uint64_t>(length, piece_.size());
    const uint64_t changes = source.SubstituteChanges();
    CopyFromShared(piece_.data(), source_.base + offset, part);
    if (source.HasSubstitutes() && source.IsSubstituted(offset, part)) {
      if (source.Restore() == 0 || !source.IsSubstituted(offset, part)) continue;
      *of_source = true;
      return Status::Io("a page of the file cannot be read", offset);
    }
    if (source.SubstituteChanges() != changes) continue;
    FAULTLESS_TRY(os::WriteAt(fd_, piece_.data(), part, offset));
    offset += part;
    length -= part;
  }
  return Code::kOk;
}

void BackupTarget::Note(uint64_t unit, const EntryView& run) {
  TableEntry& entry = context_.entry(unit);
  entry.incarnation.store(run.incarnation, kRelaxed);
  entry.sequence.store(run.sequence, kRelaxed);
  entry.identity.store(format::IdentityOf(run.kind, run.size_class, run.shard, run.incarnation, run.sequence, unit),
                       kRelaxed);
}

Status BackupTarget::Trim(const std::vector<ShardCut>& cut) {
  uint64_t end = context_.head_units() + 1;
  for (uint64_t unit = end; unit < units_;) {
    EntryView run;
    if (context_.IsTableUnit(unit) || !format::ReadEntry(context_.entry(unit), unit, &run)) {
      unit++;
      continue;
    }
    const uint64_t next = unit + (uint64_t{1} << run.size_class);
    const bool left =
        run.kind == RunKind::kQueue && (cut[run.shard].head == 0 || run.sequence < cut[run.shard].tail_sequence);
    if (left) {
      context_.entry(unit).identity.store(0, kRelaxed);
    } else {
      end = next;
    }
    unit = next;
  }
  for (const ShardCut& shard : cut) {
    // Where recovery ends a queue.
    if (shard.head != 0) FAULTLESS_TRY(storage_->Reserve(shard.head & ~uint64_t{7}, sizeof(format::RecordHeader)));
  }
  if (storage_->HasSubstitutes()) return {Code::kIo, "a page of the copy cannot be written"};
  units_ = end;
  storage_.reset();
  return os::SetFileSize(fd_, end * format::kUnitBytes);
}

Status BackupTarget::Open(const std::function<void(uint64_t, uint64_t)>& on_progress, std::unique_ptr<Engine>* engine) {
  OpenOptions options;
  options.path = path_;
  options.create = false;
  options.allow_remote = true;  // nobody else knows the file
  options.fresh_copy = true;
  options.on_progress = on_progress;
  int fd = -1;
  FAULTLESS_TRY(os::Duplicate(fd_, &fd));
  return Engine::Open(fd, options, engine);
}

Status BackupTarget::Build(const std::vector<ShardCut>& cut,
                           const std::function<void(uint64_t, uint64_t)>& on_progress) {
  FAULTLESS_TRY(Trim(cut));
  std::unique_ptr<Engine> engine;
  FAULTLESS_TRY(Open(on_progress, &engine));
  FAULTLESS_TRY(CheckCut(engine->context(), cut));
  return Finish(engine.get());
}

Status BackupTarget::OpenEmpty(std::unique_ptr<Engine>* engine) {
  FAULTLESS_TRY(Trim(std::vector<ShardCut>(source_.shards())));
  return Open(nullptr, engine);
}

Status BackupTarget::Finish(Engine* engine) {
  Context& built = engine->context();
  // What waits for a flush is free after it.
  FAULTLESS_TRY(Flush(built));
  // What was copied and died since, and the ends of runs that recovery split, take no space.
  Status punched;
  while (punched.ok()) punched = PunchOneRun(built, built.PublishedUnits());
  if (punched.code() != Code::kAbsent) return punched;
  built.header().recoveries.store(0, kRelaxed);  // that was its birth
  return engine->Close();
}

Status BackupTarget::CheckCut(const Context& built, const std::vector<ShardCut>& cut) const {
  for (uint32_t i = 0; i < built.shards(); i++) {
    if (cut[i].keys == kUnknownKeys) continue;
    const format::ShardControl& shard = built.shard(i);
    if (shard.keys.load(kRelaxed) == cut[i].keys && shard.live_bytes.load(kRelaxed) == cut[i].live_bytes &&
        shard.value_bytes.load(kRelaxed) == cut[i].value_bytes) {
      continue;
    }
    return Status::Corrupt("the records of a shard are not those that it counts", built.OffsetOf(&shard.keys));
  }
  return Code::kOk;
}

Status BackupTarget::Publish() {
  FAULTLESS_TRY(os::PublishFile(fd_, aside_, path_.c_str()));
  aside_.clear();
  const Status synced = durable_ ? os::SyncDirectoryOf(path_.c_str()) : Status();
  // A name that may be gone after a power cut is none.
  if (!synced.ok()) static_cast<void>(os::Unlink(path_.c_str()));
  return synced;
}

}  // namespace faultless::store
