// Files: what Linux does better than POSIX.
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "base/fail_point.h"
#include "os/os.h"
#include "os/posix/aside.h"
#include "os/posix/signals.h"

namespace faultless::os {

namespace {

// From linux/fs.h and linux/stat.h, which do not go together with the C library's headers.
constexpr unsigned kRenameNoReplace = 1;
constexpr int kUnshareRange = 0x40;

FilesystemKind KindOf(int64_t magic) {
  switch (static_cast<uint32_t>(magic)) {
    case TMPFS_MAGIC:
    case RAMFS_MAGIC:
      return FilesystemKind::kRam;
    case NFS_SUPER_MAGIC:
    case SMB_SUPER_MAGIC:
    case 0xFF534D42:  // CIFS
    case 0xFE534D42:  // SMB2
    case V9FS_MAGIC:
    case 0x00C36400:  // Ceph
    case AFS_SUPER_MAGIC:
    case 0x6B414653:  // kAFS
    case CODA_SUPER_MAGIC:
    case 0x0BD00BD0:  // Lustre
    case 0x01161970:  // GFS2: a disk that several hosts mount
    case 0x7461636F:  // OCFS2
      return FilesystemKind::kNetwork;
    default:
      return FilesystemKind::kDisk;
  }
}

FileInfo InfoOf(const struct stat& file, uint64_t born_ns, const struct statfs& filesystem) {
  return {.device = file.st_dev,
          .inode = file.st_ino,
          .born_ns = born_ns,
          .size_bytes = static_cast<uint64_t>(file.st_size),
          .allocated_bytes = static_cast<uint64_t>(file.st_blocks) * 512,
          .regular = S_ISREG(file.st_mode),
          .filesystem = KindOf(filesystem.f_type)};
}

/** The file's name under /proc, by which an unnamed file can be linked and a descriptor's permissions asked. */
struct DescriptorPath {
  explicit DescriptorPath(int fd) { std::snprintf(text, sizeof text, "/proc/self/fd/%d", fd); }
  char text[32];
};

/** `path` relative to the descriptor, or "" for what the descriptor has open. */
uint64_t BornNs(int fd, const char* path) {
  struct statx file;
  if (statx(fd, path, *path == 0 ? AT_EMPTY_PATH : 0, STATX_BTIME, &file) != 0) return 0;
  if ((file.stx_mask & STATX_BTIME) == 0) return 0;
  return static_cast<uint64_t>(file.stx_btime.tv_sec) * 1'000'000'000 + file.stx_btime.tv_nsec;
}

int Allocate(int fd, int mode, uint64_t offset, uint64_t length) {
  int result;
  do {
    result = fallocate(fd, mode, static_cast<off_t>(offset), static_cast<off_t>(length));
  } while (result != 0 && errno == EINTR);
  return result;
}

}  // namespace

Status CreateAside(const char* path, uint32_t permissions, int* fd, std::string* aside) {
  const std::string directory = DirectoryOf(path);
  int created;
  do {
    created = open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  } while (created < 0 && errno == EINTR);
  if (created < 0) {
    switch (errno) {
      case EOPNOTSUPP:  // the filesystem has no unnamed files
      case EISDIR:      // the kernel has none
      case EINVAL:
        return CreateNamedAside(path, permissions, fd, aside);
      default:
        return Status::FromErrno(errno, "open");
    }
  }
  // Without /proc there is no way to give it a name later.
  if (access(DescriptorPath(created).text, F_OK) != 0) {
    close(created);
    return CreateNamedAside(path, permissions, fd, aside);
  }
  if (fchmod(created, static_cast<mode_t>(permissions)) != 0) {
    Status status = Status::FromErrno(errno, "fchmod");
    close(created);
    return status;
  }
  *fd = created;
  aside->clear();
  return {};
}

Status OpenOfProcess(uint32_t process_id, uint32_t descriptor, uint64_t device, uint64_t inode, Access access,
                     int* fd) {
  char path[64];
  std::snprintf(path, sizeof path, "/proc/%u/fd/%u", process_id, descriptor);
  // Only looked at: to open a pipe or a device that is there by now could wait, or do something.
  const int seen = open(path, O_PATH | O_CLOEXEC);
  if (seen < 0) return errno == EACCES || errno == EPERM ? Status::FromErrno(EACCES, "open") : Status(Code::kNotFound);
  FileInfo info{};
  Status status = StatFile(seen, &info);
  if (status.ok() && (!info.regular || info.device != device || info.inode != inode)) status = Code::kNotFound;
  if (status.ok()) status = OpenFile(DescriptorPath(seen).text, access, fd);
  close(seen);
  return status;
}

Status PublishFile(int fd, const std::string& aside, const char* path) {
  FAULTLESS_FAIL_POINT();
  if (aside.empty()) {
    if (linkat(AT_FDCWD, DescriptorPath(fd).text, AT_FDCWD, path, AT_SYMLINK_FOLLOW) == 0) return {};
    return Status::FromErrno(errno, "linkat");
  }
  if (syscall(SYS_renameat2, AT_FDCWD, aside.c_str(), AT_FDCWD, path, kRenameNoReplace) == 0) return {};
  // The filesystem or the kernel does not know the flag.
  if (errno == EINVAL || errno == ENOSYS) return PublishByLink(aside, path);
  return Status::FromErrno(errno, "renameat2");
}

void CloseFile(int fd) {
  // Never repeated: Linux has freed the descriptor even when it says EINTR.
  if (fd >= 0) close(fd);
}

Status StatFile(int fd, FileInfo* info) {
  struct stat file;
  struct statfs filesystem;
  if (fstat(fd, &file) != 0) return Status::FromErrno(errno, "fstat");
  if (fstatfs(fd, &filesystem) != 0) return Status::FromErrno(errno, "fstatfs");
  *info = InfoOf(file, BornNs(fd, ""), filesystem);
  return {};
}

Status StatPath(const char* path, FileInfo* info) {
  struct stat file;
  struct statfs filesystem;
  if (stat(path, &file) != 0) return Status::FromErrno(errno, "stat");
  if (statfs(path, &filesystem) != 0) return Status::FromErrno(errno, "statfs");
  *info = InfoOf(file, BornNs(AT_FDCWD, path), filesystem);
  return {};
}

Status ReserveSpace(int fd, uint64_t offset, uint64_t length) {
  FAULTLESS_FAIL_POINT();
  if (length == 0) return {};
  struct stat before;
  if (fstat(fd, &before) != 0) return Status::FromErrno(errno, "fstat");
  const auto old_size = static_cast<uint64_t>(before.st_size);
  const uint64_t end = offset + length;
  Status status;
  {
    SignalGuard guard;
    // Where blocks cannot be shared there is no such mode.
    if (end <= old_size) {
      if (Allocate(fd, kUnshareRange, offset, length) == 0) return {};
      if (errno != EOPNOTSUPP && errno != EINVAL) return Status::FromErrno(errno, "fallocate");
    }
    if (Allocate(fd, 0, offset, length) == 0) return {};
    status = Status::FromErrno(errno, "fallocate");
  }
  if (status.code() == Code::kUnsupported) {
    if (end <= old_size) return {};
    status = WriteZeros(fd, std::max(offset, old_size), end);
    if (status.ok()) return {};
  }
  // What was had before the failure goes back, also blocks past the end that made the file no longer.
  if (end > old_size) {
    while (ftruncate(fd, static_cast<off_t>(old_size)) != 0 && errno == EINTR) {
    }
  }
  return status;
}

Status CopyRange(int source, int target, uint64_t offset, uint64_t length) {
  FAULTLESS_FAIL_POINT();
  auto from = static_cast<loff_t>(offset);
  auto to = from;
  SignalGuard guard;
  while (length > 0) {
    const ssize_t copied = copy_file_range(source, &from, target, &to, length, 0);
    if (copied < 0 && errno == EINTR) continue;
    if (copied < 0) {
      const bool unable = errno == EXDEV || errno == EINVAL || errno == ENOSYS || errno == EBADF;
      return unable ? Status::WithErrno(Code::kUnsupported, errno, "copy_file_range")
                    : Status::FromErrno(errno, "copy_file_range");
    }
    // Some filesystems copy nothing and call it a success.
    if (copied == 0) return {Code::kUnsupported, "the range cannot be copied"};
    length -= static_cast<uint64_t>(copied);
  }
  return {};
}

Status PunchHole(int fd, uint64_t offset, uint64_t length) {
  FAULTLESS_FAIL_POINT();
  if (length == 0) return {};
  SignalGuard guard;
  if (Allocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length) == 0) return {};
  return Status::FromErrno(errno, "fallocate");
}

Status ReadIfResident(int fd, void* target, size_t length, uint64_t offset, size_t* got) {
  *got = 0;
  iovec target_range{target, length};
  ssize_t result;
  do {
    result = preadv2(fd, &target_range, 1, static_cast<off_t>(offset), RWF_NOWAIT);
  } while (result < 0 && errno == EINTR);
  if (result >= 0) {
    *got = static_cast<size_t>(result);  // short: the next byte would have to be waited for, or the file ends there
    return {};
  }
  if (errno == EAGAIN) return {};  // already the first one would
  if (errno == EINVAL) return Status::WithErrno(Code::kUnsupported, errno, "preadv2");
  return Status::FromErrno(errno, "preadv2");
}

}  // namespace faultless::os
