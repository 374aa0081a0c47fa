// Readers who recover: over a private copy of the file (private_storage.h).
#include "os/os.h"
#include "store/allocator.h"
#include "store/clock.h"
#include "store/engine.h"
#include "store/private_storage.h"
#include "store/recovery.h"

namespace faultless::store {
namespace {

/** Who holds the locks in private memory: there is nobody else. */
constexpr uint32_t kPrivateOwner = uint32_t{1} << format::kLockSlotBits | 1;

/** What a recovery has stored to: all but extents and values. */
std::vector<PrivateStorage::Range> OwnRanges(const Context& context) {
  std::vector<PrivateStorage::Range> ranges{{0, context.head_units() * format::kUnitBytes}};
  const auto add = [&](uint64_t unit, uint64_t units) {
    const uint64_t offset = unit * format::kUnitBytes;
    if (ranges.back().offset + ranges.back().length == offset) {
      ranges.back().length += units * format::kUnitBytes;
    } else {
      ranges.push_back({offset, units * format::kUnitBytes});
    }
  };
  const uint64_t published = context.PublishedUnits();
  for (uint64_t unit = context.head_units(); unit < published;) {
    format::EntryView view;
    if (context.IsTableUnit(unit) || !format::ReadEntry(context.entry(unit), unit, &view)) {
      add(unit++, 1);
      continue;
    }
    const uint64_t units = uint64_t{1} << view.size_class;
    if (view.kind != format::RunKind::kQueue && view.kind != format::RunKind::kValue) add(unit, units);
    unit += units;
  }
  return ranges;
}

}  // namespace

Status Engine::OpenPrivately(const OpenOptions& options) {
  // The gate is held: no writer comes or goes.
  bool writers = false;
  FAULTLESS_TRY(storage_->IsByteLocked(format::kWritersByte, &writers));
  if (writers) {
    return options.salvage
               ? Status(Code::kBusy, "the store is open for writing: a salvage needs a file that does not change")
               : Status::Corrupt("the control region is damaged while others use it", format::kControlOffset);
  }
  bool acquired = false;
  FAULTLESS_TRY(storage_->TryLockByte(format::kUsersByte, false, &acquired));
  if (acquired) FAULTLESS_TRY(storage_->TryLockByte(format::kPrivateByte, false, &acquired));
  if (!acquired) return Code::kBusy;
  int fd = -1;
  FAULTLESS_TRY(static_cast<MappedStorage*>(storage_.get())->DuplicateDescriptor(&fd));  // the locks are its, too
  std::unique_ptr<PrivateStorage> storage;
  FAULTLESS_TRY(
      PrivateStorage::Create(fd, context_.superblock.max_bytes, format::ControlEnd(context_.shards()), &storage));
  PrivateStorage* const copy = storage.get();
  storage_ = std::move(storage);
  context_.storage = copy;
  context_.base = copy->base();
  BeginClock(context_, identity_.boot_id);
  context_.residency = std::make_unique<Residency>(copy);
  context_.private_copy = true;
  // From here on it is enough that no writer can come.
  FAULTLESS_TRY(copy->UnlockByte(format::kGateByte));
  context_.superblock.incarnation_base += uint64_t{1} << 40;
  context_.recovering = true;
  context_.owner_word = kPrivateOwner;
  const Status recovered =
      Recover(context_, options.salvage ? Salvage::kAllShards : Salvage::kDamagedShards, options.on_progress);
  context_.owner_word = 0;
  context_.recovering = false;
  FAULTLESS_TRY(recovered);
  copy->Settle(OwnRanges(context_));
  return Code::kOk;
}

}  // namespace faultless::store
