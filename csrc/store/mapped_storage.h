// Purpose: Storage over a file mapped once, max_bytes long from the start: growth shows by itself, addresses never
// move. Ownership: owns the descriptor, the mapping and its registration with the fault handler.
#pragma once

#include <memory>

#include "os/os.h"
#include "store/storage.h"

namespace faultless::store {

class MappedStorage : public Storage {
 public:
  /** Takes `fd` over in any case. `ones_bytes`: the head of the file that reads as ones after a fault (control region).
   */
  static Status Create(int fd, uint64_t max_bytes, uint64_t ones_bytes, os::Access access, bool durable,
                       std::unique_ptr<MappedStorage>* storage);
  /** Never waits for the device but for the close of the descriptor. */
  ~MappedStorage() override;

  /** Another descriptor of the same open file: it keeps the locks. */
  Status DuplicateDescriptor(int* fd) const { return os::Duplicate(fd_, fd); }

  Status FileBytes(uint64_t* size) override;
  Status AllocatedBytes(uint64_t* size) override;
  Status Reserve(uint64_t offset, uint64_t length) override { return os::ReserveSpace(fd_, offset, length); }
  Status Read(uint64_t offset, void* target, size_t size) override { return os::ReadAt(fd_, target, size, offset); }
  Status Write(uint64_t offset, const void* source, size_t size) override {
    return os::WriteAt(fd_, source, size, offset);
  }
  Status Sync() override { return durable_ ? os::SyncFile(fd_) : Status(); }
  Status CopyTo(int target, uint64_t offset, uint64_t length) override {
    return os::CopyRange(fd_, target, offset, length);
  }
  Status Punch(uint64_t offset, uint64_t length) override { return os::PunchHole(fd_, offset, length); }
  Status PopulateRead(uint64_t offset, uint64_t length) override;
  Status PopulateWrite(uint64_t offset, uint64_t length) override;
  Status Lock(uint64_t offset, uint64_t length) override;
  void DropCache() override;
  void WillNeed(uint64_t offset, uint64_t length) override;
  bool IsResident(uint64_t offset, uint64_t length) override;
  void ResidentPages(uint64_t offset, uint64_t length, uint32_t* pages) override;
  Status CountResident(uint64_t offset, uint64_t length, uint64_t* pages) override;
  bool residency_known() const override { return residency_known_; }
  bool StaysResident() const override { return !durable_ && os::RamStaysResident(); }
  uint64_t SubstituteChanges() const override { return os::SubstituteChanges(mapping_); }
  bool HasSubstitutes() const override { return os::HasSubstitutes(mapping_); }
  bool IsSubstituted(uint64_t offset, uint64_t length) const override {
    return os::IsSubstituted(mapping_, base_ + offset, length);
  }
  size_t Restore() override { return os::RestoreSubstitutes(mapping_); }
  Status TryLockByte(uint64_t byte, bool exclusive, bool* acquired) override {
    return os::TryLockByte(fd_, byte, exclusive, acquired);
  }
  Status UnlockByte(uint64_t byte) override { return os::UnlockByte(fd_, byte); }
  Status IsByteLocked(uint64_t byte, bool* locked) override { return os::IsByteLocked(fd_, byte, locked); }

 protected:
  MappedStorage() = default;
  int fd_ = -1;
  os::MappingId mapping_;
  bool residency_known_ = false;
};

}  // namespace faultless::store
