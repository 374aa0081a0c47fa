// Purpose: the contract of everything that faultless asks of an operating system; the only place with system calls.
// One folder beside this header per implementation: linux/ and portable/ (POSIX alone). Exactly one is linked.
//
// Thread safety: every function may be called from any thread at any time, unless its comment says otherwise.
// Rules: no function throws or allocates unless it says so; failures are Status values carrying errno and the name of
// the call; "may wait" marks what can wait for a device: never call those on the event loop.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/status.h"

namespace faultless::os {

// ───────────────────────────────────────────────────────────── process and time

/** Bytes of a memory page; a power of two, constant for the life of the process. */
size_t PageSize();
/** Identifies this boot of this machine (Linux: /proc/sys/kernel/random/boot_id as 128 bits). All zero: not known. */
struct BootId {
  uint64_t words[2];
};
BootId CurrentBootId();
uint64_t MonotonicNs();  // never goes back; no meaning across processes
/** The same clock, up to some milliseconds behind, for who asks often. */
uint64_t MonotonicCoarseNs();
uint64_t WallClockMs();  // since 1970; may go back
/** Since this machine was started, sleep included; never goes back, and the same for all its processes. */
uint64_t BootClockMs();
uint64_t WallClockNs();  // the same clock
uint32_t ProcessId();    // in this PID namespace: for people, never a liveness test
/** Fills `target` from the system's random source. */
Status RandomBytes(void* target, size_t size);
/**
 * At least `size` bytes of this thread's own, 8-aligned, kept until the thread ends; contents survive only calls that
 * ask for no more than before. Two buffers: which = 0, 1. May allocate.
 */
uint8_t* ThreadBuffer(size_t which, size_t size);
/** Runs `run(argument)` on a thread of its own that nobody waits for. kIo: the system gives no thread. */
Status StartThread(void (*run)(void* argument), void* argument);
/** True in a child that forked from the process that loaded this library and did not exec: every use is refused there.
 */
bool InForkedChild();

// ───────────────────────────────────────────────────────────── files

enum class Access : uint8_t { kReadOnly, kReadWrite };
enum class FilesystemKind : uint8_t {
  kDisk,
  kRam,      // tmpfs, ramfs: nothing to sync, nothing survives a boot
  kNetwork,  // nfs, cifs, 9p, ceph, fuse-over-network cannot be told apart from local fuse and counts as kDisk
};
struct FileInfo {
  uint64_t device;
  uint64_t inode;
  uint64_t born_ns;  // when the inode was made, since 1970; 0: not known. Inode numbers are used again, this is not
  uint64_t size_bytes;
  uint64_t allocated_bytes;  // st_blocks × 512
  bool regular;
  FilesystemKind filesystem;
};

/** May wait. Opens an existing file, close-on-exec. kNotFound, kAccess, kIo. */
Status OpenFile(const char* path, Access access, int* fd);
/**
 * May wait. Opens anew what a process has open by a descriptor, if that is the file with this device and inode;
 * close-on-exec. kAccess where this user may not; kNotFound where it is not there, or the process not seen (another PID
 * namespace); kUnsupported where the system has no way to it.
 */
Status OpenOfProcess(uint32_t process_id, uint32_t descriptor, uint64_t device, uint64_t inode, Access access, int* fd);
/**
 * May wait. Creates an unnamed or temporarily named file in the directory of `path` with exactly `permissions`
 * (whatever the umask), open for reading and writing; it becomes visible at `path` only by PublishFile. `aside`
 * receives the temporary name, empty where the file has none (O_TMPFILE). Allocates.
 */
Status CreateAside(const char* path, uint32_t permissions, int* fd, std::string* aside);
/** May wait. Gives the file its name, whole, never replacing one that is there: kExists. */
Status PublishFile(int fd, const std::string& aside, const char* path);
/** May wait. Removes the temporary name, if any; the descriptor stays the caller's to close. */
void AbandonAside(const std::string& aside);
/** May wait. Makes the directory entry of `path` durable (fsync of its directory). */
Status SyncDirectoryOf(const char* path);
/** May wait. kNotFound where there is none. */
Status Unlink(const char* path);
/** May wait (close of a FUSE file asks its server). Negative descriptors are ignored. */
void CloseFile(int fd);
/** A descriptor of its own (close-on-exec) for what `fd` has open. */
Status Duplicate(int fd, int* copy);
/** Whether the descriptor may read, and may write (fcntl F_GETFL). */
Status DescriptorAccess(int fd, bool* readable, bool* writable);

/** May wait. */
Status StatFile(int fd, FileInfo* info);
/** May wait. The same by name, without opening; follows links. */
Status StatPath(const char* path, FileInfo* info);
/**
 * Never waits for a device: the mount that `path` lies on by name, from the mount table, without looking the path up
 * (so links are not followed: good for bookkeeping only). False where that cannot be told.
 */
struct Mount {
  uint64_t device;  // as FileInfo::device, for most filesystems
  FilesystemKind filesystem;
};
bool MountOfPath(const char* path, Mount* mount);
/** May wait. Sets the length; a longer file reads as zeros there and holds no space yet. */
Status SetFileSize(int fd, uint64_t size_bytes);
/**
 * May wait. Makes the file at least offset + length long with blocks reserved for all of that range, so that no later
 * store to a mapping of it can fail for space: kNoSpace, with the file's length as it was before. Blocks within the
 * file that are shared with another one (CopyRange) are this file's alone afterwards. Where the filesystem
 * cannot reserve, zeros are written to the part that lies past the old end. Callers let one grow the file at a time: a
 * failure sets the length back to what it was at the call.
 */
Status ReserveSpace(int fd, uint64_t offset, uint64_t length);
/**
 * May wait. Copies the range to the same place of another file, without a way through this process; where both lie on a
 * filesystem that can, they share its blocks from then on. kUnsupported where the system or these two files cannot:
 * then nothing is said of the range in the target. A failure does not tell whose it is, the source's or the target's.
 */
Status CopyRange(int source, int target, uint64_t offset, uint64_t length);
/** May wait. Gives the blocks of the range back; it reads as zeros. kUnsupported where the system cannot. */
Status PunchHole(int fd, uint64_t offset, uint64_t length);
/** May wait. Reads exactly `length` bytes or fails; short of the end of file: kIo. Retries EINTR. */
Status ReadAt(int fd, void* target, size_t length, uint64_t offset);
/** May wait. Writes exactly `length` bytes. */
Status WriteAt(int fd, const void* source, size_t length, uint64_t offset);
/** May wait. Data and the metadata needed to read it are on the device when this returns ok. */
Status SyncFile(int fd);
/**
 * Reads without waiting for a device (RWF_NOWAIT): ok with *got bytes (0 … length) that were in memory.
 * kUnsupported where the system or filesystem cannot tell. Linux starts reading in what is missing before it gives up:
 * like Advice::kWillNeed, that may wait where the device's queue is full.
 */
Status ReadIfResident(int fd, void* target, size_t length, uint64_t offset, size_t* got);

// ───────────────────────────────────────────────────────────── mapped memory

/**
 * Maps `length` bytes of the file from `offset` (both multiples of the page size); pages past the end of the file are
 * part of the mapping and become usable when the file grows. Needs no memory for itself (MAP_NORESERVE).
 * shared = false: stores stay private to this process.
 */
Status MapFile(int fd, uint64_t offset, uint64_t length, Access access, bool shared, std::byte** base);
Status UnmapFile(std::byte* base, uint64_t length);
/**
 * Maps `length` bytes of this process's own memory, readable and writable, that begin with what the file holds in its
 * first `file_bytes`: stores never reach the file, and what others store to it shows only until the page is stored to.
 * The rest is zeros. Needs memory for the pages that are stored to alone (MAP_NORESERVE). For UnmapFile.
 */
Status MapPrivateCopy(int fd, uint64_t file_bytes, uint64_t length, std::byte** base);

enum class Advice : uint8_t { kNormal, kSequential, kRandom, kWillNeed, kDontNeed };
/** kDontNeed on a shared mapping drops this process's page-table entries, and asks that clean pages of the range leave
 * memory (fd < 0: only the former). On a private one (shared = false) stores are kept: only the latter is done.
 *  kWillNeed starts reading in without waiting for it (though it may wait where the device's queue is full). */
Status Advise(int fd, uint64_t file_offset, std::byte* address, uint64_t length, Advice advice, bool shared = true);
/**
 * May wait. Faults the pages in, readable; never raises a signal: kIo where a page cannot be had. Systems without a
 * call for it (Linux before 5.14) touch the pages: registered mappings only, else kUnsupported, and a page that cannot
 * be had becomes a substitute. The same goes for PopulateWrite.
 */
Status PopulateRead(std::byte* address, uint64_t length);
/** May wait. Faults the pages in, writable (allocating, upgrading read-only entries); never raises a signal. */
Status PopulateWrite(std::byte* address, uint64_t length);
/** May wait (reads the pages in). kMemlock where the limit refuses; kIo where a page cannot be had. */
Status LockPages(std::byte* address, uint64_t length);
Status UnlockPages(std::byte* address, uint64_t length);
/** RLIMIT_MEMLOCK of this process, bytes; UINT64_MAX where it may lock without limit. */
uint64_t LockLimitBytes();
/** May wait. Mapped stores in the range are on the device when this returns ok (msync MS_SYNC). */
Status SyncMapped(std::byte* address, uint64_t length);
/**
 * Never waits. One byte per page of the range, 1 = in memory; length need not be a page multiple. kUnsupported where
 * the answer cannot be trusted or had. `resident` must hold PagesOf(address, length) bytes.
 */
Status Residency(std::byte* address, uint64_t length, uint8_t* resident);
/** Never waits. Whether what lies in RAM filesystems stays there: nothing is ever swapped out. False where that is not
 * known. */
bool RamStaysResident();
/** Whether Residency tells the truth for this file to this process: Linux ≥ 5.2 calls everything resident for those who
 * neither own nor may write the file. */
bool ResidencyIsTruthful(int fd);

// ───────────────────────────────────────────────────────────── faults on mapped memory

/**
 * A fault (SIGBUS) on a registered mapping maps a private page over the faulting one (zeros; all ones in
 * [base, base + ones_length)), notes it, and returns: the interrupted load or store goes on. The handler takes no lock,
 * allocates nothing and never jumps. Faults elsewhere go to the handler that was there before. The first registration
 * installs the handler; it stays for the life of the process. A registration must outlive all use of its addresses, and
 * its descriptor must stay open. At most kMaxMappings at a time: kUnsupported beyond.
 */
constexpr size_t kMaxMappings = 1024;
struct MappingId {
  int32_t index = -1;
};
Status RegisterMapping(std::byte* base, uint64_t length, uint64_t ones_length, int fd, uint64_t file_offset,
                       Access access, bool shared, MappingId* id);
/** Only after all use of the addresses has ended, before they are unmapped. */
void UnregisterMapping(MappingId id);
/** How many faults this thread has met so far, in all mappings. An operation compares before and after.
 * Async-signal-safe storage; never waits. */
uint64_t ThreadFaultCount();
/** Whether any page of the mapping is now a private substitute: one load (acquire), for the common case. Ask after
 *  reading the bytes that are to be believed: who has read a substitute's bytes finds it noted until it is restored. */
bool HasSubstitutes(MappingId id);
/**
 * Moves on with every page of the mapping that is substituted or restored: what was read between two equal answers,
 * from pages that are no substitutes, was the file's.
 */
uint64_t SubstituteChanges(MappingId id);
/** Whether a page of [address, address + length) is now a private substitute. Lock-free; at worst a search of
 *  kMaxSubstitutes words. */
bool IsSubstituted(MappingId id, const std::byte* address, uint64_t length);
/**
 * May wait. Tries to read each substituted page's bytes from the file; where that works the file's page is mapped back
 * and the substitute (with all that was stored to it) is gone. Pages past the end of file stay. Gives up for now after
 * a few pages that the device fails to read, and goes on behind them the next time. Returns how many are left (0:
 * none). More than kMaxSubstitutes substituted pages in one mapping make the whole mapping count as substituted for
 * good.
 */
constexpr size_t kMaxSubstitutes = 4096;
size_t RestoreSubstitutes(MappingId id);

// ───────────────────────────────────────────────────────────── locks on bytes of a file: liveness

/**
 * A lock on one byte (it need not exist in the file), owned by the open file description behind `fd` (Linux: OFD locks,
 * so any other descriptor's close leaves it alone, and it works across PID namespaces); the kernel drops it when the
 * last descriptor of that description is gone, however the process ended. Never waits for another holder: *acquired
 * tells.
 */
Status TryLockByte(int fd, uint64_t offset, bool exclusive, bool* acquired);
/** Never waits. */
Status UnlockByte(int fd, uint64_t offset);
/** Whether some *other* open file description holds a lock on the byte that would conflict with an exclusive one. */
Status IsByteLocked(int fd, uint64_t offset, bool* locked);

// ───────────────────────────────────────────────────────────── waiting on words in shared memory

/**
 * Waits while *word == expected, until woken by any process that maps the same bytes, or `timeout_us` has passed.
 * May return early for no reason. (Linux: futex without FUTEX_PRIVATE; portable: short sleeps.)
 */
void WaitOnWord(const std::atomic<uint32_t>* word, uint32_t expected, uint32_t timeout_us);
/** Wakes up to `count` waiters of any process. */
void WakeWord(const std::atomic<uint32_t>* word, uint32_t count);

struct WaitedWord {
  const std::atomic<uint32_t>* word;
  uint32_t expected;
};
constexpr size_t kMaxWaitedWords = 128;
/**
 * Waits until one of the words (1 … kMaxWaitedWords) is not what is expected, until one of them is woken, or until
 * `timeout_us` has passed. May return early for no reason. A word's memory may be unmapped meanwhile. (Linux:
 * futex_waitv; before 5.16 the first word's futex, with a look at the others every millisecond; portable: short
 * sleeps.)
 */
void WaitOnWords(const WaitedWord* words, size_t count, uint64_t timeout_us);

}  // namespace faultless::os
