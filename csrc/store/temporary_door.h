// Purpose: temporary stores. Their file has no name, so that it is gone with the last process that has it open, however
// that ends; a small file, the door, has the name and tells others through whose descriptor to reach it
// (docs/format.md, docs/concurrency.md).
//
// Thread safety: one thread at a time.
// Invariants: as long as this process's slot of the door is locked, `descriptor` of it has the store's file open.
// Ownership: owns both descriptors, not the one that Enter() hands out.
#pragma once

#include <memory>
#include <string>

#include "base/status.h"
#include "format/door.h"
#include "os/os.h"
#include "store/store.h"

namespace faultless::store {

class TemporaryDoor {
 public:
  /** May wait. Whether the file is a door. */
  static Status IsDoor(int fd, bool* is_door);
  /** May wait. A door to nothing yet. kExists where somebody was faster. */
  static Status Create(const OpenOptions& options);
  /**
   * May wait. Opens the store behind the door, or makes a new one where nobody has it open. `fd` is the door's, which
   * is taken over in any case. kWouldBlock: the door has lost its name meanwhile: look for it anew. kNotFound (there is
   * none, and it is not to be created), kExists (it is to be new), kAccess, kUnsupported (it is out of reach: of
   * another PID namespace), kBusy.
   */
  static Status Enter(int fd, const OpenOptions& options, int* store_fd, std::unique_ptr<TemporaryDoor>* door);

  /** Lets go as a kill would. */
  ~TemporaryDoor();
  TemporaryDoor(const TemporaryDoor&) = delete;
  TemporaryDoor& operator=(const TemporaryDoor&) = delete;

  /** May wait. This process does not have the store open any more; nor its name, where nobody else does. */
  Status Leave();

 private:
  explicit TemporaryDoor(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}
  Status TakeGate() const;
  /** Under the gate. */
  Status Open(const OpenOptions& options, int* store_fd);
  /** Through others' descriptors. kNotFound: nobody has it open. */
  Status Reach(const format::Door& door, os::Access access, int* store_fd) const;
  Status Build(const OpenOptions& options, format::Door* door, int* store_fd) const;
  Status TakeSlot();
  Status HasName(bool* has) const;

  const int fd_;
  const std::string path_;
  int store_fd_ = -1;
  uint32_t slot_ = format::kDoorSlots;  // none
};

}  // namespace faultless::store
