#include "store/large_value.h"

#include <bit>

#include "base/checksum.h"
#include "store/allocator.h"
#include "store/shared_bytes.h"

namespace faultless::store {

LargeValueWriter::~LargeValueWriter() {
  if (undecided_) return;
  if (chain_ != kNoChain) {
    const format::Word& head = context_.pending(context_.opener_slot).chains[chain_];
    while (head.load(std::memory_order_relaxed) != 0) {
      if (!FreeFirstOfChain(context_, &head, {format::RunKind::kValue}).ok()) {
        // The chain stays taken until a later write, or whoever settles this opener's death, frees it.
        context_.chains_abandoned.fetch_or(1u << chain_, std::memory_order_acq_rel);
        return;
      }
    }
  }
  if (reserved_ != kNoChain) context_.chains_in_use.fetch_and(~(1u << reserved_), std::memory_order_acq_rel);
}

void LargeValueWriter::FreeAbandonedChains() {
  uint32_t abandoned = context_.chains_abandoned.exchange(0, std::memory_order_acq_rel);
  for (; abandoned != 0; abandoned &= abandoned - 1) {
    // As its destructor would: by an object that owns the chain.
    LargeValueWriter owner(context_);
    owner.chain_ = owner.reserved_ = static_cast<uint32_t>(std::countr_zero(abandoned));
  }
}

Status LargeValueWriter::ReserveChain() {
  FreeAbandonedChains();
  uint32_t in_use = context_.chains_in_use.load(std::memory_order_relaxed);
  uint32_t chain;
  do {
    chain = static_cast<uint32_t>(std::countr_one(in_use));
    if (chain >= format::kPendingChains) return Code::kWouldBlock;
  } while (!context_.chains_in_use.compare_exchange_weak(in_use, in_use | 1u << chain, std::memory_order_acq_rel));
  reserved_ = chain;
  chain_ = chain;
  return Code::kOk;
}

Status LargeValueWriter::Write(std::span<const uint8_t> value, uint32_t shard_index) {
  if (chain_ == kNoChain) FAULTLESS_TRY(ReserveChain());
  runs_.clear();
  const format::Word& head = context_.pending(context_.opener_slot).chains[chain_];
  uint64_t units = value.size() / format::kUnitBytes;
  uint64_t written = 0;
  uint32_t crc = 0;
  while (units > 0) {
    const uint32_t wanted =
        std::min<uint32_t>(format::kMaxQueueClass, static_cast<uint32_t>(std::bit_width(units)) - 1);
    uint32_t size_class = wanted;
    uint64_t unit;
    const RunRequest request{format::RunKind::kValue, shard_index, 0, nullptr, &head};
    Status status = TakeRun(context_, size_class, request, Purpose::kUser, &unit);
    while (IsOutOfSpace(status) && size_class > 0) {
      status = TakeRun(context_, --size_class, request, Purpose::kUser, &unit);
    }
    // Whether the chain's head names the run is for the allocator's next holder to say: the chain is not used again.
    undecided_ = status.code() == Code::kIo && context_.allocator().intent.count.load(std::memory_order_relaxed) != 0;
    FAULTLESS_TRY(status);
    const uint64_t bytes = RunBytes(size_class);
    const uint64_t offset = unit * format::kUnitBytes;
    const uint64_t changes = context_.storage->SubstituteChanges();
    FAULTLESS_TRY(context_.storage->PopulateWrite(offset, bytes));
    CopyToShared(context_.base + offset, value.data() + written, bytes);
    if (context_.storage->SubstituteChanges() != changes || context_.storage->IsSubstituted(offset, bytes))
      return Status::Io("a value could not be written", offset);
    crc = Crc32c(crc, value.data() + written, bytes);
    const uint64_t incarnation = context_.entry(unit).incarnation.load(std::memory_order_relaxed);
    if (runs_.size() == format::kMaxRuns) return {Code::kStoreFull, "free space is too scattered for this value"};
    runs_.push_back({static_cast<uint32_t>(unit), size_class, incarnation});
    written += bytes;
    units -= uint64_t{1} << size_class;
  }
  header_ = {written, static_cast<uint32_t>(runs_.size()), crc};
  return Code::kOk;
}

void LargeValueWriter::Describe(std::span<const uint8_t> value, format::RecordView* record) const {
  record->flags |= format::kRecordLarge;
  record->large = header_;
  record->runs = runs_;
  record->value = value.subspan(header_.run_bytes);
}

Status FreePendingChains(const Context& context, uint32_t opener_slot) {
  for (const format::Word& head : context.pending(opener_slot).chains) {
    while (head.load(std::memory_order_relaxed) != 0) {
      FAULTLESS_TRY(FreeFirstOfChain(context, &head, {format::RunKind::kValue}));
    }
  }
  return Code::kOk;
}

Status ReadRuns(const Context& context, const format::RecordView& record, uint64_t position, uint8_t* target) {
  uint32_t crc = 0;
  for (const format::RunReference& run : record.runs) {
    const uint64_t offset = uint64_t{run.unit} * format::kUnitBytes;
    const uint64_t bytes = RunBytes(run.size_class);
    if (!context.Contains(offset, bytes)) return Status::Corrupt("a value's run lies outside the file", position);
    // Large parts cold: one request for all of it instead of a fault per page.
    if (!context.storage->IsResident(offset, bytes)) FAULTLESS_TRY(context.storage->PopulateRead(offset, bytes));
    CopyFromShared(target, context.base + offset, bytes);
    crc = Crc32c(crc, target, bytes);
    target += bytes;
  }
  if (crc != record.large.value_checksum) return Status::Corrupt("a value's checksum does not match", position);
  return Code::kOk;
}

}  // namespace faultless::store
