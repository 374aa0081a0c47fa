// Purpose: the redo list of a batch, which is too long for the intents of its shards: what changes when the batch is
// decided, in a run that its holder has taken. The list is decided, and done, as a whole: ControlHeader::decided_batch
// names it from the decision on until all of it has been applied. Each shard of the batch says by its intent
// (kIntentOfBatch) that it belongs to one, so that whoever takes its lock settles that first.
// Thread safety: a BatchLock belongs to one thread. Lock order: flush, batch, shards ascending, allocator; who settles
// a shard takes the batch lock behind the shard's, which is harmless, as every wait ends after 1 ms. Invariants
// (docs/concurrency.md, "Batches"): decided_batch changes under the batch lock alone; all version slots of the list are
// odd before it is decided; the shards of a decided batch are its holder's, or a dead holder's, or wait for the batch
// lock, so that who has that may apply the list.
#pragma once

#include <span>
#include <vector>

#include "base/status.h"
#include "store/context.h"

namespace faultless::store {

struct BatchOp {
  uint64_t place;
  uint64_t value;
};

/** What a batch changes in one shard. */
struct BatchPart {
  uint32_t shard = 0;
  std::vector<uint32_t> slots;  // version slots, each once
  std::vector<BatchOp> ops;     // by place, each place once
};

/** Words that a list of these parts takes. */
uint64_t ListWords(std::span<const BatchPart> parts);
/** Writes the list to the run, which the caller has taken and populated. */
void WriteList(const Context& context, uint64_t unit, uint64_t number, std::span<const BatchPart> parts);

/** The lock of who decides batches, or must know that none is decided meanwhile. Applies a decided batch that somebody
 * left. */
class BatchLock {
 public:
  explicit BatchLock(const Context& context);
  ~BatchLock();
  BatchLock(const BatchLock&) = delete;
  BatchLock& operator=(const BatchLock&) = delete;
  const Status& status() const { return status_; }

 private:
  const Context& context_;
  Status status_;
};

/**
 * Under the batch lock and the locks of all shards of the list: decides and applies it. kIo: a page could not be had
 * after the decision: whoever takes the batch lock next applies it again.
 */
Status CommitList(const Context& context, uint64_t unit, std::span<const BatchPart> parts);

/** Makes versions of the shard that are odd even, those of slots and `commits`. Under its lock, with nothing decided.
 */
void EndOddVersions(const Context& context, uint32_t shard_index);

/**
 * Under the shard's lock: the batch that the shard's intent says it belongs to is done, or undone if it was not
 * decided, and the shard is its lock holder's alone. kWouldBlock: somebody else is about to do it.
 */
Status SettleBatchOf(const Context& context, uint32_t shard_index);

/**
 * For readers that may not write: the ops of a decided batch in one shard, none where it is not decided. False where
 * the batch's holder lives, or what was seen changed meanwhile.
 */
bool CaptureBatch(const Context& context, uint32_t shard_index, std::vector<BatchOp>* ops);

}  // namespace faultless::store
