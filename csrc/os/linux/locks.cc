// Locks on bytes of a file, owned by open file descriptions.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "base/fail_point.h"
#include "os/os.h"

namespace faultless::os {

namespace {

struct flock LockOf(short type, uint64_t offset) {
  struct flock lock {};  // l_pid must be 0 for open-file-description locks
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = static_cast<off_t>(offset);
  lock.l_len = 1;
  return lock;
}

}  // namespace

Status TryLockByte(int fd, uint64_t offset, bool exclusive, bool* acquired) {
  FAULTLESS_FAIL_POINT();
  struct flock lock = LockOf(exclusive ? F_WRLCK : F_RDLCK, offset);
  *acquired = fcntl(fd, F_OFD_SETLK, &lock) == 0;
  if (*acquired || errno == EAGAIN || errno == EACCES) return {};
  return Status::FromErrno(errno, "fcntl");
}

Status UnlockByte(int fd, uint64_t offset) {
  FAULTLESS_FAIL_POINT();
  struct flock lock = LockOf(F_UNLCK, offset);
  if (fcntl(fd, F_OFD_SETLK, &lock) != 0) return Status::FromErrno(errno, "fcntl");
  return {};
}

Status IsByteLocked(int fd, uint64_t offset, bool* locked) {
  struct flock lock = LockOf(F_WRLCK, offset);
  if (fcntl(fd, F_OFD_GETLK, &lock) != 0) return Status::FromErrno(errno, "fcntl");
  *locked = lock.l_type != F_UNLCK;
  return {};
}

}  // namespace faultless::os
