// Mapped memory, with POSIX alone.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "os/os.h"
#include "os/posix/faults.h"
#include "os/posix/pages.h"

namespace faultless::os {

namespace {

int AdviceOf(Advice advice) {
  switch (advice) {
    case Advice::kNormal:
      return POSIX_MADV_NORMAL;
    case Advice::kSequential:
      return POSIX_MADV_SEQUENTIAL;
    case Advice::kRandom:
      return POSIX_MADV_RANDOM;
    case Advice::kWillNeed:
      return POSIX_MADV_WILLNEED;
    case Advice::kDontNeed:
      return POSIX_MADV_DONTNEED;
  }
  return POSIX_MADV_NORMAL;
}

}  // namespace

// posix_madvise, unlike madvise, never changes what the memory holds. It may do nothing at all for kDontNeed (glibc).
Status Advise([[maybe_unused]] int fd, [[maybe_unused]] uint64_t file_offset, std::byte* address, uint64_t length,
              Advice advice, bool) {
  const PageRange pages = PagesAround(address, length);
  if (pages.length == 0) return {};
  int error = posix_madvise(pages.address, pages.length, AdviceOf(advice));
  if (error != 0) return Status::FromErrno(error, "posix_madvise");
#ifdef POSIX_FADV_DONTNEED
  if (advice == Advice::kDontNeed && fd >= 0) {
    error = posix_fadvise(fd, static_cast<off_t>(file_offset), static_cast<off_t>(length), POSIX_FADV_DONTNEED);
    if (error != 0) return Status::FromErrno(error, "posix_fadvise");
  }
#endif
  return {};
}

Status PopulateRead(std::byte* address, uint64_t length) { return PopulateReadByTouch(address, length); }

Status PopulateWrite(std::byte* address, uint64_t length) { return PopulateWriteByTouch(address, length); }

uint64_t LockLimitBytes() {
#ifdef RLIMIT_MEMLOCK
  rlimit limit;
  if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0) return 0;
  return limit.rlim_cur == RLIM_INFINITY ? UINT64_MAX : limit.rlim_cur;
#else
  return UINT64_MAX;  // no limit that could be asked for
#endif
}

Status Residency(std::byte*, uint64_t, uint8_t*) { return Status(Code::kUnsupported); }

bool ResidencyIsTruthful(int) { return false; }

}  // namespace faultless::os
