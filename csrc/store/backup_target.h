// Purpose: the file that a backup makes: built aside, filled run by run at the places that the runs have in the source,
// made a closed store of its own by a recovery, and only then given its name.
// Thread safety: one thread at a time. May wait; also its destructor.
// Invariants: until Publish nothing is to be found at the path, whatever happens to the process; what is there already
// is never replaced. An entry of its tables says what the run's bytes are: it is written after them, and cleared before
// other bytes come in their place.
// Ownership: owns the file; nothing of it is left where it is destroyed without having been published.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "format/superblock.h"
#include "store/context.h"
#include "store/mapped_storage.h"

namespace faultless::store {

class Engine;

/** What a shard was at the moment that the backup shows. */
struct ShardCut {
  uint64_t head, head_unit, head_sequence, tail_unit, tail_sequence;
  uint64_t keys, live_bytes, value_bytes;
};

class BackupTarget {
 public:
  /** kExists, kNotFound and kAccess (the directory), kNoSpace, kIo. The source outlives the copying, not the target. */
  static Status Create(const Context& source, const std::string& path, std::unique_ptr<BackupTarget>* target);
  ~BackupTarget();
  BackupTarget(const BackupTarget&) = delete;
  BackupTarget& operator=(const BackupTarget&) = delete;

  /** Whether the run is there as the source has it. */
  bool Holds(uint64_t unit, const format::EntryView& run) const;
  /** Makes room for the run: what was there before counts no more. */
  Status Prepare(uint64_t unit, uint32_t size_class);
  /**
   * Copies part of the source, which the caller has read. *of_source: the failure is the source's. `share`: without a
   * way through this process, where the system can.
   */
  Status Copy(uint64_t offset, uint64_t length, bool share, bool* of_source);
  void Note(uint64_t unit, const format::EntryView& run);

  /**
   * May take long. Makes it a closed store that shows the cut: extents that are in no queue any more go, a recovery
   * builds the index and so reads all of it. kCorrupt: what comes out is not what was counted at the cut. A shard
   * without a number of keys to compare has kUnknownKeys.
   */
  Status Build(const std::vector<ShardCut>& cut, const std::function<void(uint64_t done, uint64_t total)>& on_progress);
  /** Opens it as the empty store that it is before anything has been copied. */
  Status OpenEmpty(std::unique_ptr<Engine>* engine);
  /** Closes what Build or the caller of OpenEmpty has filled; free units take no space. */
  static Status Finish(Engine* engine);
  static constexpr uint64_t kUnknownKeys = ~uint64_t{0};
  /** Gives it its name, for good. kExists. */
  Status Publish();

 private:
  explicit BackupTarget(const Context& source, std::string path);
  Status Initialize();
  Status Extend(uint64_t end_unit);
  /** Drops extents that are in no queue of the cut, and the end of the file where nothing is. */
  Status Trim(const std::vector<ShardCut>& cut);
  Status CheckCut(const Context& built, const std::vector<ShardCut>& cut) const;
  Status Open(const std::function<void(uint64_t done, uint64_t total)>& on_progress, std::unique_ptr<Engine>* engine);

  const Context& source_;
  const std::string path_;
  int fd_ = -1;
  std::string aside_;
  bool durable_ = true;
  bool can_share_ = true;
  uint64_t units_ = 0;  // how long the file is
  format::Superblock superblock_;
  std::unique_ptr<MappedStorage> storage_;  // until it is built
  Context context_;
  std::vector<uint8_t> piece_ = std::vector<uint8_t>(format::kUnitBytes);
};

}  // namespace faultless::store
