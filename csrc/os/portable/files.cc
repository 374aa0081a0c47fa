// Files, with POSIX alone. CloseFile is in locks.cc: closing is what POSIX locks make difficult.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "os/os.h"
#include "os/posix/aside.h"
#include "os/posix/signals.h"

namespace faultless::os {

namespace {

FileInfo InfoOf(const struct stat& file) {
  return {.device = static_cast<uint64_t>(file.st_dev),
          .inode = static_cast<uint64_t>(file.st_ino),
          .born_ns = 0,
          .size_bytes = static_cast<uint64_t>(file.st_size),
          .allocated_bytes = static_cast<uint64_t>(file.st_blocks) * 512,
          .regular = S_ISREG(file.st_mode),
          // POSIX does not tell; needless syncs are the price on a memory disk.
          .filesystem = FilesystemKind::kDisk};
}

}  // namespace

Status CreateAside(const char* path, uint32_t permissions, int* fd, std::string* aside) {
  return CreateNamedAside(path, permissions, fd, aside);
}

Status PublishFile(int, const std::string& aside, const char* path) { return PublishByLink(aside, path); }

Status StatFile(int fd, FileInfo* info) {
  struct stat file;
  if (fstat(fd, &file) != 0) return Status::FromErrno(errno, "fstat");
  *info = InfoOf(file);
  return {};
}

Status StatPath(const char* path, FileInfo* info) {
  struct stat file;
  if (stat(path, &file) != 0) return Status::FromErrno(errno, "stat");
  *info = InfoOf(file);
  return {};
}

// posix_fallocate is not used: macOS has none, and glibc's stand-in for filesystems without it reads and rewrites bytes
// before the old end, which would undo a store that another process makes through its mapping meanwhile.
Status ReserveSpace(int fd, uint64_t offset, uint64_t length) {
  struct stat before;
  if (fstat(fd, &before) != 0) return Status::FromErrno(errno, "fstat");
  const auto old_size = static_cast<uint64_t>(before.st_size);
  const uint64_t end = offset + length;
  if (length == 0 || end <= old_size) return {};
  Status status = WriteZeros(fd, std::max(offset, old_size), end);
  if (!status.ok()) {
    while (ftruncate(fd, static_cast<off_t>(old_size)) != 0 && errno == EINTR) {
    }
  }
  return status;
}

Status OpenOfProcess(uint32_t, uint32_t, uint64_t, uint64_t, Access, int*) {
  return {Code::kUnsupported, "no way to the descriptors of other processes"};
}

Status CopyRange(int, int, uint64_t, uint64_t) { return Status(Code::kUnsupported); }

Status PunchHole(int, uint64_t, uint64_t) { return Status(Code::kUnsupported); }

Status ReadIfResident(int, void*, size_t, uint64_t, size_t* got) {
  *got = 0;
  return Status(Code::kUnsupported);
}

}  // namespace faultless::os
