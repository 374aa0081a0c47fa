// Purpose: verification of the tables: entries pass their checks, runs do not overlap, free lists and limbo are chains
// of what they should be, and every run belongs to something.
//
// A store of up to kGroupsAtOnce groups is looked at in one piece under the allocator's lock (about a millisecond at
// most), a larger one group by group; no run reaches beyond its group. Who may not write copies a table twice and
// believes it where both are equal and no transaction is under way. What a run belongs to is asked afterwards; damage
// is what a second look at the same use of the run finds again.
//
// Thread safety: one thread at a time. May wait.
// Invariants: runs after all shards have been verified, whose walks tell which value runs some record refers to.
#pragma once

#include <unordered_set>
#include <vector>

#include "store/verify_moment.h"

namespace faultless::store {

class TableVerification {
 public:
  TableVerification(const Context& context, Findings* findings, uint64_t next_incarnation)
      : context_(context), findings_(findings), next_incarnation_(next_incarnation) {}

  /** A bounded step. kOk, or kWouldBlock: nothing was done, do it again. */
  Status Step();
  bool done() const { return phase_ == Phase::kDone; }

 private:
  enum class Phase : uint8_t { kTotals, kGroups, kChains, kOwners, kDone };
  struct Run {
    uint64_t unit;
    uint64_t incarnation;
    uint64_t sequence;
    format::RunKind kind;
    uint32_t shard;
  };
  struct Totals {
    uint64_t published = 0, free_units = 0, hollow_units = 0, limbo_units = 0, next_incarnation = 0, limbo_open = 0,
             limbo_closing = 0;
    bool operator==(const Totals&) const = default;
  };

  /** What the entries add up to. */
  struct Counts {
    uint64_t free_units = 0, hollow_units = 0, limbo_units = 0;
    bool operator==(const Counts&) const = default;
  };

  Totals ReadTotals() const;
  /** No change of the allocator is under way, or was left behind. */
  bool IsIdle() const;
  /** Whether the totals are what was counted. */
  void CompareTotals(const Totals& totals, const Counts& counts, Findings* found) const;
  Status CheckGroups();
  /** Of groups [begin, end): with the allocator's lock, or where nothing moves. */
  void CheckEntries(uint64_t begin, uint64_t end, const Totals& totals, Findings* found, std::vector<Run>* runs,
                    Counts* counts) const;
  void CheckFreeLinks(uint64_t unit, uint32_t size_class, Findings* found) const;
  void CheckLimbo(const Totals& totals, uint64_t limbo_units, Findings* found) const;
  void CheckHeads(Findings* found) const;
  Status CheckChains();
  Status CheckOwners();
  /** Whether something has the run, or it is another one by now. */
  Status IsOwned(const Run& run, bool* owned) const;
  bool IsSame(const Run& run) const;

  const Context& context_;
  Findings* const findings_;
  const uint64_t next_incarnation_;  // when the verification began: younger runs are not asked for
  Phase phase_ = Phase::kTotals;
  uint64_t group_ = 0;
  int attempts_ = 0;
  Totals totals_;
  Counts counts_;
  std::vector<Run> runs_;
  size_t at_ = 0;
  uint32_t shard_ = 0;
  std::unordered_set<uint64_t> index_units_;  // those on the chains of their shards
};

}  // namespace faultless::store
