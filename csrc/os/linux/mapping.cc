// Mapped memory: advice, populating, residency, limits.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "os/linux/capabilities.h"
#include "os/os.h"
#include "os/posix/faults.h"
#include "os/posix/pages.h"

// Since Linux 5.14; a C library may be older than the kernel.
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

namespace faultless::os {

namespace {

int AdviceOf(Advice advice) {
  switch (advice) {
    case Advice::kNormal:
      return MADV_NORMAL;
    case Advice::kSequential:
      return MADV_SEQUENTIAL;
    case Advice::kRandom:
      return MADV_RANDOM;
    case Advice::kWillNeed:
      return MADV_WILLNEED;
    case Advice::kDontNeed:
      return MADV_DONTNEED;
  }
  return MADV_NORMAL;
}

/** Asked with no pages, madvise says only whether it knows the advice. */
bool KernelPopulates() {
  static const bool known = madvise(nullptr, 0, MADV_POPULATE_READ) == 0;
  return known;
}

Status Populate(PageRange pages, int advice) {
  int result;
  do {
    result = madvise(pages.address, pages.length, advice);
  } while (result != 0 && errno == EINTR);
  if (result == 0) return {};
  return Status::FromErrno(errno, "madvise");  // EFAULT where a touch would have been a SIGBUS: kIo
}

}  // namespace

Status Advise(int fd, uint64_t file_offset, std::byte* address, uint64_t length, Advice advice, bool shared) {
  const PageRange pages = PagesAround(address, length);
  if (pages.length == 0) return {};
  // On a private mapping MADV_DONTNEED throws away what was stored there.
  if (advice != Advice::kDontNeed || shared) {
    if (madvise(pages.address, pages.length, AdviceOf(advice)) != 0) return Status::FromErrno(errno, "madvise");
  }
  if (advice == Advice::kDontNeed && fd >= 0) {
    // Only now: pages that some page table still holds stay in memory.
    const int error =
        posix_fadvise(fd, static_cast<off_t>(file_offset), static_cast<off_t>(length), POSIX_FADV_DONTNEED);
    if (error != 0) return Status::FromErrno(error, "posix_fadvise");
  }
  return {};
}

Status PopulateRead(std::byte* address, uint64_t length) {
  if (!KernelPopulates()) return PopulateReadByTouch(address, length);
  return Populate(PagesAround(address, length), MADV_POPULATE_READ);
}

Status PopulateWrite(std::byte* address, uint64_t length) {
  if (!KernelPopulates()) return PopulateWriteByTouch(address, length);
  return Populate(PagesAround(address, length), MADV_POPULATE_WRITE);
}

uint64_t LockLimitBytes() {
  if (HasCapability(Capability::kLockMemory)) return UINT64_MAX;
  rlimit limit;
  if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0) return 0;
  return limit.rlim_cur == RLIM_INFINITY ? UINT64_MAX : limit.rlim_cur;
}

Status Residency(std::byte* address, uint64_t length, uint8_t* resident) {
  const PageRange pages = PagesAround(address, length);
  if (pages.length == 0) return {};
  if (mincore(pages.address, pages.length, resident) != 0) {
    return Status::WithErrno(Code::kUnsupported, errno, "mincore");
  }
  const uint64_t count = pages.length / PageSize();
  for (uint64_t i = 0; i < count; ++i) resident[i] &= 1;  // the other bits are reserved
  return {};
}

bool ResidencyIsTruthful(int fd) {
  // The kernel's rule (can_do_mincore): the owner, or CAP_FOWNER over the owner, or permission to write, whatever way
  // the descriptor was opened.
  struct stat file;
  if (fstat(fd, &file) != 0) return false;
  if (file.st_uid == geteuid()) return true;
  if (HasCapability(Capability::kOwnFiles)) return true;
  char path[32];
  std::snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  return faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) == 0;
}

}  // namespace faultless::os
