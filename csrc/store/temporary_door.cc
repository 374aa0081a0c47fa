#include "store/temporary_door.h"

#include <utility>

#include "store/engine.h"

namespace faultless::store {
namespace {

using format::Door;
using format::DoorSlot;

constexpr uint64_t kGateTimeoutNs = 60'000'000'000;
constexpr uint32_t kGatePauseUs = 2000;

constexpr uint64_t OffsetOf(uint32_t slot) { return offsetof(Door, slots) + slot * sizeof(DoorSlot); }

Status ReadDoor(int fd, Door* door) {
  FAULTLESS_TRY(os::ReadAt(fd, door, sizeof *door, 0));
  return door->magic == format::kDoorMagic ? Status() : Status(Code::kFormat, "not the door of a temporary store");
}

}  // namespace

Status TemporaryDoor::IsDoor(int fd, bool* is_door) {
  os::FileInfo info{};
  FAULTLESS_TRY(os::StatFile(fd, &info));
  *is_door = false;
  if (!info.regular || info.size_bytes != sizeof(Door)) return Code::kOk;
  uint64_t magic = 0;
  FAULTLESS_TRY(os::ReadAt(fd, &magic, sizeof magic, 0));
  *is_door = magic == format::kDoorMagic;
  return Code::kOk;
}

Status TemporaryDoor::Create(const OpenOptions& options) {
  int fd = -1;
  std::string aside;
  FAULTLESS_TRY(os::CreateAside(options.path.c_str(), options.permissions, &fd, &aside));
  const auto door = std::make_unique<Door>();
  door->magic = format::kDoorMagic;
  Status status = os::WriteAt(fd, door.get(), sizeof *door, 0);
  if (status.ok()) status = os::PublishFile(fd, aside, options.path.c_str());
  if (!status.ok()) os::AbandonAside(aside);
  os::CloseFile(fd);
  return status;
}

Status TemporaryDoor::Enter(int fd, const OpenOptions& options, int* store_fd, std::unique_ptr<TemporaryDoor>* door) {
  std::unique_ptr<TemporaryDoor> entered(new TemporaryDoor(fd, options.path));
  FAULTLESS_TRY(entered->TakeGate());
  const Status opened = entered->Open(options, store_fd);
  static_cast<void>(os::UnlockByte(fd, format::kGateByte));
  FAULTLESS_TRY(opened);
  *door = std::move(entered);
  return Code::kOk;
}

TemporaryDoor::~TemporaryDoor() {
  os::CloseFile(fd_);
  os::CloseFile(store_fd_);
}

Status TemporaryDoor::TakeGate() const {
  const uint64_t begin = os::MonotonicNs();
  const std::atomic<uint32_t> nobody_wakes{0};
  while (true) {
    bool acquired = false;
    FAULTLESS_TRY(os::TryLockByte(fd_, format::kGateByte, true, &acquired));
    if (acquired) return Code::kOk;
    if (os::MonotonicNs() - begin > kGateTimeoutNs) return {Code::kBusy, "another process is opening the store"};
    os::WaitOnWord(&nobody_wakes, 0, kGatePauseUs);
  }
}

Status TemporaryDoor::Open(const OpenOptions& options, int* store_fd) {
  bool has_name;
  FAULTLESS_TRY(HasName(&has_name));
  if (!has_name) return Code::kWouldBlock;
  const auto door = std::make_unique<Door>();
  FAULTLESS_TRY(ReadDoor(fd_, door.get()));
  const os::Access access = options.read_only ? os::Access::kReadOnly : os::Access::kReadWrite;
  Status status = Reach(*door, access, store_fd);
  if (status.ok() && options.exclusive) status = Code::kExists;
  if (status.code() == Code::kNotFound && options.create && !options.read_only) {
    status = Build(options, door.get(), store_fd);
  } else if (!status.ok() && *store_fd >= 0) {
    os::CloseFile(std::exchange(*store_fd, -1));
  }
  FAULTLESS_TRY(status);
  // One that stays as long as the slot is ours, whatever becomes of the other.
  status = os::Duplicate(*store_fd, &store_fd_);
  if (status.ok()) status = TakeSlot();
  if (!status.ok()) os::CloseFile(std::exchange(*store_fd, -1));
  return status;
}

Status TemporaryDoor::Reach(const Door& door, os::Access access, int* store_fd) const {
  Status status = Code::kNotFound;
  for (uint32_t slot = 0; slot < format::kDoorSlots; slot++) {
    const auto& [process_id, descriptor] = door.slots[slot];
    if (process_id == 0) continue;
    bool locked;
    FAULTLESS_TRY(os::IsByteLocked(fd_, format::kOpenerBytes + slot, &locked));
    if (!locked) continue;
    const Status reached = os::OpenOfProcess(process_id, descriptor, door.device, door.inode, access, store_fd);
    if (reached.ok()) return reached;
    // It is there: to make another one would split those who share it.
    status = reached.code() == Code::kAccess
                 ? reached
                 : Status(Code::kUnsupported, "a temporary store that a process of another PID namespace has open");
  }
  return status;
}

Status TemporaryDoor::Build(const OpenOptions& options, Door* door, int* store_fd) const {
  std::string aside;
  FAULTLESS_TRY(os::CreateAside(options.path.c_str(), options.permissions, store_fd, &aside));
  Status status = Engine::BuildEmpty(*store_fd, options);
  os::FileInfo info{};
  if (status.ok()) status = os::StatFile(*store_fd, &info);
  os::AbandonAside(aside);
  if (status.ok()) {
    *door = {};
    door->magic = format::kDoorMagic;
    door->device = info.device;
    door->inode = info.inode;
    status = os::WriteAt(fd_, door, sizeof *door, 0);
  }
  if (!status.ok()) os::CloseFile(std::exchange(*store_fd, -1));
  return status;
}

Status TemporaryDoor::TakeSlot() {
  for (uint32_t slot = 0; slot < format::kDoorSlots; slot++) {
    bool acquired = false;
    FAULTLESS_TRY(os::TryLockByte(fd_, format::kOpenerBytes + slot, true, &acquired));
    if (!acquired) continue;
    const DoorSlot mine{os::ProcessId(), static_cast<uint32_t>(store_fd_)};
    FAULTLESS_TRY(os::WriteAt(fd_, &mine, sizeof mine, OffsetOf(slot)));
    slot_ = slot;
    return Code::kOk;
  }
  return {Code::kBusy, "512 openings of the store are open"};
}

Status TemporaryDoor::HasName(bool* has) const {
  os::FileInfo named{};
  os::FileInfo mine{};
  FAULTLESS_TRY(os::StatFile(fd_, &mine));
  const Status looked = os::StatPath(path_.c_str(), &named);
  *has = looked.ok() && named.device == mine.device && named.inode == mine.inode;
  return looked.code() == Code::kNotFound ? Status() : looked;
}

Status TemporaryDoor::Leave() {
  FAULTLESS_TRY(TakeGate());
  const auto leave = [&]() -> Status {
    const DoorSlot nobody{};
    FAULTLESS_TRY(os::WriteAt(fd_, &nobody, sizeof nobody, OffsetOf(slot_)));
    FAULTLESS_TRY(os::UnlockByte(fd_, format::kOpenerBytes + slot_));
    for (uint32_t slot = 0; slot < format::kDoorSlots; slot++) {
      bool locked;
      FAULTLESS_TRY(os::IsByteLocked(fd_, format::kOpenerBytes + slot, &locked));
      if (locked) return Code::kOk;
    }
    bool has_name;
    FAULTLESS_TRY(HasName(&has_name));
    return has_name ? os::Unlink(path_.c_str()) : Status();
  };
  const Status left = leave();
  static_cast<void>(os::UnlockByte(fd_, format::kGateByte));
  return left;
}

}  // namespace faultless::store
