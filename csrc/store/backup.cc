#include "store/backup.h"

#include <chrono>
#include <optional>

#include "os/os.h"
#include "store/verify_moment.h"

namespace faultless::store {
namespace {

constexpr int kMaxRounds = 300;
constexpr auto kBuildingWait = std::chrono::milliseconds(10);

ShardCut ReadCut(const Memory& memory, const format::ShardControl& shard) {
  const auto load = [&](const format::Word& word) { return memory.Load(memory.context.OffsetOf(&word)); };
  return {load(shard.head),          load(shard.head_unit), load(shard.head_sequence), load(shard.tail_unit),
          load(shard.tail_sequence), load(shard.keys),      load(shard.live_bytes),    load(shard.value_bytes)};
}

}  // namespace

/** What the building thread and the steps share: the thread may outlive the backup. */
struct Backup::Building {
  std::unique_ptr<BackupTarget> target;  // the thread's, until it is over
  std::vector<ShardCut> cut;
  std::mutex mutex;  // guards the rest
  std::condition_variable changed;
  uint64_t done = 0;
  uint64_t total = 1;
  bool over = false;
  bool unwanted = false;
  Status status;

  void Run() {
    const Status built = target->Build(cut, [this](uint64_t now_done, uint64_t of_total) {
      const std::lock_guard guard(mutex);
      done = now_done;
      total = of_total;
    });
    std::unique_lock guard(mutex);
    over = true;
    status = built;
    changed.notify_all();
    if (!unwanted) return;
    guard.unlock();
    target.reset();
  }
};

Backup::Backup(const Context& context, std::string path) : context_(context), path_(std::move(path)) {
  for (uint32_t i = 0; i < context.shards(); i++) {
    const format::ShardControl& shard = context.shard(i);
    total_bytes_ +=
        shard.queue_bytes.load(std::memory_order_relaxed) + shard.value_bytes.load(std::memory_order_relaxed);
  }
  // A damaged counter is no reason for a senseless total.
  total_bytes_ = std::clamp<uint64_t>(total_bytes_, 1, context.PublishedUnits() * format::kUnitBytes);
}

Backup::~Backup() { Discard(); }

void Backup::Discard() {
  shards_.clear();
  scan_.reset();
  target_.reset();
  if (building_ == nullptr) return;
  std::unique_lock guard(building_->mutex);
  building_->unwanted = true;
  const bool over = building_->over;
  guard.unlock();
  // Where the thread is still at it, it removes the file in the end.
  if (over) building_->target.reset();
  building_.reset();
}

Status Backup::Step() {
  failed_at_target_ = false;
  switch (phase_) {
    case Phase::kBegin:
      return Begin();
    case Phase::kCut:
      return Cut();
    case Phase::kCopy:
      return Copy();
    case Phase::kBuild:
      return WaitForBuilding();
    case Phase::kScan:
      return Scan();
    case Phase::kDone:
      return Code::kOk;
  }
  return Code::kOk;
}

Status Backup::Begin() {
  failed_at_target_ = true;
  FAULTLESS_TRY(BackupTarget::Create(context_, path_, &target_));
  failed_at_target_ = false;
  if (context_.private_copy) {
    scan_ = std::make_unique<ScanBackup>(context_, target_.get());
    phase_ = Phase::kScan;
    return Code::kOk;
  }
  // From the first block on that the two files share, whoever takes a run of the source must get one of its own.
  if (!context_.read_only && context_.storage->durable()) {
    context_.allocator().reserve_taken.store(1, std::memory_order_release);
  }
  for (uint32_t i = 0; i < context_.shards(); i++) {
    shards_.push_back(std::make_unique<ShardBackup>(context_, i, target_.get()));
  }
  phase_ = Phase::kCut;
  return Code::kOk;
}

/** All shards as they were at one moment. */
Status Backup::Cut() {
  const uint64_t control = format::kControlOffset;
  if (context_.storage->HasSubstitutes() &&
      context_.storage->IsSubstituted(control, format::ControlEnd(context_.shards()) - control)) {
    context_.storage->Restore();
    if (context_.storage->IsSubstituted(control, format::ControlEnd(context_.shards()) - control))
      return Status::Io("the control region cannot be read", control);
  }
  bool cut = false;
  for (int attempt = 0; !cut && attempt < kMomentAttempts; attempt++) {
    cut = TryCut();
    if (!cut) PauseForWriter();
  }
  if (!cut && context_.read_only) return Code::kWouldBlock;
  if (!cut) FAULTLESS_TRY(CutUnderLocks());
  for (uint32_t i = 0; i < context_.shards(); i++) shards_[i]->BeginRound(cut_[i]);
  next_shard_ = 0;
  rounds_++;
  phase_ = Phase::kCopy;
  return Code::kOk;
}

/** Where no transaction was applied between two looks at all shards, what was seen was true together. */
bool Backup::TryCut() {
  const uint32_t shards = context_.shards();
  std::vector<uint64_t> commits(shards);
  std::vector<std::optional<Overlay>> overlays(shards);
  std::vector<ShardCut> cut(shards);
  const uint64_t changes = context_.storage->SubstituteChanges();
  for (uint32_t i = 0; i < shards; i++) {
    commits[i] = context_.shard(i).commits.load(std::memory_order_acquire);
    if ((commits[i] & 1) == 0) continue;
    if (!context_.read_only || !overlays[i].emplace().Capture(context_, i)) return false;
  }
  for (uint32_t i = 0; i < shards; i++) {
    cut[i] = ReadCut(Memory{context_, overlays[i].has_value() ? &*overlays[i] : nullptr}, context_.shard(i));
  }
  for (uint32_t i = 0; i < shards; i++) {
    if (context_.shard(i).commits.load(std::memory_order_acquire) != commits[i]) return false;
  }
  if (context_.storage->SubstituteChanges() != changes) return false;
  cut_ = std::move(cut);
  return true;
}

/** The same where writers leave no such moment, or one has died in the midst. */
Status Backup::CutUnderLocks() {
  std::vector<std::unique_ptr<ShardLock>> locks;
  for (uint32_t i = 0; i < context_.shards(); i++) {
    locks.push_back(std::make_unique<ShardLock>(context_, i));
    FAULTLESS_TRY(locks.back()->status());
  }
  cut_.clear();
  for (uint32_t i = 0; i < context_.shards(); i++) cut_.push_back(ReadCut(Memory{context_}, context_.shard(i)));
  return Code::kOk;
}

Status Backup::Copy() {
  if (next_shard_ == shards_.size()) return EndRound();
  ShardBackup& shard = *shards_[next_shard_];
  if (shard.at_cut()) {
    next_shard_++;
    return Code::kOk;
  }
  const Status status = shard.Step();
  failed_at_target_ = !status.ok() && shard.failed_at_target();
  return status;
}

Status Backup::EndRound() {
  bool all_whole = true;
  for (const auto& shard : shards_) {
    bool whole;
    FAULTLESS_TRY(shard->EndRound(&whole));
    all_whole = all_whole && whole;
  }
  if (all_whole) {
    StartBuilding();
    return Code::kOk;
  }
  if (rounds_ == kMaxRounds) return {Code::kBusy, "the store is written faster than it can be copied"};
  phase_ = Phase::kCut;
  return Code::kOk;
}

/** On a thread of its own: a recovery has no steps, and no thread that others share may be held for so long. */
void Backup::StartBuilding() {
  for (size_t i = 0; i < shards_.size(); i++) {
    // What has expired, or was evicted, may go without a trace.
    if (shards_[i]->expiring() || context_.evicts()) cut_[i].keys = BackupTarget::kUnknownKeys;
  }
  building_ = std::make_shared<Building>();
  building_->target = std::move(target_);
  building_->cut = std::move(cut_);
  const auto run = [](void* argument) {
    const std::unique_ptr<std::shared_ptr<Building>> building(static_cast<std::shared_ptr<Building>*>(argument));
    (*building)->Run();
  };
  auto* const shared = new std::shared_ptr<Building>(building_);
  if (!os::StartThread(run, shared).ok()) run(shared);
  phase_ = Phase::kBuild;
}

Status Backup::WaitForBuilding() {
  Building& building = *building_;
  std::unique_lock guard(building.mutex);
  if (!building.changed.wait_for(guard, kBuildingWait, [&] { return building.over; })) return Code::kOk;
  if (building.status.ok()) {
    target_ = std::move(building.target);
    phase_ = Phase::kDone;
  } else {
    failed_at_target_ = building.status.code() != Code::kCorrupt;
  }
  return building.status;
}

Status Backup::Scan() {
  const Status status = scan_->Step();
  failed_at_target_ = !status.ok() && scan_->failed_at_target();
  if (status.ok() && scan_->done()) phase_ = Phase::kDone;
  return status;
}

Status Backup::Publish() {
  const Status published = target_->Publish();
  failed_at_target_ = !published.ok();
  return published;
}

void Backup::Progress(uint64_t* done, uint64_t* total) const {
  // Half of it is copying, the other half building.
  *total = 2 * total_bytes_;
  if (phase_ == Phase::kDone) {
    *done = *total;
  } else if (building_ != nullptr) {
    const std::lock_guard guard(building_->mutex);
    const double share =
        static_cast<double>(building_->done) / static_cast<double>(std::max<uint64_t>(building_->total, 1));
    *done = total_bytes_ + static_cast<uint64_t>(share * static_cast<double>(total_bytes_ - 1));
  } else if (scan_ != nullptr) {
    *done = std::min(2 * scan_->copied_bytes(), *total - 1);
  } else {
    uint64_t copied = 0;
    for (const auto& shard : shards_) copied += shard->copied_bytes();
    *done = std::min(copied, total_bytes_);
  }
}

}  // namespace faultless::store
