// Substitutes for pages that faulted. POSIX does not list mmap among the functions that a signal handler may call;
// where it is a plain system call, as on every system known to us, it may be.
#include "os/posix/faults.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>

#include "os/os.h"

#ifndef MAP_NORESERVE
#define MAP_NORESERVE 0
#endif

// ThreadSanitizer takes the C library's mmap for a store to the mapped bytes, and would call it a race with the threads
// that use them. (linux/ makes the system call itself.)
#if defined(__SANITIZE_THREAD__)
extern "C" void AnnotateIgnoreWritesBegin(const char* file, int line);
extern "C" void AnnotateIgnoreWritesEnd(const char* file, int line);
#else
#define AnnotateIgnoreWritesBegin(file, line) static_cast<void>(0)
#define AnnotateIgnoreWritesEnd(file, line) static_cast<void>(0)
#endif

namespace faultless::os {

namespace {

// One page of 0xFF in a file without a name: mapping it privately makes a full page appear in one step. Written once,
// before the handler is installed; open for the life of the process.
constinit int ones_fd = -1;

int Protection(bool writable) { return writable ? PROT_READ | PROT_WRITE : PROT_READ; }

bool Map(std::byte* address, uint64_t length, bool writable, int flags, int fd, uint64_t offset) {
  AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
  const void* mapped = mmap(address, length, Protection(writable), flags | MAP_FIXED, fd, static_cast<off_t>(offset));
  AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
  return mapped != MAP_FAILED;
}

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
  return Map(address, length, writable, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

bool MapOnesPage(std::byte* page, bool writable) { return Map(page, PageSize(), writable, MAP_PRIVATE, ones_fd, 0); }

bool MapFilePage(std::byte* page, int fd, uint64_t file_offset, bool writable, bool shared) {
  return Map(page, PageSize(), writable, (shared ? MAP_SHARED : MAP_PRIVATE) | MAP_NORESERVE, fd, file_offset);
}

}  // namespace faultless::os
