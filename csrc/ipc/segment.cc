#include "ipc/segment.h"

#include <algorithm>

namespace faultless::ipc {
namespace {

using format::kWaiterNotified;
using format::kWaiterStates;
using format::kWaiterWaiting;
using format::SegmentHeader;
using format::SegmentWaiter;

/** What a notifier has marked that was killed before it could ring is found this much later. */
constexpr uint64_t kLookAgainNs = 1'000'000'000;

constexpr uint64_t FrontBytes(uint64_t size_bytes) {
  return format::SegmentBufferBytes(size_bytes) + format::kIpcPageBytes + format::kIpcOpenersBytes +
         uint64_t{format::kSegmentFirstWaiters} * sizeof(SegmentWaiter);
}

Status Build(int fd, uint64_t size_bytes) {
  const uint64_t buffer_bytes = format::SegmentBufferBytes(size_bytes);
  FAULTLESS_TRY(os::ReserveSpace(fd, 0, FrontBytes(size_bytes)));
  FAULTLESS_TRY(os::SetFileSize(fd, buffer_bytes + format::kSegmentTrailerBytes));
  SegmentHeader header{};
  header.magic = format::kSegmentMagic;
  header.version = format::kIpcVersion;
  header.size_bytes = size_bytes;
  header.next_ticket.store(1, std::memory_order_relaxed);
  header.waiters_reserved.store(format::kSegmentFirstWaiters, std::memory_order_relaxed);
  return os::WriteAt(fd, &header, sizeof header, buffer_bytes);
}

/** The size of the segment's memory, if it is one. */
Status CheckFile(int fd, uint64_t file_bytes, uint64_t* size_bytes) {
  constexpr Status kNotOurs(Code::kFormat, "not a segment of faultless");
  if (file_bytes <= format::kSegmentTrailerBytes) return kNotOurs;
  const uint64_t buffer_bytes = file_bytes - format::kSegmentTrailerBytes;
  if (buffer_bytes % format::kIpcPageBytes != 0) return kNotOurs;
  SegmentHeader header;
  FAULTLESS_TRY(os::ReadAt(fd, &header, sizeof header, buffer_bytes));
  if (header.magic != format::kSegmentMagic) return kNotOurs;
  if (header.version != format::kIpcVersion) return {Code::kFormat, "a segment of another version"};
  if (header.size_bytes == 0 || header.size_bytes > buffer_bytes ||
      format::SegmentBufferBytes(header.size_bytes) != buffer_bytes) {
    return Status::Corrupt("the segment's size is not that of its file", buffer_bytes);
  }
  *size_bytes = header.size_bytes;
  return {};
}

}  // namespace

Status Segment::Open(const SegmentOptions& options, std::shared_ptr<Segment>* segment) {
  std::shared_ptr<Segment> opened(new Segment);
  const Status status = opened->file_.Open(options.file, [&](int fd) -> Status {
    if (!options.size_bytes) return {Code::kNotFound, "there is no such segment, and none is created without a size"};
    return Build(fd, *options.size_bytes);
  });
  FAULTLESS_TRY(status);
  FAULTLESS_TRY(opened->Attach(options));
  *segment = std::move(opened);
  return {};
}

Status Segment::Attach(const SegmentOptions& options) {
  FAULTLESS_TRY(CheckFile(file_.fd(), file_.size_bytes(), &size_bytes_));
  if (options.size_bytes && *options.size_bytes != size_bytes_) {
    return {Code::kFormat, "the segment was created with another size"};
  }
  read_only_ = options.file.read_only;
  FAULTLESS_TRY(file_.Map());
  std::byte* const trailer = file_.base() + format::SegmentBufferBytes(size_bytes_);
  header_ = reinterpret_cast<SegmentHeader*>(trailer);
  auto* const openers = reinterpret_cast<format::IpcOpener*>(trailer + format::kIpcPageBytes);
  waiters_ = reinterpret_cast<SegmentWaiter*>(trailer + format::kIpcPageBytes + format::kIpcOpenersBytes);
  waiters_offset_ = static_cast<uint64_t>(reinterpret_cast<std::byte*>(waiters_) - file_.base());
  if (read_only_) return {};
  FAULTLESS_TRY(opener_.Take(file_.fd(), openers));
  word = &opener_.doorbell();
  return {};
}

Status Segment::Destroy(const std::string& path) {
  SharedFile file;
  SharedFileOptions options;
  options.path = path;
  options.create = false;
  options.read_only = true;
  FAULTLESS_TRY(file.Open(options, nullptr));
  uint64_t size_bytes;
  const Status status = CheckFile(file.fd(), file.size_bytes(), &size_bytes);
  if (!status.ok() && status.code() != Code::kCorrupt) return status;
  return os::Unlink(path.c_str());
}

uint32_t Segment::WaitersEnd() const {
  return std::min(header().waiters_end.load(std::memory_order_seq_cst), format::kSegmentWaiters);
}

bool Segment::TryClaim(uint32_t waiter) {
  uint32_t free = 0;
  return waiters_[waiter].owner.compare_exchange_strong(free, opener_.word(), std::memory_order_acq_rel,
                                                        std::memory_order_relaxed);
}

void Segment::SweepDead() {
  const uint32_t end = WaitersEnd();
  for (uint32_t i = 0; i < end; i++) {
    SegmentWaiter& waiter = waiters_[i];
    uint64_t state = waiter.state.load(std::memory_order_acquire);
    const uint32_t owner = waiter.owner.load(std::memory_order_acquire);
    if (owner != 0 && opener_.IsDead(owner)) Free(&waiter, state, owner);
  }
}

bool Segment::Free(SegmentWaiter* waiter, uint64_t state, uint32_t owner) {
  // The state first: while it is what it was when it was read before the owner, it is that owner's. Its ticket is never
  // used again, so whoever comes second finds another one and leaves both alone.
  if (!waiter->state.compare_exchange_strong(state, 0, std::memory_order_acq_rel, std::memory_order_relaxed)) {
    return false;
  }
  waiter->owner.compare_exchange_strong(owner, 0, std::memory_order_acq_rel, std::memory_order_relaxed);
  return true;
}

Status Segment::ReserveMore(uint32_t reserved) {
  const uint32_t wanted = std::min(reserved * 2, format::kSegmentWaiters);
  // The file has its full length already, so that this changes nothing but its blocks, and may be done by several.
  FAULTLESS_TRY(os::ReserveSpace(file_.fd(), waiters_offset_, uint64_t{wanted} * sizeof(SegmentWaiter)));
  header().waiters_reserved.compare_exchange_strong(reserved, wanted, std::memory_order_acq_rel,
                                                    std::memory_order_relaxed);
  return {};
}

Status Segment::Claim(uint32_t* claimed) {
  for (bool swept = false;;) {
    const uint32_t end = WaitersEnd();
    // From where the last search ended, so that thousands of waits do not all begin at the same taken ones.
    const uint32_t begin = next_free_.load(std::memory_order_relaxed);
    for (uint32_t n = 0; n < end; n++) {
      const uint32_t i = (begin + n) % end;
      if (waiters_[i].owner.load(std::memory_order_relaxed) == 0 && TryClaim(i)) {
        next_free_.store(i + 1, std::memory_order_relaxed);
        *claimed = i;
        return {};
      }
    }
    const uint32_t reserved = std::clamp(header().waiters_reserved.load(std::memory_order_acquire),
                                         format::kSegmentFirstWaiters, format::kSegmentWaiters);
    if (end < reserved) {
      uint32_t seen = end;
      header().waiters_end.compare_exchange_strong(seen, end + 1, std::memory_order_seq_cst, std::memory_order_relaxed);
    } else if (!swept) {
      SweepDead();
      swept = true;
    } else if (reserved == format::kSegmentWaiters) {
      return {Code::kBusy, "as many waits on one segment as there can be are pending"};
    } else {
      FAULTLESS_TRY(ReserveMore(reserved));
      swept = false;
    }
  }
}

Status Segment::Wait(uint64_t place, uint32_t expected, uint64_t timeout_ns, SegmentWait* wait, WaitOutcome* outcome) {
  if (read_only_) return Code::kReadOnly;
  const std::atomic_ref<uint32_t> value(*reinterpret_cast<uint32_t*>(data() + place));
  if (value.load(std::memory_order_seq_cst) != expected) {
    *outcome = WaitOutcome::kNotEqual;
    return {};
  }
  if (timeout_ns == 0) {
    *outcome = WaitOutcome::kTimedOut;
    return {};
  }
  uint32_t index;
  FAULTLESS_TRY(Claim(&index));
  SegmentWaiter& waiter = waiters_[index];
  const uint64_t ticket = header().next_ticket.fetch_add(1, std::memory_order_acq_rel);
  waiter.place.store(place, std::memory_order_release);
  wait->waiter_ = index;
  wait->place_ = place;
  wait->waiting_state_ = ticket << 2 | kWaiterWaiting;
  waiter.state.store(wait->waiting_state_, std::memory_order_seq_cst);
  // Whoever changes the value first and notifies then either finds the waiter, or has changed it before this.
  if (value.load(std::memory_order_seq_cst) != expected) {
    *outcome = Leave(*wait, WaitOutcome::kNotEqual);
    return {};
  }
  const uint64_t now_ns = os::MonotonicNs();
  wait->deadline_ns_ = timeout_ns > kNever - now_ns ? kNever : now_ns + timeout_ns;
  WaitingThread& thread = WaitingThread::OfProcess();
  const auto lock = thread.Lock();
  // Only for the first: a bell that has rung for another one and was not answered yet must go on ringing.
  if (waits_.empty()) Watch::expected = word->load(std::memory_order_seq_cst);
  if (waiter.state.load(std::memory_order_seq_cst) != wait->waiting_state_) {
    *outcome = Leave(*wait, WaitOutcome::kOk);
    return {};
  }
  // Whoever notifies from now on rings the bell after this, and the waiting thread finds the wait on its list.
  if (waits_.empty()) deadline_ns = now_ns + kLookAgainNs;
  deadline_ns = std::min(deadline_ns, wait->deadline_ns_);
  const Status status = thread.Add(this);
  if (!status.ok()) {
    static_cast<void>(Leave(*wait, WaitOutcome::kOk));
    return status;
  }
  waits_.push_back(wait);
  *outcome = WaitOutcome::kPending;
  return {};
}

WaitOutcome Segment::Leave(const SegmentWait& wait, WaitOutcome otherwise) {
  SegmentWaiter& waiter = waiters_[wait.waiter_];
  uint64_t seen = wait.waiting_state_;
  const bool left = waiter.state.compare_exchange_strong(seen, 0, std::memory_order_acq_rel, std::memory_order_acquire);
  if (!left) waiter.state.store(0, std::memory_order_release);
  uint32_t owner = opener_.word();
  waiter.owner.compare_exchange_strong(owner, 0, std::memory_order_acq_rel, std::memory_order_relaxed);
  return left ? otherwise : WaitOutcome::kOk;
}

void Segment::OnWake() {
  Watch::expected = word->load(std::memory_order_seq_cst);
  const uint64_t now_ns = os::MonotonicNs();
  deadline_ns = now_ns + kLookAgainNs;
  size_t kept = 0;
  for (SegmentWait* wait : waits_) {
    const bool notified = waiters_[wait->waiter_].state.load(std::memory_order_seq_cst) != wait->waiting_state_;
    if (notified || wait->deadline_ns_ <= now_ns) {
      wait->OnOutcome(Leave(*wait, WaitOutcome::kTimedOut));
      continue;
    }
    waits_[kept++] = wait;
    deadline_ns = std::min(deadline_ns, wait->deadline_ns_);
  }
  waits_.resize(kept);
  if (kept == 0) WaitingThread::OfProcess().Remove(this);
}

bool Segment::Cancel(SegmentWait* wait) {
  WaitingThread& thread = WaitingThread::OfProcess();
  const auto lock = thread.Lock();
  const auto found = std::find(waits_.begin(), waits_.end(), wait);
  if (found == waits_.end()) return false;
  waits_.erase(found);
  if (waits_.empty()) thread.Remove(this);
  // One that has just been notified hands that on: as if it had never waited.
  if (Leave(*wait, WaitOutcome::kTimedOut) == WaitOutcome::kOk) {
    uint32_t notified;
    static_cast<void>(Notify(wait->place_, 1, &notified));
  }
  return true;
}

Status Segment::Notify(uint64_t place, uint32_t count, uint32_t* notified) {
  *notified = 0;
  if (read_only_) return Code::kReadOnly;
  struct Found {
    uint64_t state;
    uint32_t index;
  };
  std::vector<Found> found;
  const uint32_t end = WaitersEnd();
  for (uint32_t i = 0; i < end; i++) {
    const uint64_t state = waiters_[i].state.load(std::memory_order_seq_cst);
    if ((state & kWaiterStates) != kWaiterWaiting) continue;
    if (waiters_[i].place.load(std::memory_order_acquire) == place) found.push_back({state, i});
  }
  std::sort(found.begin(), found.end(), [](const Found& a, const Found& b) { return a.state < b.state; });
  std::vector<uint32_t> openers;
  for (const auto& [state, index] : found) {
    if (*notified == count) break;
    SegmentWaiter& waiter = waiters_[index];
    const uint32_t owner = waiter.owner.load(std::memory_order_acquire);
    uint64_t seen = state;
    // The ticket makes sure that it is still the wait that was looked at, with its place and owner.
    if (opener_.IsDead(owner)) {
      Free(&waiter, state, owner);
      continue;
    }
    const uint64_t marked = (state & ~kWaiterStates) | kWaiterNotified;
    if (!waiter.state.compare_exchange_strong(seen, marked, std::memory_order_seq_cst, std::memory_order_relaxed)) {
      continue;
    }
    ++*notified;
    if (std::find(openers.begin(), openers.end(), owner) == openers.end()) openers.push_back(owner);
  }
  for (const uint32_t owner : openers) opener_.Ring(owner);
  return {};
}

void Segment::Close() {
  {
    WaitingThread& thread = WaitingThread::OfProcess();
    const auto lock = thread.Lock();
    thread.Remove(this);
    waits_.clear();
  }
  opener_.Release();
}

}  // namespace faultless::ipc
