// Purpose: a file, or a window of one, as bytes in memory: reads and writes at positions, where a page that cannot be
// had (the file was cut short by somebody else, the device failed) is an error of that operation alone and never the
// end of the process.
//
// Thread safety: every method may be called from any thread at any time; after Close() they answer kClosed. Reads and
// writes of the same bytes at the same time are as unordered as they are in any shared memory. Invariants
//   - Addresses are used under mutex_ held shared. What changes the mapping (Resize, Close) or puts the file's pages
//   back in
//     place of substitutes holds it exclusively. So a substitute that was met during an operation is still there, and
//     noted, when that operation looks, and no operation believes bytes of a substitute.
//   - Nothing beyond size_ is touched; the mapping may reach further than the file (address space for growth).
//   - An operation answers ok only if the file still reached past its last byte afterwards: the rest of a last page cut
//   short
//     reads as zeros and takes stores without any fault.
// Ownership: owns its descriptor and mapping from Open on, whatever the caller does with the path or descriptor.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "os/os.h"

namespace faultless::map {

struct MapOptions {
  bool read_only = true;
  bool create = false;
  bool exclusive = false;              // kExists where it is there already
  uint32_t permissions = 0600;         // exact, of what is created
  std::optional<uint64_t> size_bytes;  // of a file that is created, or grow to it
  uint64_t offset = 0;                 // of the window, bytes; any
  std::optional<uint64_t> length;      // of the window, bytes; else up to the end of the file
  bool shared = true;                  // false: stores stay private to this process
};

/** length is set to what was read: shorter than asked only at the end of the map. */
struct ReadRange {
  uint64_t position;
  uint64_t length;
  std::byte* target;  // room for Clip(position, length) bytes
};

struct WritePart {
  uint64_t position;
  uint64_t length;
  const std::byte* source;
};

class MappedFile {
 public:
  /** The largest file offset that a window may reach. */
  static constexpr uint64_t kMaxFileBytes = (uint64_t{1} << 53) - 1;

  /** May wait. kNotFound, kExists, kAccess, kUnsupported (not a regular file), kOutOfRange (window), kNoSpace,
   * kReadOnly, kIo. */
  static Status Open(const std::string& path, const MapOptions& options, std::shared_ptr<MappedFile>* file);
  /** May wait. Maps what `fd` has open and owns the descriptor from the call on, also where it fails. create and
   * permissions count for nothing. */
  static Status OpenDescriptor(int fd, const MapOptions& options, std::shared_ptr<MappedFile>* file);

  /** May wait where Close() has not been called. */
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  /** How many of these bytes the map has at the moment. */
  uint64_t Clip(uint64_t position, uint64_t length) const;

  /** May wait. Reads all ranges or fails. The device is told of all of them before the first is read. */
  Status Read(std::span<ReadRange> ranges);
  /** May wait. kOutOfRange where any part reaches past the end (nothing is written then), kReadOnly, kNoSpace, kIo. */
  Status Write(std::span<const WritePart> parts);
  /**
   * Never waits. kCold unless every byte is proven to be in memory and nothing is in the way. may_start_reading: the
   * system may begin to read what is missing, for which it may wait until the device takes the request: one call less.
   */
  Status TryRead(ReadRange* range, bool may_start_reading = false);

  /**
   * May wait; also for operations on the way. Grows the file with its space reserved, or cuts it: the map ends where
   * the file does. A file that somebody else made longer than this map is not cut by growing the map within it.
   * kReadOnly; kUnsupported for private maps and for windows of a fixed length; kOutOfRange, kNoSpace, kIo.
   */
  Status Resize(uint64_t size);
  /** May wait. Stores of the range are on the device when this returns ok. A private map has nothing to flush. */
  Status Flush(uint64_t position, uint64_t length);
  Status Advise(os::Advice advice, uint64_t position, uint64_t length);
  /** Share of the range's pages that is in memory; 1 for an empty range. kUnsupported where it cannot be known. */
  Status Residency(uint64_t position, uint64_t length, double* share);
  /** May wait. kMemlock where the system refuses. Unlocking what is not locked is fine. */
  Status Lock(uint64_t position, uint64_t length);
  Status Unlock(uint64_t position, uint64_t length);
  /** May wait. Unmaps and closes once the operations on the way are done. Harmless when closed. */
  void Close();

  uint64_t size() const { return size_.load(std::memory_order_relaxed); }
  bool read_only() const { return read_only_; }
  uint64_t device() const { return device_; }
  bool in_ram() const { return in_ram_; }

 private:
  struct LockedRange {
    uint64_t position;
    uint64_t length;
  };

  explicit MappedFile(const MapOptions& options);

  Status OpenExisting(const std::string& path, const MapOptions& options);
  Status CreateNew(const std::string& path, const MapOptions& options);
  Status MapWindow(const MapOptions& options);
  Status Map(uint64_t length, std::byte** base, os::MappingId* id);
  /** Maps more than `size` needs where the map may grow and the address space is there. */
  Status MapWithRoom(uint64_t size, std::byte** base, uint64_t* length, os::MappingId* id);
  Status MoveMapping(uint64_t size);

  // Under mutex_, shared or exclusive.
  std::byte* AddressOf(uint64_t position) const { return base_ + skew_ + position; }
  bool Substituted(uint64_t position, uint64_t length) const;
  /** Never waits. Asks the system about every page. */
  bool InMemory(uint64_t position, uint64_t length) const;
  uint64_t ClipLocked(uint64_t position, uint64_t length) const;

  /** Runs `use` on the bytes of the range, once more after putting the file's pages back where substitutes were met. */
  template <typename Use>
  Status Touch(uint64_t position, uint64_t length, bool store, Use use);
  Status RestorePages();
  /** kNoSpace where a store to the range failed for want of space. */
  Status SpaceFor(uint64_t position, uint64_t length);
  /** kIo where the file ends before the window's byte `end`. */
  Status FileReaches(uint64_t end);

  const bool read_only_;
  const bool shared_;
  const bool fixed_length_;
  const uint64_t offset_;  // of the window in the file
  const uint64_t skew_;    // bytes of the mapping before the window's first: offset_ mod page size

  // Set by Open, then constant until Close.
  int fd_ = -1;
  uint64_t device_ = 0;
  bool in_ram_ = false;
  bool residency_is_truthful_ = false;
  std::atomic<bool> resident_reads_work_{true};  // until the system says that it cannot
  std::atomic<bool> length_unsynced_{false};     // the file was made or its length changed since the last flush
  std::string
      unsynced_path_;  // of a file this map created, until its directory entry is durable; guarded by flush_mutex_
  std::mutex flush_mutex_;

  /** mutex_, shared, behind whoever waits to hold it exclusively: a steady stream of readers must not keep that one
   * out. */
  std::shared_lock<std::shared_mutex> UseMapping();

  std::mutex turnstile_;  // held on the way to mutex_, and together with it by those who hold it exclusively
  std::shared_mutex mutex_;
  // Written under mutex_ held exclusively.
  std::byte* base_ = nullptr;  // nullptr: closed
  uint64_t mapped_length_ = 0;
  os::MappingId mapping_;
  std::atomic<uint64_t> size_{0};
  // Guarded by locked_mutex_: so that a mapping that has to move keeps what was locked.
  std::mutex locked_mutex_;
  std::vector<LockedRange> locked_;
};

}  // namespace faultless::map
