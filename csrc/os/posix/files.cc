// Files: what POSIX offers everywhere.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/fail_point.h"
#include "os/os.h"
#include "os/posix/aside.h"
#include "os/posix/signals.h"

namespace faultless::os {

namespace {

/** Systems cap one transfer (Linux: 2 GiB − 4 KiB) or refuse larger ones (macOS: 2 GiB − 1). */
constexpr size_t kMaxTransferBytes = size_t{1} << 30;

}  // namespace

Status OpenFile(const char* path, Access access, int* fd) {
  // O_NONBLOCK so that a FIFO at `path` cannot hold this thread for good; the caller sees FileInfo::regular.
  const int mode = (access == Access::kReadWrite ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOCTTY;
  int opened;
  do {
    opened = open(path, mode | O_NONBLOCK);
    // A file under a lease: wait for the lease's holder to let go.
    if (opened < 0 && errno == EWOULDBLOCK) opened = open(path, mode);
  } while (opened < 0 && errno == EINTR);
  if (opened < 0) return Status::FromErrno(errno, "open");
  const int flags = fcntl(opened, F_GETFL);
  if (flags >= 0 && (flags & O_NONBLOCK) != 0) fcntl(opened, F_SETFL, flags & ~O_NONBLOCK);
  *fd = opened;
  return {};
}

Status SyncDirectoryOf(const char* path) {
  FAULTLESS_FAIL_POINT();
  const std::string directory = DirectoryOf(path);
  int fd;
  do {
    fd = open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) return Status::FromErrno(errno, "open");
  int result;
  do {
    result = fsync(fd);
  } while (result != 0 && errno == EINTR);
  // EINVAL: this filesystem has no durable directories to sync; there is nothing more that could be asked of it.
  Status status = result == 0 || errno == EINVAL ? Status() : Status::FromErrno(errno, "fsync");
  close(fd);
  return status;
}

Status Unlink(const char* path) {
  if (unlink(path) != 0) return Status::FromErrno(errno, "unlink");
  return {};
}

Status Duplicate(int fd, int* copy) {
  const int duplicate = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (duplicate < 0) return Status::FromErrno(errno, "fcntl");
  *copy = duplicate;
  return {};
}

Status DescriptorAccess(int fd, bool* readable, bool* writable) {
  const int flags = fcntl(fd, F_GETFL);
  if (flags < 0) return Status::FromErrno(errno, "fcntl");
  const int mode = flags & O_ACCMODE;
  *readable = mode == O_RDONLY || mode == O_RDWR;
  *writable = mode == O_WRONLY || mode == O_RDWR;
#ifdef O_PATH
  if ((flags & O_PATH) != 0) *readable = *writable = false;
#endif
  return {};
}

Status SetFileSize(int fd, uint64_t size_bytes) {
  SignalGuard guard;
  if (ftruncate(fd, static_cast<off_t>(size_bytes)) != 0) return Status::FromErrno(errno, "ftruncate");
  return {};
}

Status ReadAt(int fd, void* target, size_t length, uint64_t offset) {
  auto* bytes = static_cast<std::byte*>(target);
  while (length > 0) {
    const ssize_t got = pread(fd, bytes, std::min(length, kMaxTransferBytes), static_cast<off_t>(offset));
    if (got < 0) {
      if (errno == EINTR) continue;
      return Status::FromErrno(errno, "pread");
    }
    if (got == 0) return Status::Io("the file ends before the bytes asked for", offset);
    bytes += got;
    offset += static_cast<uint64_t>(got);
    length -= static_cast<size_t>(got);
  }
  return {};
}

Status WriteAt(int fd, const void* source, size_t length, uint64_t offset) {
  FAULTLESS_FAIL_POINT();
  const auto* bytes = static_cast<const std::byte*>(source);
  SignalGuard guard;
  while (length > 0) {
    const ssize_t put = pwrite(fd, bytes, std::min(length, kMaxTransferBytes), static_cast<off_t>(offset));
    if (put < 0) {
      if (errno == EINTR) continue;
      return Status::FromErrno(errno, "pwrite");
    }
    if (put == 0) return Status::Io("a write took no bytes", offset);
    bytes += put;
    offset += static_cast<uint64_t>(put);
    length -= static_cast<size_t>(put);
  }
  return {};
}

Status SyncFile(int fd) {
  FAULTLESS_FAIL_POINT();
  int result;
  do {
#ifdef F_FULLFSYNC
    result = fcntl(fd, F_FULLFSYNC);  // macOS: fsync alone leaves the data in the drive's cache
#else
    result = fdatasync(fd);
#endif
  } while (result != 0 && errno == EINTR);
  // Never asked again after EIO: a second fsync may say "fine" with the data lost.
  if (result != 0) return Status::FromErrno(errno, "fdatasync");
  return {};
}

}  // namespace faultless::os
