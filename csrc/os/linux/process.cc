// Process: the boot's identity and random bytes.
#include <fcntl.h>
#include <sys/random.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>

#include "os/os.h"

namespace faultless::os {

namespace {

int HexDigit(char character) {
  if (character >= '0' && character <= '9') return character - '0';
  if (character >= 'a' && character <= 'f') return character - 'a' + 10;
  if (character >= 'A' && character <= 'F') return character - 'A' + 10;
  return -1;
}

BootId ReadBootId() {
  constexpr BootId kUnknown{{0, 0}};
  const int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return kUnknown;
  char text[64];
  const ssize_t size = read(fd, text, sizeof text);
  close(fd);
  // 32 hexadecimal digits between dashes.
  BootId id{{0, 0}};
  int digits = 0;
  for (ssize_t i = 0; i < size && digits < 32; ++i) {
    const int digit = HexDigit(text[i]);
    if (digit < 0) continue;
    id.words[digits / 16] = (id.words[digits / 16] << 4) | static_cast<uint64_t>(digit);
    ++digits;
  }
  return digits == 32 ? id : kUnknown;
}

}  // namespace

bool RamStaysResident() {
  struct sysinfo info {};
  return sysinfo(&info) == 0 && info.totalswap == 0;
}

BootId CurrentBootId() {
  static const BootId id = ReadBootId();
  return id;
}

Status RandomBytes(void* target, size_t size) {
  auto* bytes = static_cast<std::byte*>(target);
  while (size > 0) {
    const ssize_t got = getrandom(bytes, size, 0);
    if (got < 0) {
      if (errno == EINTR) continue;
      return Status::FromErrno(errno, "getrandom");
    }
    bytes += got;
    size -= static_cast<size_t>(got);
  }
  return {};
}

}  // namespace faultless::os
