#include "store/private_storage.h"

#include <algorithm>

#include "store/shared_bytes.h"

namespace faultless::store {
namespace {

// An index takes 25.6 bytes for an entry where all segments have just been split, and a record takes 24 at least: no
// more than this is ever reserved. Systems that count address space as memory are spared the rest of maxBytes.
constexpr uint64_t kSpareBytes = uint64_t{64} << 20;

}  // namespace

Status PrivateStorage::Create(int fd, uint64_t max_bytes, uint64_t ones_bytes,
                              std::unique_ptr<PrivateStorage>* storage) {
  std::unique_ptr<PrivateStorage> created(new PrivateStorage);
  created->fd_ = fd;
  os::FileInfo info{};
  FAULTLESS_TRY(os::StatFile(fd, &info));
  const uint64_t file_bytes = std::min(info.size_bytes, max_bytes);
  const uint64_t page = os::PageSize();
  const uint64_t wished = (std::max(3 * file_bytes + kSpareBytes, ones_bytes) + page - 1) & ~(page - 1);
  created->file_bytes_ = file_bytes;
  created->reserved_bytes_ = file_bytes;
  created->max_bytes_ = std::min(max_bytes, wished);
  created->durable_ = info.filesystem != os::FilesystemKind::kRam;
  FAULTLESS_TRY(os::MapPrivateCopy(fd, file_bytes, created->max_bytes_, &created->base_));
  FAULTLESS_TRY(os::RegisterMapping(created->base_, created->max_bytes_, ones_bytes, fd, 0, os::Access::kReadWrite,
                                    false, &created->mapping_));
  FAULTLESS_TRY(os::Advise(fd, 0, created->base_, created->max_bytes_, os::Advice::kRandom, false));
  created->residency_known_ = os::ResidencyIsTruthful(fd);
  *storage = std::move(created);
  return Code::kOk;
}

void PrivateStorage::Settle(std::vector<Range> own) {
  own_ = std::move(own);
  if (file_bytes_ < max_bytes_) own_.push_back({file_bytes_, max_bytes_ - file_bytes_});
  settled_ = true;
}

Status PrivateStorage::FileBytes(uint64_t* size) {
  *size = reserved_bytes_;
  return Code::kOk;
}

Status PrivateStorage::Reserve(uint64_t offset, uint64_t length) {
  if (offset > max_bytes_ || length > max_bytes_ - offset) return {Code::kNoSpace, "no room for the private index"};
  reserved_bytes_ = std::max(reserved_bytes_, offset + length);
  return Code::kOk;
}

Status PrivateStorage::Write(uint64_t offset, const void* source, size_t size) {
  CopyToShared(base_ + offset, source, size);
  return Code::kOk;
}

size_t PrivateStorage::Restore() {
  if (!HasSubstitutes()) return 0;
  if (!settled_) return 1;
  for (const Range& range : own_) {
    if (IsSubstituted(range.offset, range.length)) return 1;
  }
  return MappedStorage::Restore();
}

}  // namespace faultless::store
