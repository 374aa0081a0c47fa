// The fault handler: a registry of mappings, the list of each mapping's substituted pages, and the SIGBUS handler.
//
// Who writes what:
// - A registry entry's description is a sequence lock: written under `registry_mutex` with `sequence` odd, read by the
// handler
//   of any thread, which believes it only if `sequence` was the same even number before and after. The entry of the
//   faulting mapping itself cannot change meanwhile (a registration outlives all use of its addresses); what is
//   guarded against is a *neighbour* half written, whose mixed numbers would seem to hold the address.
// - A mapping's pages are changed (substituted or restored) by whoever holds its `busy` word. The handler never waits
// for
//   it: where another thread has it, the handler returns, the instruction faults again if there is still cause, and so
//   on until the other is done. The holder does two system calls and a search; it cannot be interrupted by a handler of
//   its own thread that touches the mapping, because all signals are blocked meanwhile.
// - The list is atomics: written by the holder of `busy`, read by anybody. A page is in it before its substitute can be
//   seen and until after the file's page is back, so whoever has read a substitute's bytes finds it there.
//
// A fault that comes late, when another thread has substituted the page already, finds the page in the list and changes
// nothing: a second substitute would drop what was stored to the first.
#include "os/posix/faults.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <mutex>

#include "os/os.h"
#include "os/posix/signals.h"

namespace faultless::os {

namespace {

// ───────────────────────────────────────────────────────────── the registry

using Address = uintptr_t;

/** What the handler needs to know of a mapping. */
struct Description {
  Address base;  // 0: a free entry
  uint64_t length;
  uint64_t ones_length;
  uint64_t file_offset;
  int fd;
  bool writable;
  bool shared;
};

struct Mapping {
  // The description, behind the sequence lock.
  std::atomic<uint32_t> sequence{0};
  std::atomic<Address> base{0};
  std::atomic<uint64_t> length{0};
  std::atomic<uint64_t> ones_length{0};
  std::atomic<uint64_t> file_offset{0};
  std::atomic<int> fd{-1};
  std::atomic<bool> writable{false};
  std::atomic<bool> shared{false};

  // The substituted pages.
  std::atomic<uint32_t> busy{0};         // 1: a thread is changing pages
  std::atomic<uint32_t> substitutes{0};  // pages in the list, or in the act of getting there; plus 1 where condemned
  std::atomic<uint64_t> changes{0};      // of that number, up or down
  std::atomic<bool> condemned{false};    // too many: every page counts as substituted, for good
  /**
   * Page number + 1; 0: free. The first kMaxSubstitutes are for any page, in no order; entry kMaxSubstitutes + n
   * belongs to page n of the all-ones range, which so has its place whatever else happened. Reserved at the entry's
   * first use, kept for the next registration.
   */
  std::atomic<std::atomic<uint64_t>*> list{nullptr};
  std::mutex restore_mutex;  // one RestoreSubstitutes at a time; never taken by the handler
  size_t restore_next = 0;   // where the next one begins; guarded by restore_mutex

  void Publish(const Description& description) {
    const uint32_t before = sequence.load(std::memory_order_relaxed);
    sequence.store(before + 1, std::memory_order_relaxed);
    base.store(description.base, std::memory_order_release);
    length.store(description.length, std::memory_order_release);
    ones_length.store(description.ones_length, std::memory_order_release);
    file_offset.store(description.file_offset, std::memory_order_release);
    fd.store(description.fd, std::memory_order_release);
    writable.store(description.writable, std::memory_order_release);
    shared.store(description.shared, std::memory_order_release);
    sequence.store(before + 2, std::memory_order_release);
  }

