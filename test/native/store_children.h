// Purpose: what the store's tests with several processes and with damaged files share: values that tell what they are,
// a page of counters that parent and children see, images of files. Thread safety: as the harness; Board's words are
// atomic.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstring>
#include <string_view>

#include "base/hash.h"
#include "format/superblock.h"
#include "os/os.h"
#include "store_fixture.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

namespace store_test {

inline uint64_t Mix(uint64_t a, uint64_t b) {
  const uint64_t seed[2] = {a, 0x5bd1e995};
  return faultless::HashBytes(&b, sizeof b, seed);
}

/** The value number `number` of a key: names both, and its bytes follow from them. At least 24 bytes and the key. */
inline std::string MakeValue(const std::string& key, uint64_t number, uint64_t size) {
  std::string value = std::to_string(number) + ":" + std::to_string(size) + ":" + key + ":";
  const size_t head = value.size();
  if (size > head) value.resize(size);
  uint64_t word = Mix(number, size);
  for (size_t i = head; i < value.size(); i += 8) {
    word = word * 6364136223846793005u + 1442695040888963407u;
    std::memcpy(value.data() + i, &word, std::min<size_t>(8, value.size() - i));
  }
  return value;
}

/** The number of a value that MakeValue made for this key, or that an increment did; 0: it is none, or not whole. */
inline uint64_t NumberOf(const std::string& key, const std::string& value) {
  uint64_t number = 0;
  if (value.size() == faultless::store::kNumberBytes && value[0] == faultless::store::kNumberMark) {
    double counted;
    std::memcpy(&counted, value.data() + 1, sizeof counted);
    return static_cast<uint64_t>(counted);
  }
  uint64_t size = 0;
  const char* const end = value.data() + value.size();
  auto parsed = std::from_chars(value.data(), end, number);
  if (parsed.ec != std::errc() || parsed.ptr == end || *parsed.ptr != ':') return 0;
  parsed = std::from_chars(parsed.ptr + 1, end, size);
  if (parsed.ec != std::errc() || size > (uint64_t{64} << 20)) return 0;
  return MakeValue(key, number, size) == value ? number : 0;
}

/** Counters that processes share through a file. */
class Board {
 public:
  explicit Board(const std::string& path) {
    const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ::ftruncate(fd, kBytes) != 0) ::abort();
    void* const address = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (address == MAP_FAILED) ::abort();
    ::close(fd);
    words_ = static_cast<std::atomic<uint64_t>*>(address);
  }
  Board(const Board&) = delete;
  ~Board() { ::munmap(words_, kBytes); }
  std::atomic<uint64_t>& operator[](size_t index) const {
    if (index >= kBytes / 8) ::abort();
    return words_[index];
  }

 private:
  static constexpr size_t kBytes = 1 << 20;
  std::atomic<uint64_t>* words_;
};

/** First words of a child: it ends with its parent, and after `seconds` at the latest. */
inline void LiveAtMost(unsigned seconds) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::alarm(seconds);
}

/** Makes TMPDIR a directory on a disk: a store in RAM promises nothing about power cuts. False: there is none. */
inline bool UseDisk() {
  const char* const wished = ::getenv("TMPDIR");
  for (const std::string& place : {std::string(wished == nullptr ? "/tmp" : wished), std::string("/tmp"),
                                   std::string("/var/tmp"), std::string("build")}) {
    faultless::os::FileInfo info{};
    if (!faultless::os::StatPath(place.c_str(), &info).ok()) continue;
    if (info.filesystem != faultless::os::FilesystemKind::kDisk || ::access(place.c_str(), W_OK) != 0) continue;
    return ::setenv("TMPDIR", place.c_str(), 1) == 0;
  }
  return false;
}

/** A file's bytes as words. The length of a store's file is a multiple of 8. */
using Image = std::vector<uint64_t>;

inline Image ReadImage(int fd) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) ::abort();
  Image image(static_cast<size_t>(status.st_size) / 8);
  for (size_t at = 0; at < image.size() * 8;) {
    const ssize_t got =
        ::pread(fd, reinterpret_cast<char*>(image.data()) + at, image.size() * 8 - at, static_cast<off_t>(at));
    if (got <= 0) ::abort();
    at += static_cast<size_t>(got);
  }
  return image;
}

inline Image ReadImage(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) ::abort();
  Image image = ReadImage(fd);
  ::close(fd);
  return image;
}

/** A new file: kOpen stores tell a copy by its inode. */
inline void WriteImage(const std::string& path, const Image& image) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) ::abort();
  const char* const bytes = reinterpret_cast<const char*>(image.data());
  for (size_t at = 0; at < image.size() * 8;) {
    const ssize_t put = ::write(fd, bytes + at, image.size() * 8 - at);
    if (put <= 0) ::abort();
    at += static_cast<size_t>(put);
  }
  ::close(fd);
}

/** Pages of a file that are in memory. */
inline uint64_t ResidentPages(int fd) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) ::abort();
  const auto size = static_cast<size_t>(status.st_size);
  void* const address = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0);
  if (address == MAP_FAILED) ::abort();
  std::vector<unsigned char> resident(size / 4096 + 1);
  if (::mincore(address, size, resident.data()) != 0) ::abort();
  ::munmap(address, size);
  return static_cast<uint64_t>(std::count_if(resident.begin(), resident.end(), [](unsigned char c) { return c & 1; }));
}

inline uint64_t ResidentPages(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) ::abort();
  const uint64_t pages = ResidentPages(fd);
  ::close(fd);
  return pages;
}

/** Keys of the store at `path` that fall into its first `shards` shards: little data makes much cleaning there. */
inline std::vector<std::string> KeysInShards(const std::string& path, uint32_t shards, size_t count,
                                             const std::string& prefix) {
  faultless::format::Superblock blocks[2];
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0 || ::pread(fd, blocks, sizeof blocks, 0) != sizeof blocks) ::abort();
  ::close(fd);
  std::vector<std::string> keys;
  for (uint64_t i = 0; keys.size() < count; i++) {
    std::string key = prefix + std::to_string(i);
    const uint64_t hash = faultless::HashBytes(key.data(), key.size(), blocks[0].hash_seed);
    const uint64_t shard = (hash >> 32) * blocks[0].shard_count >> 32;  // its top bits
    if (shard < shards) keys.push_back(std::move(key));
  }
  return keys;
}

}  // namespace store_test
