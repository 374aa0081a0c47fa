#include "store/mapped_storage.h"

#include <algorithm>
#include <cstring>

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

Status MappedStorage::AllocatedBytes(uint64_t* size) {
  os::FileInfo info{};
  FAULTLESS_TRY(os::StatFile(fd_, &info));
  *size = info.allocated_bytes;
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

void MappedStorage::ResidentPages(uint64_t offset, uint64_t length, uint32_t* pages) {
  for (uint64_t page = 0; page * 4096 < length; page += 32) pages[page / 32] = 0;
  if (!residency_known_) return;
  uint8_t resident[520] = {};
  const Pages range = PagesAround(offset, length);
  const uint64_t page_bytes = os::PageSize();
  if (range.length / page_bytes > sizeof resident) return;
  if (!os::Residency(base_ + range.offset, range.length, resident).ok()) return;
  if (page_bytes == 4096 && range.offset == offset) {
    // Eight bytes that are 0 or 1 become eight bits: the product has byte n's in bit 56 + n.
    for (uint64_t page = 0; page * 4096 < length; page += 8) {
      uint64_t eight;
      std::memcpy(&eight, resident + page, sizeof eight);
      pages[page / 32] |= static_cast<uint32_t>(eight * 0x0102'0408'1020'4080 >> 56) << page % 32;
    }
    return;
  }
  for (uint64_t page = 0; page * 4096 < length; page++) {
    const uint64_t at = (offset + page * 4096 - range.offset) / page_bytes;
    if (resident[at] != 0) pages[page / 32] |= uint32_t{1} << page % 32;
  }
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
