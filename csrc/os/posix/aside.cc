#include "os/posix/aside.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string_view>

#include "os/os.h"

namespace faultless::os {

namespace {

constexpr std::string_view kSuffix = ".faultless";
/** The temporary name is the name with 28 bytes more; names end at 255 bytes (NAME_MAX of every common filesystem). */
constexpr size_t kMaxNameBytes = 255 - 28;
constexpr int kMaxAttempts = 16;

}  // namespace

std::string DirectoryOf(const char* path) {
  const std::string_view whole(path);
  const size_t slash = whole.find_last_of('/');
  if (slash == std::string_view::npos) return ".";
  if (slash == 0) return "/";
  return std::string(whole.substr(0, slash));
}

Status CreateNamedAside(const char* path, uint32_t permissions, int* fd, std::string* aside) {
  const std::string_view whole(path);
  const size_t slash = whole.find_last_of('/');
  const std::string_view name = slash == std::string_view::npos ? whole : whole.substr(slash + 1);
  const std::string prefix = DirectoryOf(path) + "/." + std::string(name.substr(0, kMaxNameBytes)) + ".";
  for (int attempt = 0; attempt < kMaxAttempts; ++attempt) {
    uint64_t random;
    FAULTLESS_TRY(RandomBytes(&random, sizeof random));
    std::string candidate = prefix;
    for (int shift = 60; shift >= 0; shift -= 4) candidate += "0123456789abcdef"[(random >> shift) & 0xF];
    candidate += kSuffix;
    // Narrow at first: nobody else opens it before its permissions are what was asked for.
    const int created = open(candidate.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (created < 0) {
      if (errno == EEXIST || errno == EINTR) continue;
      return Status::FromErrno(errno, "open");
    }
    if (fchmod(created, static_cast<mode_t>(permissions)) != 0) {
      Status status = Status::FromErrno(errno, "fchmod");
      close(created);
      unlink(candidate.c_str());
      return status;
    }
    *fd = created;
    *aside = std::move(candidate);
    return {};
  }
  return Status(Code::kIo, "no free temporary name was found beside the file");
}

Status PublishByLink(const std::string& aside, const char* path) {
  if (link(aside.c_str(), path) != 0) return Status::FromErrno(errno, "link");
  // The file is there, whole; a temporary name that cannot be removed does no harm.
  unlink(aside.c_str());
  return {};
}

Status WriteZeros(int fd, uint64_t offset, uint64_t end) {
  static constexpr size_t kPieceBytes = 64 * 1024;
  static constexpr std::byte kZeros[kPieceBytes] = {};
  while (offset < end) {
    const size_t piece = static_cast<size_t>(std::min<uint64_t>(kPieceBytes, end - offset));
    FAULTLESS_TRY(WriteAt(fd, kZeros, piece, offset));
    offset += piece;
  }
  return {};
}

void AbandonAside(const std::string& aside) {
  if (!aside.empty()) unlink(aside.c_str());
}

}  // namespace faultless::os
