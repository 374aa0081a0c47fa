#include "store/mapped_storage.h"

#include <algorithm>

namespace faultless::store {
namespace {

/** The range widened to whole pages. */
struct Pages {
  uint64_t offset;
  uint64_t length;
};

Pages PagesAround(uint64_t offset, uint64_t length) {
  const uint64_t page = os::PageSize();
  const uint64_t begin = offset & ~(page - 1);
  return {begin, ((offset + length + page - 1) & ~(page - 1)) - begin};
}

}  // namespace

Status MappedStorage::Create(int fd, uint64_t max_bytes, uint64_t ones_bytes, os::Access access, bool durable,
                             std::unique_ptr<MappedStorage>* storage) {
  std::unique_ptr<MappedStorage> created(new MappedStorage);
  created->fd_ = fd;
  created->max_bytes_ = max_bytes;
  created->durable_ = durable;
  FAULTLESS_TRY(os::MapFile(fd, 0, max_bytes, access, true, &created->base_));
  FAULTLESS_TRY(os::RegisterMapping(created->base_, max_bytes, ones_bytes, fd, 0, access, true, &created->mapping_));
  // Random access is the rule for a hash store; scans advise for themselves.
  FAULTLESS_TRY(os::Advise(fd, 0, created->base_, max_bytes, os::Advice::kRandom));
  created->residency_known_ = os::ResidencyIsTruthful(fd);
  *storage = std::move(created);
  return Code::kOk;
}

MappedStorage::~MappedStorage() {
  if (mapping_.index >= 0) os::UnregisterMapping(mapping_);
  if (base_ != nullptr) static_cast<void>(os::UnmapFile(base_, max_bytes_));
  os::CloseFile(fd_);
}

Status MappedStorage::FileBytes(uint64_t* size) {
  os::FileInfo info{};
  FAULTLESS_TRY(os::StatFile(fd_, &info));
  *size = info.size_bytes;
  return Code::kOk;
}

Status MappedStorage::PopulateRead(uint64_t offset, uint64_t length) {
  const Pages pages = PagesAround(offset, length);
  return os::PopulateRead(base_ + pages.offset, pages.length);
}

Status MappedStorage::PopulateWrite(uint64_t offset, uint64_t length) {
  const Pages pages = PagesAround(offset, length);
  return os::PopulateWrite(base_ + pages.offset, pages.length);
}

Status MappedStorage::Lock(uint64_t offset, uint64_t length) {
  const Pages pages = PagesAround(offset, length);
  return os::LockPages(base_ + pages.offset, pages.length);
}

void MappedStorage::DropCache() {
  uint64_t bytes;
  if (!FileBytes(&bytes).ok()) return;
  const Pages pages = PagesAround(0, std::min(bytes, max_bytes_));
  static_cast<void>(os::Advise(fd_, 0, base_, pages.length, os::Advice::kDontNeed));
}

void MappedStorage::WillNeed(uint64_t offset, uint64_t length) {
  const Pages pages = PagesAround(offset, length);
  // Advice only: the read that follows reports what is wrong.
  static_cast<void>(os::Advise(fd_, pages.offset, base_ + pages.offset, pages.length, os::Advice::kWillNeed));
}

bool MappedStorage::IsResident(uint64_t offset, uint64_t length) {
  if (!residency_known_) return false;
  uint8_t resident[64];
  const uint64_t page = os::PageSize();
  Pages pages = PagesAround(offset, length);
  while (pages.length > 0) {
    const uint64_t part = std::min(pages.length, sizeof resident * page);
    if (!os::Residency(base_ + pages.offset, part, resident).ok()) return false;
    for (uint64_t i = 0; i < part / page; i++) {
      if ((resident[i] & 1) == 0) return false;
    }
    pages.offset += part;
    pages.length -= part;
  }
  return true;
}

Status MappedStorage::CountResident(uint64_t offset, uint64_t length, uint64_t* pages) {
  if (!residency_known_) return Code::kUnsupported;
  static constexpr uint64_t kAtOnce = 4096;
  uint8_t resident[kAtOnce];
  const uint64_t page = os::PageSize();
  Pages range = PagesAround(offset, length);
  *pages = 0;
  while (range.length > 0) {
    const uint64_t part = std::min(range.length, kAtOnce * page);
    FAULTLESS_TRY(os::Residency(base_ + range.offset, part, resident));
    for (uint64_t i = 0; i < part / page; i++) *pages += resident[i] & 1;
    range.offset += part;
    range.length -= part;
  }
  return Code::kOk;
}

}  // namespace faultless::store
