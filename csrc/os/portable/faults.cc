// Substitutes for pages that faulted. POSIX does not list mmap among the functions that a signal handler may call; where
// it is a plain system call, as on every system known to us, it may be.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>

#include "os/os.h"
#include "os/posix/faults.h"

#ifndef MAP_NORESERVE
#define MAP_NORESERVE 0
#endif

namespace faultless::os {

namespace {

// One page of 0xFF in a file without a name: mapping it privately makes a full page appear in one step. Written once,
// before the handler is installed; open for the life of the process.
constinit int ones_fd = -1;

int Protection(bool writable) { return writable ? PROT_READ | PROT_WRITE : PROT_READ; }

}  // namespace

Status PrepareSubstitutes() {
  const char* directory = std::getenv("TMPDIR");
  std::string name = std::string(directory != nullptr && *directory != 0 ? directory : "/tmp") + "/faultless.XXXXXX";
  const int fd = mkstemp(name.data());
  if (fd < 0) return Status::FromErrno(errno, "mkstemp");
  unlink(name.c_str());
  fcntl(fd, F_SETFD, FD_CLOEXEC);
  const std::string ones(PageSize(), '\xFF');
  Status status = WriteAt(fd, ones.data(), ones.size(), 0);
  if (!status.ok()) {
    close(fd);
    return status;
  }
  ones_fd = fd;
  return {};
}

bool MapZeros(std::byte* address, uint64_t length, bool writable) {
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
  return mmap(address, length, Protection(writable), flags, -1, 0) != MAP_FAILED;
}

bool MapOnesPage(std::byte* page, bool writable) {
  return mmap(page, PageSize(), Protection(writable), MAP_PRIVATE | MAP_FIXED, ones_fd, 0) != MAP_FAILED;
}

bool MapFilePage(std::byte* page, int fd, uint64_t file_offset, bool writable, bool shared) {
  const int flags = (shared ? MAP_SHARED : MAP_PRIVATE) | MAP_NORESERVE | MAP_FIXED;
  return mmap(page, PageSize(), Protection(writable), flags, fd, static_cast<off_t>(file_offset)) != MAP_FAILED;
}

}  // namespace faultless::os
