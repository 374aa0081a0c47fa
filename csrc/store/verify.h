// Purpose: looking through a whole store for damage, in bounded steps, while everybody reads and writes: every record
// (verify_shard.h), the index against the queues, and the tables (verify_tables.h). Damage becomes part of the report.
// Thread safety: one thread at a time per object, any number of objects. May wait.
// Invariants: a sound store is never called damaged, whoever writes to it or dies meanwhile.
#pragma once

#include <memory>

#include "store/verify_shard.h"
#include "store/verify_tables.h"

namespace faultless::store {

struct VerifyReport;

class Verification {
 public:
  explicit Verification(const Context& context);

  /** One bounded step. kOk, or kWouldBlock: do it again, without holding a thread meanwhile. */
  Status Step();
  bool done() const { return done_; }
  /** How far it is; never goes back, and ends at *total. */
  void Progress(uint64_t* done, uint64_t* total) const;
  VerifyReport Report() const;

 private:
  Status CheckBatch();
  const Context& context_;
  Findings findings_;
  uint64_t total_bytes_ = 0;
  uint64_t done_bytes_ = 0;  // of the shards that are done
  uint32_t next_shard_ = 0;
  uint64_t next_incarnation_;
  std::unique_ptr<ShardVerification> shard_;
  std::unique_ptr<TableVerification> tables_;
  bool done_ = false;
};

}  // namespace faultless::store
