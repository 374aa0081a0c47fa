// Purpose: a file in RAM that processes share, opened or created whole, and mapped once: what segments, exchanges and
// logs have in common.
//
// Thread safety: Open and Close belong to one thread at a time; the rest is constant in between. Invariants: a file
// that is created appears complete, and never in the place of one that is there. A page that cannot be had (the file
// was cut short by somebody) becomes a private one of zeros: never a fault. Ownership: owns descriptor and mapping.
#pragma once

#include <functional>
#include <string>

#include "os/os.h"

namespace faultless::ipc {

struct SharedFileOptions {
  std::string path;
  bool read_only = false;
  bool create = true;
  bool exclusive = false;       // kExists where it is there already
  uint32_t permissions = 0600;  // exact, of what is created
};

class SharedFile {
 public:
  SharedFile() = default;
  SharedFile(const SharedFile&) = delete;
  SharedFile& operator=(const SharedFile&) = delete;
  ~SharedFile() { Close(); }

  /**
   * May wait. Opens the file, or creates it with what `build` writes into the empty one. A `build` that cannot (the
   * size was not said) answers so. kNotFound, kExists, kAccess, kNoSpace, kUnsupported (no regular file, a forked
   * child).
   */
  Status Open(const SharedFileOptions& options, const std::function<Status(int fd)>& build);
  /** Maps all of it. Read-only: a private mapping, whose stores stay in this process. */
  Status Map();
  void Close();

  int fd() const { return fd_; }
  std::byte* base() const { return base_; }
  uint64_t size_bytes() const { return size_bytes_; }
  bool created() const { return created_; }

 private:
  int fd_ = -1;
  std::byte* base_ = nullptr;
  uint64_t size_bytes_ = 0;
  uint64_t mapped_bytes_ = 0;  // whole pages of this machine
  os::MappingId mapping_;
  bool read_only_ = false;
  bool created_ = false;
};

}  // namespace faultless::ipc
