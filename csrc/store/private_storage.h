// Purpose: Storage over a private copy of a file, for a reader who has to recover it: recovery rebuilds control region,
// free lists and index in memory of this process, and the file stays as it is. Only pages that are stored to take
// memory. Thread safety, ownership: as MappedStorage. Invariants: nothing is ever written to the file; nobody else may
// write to it while this exists (kPrivateByte). The descriptor serves for reading and for locks on bytes.
#pragma once

#include <vector>

#include "store/mapped_storage.h"

namespace faultless::store {

class PrivateStorage final : public MappedStorage {
 public:
  struct Range {
    uint64_t offset;
    uint64_t length;
  };

  /** Takes `fd` over in any case. `ones_bytes` as for MappedStorage. */
  static Status Create(int fd, uint64_t max_bytes, uint64_t ones_bytes, std::unique_ptr<PrivateStorage>* storage);

  /** The ranges that have been stored to, in any order; from now on nothing is. Until then no page is restored. */
  void Settle(std::vector<Range> own);

  Status FileBytes(uint64_t* size) override;
  /** Memory, as far as the mapping goes: kNoSpace. */
  Status Reserve(uint64_t offset, uint64_t length) override;
  Status Write(uint64_t offset, const void* source, size_t size) override;
  Status Sync() override { return Code::kOk; }
  Status Punch(uint64_t, uint64_t) override { return Code::kUnsupported; }
  void DropCache() override {}
  /** What was stored to a page that is gone is not in the file: such pages never come back. */
  size_t Restore() override;

 private:
  PrivateStorage() = default;
  uint64_t file_bytes_ = 0;      // when it was mapped
  uint64_t reserved_bytes_ = 0;  // the longer one: with what was reserved since
  bool settled_ = false;
  std::vector<Range> own_;
};

}  // namespace faultless::store
