// Purpose: what the tests of the operating-system layer share: files with known bytes, registered mappings, hand-shakes
// between processes, privileges.
// Thread safety: none; one test at a time.
#pragma once

#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "harness.h"
#include "os/os.h"

namespace faultless::os {

#ifdef FAULTLESS_OS_PORTABLE
inline constexpr bool kPortable = true;
#else
inline constexpr bool kPortable = false;
#endif

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;  // these make mlock do nothing
#else
inline constexpr bool kSanitized = false;
#endif

inline uint64_t Pages(uint64_t count) { return count * PageSize(); }

/** A file of its own in a directory of its own, open for reading and writing. */
struct TestFile {
  harness::TemporaryDirectory directory;
  std::string path;
  int fd = -1;

  explicit TestFile(uint64_t size_bytes = 0, char fill = 'A') : path(directory.File("file")) {
    fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    EXPECT_GE(fd, 0);
    Fill(size_bytes, fill);
  }
  TestFile(const TestFile&) = delete;
  ~TestFile() { CloseFile(fd); }

  /** The bytes [0, size_bytes), in one call. */
  void Fill(uint64_t size_bytes, char fill) const {
    const std::string bytes(size_bytes, fill);
    EXPECT_OK(WriteAt(fd, bytes.data(), bytes.size(), 0));
  }
  uint64_t Size() const {
    FileInfo info{};
    EXPECT_OK(StatFile(fd, &info));
    return info.size_bytes;
  }
  uint64_t Allocated() const {
    FileInfo info{};
    EXPECT_OK(StatFile(fd, &info));
    return info.allocated_bytes;
  }
};

/** A registered mapping of a whole file. */
struct TestMapping {
  std::byte* base = nullptr;
  uint64_t length;
  MappingId id;

  TestMapping(int fd, uint64_t length, uint64_t ones_length = 0, Access access = Access::kReadWrite, bool shared = true)
      : length(length) {
    EXPECT_OK(MapFile(fd, 0, length, access, shared, &base));
    EXPECT_OK(RegisterMapping(base, length, ones_length, fd, 0, access, shared, &id));
  }
  TestMapping(const TestMapping&) = delete;
  ~TestMapping() {
    UnregisterMapping(id);
    EXPECT_OK(UnmapFile(base, length));
  }

  volatile uint8_t& operator[](uint64_t offset) const { return reinterpret_cast<volatile uint8_t*>(base)[offset]; }
  /** Relaxed, for several threads. */
  uint8_t Load(uint64_t offset) const {
    return __atomic_load_n(reinterpret_cast<uint8_t*>(base + offset), __ATOMIC_RELAXED);
  }
  void Store(uint64_t offset, uint8_t value) const {
    __atomic_store_n(reinterpret_cast<uint8_t*>(base + offset), value, __ATOMIC_RELAXED);
  }
  bool IsPageSubstituted(uint64_t page) const { return IsSubstituted(id, base + Pages(page), 1); }
};

/** One process says it is so far, another waits for it. Made before the fork. */
class Signpost {
 public:
  Signpost() { EXPECT_EQ(pipe2(ends_, O_CLOEXEC), 0); }
  Signpost(const Signpost&) = delete;
  ~Signpost() {
    close(ends_[0]);
    close(ends_[1]);
  }
  void Reached() { EXPECT_EQ(write(ends_[1], "x", 1), 1); }
  void Await() {
    char byte;
    EXPECT_EQ(read(ends_[0], &byte, 1), 1);
  }

 private:
  int ends_[2] = {-1, -1};
};

inline bool IsRoot() { return geteuid() == 0; }

/** In a child: becomes a user without any privilege. */
inline void BecomeNobody() {
  constexpr unsigned kNobody = 65534;
  EXPECT_EQ(setgroups(0, nullptr), 0);
  EXPECT_EQ(setresgid(kNobody, kNobody, kNobody), 0);
  EXPECT_EQ(setresuid(kNobody, kNobody, kNobody), 0);
}

/** In a child of root: mounts a tmpfs of `size` that nobody else sees and that goes with the child. */
inline bool MountSmallTmpfs(const std::string& directory, const char* size) {
  return unshare(CLONE_NEWNS) == 0 && mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
         mount("tmpfs", directory.c_str(), "tmpfs", 0, (std::string("size=") + size).c_str()) == 0;
}

}  // namespace faultless::os
