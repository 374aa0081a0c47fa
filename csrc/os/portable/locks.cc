// Locks on bytes of a file, on top of POSIX record locks, which belong to a process and a file, not to a descriptor:
// (1) two descriptors of one process never conflict: the table below decides between those;
// (2) closing *any* descriptor of the file drops all of the process's locks on it: CloseFile therefore keeps a
//     descriptor open ("parked") while another one of the process holds a lock on that file.
// Traps that remain: a descriptor of the file that is closed by other means than CloseFile (by the program, another
// library, a second copy of this one) drops the locks unnoticed; copies of a descriptor (Duplicate) count as owners of
// their own; a child that forks inherits no lock.
//
// Invariants, under `mutex`: for each byte, the process holds an exclusive record lock where the table has an exclusive
// owner, else a shared one where it has owners, else none.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <mutex>
#include <vector>

#include "os/os.h"

namespace faultless::os {

namespace {

struct FileId {
  dev_t device;
  ino_t inode;
  bool operator==(const FileId& other) const { return device == other.device && inode == other.inode; }
};

struct Held {
  FileId file;
  uint64_t offset;
  int fd;  // the owner
  bool exclusive;
};

struct Parked {
  FileId file;
  int fd;
};

struct Table {
  std::mutex mutex;
  std::vector<Held> held;
  std::vector<Parked> parked;
};

/** Never destroyed: threads may still run when the process exits. */
Table& TheTable() {
  static Table& table = *new Table;
  return table;
}

Status Identify(int fd, FileId* file) {
  struct stat info;
  if (fstat(fd, &info) != 0) return Status::FromErrno(errno, "fstat");
  *file = {info.st_dev, info.st_ino};
  return {};
}

struct flock LockOf(short type, uint64_t offset) {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = static_cast<off_t>(offset);
  lock.l_len = 1;
  return lock;
}

/** What the owners other than `fd` hold on the byte: F_WRLCK, F_RDLCK or F_UNLCK. */
short HeldByOthers(const Table& table, const FileId& file, uint64_t offset, int fd) {
  short type = F_UNLCK;
  for (const Held& held : table.held) {
    if (!(held.file == file) || held.offset != offset || held.fd == fd) continue;
    if (held.exclusive) return F_WRLCK;
    type = F_RDLCK;
  }
  return type;
}

bool HasLocks(const Table& table, const FileId& file) {
  for (const Held& held : table.held) {
    if (held.file == file) return true;
  }
  return false;
}

void CloseParked(Table& table, const FileId& file) {
  std::erase_if(table.parked, [&](const Parked& parked) {
    if (!(parked.file == file)) return false;
    close(parked.fd);
    return true;
  });
}

/** Takes the owner's entry for the byte out of the table and makes the record lock what is left. */
Status Release(Table& table, const FileId& file, uint64_t offset, int fd) {
  struct flock lock = LockOf(HeldByOthers(table, file, offset, fd), offset);
  // Never a stronger lock than before, so it cannot be refused for another holder.
  const bool done = fcntl(fd, F_SETLK, &lock) == 0;
  const int error = errno;
  std::erase_if(table.held, [&](const Held& h) { return h.file == file && h.offset == offset && h.fd == fd; });
  if (!done) return Status::FromErrno(error, "fcntl");
  return {};
}

}  // namespace

Status TryLockByte(int fd, uint64_t offset, bool exclusive, bool* acquired) {
  *acquired = false;
  FileId file;
  FAULTLESS_TRY(Identify(fd, &file));
  Table& table = TheTable();
  const std::lock_guard guard(table.mutex);
  const short others = HeldByOthers(table, file, offset, fd);
  if (others == F_WRLCK || (exclusive && others == F_RDLCK)) return {};
  struct flock lock = LockOf(exclusive ? F_WRLCK : F_RDLCK, offset);
  if (fcntl(fd, F_SETLK, &lock) != 0) {
    if (errno == EAGAIN || errno == EACCES) return {};
    return Status::FromErrno(errno, "fcntl");
  }
  *acquired = true;
  for (Held& held : table.held) {
    if (held.file == file && held.offset == offset && held.fd == fd) {
      held.exclusive = exclusive;
      return {};
    }
  }
  table.held.push_back({file, offset, fd, exclusive});
  return {};
}

Status UnlockByte(int fd, uint64_t offset) {
  FileId file;
  FAULTLESS_TRY(Identify(fd, &file));
  Table& table = TheTable();
  const std::lock_guard guard(table.mutex);
  Status status = Release(table, file, offset, fd);
  if (!HasLocks(table, file)) CloseParked(table, file);
  return status;
}

Status IsByteLocked(int fd, uint64_t offset, bool* locked) {
  FileId file;
  FAULTLESS_TRY(Identify(fd, &file));
  Table& table = TheTable();
  {
    const std::lock_guard guard(table.mutex);
    if (HeldByOthers(table, file, offset, fd) != F_UNLCK) {
      *locked = true;
      return {};
    }
  }
  struct flock lock = LockOf(F_WRLCK, offset);
  if (fcntl(fd, F_GETLK, &lock) != 0) return Status::FromErrno(errno, "fcntl");
  *locked = lock.l_type != F_UNLCK;
  return {};
}

void CloseFile(int fd) {
  FileId file;
  if (fd < 0 || !Identify(fd, &file).ok()) return;
  Table& table = TheTable();
  const std::lock_guard guard(table.mutex);
  // Backwards, because Release takes entries out.
  for (size_t i = table.held.size(); i > 0; --i) {
    const Held held = table.held[i - 1];
    if (held.file == file && held.fd == fd) (void)Release(table, file, held.offset, fd);
  }
  if (HasLocks(table, file)) {
    table.parked.push_back({file, fd});
    return;
  }
  close(fd);
  CloseParked(table, file);
}

}  // namespace faultless::os
