#include "ipc/shared_file.h"

#include <utility>

namespace faultless::ipc {
namespace {

constexpr int kMaxAttempts = 16;

Status Create(const SharedFileOptions& options, const std::function<Status(int fd)>& build, int* fd) {
  std::string aside;
  FAULTLESS_TRY(os::CreateAside(options.path.c_str(), options.permissions, fd, &aside));
  Status status = build(*fd);
  if (status.ok()) status = os::PublishFile(*fd, aside, options.path.c_str());
  if (status.ok()) return {};
  os::AbandonAside(aside);
  os::CloseFile(std::exchange(*fd, -1));
  return status;
}

}  // namespace

Status SharedFile::Open(const SharedFileOptions& options, const std::function<Status(int fd)>& build) {
  if (os::InForkedChild()) return {Code::kUnsupported, "not in a child that forked and did not exec"};
  read_only_ = options.read_only;
  const os::Access access = options.read_only ? os::Access::kReadOnly : os::Access::kReadWrite;
  for (int attempt = 0;; attempt++) {
    Status status = os::OpenFile(options.path.c_str(), access, &fd_);
    if (status.ok()) {
      if (options.exclusive) return {Code::kExists};
      break;
    }
    if (status.code() == Code::kAccess && options.exclusive) return {Code::kExists};
    if (status.code() != Code::kNotFound || !options.create || options.read_only) return status;
    status = Create(options, build, &fd_);
    created_ = status.ok();
    // Somebody else was faster: theirs is opened, unless it had to be ours.
    if (status.code() == Code::kExists && !options.exclusive && attempt < kMaxAttempts) continue;
    FAULTLESS_TRY(status);
    break;
  }
  os::FileInfo info{};
  FAULTLESS_TRY(os::StatFile(fd_, &info));
  if (!info.regular) return {Code::kUnsupported, "not a regular file"};
  size_bytes_ = info.size_bytes;
  return {};
}

Status SharedFile::Map() {
  const uint64_t page = os::PageSize();
  mapped_bytes_ = (size_bytes_ + page - 1) / page * page;
  FAULTLESS_TRY(os::MapFile(fd_, 0, mapped_bytes_, os::Access::kReadWrite, !read_only_, &base_));
  return os::RegisterMapping(base_, mapped_bytes_, 0, fd_, 0, os::Access::kReadWrite, !read_only_, &mapping_);
}

void SharedFile::Close() {
  if (mapping_.index >= 0) os::UnregisterMapping(std::exchange(mapping_, os::MappingId{}));
  if (base_ != nullptr) static_cast<void>(os::UnmapFile(std::exchange(base_, nullptr), mapped_bytes_));
  os::CloseFile(std::exchange(fd_, -1));
}

}  // namespace faultless::ipc
