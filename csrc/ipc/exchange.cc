#include "ipc/exchange.h"

#include <algorithm>
#include <climits>
#include <cstring>
#include <mutex>

namespace faultless::ipc {
namespace {

using format::ExchangeGeometry;
using format::ExchangeHeader;
using format::ExchangeQueue;
using format::InQueue;

/** How often a process looks whether one of those that have the exchange open has died. */
constexpr uint64_t kLookForDeadNs = 200'000'000;
/** Elements given back under one hold of a lock. */
constexpr size_t kGiveBackAtOnce = 1'000;

constexpr Status kTornQueue(Code::kCorrupt, "the numbers of a queue cannot be");

Status Build(int fd, const ExchangeOptions& options, const ExchangeGeometry& geometry) {
  FAULTLESS_TRY(os::ReserveSpace(fd, 0, geometry.file_bytes()));
  ExchangeHeader header{};
  header.magic = format::kExchangeMagic;
  header.version = format::kIpcVersion;
  header.elements = geometry.elements;
  header.element_bytes = geometry.element_bytes;
  header.queues = geometry.queues;
  if (options.reclaim_to) {
    const auto found = std::find(options.queues.begin(), options.queues.end(), *options.reclaim_to);
    header.reclaim_queue = static_cast<uint32_t>(found - options.queues.begin());
  }
  FAULTLESS_TRY(os::WriteAt(fd, &header, sizeof header, 0));
  // All elements in the first queue.
  const std::vector<uint32_t> owners(geometry.elements, InQueue(0));
  FAULTLESS_TRY(os::WriteAt(fd, owners.data(), owners.size() * 4, geometry.owners_offset()));
  std::vector<uint32_t> ring(geometry.elements);
  for (uint32_t id = 0; id < geometry.elements; id++) ring[id] = id;
  FAULTLESS_TRY(os::WriteAt(fd, ring.data(), ring.size() * 4, geometry.rings_offset()));
  for (uint32_t i = 0; i < geometry.queues; i++) {
    ExchangeQueue queue{};
    std::memcpy(queue.name, options.queues[i].data(), options.queues[i].size());
    if (i == 0) {
      queue.tail.store(geometry.elements, std::memory_order_relaxed);
      queue.push_to.store(geometry.elements, std::memory_order_relaxed);
    }
    FAULTLESS_TRY(os::WriteAt(fd, &queue, sizeof queue, geometry.queues_offset() + i * sizeof queue));
  }
  return {};
}

Status CheckFile(int fd, uint64_t file_bytes, ExchangeHeader* header) {
  constexpr Status kNotOurs(Code::kFormat, "not an exchange of faultless");
  if (file_bytes < sizeof *header) return kNotOurs;
  FAULTLESS_TRY(os::ReadAt(fd, header, sizeof *header, 0));
  if (header->magic != format::kExchangeMagic) return kNotOurs;
  if (header->version != format::kIpcVersion) return {Code::kFormat, "an exchange of another version"};
  const ExchangeGeometry geometry{header->elements, header->element_bytes, header->queues};
  if (geometry.elements == 0 || geometry.elements > format::kExchangeMaxElements || geometry.element_bytes == 0 ||
      geometry.element_bytes > format::kExchangeMaxElementBytes || geometry.queues == 0 ||
      geometry.queues > format::kExchangeMaxQueues || header->reclaim_queue >= geometry.queues ||
      geometry.file_bytes() != file_bytes) {
    return Status::Corrupt("the exchange's sizes are not those of its file", 0);
  }
  return {};
}

}  // namespace

/** A queue's lock, held from construction to destruction where status() is ok; what a dead holder left is settled. */
class Exchange::Lock {
 public:
  Lock(const Exchange& exchange, uint32_t queue) : word_(exchange.At(queue).lock) {
    uint32_t dead_holder;
    status_ = format::AcquireLock(&word_, exchange.opener_, kQueueWaitNs, &dead_holder);
    if (!status_.ok()) {
      if (status_.code() == Code::kWouldBlock) {
        status_ = {Code::kBusy,
                   "a process that is stopped, or very slow, is in the middle of an operation on the queue"};
      }
      return;
    }
    // Always, and not after a death only: whoever has taken over may have died before it had settled anything.
    status_ = exchange.Settle(queue);
    if (!status_.ok()) format::ReleaseLock(&word_);
  }
  ~Lock() {
    if (status_.ok()) format::ReleaseLock(&word_);
  }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;
  const Status& status() const { return status_; }