  /** False where the entry is free or being written. */
  bool Read(Description* description) const {
    const uint32_t before = sequence.load(std::memory_order_acquire);
    if ((before & 1) != 0) return false;
    description->base = base.load(std::memory_order_acquire);
    description->length = length.load(std::memory_order_acquire);
    description->ones_length = ones_length.load(std::memory_order_acquire);
    description->file_offset = file_offset.load(std::memory_order_acquire);
    description->fd = fd.load(std::memory_order_acquire);
    description->writable = writable.load(std::memory_order_acquire);
    description->shared = shared.load(std::memory_order_acquire);
    return description->base != 0 && sequence.load(std::memory_order_relaxed) == before;
  }
};

constexpr size_t kListEntries = 2 * kMaxSubstitutes;
constexpr size_t kNoEntry = ~size_t{0};
constexpr size_t kMaxFailedRestores = 16;

// Constant-initialized: a handler may look while static constructors still run.
constinit Mapping mappings[kMaxMappings];
/** Entries at and above it have never been used. */
constinit std::atomic<size_t> mappings_end{0};
constinit std::mutex registry_mutex;

// In a library loaded by dlopen, glibc may allocate a thread's copy of a thread-local variable at its first use, which
// a signal handler must not do; with this model it is part of the thread from its start. (musl always allocates at
// dlopen, and refuses libraries with this model.)
#ifdef __GLIBC__
__attribute__((tls_model("initial-exec")))
#endif
constinit thread_local std::atomic<uint64_t>
    thread_faults{0};

static_assert(std::atomic<uint64_t>::is_always_lock_free && std::atomic<Address>::is_always_lock_free);

/** The mapping that holds `address`; -1: none. */
int FindMapping(Address address, Description* description) {
  const size_t end = mappings_end.load(std::memory_order_acquire);
  for (size_t i = 0; i < end; ++i) {
    if (mappings[i].Read(description) && address >= description->base &&
        address - description->base < description->length) {
      return static_cast<int>(i);
    }
  }
  return -1;
}

// ───────────────────────────────────────────────────────────── substituting a page

bool InOnesRange(const Description& description, uint64_t page) { return page * PageSize() < description.ones_length; }

/** Where the list holds the page; kNoEntry: it does not. */
size_t FindPage(const Mapping& mapping, const Description& description, uint64_t page) {
  const std::atomic<uint64_t>* list = mapping.list.load(std::memory_order_acquire);
  if (InOnesRange(description, page)) {
    return list[kMaxSubstitutes + page].load(std::memory_order_acquire) != 0 ? kMaxSubstitutes + page : kNoEntry;
  }
  for (size_t i = 0; i < kMaxSubstitutes; ++i) {
    if (list[i].load(std::memory_order_acquire) == page + 1) return i;
  }
  return kNoEntry;
}

/** A free place for the page; kNoEntry: the list is full. */
size_t FindRoom(const Mapping& mapping, const Description& description, uint64_t page) {
  const std::atomic<uint64_t>* list = mapping.list.load(std::memory_order_acquire);
  if (InOnesRange(description, page)) return kMaxSubstitutes + page;
  for (size_t i = 0; i < kMaxSubstitutes; ++i) {
    if (list[i].load(std::memory_order_relaxed) == 0) return i;
  }
  return kNoEntry;
}

/**
 * Gives the mapping up: all of it behind the all-ones range becomes zeros in one piece. That also frees the map entries
 * which thousands of single pages had taken (Linux counts them: vm.max_map_count). False: it was given up before, or
 * the system gave no memory for it.
 */
bool Condemn(Mapping& mapping, const Description& description) {
  if (mapping.condemned.load(std::memory_order_relaxed)) return false;
  mapping.substitutes.fetch_add(1, std::memory_order_release);
  mapping.changes.fetch_add(1, std::memory_order_release);
  mapping.condemned.store(true, std::memory_order_release);
  if (description.ones_length >= description.length) return true;
  if (MapZeros(reinterpret_cast<std::byte*>(description.base + description.ones_length),
               description.length - description.ones_length, description.writable)) {
    return true;
  }
  mapping.condemned.store(false, std::memory_order_release);
  mapping.substitutes.fetch_sub(1, std::memory_order_release);
  return false;
}

/**
 * The caller holds `busy`. `memory_failed`: a machine check, which may also have hit a substitute itself; that one is
 * lost then, and replaced like any other page. False: the system gave no memory for it.
 */
bool SubstitutePage(Mapping& mapping, const Description& description, uint64_t page, bool memory_failed) {
  const bool ones = InOnesRange(description, page);
  size_t entry = FindPage(mapping, description, page);
  const bool substituted = entry != kNoEntry || (!ones && mapping.condemned.load(std::memory_order_relaxed));
  if (substituted && !memory_failed) return true;

  if (!substituted) {
    entry = FindRoom(mapping, description, page);
    if (entry == kNoEntry) return Condemn(mapping, description);
    mapping.substitutes.fetch_add(1, std::memory_order_release);
    mapping.changes.fetch_add(1, std::memory_order_release);
    mapping.list.load(std::memory_order_acquire)[entry].store(page + 1, std::memory_order_release);
  }
  auto* address = reinterpret_cast<std::byte*>(description.base + page * PageSize());
  const auto map = [&] {
    return ones ? MapOnesPage(address, description.writable) : MapZeros(address, PageSize(), description.writable);
  };
  if (map()) return true;
  // Most likely too many pieces in the address space; giving the rest of this mapping up makes room.
  return Condemn(mapping, description) && (!ones || map());
}

bool IsRealFault(const siginfo_t& info) {
  switch (info.si_code) {
    case BUS_ADRERR:  // no page there: past the end of file, a device error, no space
    case BUS_OBJERR:
#ifdef BUS_MCEERR_AR
    case BUS_MCEERR_AR:  // the page's memory failed
#endif
      return true;
    default:  // sent by a process (si_addr is no address then), misaligned, an early notice of failing memory
      return false;
  }
}

/** Async-signal-safe. False: not on a registered mapping, or there is no way to go on. */
bool AnswerFault(const siginfo_t& info) {
  if (!IsRealFault(info)) return false;
  const auto address = reinterpret_cast<Address>(info.si_addr);
  Description description;
  const int index = FindMapping(address, &description);
  if (index < 0) return false;
  // Only this thread and its own handlers use this counter.
  thread_faults.store(thread_faults.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);

  Mapping& mapping = mappings[index];
  if (mapping.busy.exchange(1, std::memory_order_acquire) != 0) {
    sched_yield();
    return true;  // another thread is at it: the instruction faults again if there is still cause
  }
#ifdef BUS_MCEERR_AR
  const bool memory_failed = info.si_code == BUS_MCEERR_AR;
#else
  const bool memory_failed = false;
#endif
  const bool answered = SubstitutePage(mapping, description, (address - description.base) / PageSize(), memory_failed);
  mapping.busy.store(0, std::memory_order_release);
  return answered;
}

// ───────────────────────────────────────────────────────────── the handler

// Written before the handler is installed, then only read, but for the flag.
struct sigaction previous_action;
constinit std::atomic<bool> previous_is_spent{false};  // its SA_RESETHAND has taken effect

/** Lets the signal do what it does by itself: end the process. */
void TakeDefaultAction(const siginfo_t& info) {
  struct sigaction action {};
  action.sa_handler = SIG_DFL;
  sigaction(SIGBUS, &action, nullptr);
  // A fault comes again by itself when this handler returns; a signal that was sent has to be sent once more, and
  // is delivered when this handler returns.
  if (info.si_code <= 0) raise(SIGBUS);
}

void CallPrevious(int signal, siginfo_t* info, void* context) {
  const int flags = previous_action.sa_flags;
  const bool spent = previous_is_spent.load(std::memory_order_relaxed);
  const bool takes_info = (flags & SA_SIGINFO) != 0;
  if (spent || (!takes_info && previous_action.sa_handler == SIG_DFL)) return TakeDefaultAction(*info);
  if (!takes_info && previous_action.sa_handler == SIG_IGN) {
    // A signal that was sent can be ignored; a fault cannot: the instruction would fault for ever.
    if (info->si_code > 0) TakeDefaultAction(*info);
    return;
  }
  if ((flags & static_cast<int>(SA_RESETHAND)) != 0) previous_is_spent.store(true, std::memory_order_relaxed);
  // As if the system had called it: with the mask that the thread had, and what it asked to have blocked.
  sigset_t mask = static_cast<const ucontext_t*>(context)->uc_sigmask;
  for (int other = 1; other < NSIG; ++other) {
    if (sigismember(&previous_action.sa_mask, other) == 1) sigaddset(&mask, other);
  }
  if ((flags & SA_NODEFER) == 0) sigaddset(&mask, SIGBUS);
  pthread_sigmask(SIG_SETMASK, &mask, nullptr);
  if (takes_info) {
    previous_action.sa_sigaction(signal, info, context);
  } else {
    previous_action.sa_handler(signal);
  }
}

void HandleFault(int signal, siginfo_t* info, void* context) {
  const int saved_errno = errno;
  if (!AnswerFault(*info)) CallPrevious(signal, info, context);
  errno = saved_errno;
}

Status InstallHandler() {
  FAULTLESS_TRY(PrepareSubstitutes());
  PageSize();  // from here on a plain load
  // Read first, so that a fault of another thread right after the installation finds it.
  if (sigaction(SIGBUS, nullptr, &previous_action) != 0) return Status::FromErrno(errno, "sigaction");
  struct sigaction action {};
  action.sa_sigaction = HandleFault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
  // No other handler runs inside this one: it might touch the mapping that is `busy`, and fault for ever.
  sigfillset(&action.sa_mask);
  if (sigaction(SIGBUS, &action, nullptr) != 0) return Status::FromErrno(errno, "sigaction");
  return {};
}

Status ReserveList(Mapping& mapping) {
  if (mapping.list.load(std::memory_order_relaxed) != nullptr) return {};
  void* memory = mmap(nullptr, kListEntries * sizeof(std::atomic<uint64_t>), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return Status::FromErrno(errno, "mmap");
  mapping.list.store(static_cast<std::atomic<uint64_t>*>(memory), std::memory_order_release);
  return {};
}

}  // namespace

// ───────────────────────────────────────────────────────────── the contract

Status RegisterMapping(std::byte* base, uint64_t length, uint64_t ones_length, int fd, uint64_t file_offset,
                       Access access, bool shared, MappingId* id) {
  const uint64_t page_size = PageSize();
  if ((reinterpret_cast<Address>(base) | length | ones_length | file_offset) % page_size != 0 || base == nullptr ||
      length == 0 || ones_length > length || ones_length / page_size > kMaxSubstitutes) {
    return Status(Code::kInvalidArgValue, "a mapping to register must consist of whole pages");
  }
  const std::lock_guard lock(registry_mutex);
  static const Status installed = InstallHandler();
  FAULTLESS_TRY(installed);
  size_t index = 0;
  while (index < kMaxMappings && mappings[index].base.load(std::memory_order_relaxed) != 0) ++index;
  if (index == kMaxMappings) return Status(Code::kUnsupported, "too many mappings at a time");
  Mapping& mapping = mappings[index];
  FAULTLESS_TRY(ReserveList(mapping));
  mapping.Publish({.base = reinterpret_cast<Address>(base),
                   .length = length,
                   .ones_length = ones_length,
                   .file_offset = file_offset,
                   .fd = fd,
                   .writable = access == Access::kReadWrite,
                   .shared = shared});
  if (index >= mappings_end.load(std::memory_order_relaxed)) mappings_end.store(index + 1, std::memory_order_release);
  id->index = static_cast<int32_t>(index);
  return {};
}

void UnregisterMapping(MappingId id) {
  if (id.index < 0) return;
  Mapping& mapping = mappings[id.index];
  const std::lock_guard lock(registry_mutex);
  mapping.Publish({});
  // Nobody uses the addresses any more, so nobody faults: the list is ours.
  if (mapping.substitutes.load(std::memory_order_relaxed) == 0) return;
  std::atomic<uint64_t>* list = mapping.list.load(std::memory_order_relaxed);
  for (size_t i = 0; i < kListEntries; ++i) list[i].store(0, std::memory_order_relaxed);
  mapping.condemned.store(false, std::memory_order_relaxed);
  mapping.substitutes.store(0, std::memory_order_release);
}

uint64_t ThreadFaultCount() {
  // The handler may have run between any two instructions of this thread.
  std::atomic_signal_fence(std::memory_order_seq_cst);
  return thread_faults.load(std::memory_order_relaxed);
}

bool HasSubstitutes(MappingId id) { return mappings[id.index].substitutes.load(std::memory_order_acquire) != 0; }

uint64_t SubstituteChanges(MappingId id) { return mappings[id.index].changes.load(std::memory_order_acquire); }

bool IsSubstituted(MappingId id, const std::byte* address, uint64_t length) {
  const Mapping& mapping = mappings[id.index];
  if (mapping.substitutes.load(std::memory_order_acquire) == 0 || length == 0) return false;
  if (mapping.condemned.load(std::memory_order_acquire)) return true;
  const uint64_t offset = reinterpret_cast<Address>(address) - mapping.base.load(std::memory_order_relaxed);
  const uint64_t first_page = offset / PageSize();
  const uint64_t last_page = (offset + length - 1) / PageSize();
  const std::atomic<uint64_t>* list = mapping.list.load(std::memory_order_acquire);
  const uint64_t ones_pages = mapping.ones_length.load(std::memory_order_relaxed) / PageSize();
  for (uint64_t page = first_page; page <= last_page && page < ones_pages; ++page) {
    if (list[kMaxSubstitutes + page].load(std::memory_order_acquire) != 0) return true;
  }
  if (last_page < ones_pages) return false;
  for (size_t i = 0; i < kMaxSubstitutes; ++i) {
    const uint64_t page = list[i].load(std::memory_order_acquire) - 1;  // a free entry wraps past every page
    if (page >= first_page && page <= last_page) return true;
  }
  return false;
}

namespace {

/** Whether the page's bytes, as far as the file reaches, can be read now. A page past the end has none. */
/** `failed`: the device was asked in vain; it stays as it is where the file only ends before the page. */
bool CanReadPage(const Description& description, uint64_t page, bool* failed) {
  alignas(64) std::byte piece[4096];
  const uint64_t page_size = PageSize();
  const uint64_t start = description.file_offset + page * page_size;
  uint64_t done = 0;
  while (done < page_size) {
    const size_t length = std::min<uint64_t>(sizeof piece, page_size - done);
    const ssize_t got = pread(description.fd, piece, length, static_cast<off_t>(start + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      *failed = true;
      return false;
    }
    if (got == 0) break;
    done += static_cast<uint64_t>(got);
  }
  return done > 0;
}

/** Maps the file's page back and forgets the substitute. */
void RestorePage(Mapping& mapping, const Description& description, size_t entry, uint64_t page) {
  // A handler of this thread that touched the mapping would meet `busy` for ever.
  SignalGuard guard;
  while (mapping.busy.exchange(1, std::memory_order_acquire) != 0) sched_yield();
  if (!mapping.condemned.load(std::memory_order_relaxed) || InOnesRange(description, page)) {
    auto* address = reinterpret_cast<std::byte*>(description.base + page * PageSize());
    // First: whoever reads the file's bytes from here on finds the number moved or the page no substitute.
    mapping.changes.fetch_add(1, std::memory_order_release);
    if (MapFilePage(address, description.fd, description.file_offset + page * PageSize(), description.writable,
                    description.shared)) {
      mapping.list.load(std::memory_order_relaxed)[entry].store(0, std::memory_order_release);
      mapping.substitutes.fetch_sub(1, std::memory_order_release);
    }
  }
  mapping.busy.store(0, std::memory_order_release);
}

}  // namespace

size_t RestoreSubstitutes(MappingId id) {
  Mapping& mapping = mappings[id.index];
  if (mapping.substitutes.load(std::memory_order_acquire) == 0) return 0;
  const std::lock_guard lock(mapping.restore_mutex);
  Description description;
  if (!mapping.Read(&description)) return 0;
  std::atomic<uint64_t>* list = mapping.list.load(std::memory_order_acquire);
  // Each page that still fails waits for the device: a few tell enough of it. The next call goes on behind them, so
  // that pages that can be had come back even where others never will.
  size_t failures = 0;
  for (size_t tried = 0; tried < kListEntries && failures < kMaxFailedRestores; ++tried) {
    const size_t i = mapping.restore_next++ % kListEntries;
    const uint64_t word = list[i].load(std::memory_order_acquire);
    if (word == 0) continue;
    bool failed = false;
    if (CanReadPage(description, word - 1, &failed)) RestorePage(mapping, description, i, word - 1);
    if (failed) failures++;
  }
  return mapping.substitutes.load(std::memory_order_acquire);
}

bool IsRegisteredRange(const std::byte* address, uint64_t length, bool writable) {
  Description description;
  const auto start = reinterpret_cast<Address>(address);
  return FindMapping(start, &description) >= 0 && length <= description.length - (start - description.base) &&
         (!writable || description.writable);
}

}  // namespace faultless::os
