// Purpose: the copy of a store that a reader has recovered or salvaged in private memory (private_storage.h): what is
// sound of it is written anew, key by key, into an empty store. Its queues may have damaged stretches, which no copy of
// the log could leave out; and nobody else changes it, so that any time shows the same moment.
// Thread safety: one thread at a time. May wait. Ownership: owns the engine of the copy; the target owns its file.
#pragma once

#include <memory>
#include <vector>

#include "base/status.h"
#include "store/backup_target.h"
#include "store/engine.h"

namespace faultless::store {

class ScanBackup {
 public:
  /** `target` is empty so far. */
  ScanBackup(const Context& source, BackupTarget* target) : source_(source), target_(target) {}

  /** One bounded step: a segment's entries. Codes as Backup::Step. */
  Status Step();
  /** Whether the copy is whole, closed and on the device. */
  bool done() const { return done_; }
  uint64_t copied_bytes() const { return copied_bytes_; }
  /** Whether the failure that was answered last is the target's. */
  bool failed_at_target() const { return failed_at_target_; }

 private:
  struct Entry {
    std::vector<uint8_t> key;
    std::vector<uint8_t> value;
    uint64_t expires_at_ms;
  };
  class Collector;

  Status End();

  const Context& source_;
  BackupTarget* const target_;
  std::unique_ptr<Engine> engine_;
  uint32_t shard_ = 0;
  uint64_t prefix_ = 0;             // of the segment that comes next
  std::vector<ScanEntry> entries_;  // of the segment under way
  uint64_t keys_ = 0;
  uint64_t copied_bytes_ = 0;
  bool failed_at_target_ = false;
  bool done_ = false;
};

}  // namespace faultless::store
