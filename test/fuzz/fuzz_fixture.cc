#include "fuzz_fixture.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <random>

// ───────────────────────────────────────────────────────────── in the place of libc's

namespace {

std::mt19937_64 random_source;  // NOLINT: the same numbers in every run
bool is_durable = false;
constexpr size_t kGuardBytes = size_t{16} << 20;

}  // namespace

extern "C" ssize_t getrandom(void* target, size_t size, unsigned) {
  for (size_t i = 0; i < size; i++) static_cast<uint8_t*>(target)[i] = static_cast<uint8_t>(random_source());
  return static_cast<ssize_t>(size);
}

extern "C" int fstatfs(int fd, struct statfs* info) {
  const long result = syscall(SYS_fstatfs, fd, info);
  if (result == 0 && is_durable) info->f_type = EXT4_SUPER_MAGIC;
  return static_cast<int>(result);
}

// The linker sends the calls of the code under test here (--wrap).
extern "C" void* __real_mmap(void* address, size_t length, int protection, int flags, int fd, off_t offset);
extern "C" int __real_munmap(void* address, size_t length);

extern "C" void* __wrap_mmap(void* address, size_t length, int protection, int flags, int fd, off_t offset) {
  // A whole store, or memory for a private copy of one: what is mapped over a part of it says where.
  if (address != nullptr) return __real_mmap(address, length, protection, flags, fd, offset);
  void* const reserved =
      __real_mmap(nullptr, length + 2 * kGuardBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) return reserved;
  void* const begin = static_cast<char*>(reserved) + kGuardBytes;
  void* const mapped = __real_mmap(begin, length, protection, flags | MAP_FIXED, fd, offset);
  if (mapped == MAP_FAILED) __real_munmap(reserved, length + 2 * kGuardBytes);
  return mapped;
}

/** Only what was mapped above is unmapped by the code under test. */
extern "C" int __wrap_munmap(void* address, size_t length) {
  return __real_munmap(static_cast<char*>(address) - kGuardBytes, length + 2 * kGuardBytes);
}

// ───────────────────────────────────────────────────────────── files and values

namespace fuzz {
namespace {

struct Files {
  std::string paths[2];
  const pid_t owner = ::getpid();
  Files() {
    for (int i = 0; i < 2; i++) {
      paths[i] = "/dev/shm/faultless-fuzz-" + std::to_string(owner) + "-" + std::to_string(i);
      ::close(::open(paths[i].c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
    }
  }
  ~Files() {
    for (const std::string& path : paths) ::unlink(path.c_str());
  }
};

uint64_t Mix(uint64_t state) {
  state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9;
  state = (state ^ (state >> 27)) * 0x94D049BB133111EB;
  return state ^ (state >> 31);
}

uint64_t HashOf(const std::string& key, uint64_t number) {
  uint64_t state = Mix(number + 0x9E3779B97F4A7C15);
  for (const char c : key) state = Mix(state ^ static_cast<uint8_t>(c));
  return state;
}

}  // namespace

const std::string& FilePath(int number) {
  static const Files files;
  return files.paths[number];
}

Image ReadImage(const std::string& path) {
  struct stat info {};
  FUZZ_REQUIRE(::stat(path.c_str(), &info) == 0, path.c_str());
  Image image(static_cast<size_t>(info.st_size) / 8);
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  FUZZ_REQUIRE(::read(fd, image.data(), image.size() * 8) == static_cast<ssize_t>(image.size() * 8), path.c_str());
  ::close(fd);
  return image;
}

void WriteImage(const std::string& path, const Image& image) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  FUZZ_REQUIRE(::ftruncate(fd, static_cast<off_t>(image.size() * 8)) == 0, path.c_str());
  FUZZ_REQUIRE(::pwrite(fd, image.data(), image.size() * 8, 0) == static_cast<ssize_t>(image.size() * 8), path.c_str());
  ::close(fd);
}

void SetDurable(bool durable) { is_durable = durable; }
void SeedRandom(uint64_t seed) { random_source.seed(seed); }

std::string MakeValue(const std::string& key, uint64_t number, uint64_t size) {
  std::string value(std::max<uint64_t>(size, 8), '\0');
  std::memcpy(value.data(), &number, 8);
  uint64_t state = HashOf(key, number);
  for (size_t i = 8; i < value.size(); i += 8) {
    const size_t part = std::min<size_t>(8, value.size() - i);
    std::memcpy(value.data() + i, &state, part);
    state += 0x9E3779B97F4A7C15;
  }
  return value;
}

uint64_t NumberOf(const std::string& key, const std::string& value) {
  if (value.size() < 8) return 0;
  uint64_t number;
  if (value.size() == faultless::store::kNumberBytes && value[0] == faultless::store::kNumberMark) {
    std::memcpy(&number, value.data() + 1, 8);
    return number | uint64_t{1} << 63;
  }
  std::memcpy(&number, value.data(), 8);
  return MakeValue(key, number, value.size()) == value ? number : 0;
}

Status OpenStore(const std::string& path, uint64_t max_bytes, bool read_only, std::shared_ptr<Store>* store,
                 bool salvage) {
  faultless::store::OpenOptions options;
  options.path = path;
  options.read_only = read_only;
  options.salvage = salvage;
  options.kept.max_bytes = max_bytes;
  return Store::Open(options, store);
}

}  // namespace fuzz