 private:
  format::HalfWord& word_;
  Status status_;
};

// ───────────────────────────────────────────────────────────── opening and closing

Status Exchange::Open(const ExchangeOptions& options, std::shared_ptr<Exchange>* exchange) {
  if (options.file.read_only) return {Code::kUnsupported, "an exchange cannot be opened for reading only"};
  std::shared_ptr<Exchange> opened(new Exchange);
  const Status status = opened->file_.Open(options.file, [&](int fd) -> Status {
    if (options.elements == 0 || options.element_bytes == 0 || options.queues.empty()) {
      return {Code::kNotFound,
              "there is no such exchange, and none is created without elements, elementSize and queues"};
    }
    const auto queues = static_cast<uint32_t>(options.queues.size());
    return Build(fd, options, {options.elements, options.element_bytes, queues});
  });
  FAULTLESS_TRY(status);
  FAULTLESS_TRY(opened->Attach(options));
  *exchange = std::move(opened);
  return {};
}

Status Exchange::Attach(const ExchangeOptions& options) {
  ExchangeHeader header;
  FAULTLESS_TRY(CheckFile(file_.fd(), file_.size_bytes(), &header));
  geometry_ = {header.elements, header.element_bytes, header.queues};
  reclaim_queue_ = header.reclaim_queue;
  FAULTLESS_TRY(file_.Map());
  std::byte* const base = file_.base();
  queues_ = reinterpret_cast<ExchangeQueue*>(base + geometry_.queues_offset());
  owners_ = reinterpret_cast<format::HalfWord*>(base + geometry_.owners_offset());
  rings_ = reinterpret_cast<format::HalfWord*>(base + geometry_.rings_offset());
  for (uint32_t i = 0; i < geometry_.queues; i++) {
    names_.emplace_back(queues_[i].name, ::strnlen(queues_[i].name, format::kQueueNameBytes));
  }
  FAULTLESS_TRY(CheckOptions(options));
  FAULTLESS_TRY(opener_.Take(file_.fd(), reinterpret_cast<format::IpcOpener*>(base + format::kIpcPageBytes)));
  open_.store(true, std::memory_order_release);
  // Also of openers whose slots have been used again since. Where a lock is held just now, the periodic look comes
  // back.
  uint64_t count;
  {
    const std::lock_guard guard(maintenance_);
    static_cast<void>(ReclaimOnce(&count));
  }
  // The last user of our slot may have died before it rang, and nothing else tells of it any more.
  for (uint32_t queue = 0; queue < geometry_.queues; queue++) RingBell(queue);
  WaitingThread& thread = WaitingThread::OfProcess();
  const auto lock = thread.Lock();
  deadline_ns = os::MonotonicNs() + kLookForDeadNs;
  return thread.Add(this);
}

Status Exchange::CheckOptions(const ExchangeOptions& options) const {
  constexpr Status kOther(Code::kFormat, "the exchange was created with other options");
  if (options.elements != 0 && options.elements != geometry_.elements) return kOther;
  if (options.element_bytes != 0 && options.element_bytes != geometry_.element_bytes) return kOther;
  if (!options.queues.empty() && options.queues != names_) return kOther;
  if (options.reclaim_to && *options.reclaim_to != names_[reclaim_queue_]) return kOther;
  return {};
}

Status Exchange::Destroy(const std::string& path) {
  SharedFile file;
  SharedFileOptions options;
  options.path = path;
  options.create = false;
  options.read_only = true;
  FAULTLESS_TRY(file.Open(options, nullptr));
  ExchangeHeader header;
  const Status status = CheckFile(file.fd(), file.size_bytes(), &header);
  if (!status.ok() && status.code() != Code::kCorrupt) return status;
  return os::Unlink(path.c_str());
}

void Exchange::Close() {
  if (!open_.exchange(false, std::memory_order_acq_rel)) return;
  {
    WaitingThread& thread = WaitingThread::OfProcess();
    const auto lock = thread.Lock();
    thread.Remove(this);
  }
  const std::lock_guard guard(maintenance_);
  uint64_t count;
  const Status status = GiveBack({opener_.word()}, &count);
  opener_.Release(status.ok());
}

// ───────────────────────────────────────────────────────────── queues

Status Exchange::Check(uint32_t queue) const {
  const ExchangeQueue& control = At(queue);
  const uint64_t head = control.head.load(std::memory_order_relaxed);
  const uint64_t tail = control.tail.load(std::memory_order_relaxed);
  const uint64_t push_to = control.push_to.load(std::memory_order_relaxed);
  const uint64_t pull_to = control.pull_to.load(std::memory_order_relaxed);
  // Differences, so that a position near the end of 64 bits is one like any other.
  const uint64_t length = tail - head;
  if (length > geometry_.elements || push_to - tail > geometry_.elements - length || pull_to - head > length) {
    return kTornQueue;
  }
  return {};
}

Status Exchange::SetOwners(uint32_t queue, uint64_t from, uint64_t to, uint32_t owner) const {
  for (uint64_t position = from; position != to; position++) {
    const uint32_t id = RingAt(queue, position).load(std::memory_order_relaxed);
    if (id >= geometry_.elements) return kTornQueue;
    owners_[id].store(owner, std::memory_order_release);
  }
  return {};
}

Status Exchange::Settle(uint32_t queue) const {
  ExchangeQueue& control = At(queue);
  FAULTLESS_TRY(Check(queue));
  const uint64_t head = control.head.load(std::memory_order_relaxed);
  const uint64_t tail = control.tail.load(std::memory_order_relaxed);
  const uint64_t push_to = control.push_to.load(std::memory_order_relaxed);
  const uint64_t pull_to = control.pull_to.load(std::memory_order_relaxed);
  if (pull_to != head) {
    // What it pulled never reached it.
    FAULTLESS_TRY(SetOwners(queue, head, pull_to, InQueue(queue)));
    control.pull_to.store(head, std::memory_order_release);
  }
  if (push_to != tail) {
    // As far as it came it has pushed.
    FAULTLESS_TRY(SetOwners(queue, tail, push_to, InQueue(queue)));
    control.tail.store(push_to, std::memory_order_seq_cst);
  }
  return {};
}

void Exchange::Append(uint32_t queue, uint32_t id, uint64_t position) const {
  ExchangeQueue& control = At(queue);
  RingAt(queue, position).store(id, std::memory_order_relaxed);
  control.push_to.store(position + 1, std::memory_order_release);
  owners_[id].store(InQueue(queue), std::memory_order_release);
}

Status Exchange::Push(uint32_t queue, std::span<const uint32_t> ids) {
  constexpr Status kNotHeld(Code::kInvalidArgValue, "an element is not held here: only what was pulled can be pushed");
  constexpr Status kNoElement(Code::kOutOfRange, "there is no element of this number");
  if (ids.empty()) return {};
  {
    const Lock lock(*this, queue);
    FAULTLESS_TRY(lock.status());
    ExchangeQueue& control = At(queue);
    const uint64_t tail = control.tail.load(std::memory_order_relaxed);
    const uint64_t room = geometry_.elements - (tail - control.head.load(std::memory_order_relaxed));
    const uint32_t mine = opener_.word();
    uint64_t position = tail;
    for (const uint32_t& given : ids) {
      // Once: the list may lie in memory that others write to.
      const uint32_t id = *static_cast<const volatile uint32_t*>(&given);
      const bool exists = id < geometry_.elements;
      // Nobody else changes the owner of what this opener holds.
      if (!exists || owners_[id].load(std::memory_order_relaxed) != mine || position - tail == room) {
        // Taken back, the last one first: at any moment what is listed as pushed is in the queue if we die.
        while (position != tail) {
          position--;
          owners_[RingAt(queue, position).load(std::memory_order_relaxed)].store(mine, std::memory_order_release);
          control.push_to.store(position, std::memory_order_release);
        }
        return exists ? kNotHeld : kNoElement;
      }
      Append(queue, id, position);
      position++;
    }
    control.tail.store(position, std::memory_order_seq_cst);
  }
  RingBell(queue);
  return {};
}

Status Exchange::Pull(uint32_t queue, std::span<uint32_t> ids, size_t* pulled) {
  *pulled = 0;
  if (ids.empty()) return {};
  ExchangeQueue& control = At(queue);
  // Empty, and nothing to be settled: no need for the lock.
  const uint64_t seen = control.tail.load(std::memory_order_seq_cst);
  if (control.head.load(std::memory_order_acquire) == seen && control.push_to.load(std::memory_order_acquire) == seen) {
    return {};
  }
  const Lock lock(*this, queue);
  FAULTLESS_TRY(lock.status());
  const uint64_t head = control.head.load(std::memory_order_relaxed);
  const uint64_t length = control.tail.load(std::memory_order_relaxed) - head;
  const size_t count = std::min<uint64_t>(ids.size(), length);
  const uint32_t mine = opener_.word();
  for (size_t i = 0; i < count; i++) {
    const uint32_t id = RingAt(queue, head + i).load(std::memory_order_relaxed);
    if (id >= geometry_.elements) return kTornQueue;
    control.pull_to.store(head + i + 1, std::memory_order_release);
    owners_[id].store(mine, std::memory_order_release);
    ids[i] = id;
  }
  control.head.store(head + count, std::memory_order_release);
  *pulled = count;
  return {};
}

uint32_t Exchange::Length(uint32_t queue) const {
  const ExchangeQueue& control = At(queue);
  const uint64_t head = control.head.load(std::memory_order_acquire);
  const uint64_t length = control.tail.load(std::memory_order_acquire) - head;
  return static_cast<uint32_t>(std::min<uint64_t>(length, geometry_.elements));
}

uint32_t Exchange::Announce(uint32_t queue) const {
  ExchangeQueue& control = At(queue);
  const uint32_t seen = control.event.load(std::memory_order_seq_cst);
  control.sleepers.store(1, std::memory_order_seq_cst);
  return seen;
}

void Exchange::RingBell(uint32_t queue) const {
  ExchangeQueue& control = At(queue);
  if (control.sleepers.load(std::memory_order_seq_cst) == 0) return;
  // All of them: one that was woken alone might die before it has taken what it was woken for.
  control.sleepers.store(0, std::memory_order_seq_cst);
  control.event.fetch_add(1, std::memory_order_seq_cst);
  os::WakeWord(&control.event, INT_MAX);
}

// ───────────────────────────────────────────────────────────── what the dead held

std::vector<uint32_t> Exchange::FindDead() const {
  std::vector<uint32_t> dead;
  std::vector<uint32_t> alive;
  for (uint32_t id = 0; id < geometry_.elements; id++) {
    const uint32_t owner = owners_[id].load(std::memory_order_acquire);
    if ((owner & format::kInQueueMark) == format::kInQueueMark) continue;
    const auto is = [owner](uint32_t word) { return word == owner; };
    if (std::any_of(dead.begin(), dead.end(), is) || std::any_of(alive.begin(), alive.end(), is)) continue;
    (opener_.IsDead(owner) ? dead : alive).push_back(owner);
  }
  for (uint32_t slot = 0; slot < format::kIpcOpeners; slot++) {
    const uint32_t word = opener_.DeadIn(slot);
    if (word != 0) dead.push_back(word);
  }
  std::sort(dead.begin(), dead.end());
  dead.erase(std::unique(dead.begin(), dead.end()), dead.end());
  return dead;
}

Status Exchange::GiveBack(const std::vector<uint32_t>& owners, uint64_t* count) const {
  *count = 0;
  ExchangeQueue& control = At(reclaim_queue_);
  Status status;
  for (uint32_t id = 0; id < geometry_.elements && status.ok();) {
    const auto is_theirs = [&] {
      return std::binary_search(owners.begin(), owners.end(), owners_[id].load(std::memory_order_acquire));
    };
    if (!is_theirs()) {
      id++;
      continue;
    }
    // Under the lock everybody who gives back looks again: each element goes once.
    const Lock lock(*this, reclaim_queue_);
    status = lock.status();
    if (!status.ok()) break;
    const uint64_t tail = control.tail.load(std::memory_order_relaxed);
    const uint64_t room = geometry_.elements - (tail - control.head.load(std::memory_order_relaxed));
    const uint64_t most = std::min<uint64_t>(room, kGiveBackAtOnce);
    uint64_t position = tail;
    for (; id < geometry_.elements && position - tail < most; id++) {
      if (!is_theirs()) continue;
      Append(reclaim_queue_, id, position);
      position++;
    }
    control.tail.store(position, std::memory_order_seq_cst);
    *count += position - tail;
    if (room == 0) status = kTornQueue;
  }
  if (*count > 0) RingBell(reclaim_queue_);
  return status;
}

Status Exchange::ReclaimOnce(uint64_t* count) {
  *count = 0;
  // First who is dead, then what they left half done, then what they hold: an element that one of them was pulling when
  // it died goes back to its queue before anybody takes it for held. Who dies meanwhile is found the next time.
  const std::vector<uint32_t> dead = FindDead();
  if (dead.empty()) return {};
  for (uint32_t queue = 0; queue < geometry_.queues; queue++) {
    // Also where a living one has it: that may be settling what a dead one left.
    const ExchangeQueue& control = At(queue);
    const uint64_t tail = control.tail.load(std::memory_order_acquire);
    if (control.lock.load(std::memory_order_seq_cst) != 0 || control.push_to.load(std::memory_order_acquire) != tail) {
      const Lock lock(*this, queue);
      FAULTLESS_TRY(lock.status());
    }
    // A pusher may have died before it rang.
    RingBell(queue);
  }
  FAULTLESS_TRY(GiveBack(dead, count));
  for (const uint32_t word : dead) opener_.Forget(word);
  return {};
}

Status Exchange::Reclaim(uint64_t* reclaimed) {
  const std::lock_guard guard(maintenance_);
  const Status status = ReclaimOnce(reclaimed);
  *reclaimed += reclaimed_by_itself_.exchange(0, std::memory_order_acq_rel);
  return status;
}

void Exchange::OnWake() {
  deadline_ns = os::MonotonicNs() + kLookForDeadNs;
  bool found = false;
  for (uint32_t slot = 0; slot < format::kIpcOpeners && !found; slot++) found = opener_.DeadIn(slot) != 0;
  if (!found || reclaiming_.exchange(true, std::memory_order_acq_rel)) return;
  // Not here, where the whole process's waits would wait for locks and for a walk through all elements.
  const std::weak_ptr<Exchange> weak = weak_from_this();
  auto* const self = new std::shared_ptr<Exchange>(weak.lock());
  const auto reclaim = [](void* data) {
    const std::unique_ptr<std::shared_ptr<Exchange>> exchange(static_cast<std::shared_ptr<Exchange>*>(data));
    if (*exchange == nullptr) return;
    uint64_t count = 0;
    const std::lock_guard guard((*exchange)->maintenance_);
    if ((*exchange)->open_.load(std::memory_order_acquire)) {
      static_cast<void>((*exchange)->ReclaimOnce(&count));
      (*exchange)->reclaimed_by_itself_.fetch_add(count, std::memory_order_acq_rel);
    }
    (*exchange)->reclaiming_.store(false, std::memory_order_release);
  };
  if (!os::StartThread(reclaim, self).ok()) {
    reclaiming_.store(false, std::memory_order_release);
    delete self;
  }
}

}  // namespace faultless::ipc
