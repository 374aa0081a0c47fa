// Purpose: the part of a large value that lives in runs of its own: written before its record, read after it.
// Thread safety: writing needs no shard lock (nothing refers to the runs yet); one object belongs to one thread.
// Ownership: until a record has been committed, the runs hang on a chain of this process's opener slot, so that a death
// gives them back.
#pragma once

#include <vector>

#include "base/status.h"
#include "format/record.h"
#include "store/context.h"
#include "store/transaction.h"

namespace faultless::store {

class LargeValueWriter {
 public:
  explicit LargeValueWriter(Context& context) : context_(context) {}
  /** Gives back what no committed record refers to. */
  ~LargeValueWriter();
  LargeValueWriter(const LargeValueWriter&) = delete;
  LargeValueWriter& operator=(const LargeValueWriter&) = delete;

  /** May wait. Copies the whole units of `value` into fresh runs. kStoreFull, kNoSpace, kWouldBlock, kIo: nothing is
   * kept. A batch writes one value after another: one commit takes over the runs of all of them. */
  Status Write(std::span<const uint8_t> value, uint32_t shard_index);
  /** Makes the record refer to the runs: the rest of the value stays in the record. */
  void Describe(std::span<const uint8_t> value, format::RecordView* record) const;
  /** References to the runs of the value that was written last, and what else its record says of them. */
  const std::vector<format::RunReference>& runs() const { return runs_; }
  const format::LargeHeader& header() const { return header_; }
  /** The commit that makes the record visible takes the runs over. Change: a Transaction or a BatchChange. */
  template <typename Change>
  void TakeOver(Change* change) {
    if (chain_ != kNoChain) change->Set(context_.pending(context_.opener_slot).chains[chain_], 0);
  }
  void Taken() { chain_ = kNoChain; }

 private:
  void FreeAbandonedChains();
  Status ReserveChain();
  static constexpr uint32_t kNoChain = ~0u;
  Context& context_;
  uint32_t chain_ = kNoChain;
  uint32_t reserved_ = kNoChain;
  bool undecided_ = false;
  std::vector<format::RunReference> runs_;
  format::LargeHeader header_{};
};

/** Frees the chains that a dead opener left behind. Its shard locks must have been taken over before. */
Status FreePendingChains(const Context& context, uint32_t opener_slot);

/**
 * May wait. Copies the runs' bytes to `target` (large.run_bytes long). kCorrupt: a reference leads nowhere or the
 * checksum does not match: validate versions before believing it.
 */
Status ReadRuns(const Context& context, const format::RecordView& record, uint64_t position, uint8_t* target);

}  // namespace faultless::store
