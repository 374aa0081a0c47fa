#include "store/give_back.h"

#include <bit>

#include "store/allocator.h"
#include "store/watch_bell.h"

namespace faultless::store {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;
// No store is too small to keep that. On a disk, 4 MiB may come out of limbo at once.
constexpr uint64_t kEnoughUnits = 128;
constexpr uint64_t kEnoughUnitsInRam = 32;
constexpr uint32_t kWritesPerLook = 16;  // the live bytes are summed that often

/** The chain that a run hangs on while it is punched: none of those of large values. */
const format::Word& PunchChain(const Context& context) {
  return context.pending(context.opener_slot).chains[format::kPendingChains];
}

uint64_t LiveBytes(const Context& context) {
  uint64_t live = 0;
  for (uint32_t i = 0; i < context.shards(); i++) {
    const format::ShardControl& shard = context.shard(i);
    live += shard.live_bytes.load(kRelaxed) + shard.value_bytes.load(kRelaxed);
  }
  return live;
}

/** One thread of the process at a time. */
class Turn {
 public:
  explicit Turn(Context& context) : context_(context), mine_(!context.punching.exchange(true)) {}
  ~Turn() {
    if (mine_) context_.punching.store(false);
  }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;
  bool mine() const { return mine_; }

 private:
  Context& context_;
  const bool mine_;
};

Status EmptyChain(const Context& context) {
  const format::Word& chain = PunchChain(context);
  while (chain.load(kRelaxed) != 0) {
    FAULTLESS_TRY(FreeFirstOfChain(context, &chain, {format::RunKind::kValue}));
  }
  return Code::kOk;
}

}  // namespace

Status PunchOneRun(Context& context, uint64_t most_units) {
  if (context.cannot_punch.load(kRelaxed)) return Code::kAbsent;
  const Turn turn(context);
  if (!turn.mine()) return Code::kWouldBlock;
  FAULTLESS_TRY(EmptyChain(context));
  // Whoever looks for space meanwhile must find some: what is being punched is not free.
  const uint64_t most = std::min(most_units, context.allocator().free_units.load(kRelaxed) / 4);
  const auto largest_class = static_cast<uint32_t>(std::bit_width(std::max<uint64_t>(most, 1))) - 1;
  uint64_t unit;
  uint32_t size_class;
  FAULTLESS_TRY(TakeRunToPunch(context, largest_class, &PunchChain(context), &unit, &size_class));
  const Status punched = context.storage->Punch(unit * format::kUnitBytes, RunBytes(size_class));
  // The run counts as hollow all the same: at worst its space is reserved for nothing when it is used.
  if (punched.code() == Code::kUnsupported) context.cannot_punch.store(true, kRelaxed);
  return EmptyChain(context);
}

void GiveBackFreeSpace(Context& context) {
  const uint64_t units = FreeUnitsWithSpace(context);
  uint64_t enough = context.storage->durable() ? kEnoughUnits : kEnoughUnitsInRam;
  // Longer queues come and go by more at a time.
  if (units >= enough / 2 && IsWatched(context)) enough *= 2;
  if (units < enough / 2 || context.pin.load(kRelaxed)) return;
  const bool giving = context.giving_back.load(kRelaxed);
  if (!giving && (units < enough || context.looks.fetch_add(1, kRelaxed) % kWritesPerLook != 0)) return;
  const uint64_t live_units = LiveBytes(context) / format::kUnitBytes;
  const uint64_t kept = live_units / 8 + enough / 2;
  if (units <= (giving ? kept : live_units / 4 + enough)) {
    if (giving) context.giving_back.store(false, kRelaxed);
    return;
  }
  if (!giving) context.giving_back.store(true, kRelaxed);
  static_cast<void>(PunchOneRun(context, units - kept));
}

Status FinishPunching(Context& context) {
  const Turn turn(context);
  return turn.mine() ? EmptyChain(context) : Status(Code::kWouldBlock);
}

}  // namespace faultless::store
