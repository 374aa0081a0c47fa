// Purpose: a copy of a whole store that shows it as it was at one moment, made in bounded steps while everybody reads,
// writes and dies (docs/concurrency.md, "Backup").
// Thread safety: one thread at a time per object, any number of objects. May wait; also the destructor, and Discard().
// Invariants: takes no lock but where writers leave it no moment; holds up nobody's cleaning. Nothing is to be found at
// the path before Publish has succeeded.
// Ownership: the target is this object's; while it is built, also the building thread's.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "store/backup_scan.h"
#include "store/backup_shard.h"

namespace faultless::store {

class Backup {
 public:
  Backup(const Context& context, std::string path);
  ~Backup();
  Backup(const Backup&) = delete;
  Backup& operator=(const Backup&) = delete;

  /**
   * One bounded step. kOk, or kWouldBlock: do it again, without holding a thread meanwhile. kExists, kNotFound,
   * kAccess, kNoSpace, kUnsupported: the path. kIo: either. kCorrupt: the store. kBusy: it is written faster than it
   * can be copied.
   */
  Status Step();
  /** Whether all is copied and whole: Publish() is all that is left to do. */
  bool done() const { return phase_ == Phase::kDone; }
  /** Once done: the file is at the path from now on, also after a power cut. */
  Status Publish();
  /** Nothing is left of the file. The last call. */
  void Discard();

  /** How far it is; never goes back, and ends at *total. */
  void Progress(uint64_t* done, uint64_t* total) const;
  /** Whether the failure that was answered last is the target's. */
  bool failed_at_target() const { return failed_at_target_; }
  /** How often the moment to show had to be chosen anew. */
  int rounds() const { return rounds_; }

 private:
  enum class Phase : uint8_t { kBegin, kCut, kCopy, kBuild, kScan, kDone };
  struct Building;

  Status Begin();
  Status Cut();
  bool TryCut();
  Status CutUnderLocks();
  Status Copy();
  Status EndRound();
  void StartBuilding();
  Status WaitForBuilding();
  Status Scan();

  const Context& context_;
  const std::string path_;
  Phase phase_ = Phase::kBegin;
  std::unique_ptr<BackupTarget> target_;
  std::unique_ptr<ScanBackup> scan_;  // of a private store, in the place of all below
  std::vector<std::unique_ptr<ShardBackup>> shards_;
  std::vector<ShardCut> cut_;
  size_t next_shard_ = 0;
  int rounds_ = 0;
  uint64_t total_bytes_ = 0;
  std::shared_ptr<Building> building_;
  bool failed_at_target_ = false;
};

}  // namespace faultless::store
