// Purpose: writes that depend on what their key holds: what they ask of it, and what they make of it, decided under the
// shard's lock by who holds it (writer.cc). Thread safety: one write's, on its thread.
#pragma once

#include <vector>

#include "base/status.h"
#include "format/record.h"
#include "store/context.h"
#include "store/store.h"

namespace faultless::store {

class WriteRule {
 public:
  virtual ~WriteRule() = default;
  /**
   * kOk: the write goes on. kAbsent: it does not, and nothing changes. kCold: not to be told under the lock; call
   * Prepare without it and begin anew. Else why the write fails. Under the lock; `position`: of the record that the key
   * has, 0: it is absent. The record is copied to the read scratch.
   */
  virtual Status Decide(const Context& context, uint64_t position) = 0;
  /** May wait; under no lock. */
  virtual Status Prepare(const Context& /*context*/) { return Code::kOk; }
};

/** Only where the key holds these bytes; nullptr: only where it is absent. */
class ExpectRule final : public WriteRule {
 public:
  explicit ExpectRule(const Bytes* expected) : expected_(expected) {}
  Status Decide(const Context& context, uint64_t position) override;
  Status Prepare(const Context& context) override;

 private:
  bool IsCompared(const format::RecordView& record) const;

  const Bytes* const expected_;
  // Value runs are read without the lock. A run keeps its bytes as long as it has its incarnation, so where the record
  // refers to the same ones later, what was found of them still holds.
  std::vector<format::RunReference> runs_;
  bool runs_equal_ = false;
};

/** Adds to a number; an absent key counts as 0. kNotANumber, kOutOfRange. */
class IncrementRule final : public WriteRule {
 public:
  explicit IncrementRule(double by) : by_(by) {}
  Status Decide(const Context& context, uint64_t position) override;
  /** The number as a value. Decided with the rule, of the same size always. */
  Bytes value() const { return {bytes_, sizeof bytes_}; }
  double result() const { return result_; }

 private:
  const double by_;
  double result_ = 0;
  uint8_t bytes_[kNumberBytes] = {};
};

}  // namespace faultless::store
