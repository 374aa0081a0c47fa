#include "map/mapped_file.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <utility>

namespace faultless::map {

namespace {

/** Address space mapped past the end of a map that may grow, so that growing rarely moves it. Costs no memory. */
constexpr uint64_t kRoomBytes = uint64_t{64} << 30;
/** Copies look for substitutes this often: a long copy over a file that was cut short must not fault on page after
 * page. */
constexpr uint64_t kPieceBytes = 256 * 1024;
/** A name that comes and goes between looking and opening. */
constexpr int kMaxOpenAttempts = 16;
constexpr uint64_t kResidencyPages = 4096;

uint64_t RoundUpToPage(uint64_t bytes) {
  const uint64_t page_size = os::PageSize();
  return (bytes + page_size - 1) & ~(page_size - 1);
}

}  // namespace

// ───────────────────────────────────────────────────────────── open and close

MappedFile::MappedFile(const MapOptions& options)
    : read_only_(options.read_only),
      shared_(options.shared),
      fixed_length_(options.length.has_value()),
      offset_(options.offset),
      skew_(options.offset & (os::PageSize() - 1)) {}

MappedFile::~MappedFile() { Close(); }

Status MappedFile::Open(const std::string& path, const MapOptions& options, std::shared_ptr<MappedFile>* file) {
  if (os::InForkedChild()) return Status(Code::kUnsupported, "not in a child that forked and did not exec");
  std::shared_ptr<MappedFile> opened(new MappedFile(options));
  for (int attempt = 0;; ++attempt) {
    Status status = opened->OpenExisting(path, options);
    if (status.code() == Code::kNotFound && options.create) {
      status = opened->CreateNew(path, options);
      // Somebody else was faster: theirs is opened, unless it had to be ours, or the name leads nowhere (a dangling
      // link).
      if (status.code() == Code::kExists && !options.exclusive && attempt + 1 < kMaxOpenAttempts) continue;
    }
    FAULTLESS_TRY(status);
    break;
  }
  FAULTLESS_TRY(opened->MapWindow(options));
  *file = std::move(opened);
  return {};
}

Status MappedFile::OpenDescriptor(int fd, const MapOptions& options, std::shared_ptr<MappedFile>* file) {
  std::shared_ptr<MappedFile> opened(new MappedFile(options));
  opened->fd_ = fd;
  if (os::InForkedChild()) return Status(Code::kUnsupported, "not in a child that forked and did not exec");
  if (options.exclusive) return Status(Code::kExists, "what a descriptor has open is there already");
  bool readable;
  bool writable;
  FAULTLESS_TRY(os::DescriptorAccess(fd, &readable, &writable));
  if (!readable) return Status(Code::kAccess, "the descriptor is not open for reading");
  if (!writable && !options.read_only && (options.shared || options.size_bytes)) {
    return Status(Code::kAccess, "the descriptor is not open for writing");
  }
  FAULTLESS_TRY(opened->MapWindow(options));
  *file = std::move(opened);
  return {};
}

Status MappedFile::OpenExisting(const std::string& path, const MapOptions& options) {
  // Before it is opened: opening a device or a pipe may do things, or wait.
  os::FileInfo info;
  FAULTLESS_TRY(os::StatPath(path.c_str(), &info));
  if (options.exclusive) return Status(Code::kExists, "the file is there already");
  if (!info.regular) return Status(Code::kUnsupported, "not a regular file");
  const bool writes = !options.read_only && (options.shared || options.size_bytes);
  return os::OpenFile(path.c_str(), writes ? os::Access::kReadWrite : os::Access::kReadOnly, &fd_);
}

Status MappedFile::CreateNew(const std::string& path, const MapOptions& options) {
  std::string aside;
  FAULTLESS_TRY(os::CreateAside(path.c_str(), options.permissions, &fd_, &aside));
  Status status = os::ReserveSpace(fd_, 0, options.size_bytes.value_or(0));
  if (status.ok()) status = os::PublishFile(fd_, aside, path.c_str());
  if (status.ok()) {
    unsynced_path_ = path;
    length_unsynced_ = true;
    return {};
  }
  os::AbandonAside(aside);
  os::CloseFile(std::exchange(fd_, -1));
  return status;
}

Status MappedFile::MapWindow(const MapOptions& options) {
  os::FileInfo info;
  FAULTLESS_TRY(os::StatFile(fd_, &info));
  if (!info.regular) return Status(Code::kUnsupported, "not a regular file");
  device_ = info.device;
  in_ram_ = info.filesystem == os::FilesystemKind::kRam;
  uint64_t file_size = info.size_bytes;
  if (options.size_bytes && *options.size_bytes > file_size) {
    if (read_only_) return Status(Code::kReadOnly, "a read-only map does not grow the file to the size asked for");
    FAULTLESS_TRY(os::ReserveSpace(fd_, file_size, *options.size_bytes - file_size));
    file_size = *options.size_bytes;
    length_unsynced_ = true;
  }
  if (offset_ > file_size) return Status(Code::kOutOfRange, "the window starts past the end of the file");
  const uint64_t size = options.length.value_or(file_size - offset_);
  if (size > file_size - offset_) return Status(Code::kOutOfRange, "the window reaches past the end of the file");
  residency_is_truthful_ = os::ResidencyIsTruthful(fd_);
  const std::lock_guard turn(turnstile_);
  const std::lock_guard lock(mutex_);
  FAULTLESS_TRY(MapWithRoom(size, &base_, &mapped_length_, &mapping_));
  size_.store(size, std::memory_order_relaxed);
  return {};
}

Status MappedFile::Map(uint64_t length, std::byte** base, os::MappingId* id) {
  const os::Access access = read_only_ ? os::Access::kReadOnly : os::Access::kReadWrite;
  FAULTLESS_TRY(os::MapFile(fd_, offset_ - skew_, length, access, shared_, base));
  Status status = os::RegisterMapping(*base, length, 0, fd_, offset_ - skew_, access, shared_, id);
  if (!status.ok()) (void)os::UnmapFile(*base, length);
  return status;
}

Status MappedFile::MapWithRoom(uint64_t size, std::byte** base, uint64_t* length, os::MappingId* id) {
  // A mapping cannot be empty.
  const uint64_t needed = RoundUpToPage(std::max<uint64_t>(skew_ + size, 1));
  const bool may_grow = !read_only_ && shared_ && !fixed_length_;
  if (may_grow) {
    *length = needed + kRoomBytes;
    const Status status = Map(*length, base, id);
    // Where address space is limited (RLIMIT_AS) it is done without room.
    if (status.ok() || status.error() != ENOMEM) return status;
  }
  *length = needed;
  return Map(*length, base, id);
}

void MappedFile::Close() {
  const std::lock_guard turn(turnstile_);
  const std::lock_guard lock(mutex_);
  if (base_ != nullptr) {
    os::UnregisterMapping(mapping_);
    (void)os::UnmapFile(base_, mapped_length_);
    base_ = nullptr;
    size_.store(0, std::memory_order_relaxed);
  }
  os::CloseFile(std::exchange(fd_, -1));
}

// ───────────────────────────────────────────────────────────── touching mapped bytes

std::shared_lock<std::shared_mutex> MappedFile::UseMapping() {
  const std::lock_guard turn(turnstile_);
  return std::shared_lock(mutex_);
}

bool MappedFile::Substituted(uint64_t position, uint64_t length) const {
  return os::HasSubstitutes(mapping_) && os::IsSubstituted(mapping_, AddressOf(position), length);
}

uint64_t MappedFile::ClipLocked(uint64_t position, uint64_t length) const {
  const uint64_t size = this->size();
  return position >= size ? 0 : std::min(length, size - position);
}

uint64_t MappedFile::Clip(uint64_t position, uint64_t length) const { return ClipLocked(position, length); }

Status MappedFile::RestorePages() {
  const std::lock_guard turn(turnstile_);
  const std::lock_guard lock(mutex_);
  if (base_ == nullptr) return Code::kClosed;
  os::RestoreSubstitutes(mapping_);
  return {};
}

Status MappedFile::FileReaches(uint64_t end) {
  os::FileInfo info;
  FAULTLESS_TRY(os::StatFile(fd_, &info));
  if (info.size_bytes >= offset_ + end) return {};
  return Status::Io("the file was cut short under the map", info.size_bytes);
}

Status MappedFile::SpaceFor(uint64_t position, uint64_t length) {
  const std::shared_lock lock = UseMapping();
  if (base_ == nullptr) return Code::kClosed;
  if (!shared_ || !FileReaches(position + length).ok()) return {};
  const Status status = os::ReserveSpace(fd_, offset_ + position, length);
  return status.code() == Code::kNoSpace ? status : Status();
}

template <typename Use>
Status MappedFile::Touch(uint64_t position, uint64_t length, bool store, Use use) {
  uint64_t done = 0;
  bool restored = false;
  while (done < length) {
    const uint64_t piece = std::min(kPieceBytes, length - done);
    bool sound = false;
    {
      const std::shared_lock lock = UseMapping();
      if (base_ == nullptr) return Code::kClosed;
      // It may have shrunk since the caller looked.
      if (ClipLocked(position + done, piece) < piece) return Status(Code::kOutOfRange, "past the end of the map");
      if (!Substituted(position + done, piece)) {
        use(AddressOf(position + done), done, piece);
        sound = !Substituted(position + done, piece);
      }
    }
    if (sound) {
      done += piece;
      continue;
    }
    if (restored) return Status::Io("a page of the file could not be had", offset_ + position + done);
    // Either it works again by now, or the second attempt meets the same fault.
    if (store) FAULTLESS_TRY(SpaceFor(position + done, piece));
    FAULTLESS_TRY(RestorePages());
    restored = true;
  }
  return {};
}

Status MappedFile::Read(std::span<ReadRange> ranges) {
  uint64_t end = 0;
  {
    const std::shared_lock lock = UseMapping();
    if (base_ == nullptr) return Code::kClosed;
    for (ReadRange& range : ranges) {
      range.length = ClipLocked(range.position, range.length);
      if (range.length == 0) continue;
      end = std::max(end, range.position + range.length);
      // Failure costs speed alone. One page is read by its fault just as well.
      if (ranges.size() == 1 && range.length <= os::PageSize()) continue;
      (void)os::Advise(fd_, offset_ + range.position, AddressOf(range.position), range.length, os::Advice::kWillNeed,
                       shared_);
    }
  }
  for (const ReadRange& range : ranges) {
    FAULTLESS_TRY(Touch(range.position, range.length, /*store=*/false,
                        [&range](const std::byte* address, uint64_t done, uint64_t piece) {
                          std::memcpy(range.target + done, address, piece);
                        }));
  }
  if (end == 0) return {};
  const std::shared_lock lock = UseMapping();
  if (base_ == nullptr) return Code::kClosed;
  return FileReaches(end);
}

Status MappedFile::Write(std::span<const WritePart> parts) {
  if (read_only_) return Code::kReadOnly;
  uint64_t end = 0;
  {
    const std::shared_lock lock = UseMapping();
    if (base_ == nullptr) return Code::kClosed;
    for (const WritePart& part : parts) {
      // Also where there is nothing to write: a position past the end is a mistake all the same.
      if (part.position > size() || part.length > size() - part.position) {
        return Status(Code::kOutOfRange, "past the end of the map: resize it first");
      }
      if (part.length > 0) end = std::max(end, part.position + part.length);
    }
  }
  for (const WritePart& part : parts) {
    FAULTLESS_TRY(
        Touch(part.position, part.length, /*store=*/true, [&part](std::byte* address, uint64_t done, uint64_t piece) {
          std::memcpy(address, part.source + done, piece);
        }));
  }
  if (end == 0) return {};
  const std::shared_lock lock = UseMapping();
  if (base_ == nullptr) return Code::kClosed;
  return FileReaches(end);
}

Status MappedFile::TryRead(ReadRange* range, bool may_start_reading) {
  // Past the turnstile: one thread that never waits keeps nobody out.
  // Somebody resizes, closes or puts pages back: waiting for it might be waiting for a device.
  const std::shared_lock lock(mutex_, std::try_to_lock);
  if (!lock.owns_lock()) return Code::kCold;
  if (base_ == nullptr) return Code::kClosed;
  range->length = ClipLocked(range->position, range->length);
  if (range->length == 0) return {};
  const uint64_t file_position = offset_ + range->position;
  // A substitute may have to go: that is for a read that may wait.
  if (Substituted(range->position, range->length)) return Code::kCold;

  // First, because a read that refuses to wait has the system start reading what is missing, and that may wait where
  // the device's queue is full.
  const bool needs_no_look = may_start_reading && shared_ && resident_reads_work_.load(std::memory_order_relaxed);
  if (residency_is_truthful_ && !needs_no_look && !InMemory(range->position, range->length)) return Code::kCold;
  // The proof without a gap between looking and reading; it also sees where the file ends now.
  if (resident_reads_work_.load(std::memory_order_relaxed)) {
    size_t got = 0;
    std::byte last;
    // Private stores are in the map alone: the file is asked just whether it still reaches that far.
    const Status status = shared_ ? os::ReadIfResident(fd_, range->target, range->length, file_position, &got)
                                  : os::ReadIfResident(fd_, &last, 1, file_position + range->length - 1, &got);
    if (status.ok() && got < (shared_ ? range->length : 1)) return Code::kCold;
    if (status.ok() && shared_) return {};
    if (status.code() == Code::kUnsupported) resident_reads_work_.store(false, std::memory_order_relaxed);
    if (!status.ok() && (needs_no_look || status.code() != Code::kUnsupported)) return Code::kCold;
  }
  if (!residency_is_truthful_) return Code::kCold;
  // Asking a filesystem in memory never waits. Where neither way works, a file that somebody cut short within this
  // very page answers zeros for the rest of it; a read that may wait says kIo.
  if (in_ram_ && !FileReaches(range->position + range->length).ok()) return Code::kCold;
  std::memcpy(range->target, AddressOf(range->position), range->length);
  return Substituted(range->position, range->length) ? Code::kCold : Code::kOk;
}

bool MappedFile::InMemory(uint64_t position, uint64_t length) const {
  uint8_t resident[256];
  const uint64_t page_size = os::PageSize();
  uint64_t checked = 0;
  while (checked < length) {
    // Whole pages but for the first piece, which ends at a page's end.
    const uint64_t skew = (skew_ + position + checked) & (page_size - 1);
    const uint64_t piece = std::min(length - checked, sizeof resident * page_size - skew);
    if (!os::Residency(AddressOf(position + checked), piece, resident).ok()) return false;
    const uint64_t pages = (skew + piece + page_size - 1) / page_size;
    if (std::find(resident, resident + pages, 0) != resident + pages) return false;
    checked += piece;
  }
  return true;
}

// ───────────────────────────────────────────────────────────── the map as a whole

Status MappedFile::Resize(uint64_t size) {
  if (read_only_) return Code::kReadOnly;
  if (!shared_) return Status(Code::kUnsupported, "a private map does not change its file");
  if (fixed_length_) return Status(Code::kUnsupported, "a window of a fixed length does not change its file's size");
  if (size > kMaxFileBytes - offset_) return Status(Code::kOutOfRange, "larger than a file may be");
  const std::lock_guard turn(turnstile_);
  const std::lock_guard lock(mutex_);
  if (base_ == nullptr) return Code::kClosed;
  os::FileInfo info;
  FAULTLESS_TRY(os::StatFile(fd_, &info));
  const uint64_t file_end = offset_ + size;
  const uint64_t old_size = this->size();
  if (info.size_bytes < file_end) FAULTLESS_TRY(os::ReserveSpace(fd_, info.size_bytes, file_end - info.size_bytes));
  if (skew_ + size > mapped_length_) FAULTLESS_TRY(MoveMapping(size));
  if (size < old_size && info.size_bytes > file_end) {
    FAULTLESS_TRY(os::SetFileSize(fd_, file_end));
    const std::lock_guard locked_lock(locked_mutex_);
    for (LockedRange& range : locked_) {
      range.length = range.position >= size ? 0 : std::min(range.length, size - range.position);
    }
    std::erase_if(locked_, [](const LockedRange& range) { return range.length == 0; });
  }
  size_.store(size, std::memory_order_relaxed);
  length_unsynced_ = true;
  return {};
}

Status MappedFile::MoveMapping(uint64_t size) {
  std::byte* base = nullptr;
  uint64_t length = 0;
  os::MappingId id;
  FAULTLESS_TRY(MapWithRoom(size, &base, &length, &id));
  Status status;
  {
    const std::lock_guard locked_lock(locked_mutex_);
    for (const LockedRange& range : locked_) {
      if (status.ok()) status = os::LockPages(base + skew_ + range.position, range.length);
    }
  }
  if (status.ok()) {
    std::swap(base, base_);
    std::swap(length, mapped_length_);
    std::swap(id, mapping_);
  }
  os::UnregisterMapping(id);
  (void)os::UnmapFile(base, length);
  return status;
}

Status MappedFile::Flush(uint64_t position, uint64_t length) {
  if (!shared_ || read_only_) return {};
  {
    const std::shared_lock lock = UseMapping();
    if (base_ == nullptr) return Code::kClosed;
    length = ClipLocked(position, length);
    if (length > 0) {
      // Its stores are lost, and whoever made them was told so. This promise cannot be kept either.
      if (Substituted(position, length)) {
        return Status::Io("a page of the file could not be had", offset_ + position);
      }
      FAULTLESS_TRY(os::SyncMapped(AddressOf(position), length));
    }
    if (length_unsynced_) {
      FAULTLESS_TRY(os::SyncFile(fd_));
      length_unsynced_ = false;  // under mutex_, which Resize holds exclusively: no change comes in between
    }
  }
  const std::lock_guard lock(flush_mutex_);
  if (unsynced_path_.empty()) return {};
  FAULTLESS_TRY(os::SyncDirectoryOf(unsynced_path_.c_str()));
  unsynced_path_.clear();
  return {};
}

Status MappedFile::Advise(os::Advice advice, uint64_t position, uint64_t length) {
  const std::shared_lock lock = UseMapping();
  if (base_ == nullptr) return Code::kClosed;
  length = ClipLocked(position, length);
  if (length == 0) return {};
  return os::Advise(fd_, offset_ + position, AddressOf(position), length, advice, shared_);
}

Status MappedFile::Residency(uint64_t position, uint64_t length, double* share) {
  const std::shared_lock lock = UseMapping();
  if (base_ == nullptr) return Code::kClosed;
  if (!residency_is_truthful_) {
    return Status(Code::kUnsupported, "the system does not tell about files that are neither owned nor writable");
  }
  length = ClipLocked(position, length);
  *share = 1;
  if (length == 0) return {};
  const uint64_t page_size = os::PageSize();
  const uint64_t first = (skew_ + position) & ~(page_size - 1);
  const uint64_t end = RoundUpToPage(skew_ + position + length);
  std::vector<uint8_t> resident(std::min(kResidencyPages, (end - first) / page_size));
  uint64_t pages_in_memory = 0;
  for (uint64_t at = first; at < end;) {
    const uint64_t piece = std::min<uint64_t>(resident.size() * page_size, end - at);
    FAULTLESS_TRY(os::Residency(base_ + at, piece, resident.data()));
    const auto pages_end = resident.begin() + static_cast<std::ptrdiff_t>(piece / page_size);
    pages_in_memory += static_cast<uint64_t>(std::count(resident.begin(), pages_end, 1));
    at += piece;
  }
  *share = static_cast<double>(pages_in_memory) / static_cast<double>((end - first) / page_size);
  return {};
}

Status MappedFile::Lock(uint64_t position, uint64_t length) {
  const std::shared_lock lock = UseMapping();
  if (base_ == nullptr) return Code::kClosed;
  length = ClipLocked(position, length);
  if (length == 0) return {};
  FAULTLESS_TRY(os::LockPages(AddressOf(position), length));
  const std::lock_guard locked_lock(locked_mutex_);
  const bool known = std::any_of(locked_.begin(), locked_.end(), [&](const LockedRange& range) {
    return position >= range.position && position + length <= range.position + range.length;
  });
  if (!known) locked_.push_back({position, length});
  return {};
}

Status MappedFile::Unlock(uint64_t position, uint64_t length) {
  const std::shared_lock lock = UseMapping();
  if (base_ == nullptr) return Code::kClosed;
  length = ClipLocked(position, length);
  if (length == 0) return {};
  FAULTLESS_TRY(os::UnlockPages(AddressOf(position), length));
  const std::lock_guard locked_lock(locked_mutex_);
  std::vector<LockedRange> kept;
  const uint64_t end = position + length;
  for (const LockedRange& range : locked_) {
    const uint64_t range_end = range.position + range.length;
    if (range.position < position) kept.push_back({range.position, std::min(range_end, position) - range.position});
    if (range_end > end) kept.push_back({std::max(range.position, end), range_end - std::max(range.position, end)});
  }
  locked_ = std::move(kept);
  return {};
}

}  // namespace faultless::map
