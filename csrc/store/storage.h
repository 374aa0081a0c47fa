// Purpose: the one way in which storage code reaches a file: mapped bytes, and the calls that make them durable,
// resident or longer. The real one is MappedStorage; tests put a simulated disk in its place. Thread safety: every
// method may be called from any thread. Offsets are file offsets, bytes. Invariants: base() never changes, and
// max_bytes() of addresses follow it for as long as the object lives; bytes past the end of the file may not be
// touched.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/status.h"
#include "store/shared_bytes.h"

namespace faultless::store {

/** Which file, in which boot: tells whether what was in the machine's memory when the store was used last is there
 * still.
 */
struct FileIdentity {
  uint64_t boot_id[2];  // zeros: the system does not tell
  uint64_t device;
  uint64_t inode;
  uint64_t born_ns;  // when the inode was made; 0: the system does not tell
};

class Storage {
 public:
  virtual ~Storage() = default;

  std::byte* base() const { return base_; }
  uint64_t max_bytes() const { return max_bytes_; }
  /** False for RAM: nothing survives a boot, nothing needs a sync. */
  bool durable() const { return durable_; }

  // May wait.
  virtual Status FileBytes(uint64_t* size) = 0;
  /** What the file takes on the filesystem. */
  virtual Status AllocatedBytes(uint64_t* size) { return FileBytes(size); }
  /** Makes the range part of the file, with space reserved: kNoSpace leaves the file as it was. */
  virtual Status Reserve(uint64_t offset, uint64_t length) = 0;
  /**
   * Copies a range of the file, both ends multiples of 8, without touching mapped pages: kIo where a part of it cannot
   * be had. What a private copy has stored does not show.
   */
  virtual Status Read(uint64_t offset, void* target, size_t size) {
    CopyFromShared(target, base_ + offset, size);
    return Code::kOk;
  }
  virtual Status Write(uint64_t offset, const void* source, size_t size) = 0;
  virtual Status Sync() = 0;
  /**
   * Copies the range to the same place of the file behind `target`, sharing blocks where the filesystem can (os.h,
   * CopyRange). After a failure, whatever it is, the range has to be written.
   */
  virtual Status CopyTo(int target, uint64_t offset, uint64_t length) = 0;
  virtual Status Punch(uint64_t offset, uint64_t length) = 0;
  virtual Status PopulateRead(uint64_t offset, uint64_t length) = 0;
  virtual Status PopulateWrite(uint64_t offset, uint64_t length) = 0;
  virtual Status Lock(uint64_t offset, uint64_t length) = 0;
  /** Forgets what is cached of the file and clean, so that the next reads tell what the device has. */
  virtual void DropCache() = 0;
  virtual void WillNeed(uint64_t offset, uint64_t length) = 0;

  // Never wait.
  /** Whether all of the range is in memory; false where that cannot be known. */
  virtual bool IsResident(uint64_t offset, uint64_t length) = 0;
  /**
   * Which 4-KiB pages of the range, at most 512 of them, are in memory: a bit each, 32 to a word of `pages`. None where
   * that cannot be known.
   */
  virtual void ResidentPages(uint64_t offset, uint64_t length, uint32_t* pages) {
    for (uint64_t page = 0; page * 4096 < length; page++) {
      if (page % 32 == 0) pages[page / 32] = 0;
      if (IsResident(offset + page * 4096, 1)) pages[page / 32] |= uint32_t{1} << page % 32;
    }
  }
  /** Pages of the range in memory. kUnsupported where that cannot be known. */
  virtual Status CountResident(uint64_t offset, uint64_t length, uint64_t* pages) = 0;
  virtual bool residency_known() const = 0;
  /** Whether nothing of the file can leave memory just now: it lies in RAM, and nothing is swapped out. */
  virtual bool StaysResident() const { return false; }

  // Faults (os.h): a page that could not be had reads as zeros, or ones in the control region, until Restore.
  virtual uint64_t SubstituteChanges() const = 0;
  virtual bool HasSubstitutes() const = 0;
  virtual bool IsSubstituted(uint64_t offset, uint64_t length) const = 0;
  /** May wait. Returns how many substituted pages are left. */
  virtual size_t Restore() = 0;

  // Locks on bytes (os.h), owned by this object.
  virtual Status TryLockByte(uint64_t byte, bool exclusive, bool* acquired) = 0;
  virtual Status UnlockByte(uint64_t byte) = 0;
  virtual Status IsByteLocked(uint64_t byte, bool* locked) = 0;

 protected:
  std::byte* base_ = nullptr;
  uint64_t max_bytes_ = 0;
  bool durable_ = true;
};

}  // namespace faultless::store
