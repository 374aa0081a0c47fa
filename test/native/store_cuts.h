// Purpose: runs a store on a simulated disk (simulated_disk.h), lets the power go at any moment, and holds what is
// found then to what had been promised. One seed decides about everything. Thread safety: one thread.
#pragma once

#include "store/engine.h"
#include "store/verify.h"
#include "store_cuts_world.h"
#include "store_ledger.h"

namespace store_test {

using faultless::store::WriteOptions;

class PowerCutRun {
 public:
  PowerCutRun(uint64_t seed, Counters* counters) : PowerCutRun(seed, counters, nullptr) {}
  PowerCutRun(uint64_t seed, Counters* counters, const Workload* load)
      : seed_(seed), random_(seed), counters_(*counters), load_(load != nullptr ? *load : ChooseWorkload(&random_)) {}

  /** From an empty store to load.cuts cuts. */
  void Run() { Cut(Begin()); }

  void Cut(std::unique_ptr<World> world) { Cut(std::move(world), load_.cuts); }
  void Cut(std::unique_ptr<World> world, size_t cuts) {
    if (world == nullptr) return;
    left_ = static_cast<int64_t>(cuts);
    while (left_ > 0) {
      WorkUntilCut(world.get(), 150);
      std::vector<World::Moment> pending = std::move(world->pending);
      world->pending.clear();
      for (World::Moment& moment : pending) {
        const bool dead = moment.boot != 0;
        std::unique_ptr<World> other = Examine(std::move(moment));
        // The power was really gone; or nothing has happened, and it was only looked at what would have been.
        if (other != nullptr && Chance(&random_, dead ? 60 : 25)) world = std::move(other);
      }
      if (world->depth > 6 && Chance(&random_, 50)) world->depth = 1;
    }
    End(std::move(world));
  }

  std::unique_ptr<World> Begin() {
    BeginClocks(1'000'000);
    faultless::store::KeptOptions kept;
    kept.max_bytes = load_.max_bytes;
    if (load_.evicts) kept.on_full = faultless::store::KeptOptions::OnFull::kEvict;
    std::vector<uint64_t> head;
    uint64_t units = 0;
    if (const Status status = faultless::store::Engine::ComposeEmpty(kept, &head, &units); !status.ok()) {
      EXPECT_OK(status);
      return nullptr;
    }
    auto disk = std::make_shared<SimulatedDisk>(load_.max_bytes);
    disk->Format(head, units * format::kUnitBytes);
    ChooseKeys(*reinterpret_cast<const format::Superblock*>(head.data()));
    World::Moment moment{std::move(disk), Model(keys_.size(), &expiries_, load_.evicts), boot_, What("begin")};
    std::unique_ptr<World> world = Boot(std::move(moment), false);
    for (size_t i = 0; world != nullptr && i < load_.filled; i++) MustOrFull(world.get(), Set(world.get(), i));
    return world;
  }

  /** Closes it, and looks at the file. */
  void End(std::unique_ptr<World> world) {
    Trigger::The().Clear();
    if (!Close(world.get())) return;
    Audit(*world);
  }

  // ── operations

  /** Sets a key to a value of the next number, in one of several ways. */
  Status Set(World* world, size_t key) {
    if (key % 8 == 7 && !load_.evicts) return Increment(world, key);  // which may find it gone
    uint64_t size = Below(&random_, load_.longest);
    if (Chance(&random_, load_.large_percent)) size = 65'536 + Below(&random_, load_.largest - 65'536);
    const uint64_t number = ++number_;
    const std::string value = MakeValue(keys_[key], number, size);
    const WriteOptions options = ChooseExpiry(*world, number);
    if (Chance(&random_, 20)) return Swap(world, key, number, value, options);
    return Write(world, key, number, value.size(),
                 [&] { return world->store->Set(AsBytes(keys_[key]), AsBytes(value), options); });
  }

  /** With what the key holds it must succeed, unless making room for it evicts that. */
  Status Swap(World* world, size_t key, uint64_t number, const std::string& value, const WriteOptions& options) {
    std::string held;
    const bool absent = Get(*world->store, keys_[key], &held).code() == Code::kAbsent;
    const Bytes expected = AsBytes(held);
    const Bytes wanted = AsBytes(value);
    bool done = false;
    const Status status = Write(world, key, number, value.size(), [&]() -> Status {
      const Status swapped =
          world->store->CompareAndSet(AsBytes(keys_[key]), absent ? nullptr : &expected, &wanted, options, &done);
      return swapped.ok() && !done && load_.evicts ? Status(Code::kAbsent) : swapped;
    });
    EXPECT_TRUE(done || !status.ok()) << world->what << keys_[key] << "did not hold what it held";
    counters_[kSwapped]++;
    return status;
  }

  /** Keys that are only ever incremented: what they hold is the number itself. */
  Status Increment(World* world, size_t key) {
    const uint64_t number = ++number_;
    std::string held;
    const bool absent = Get(*world->store, keys_[key], &held).code() == Code::kAbsent;
    const uint64_t before = absent ? 0 : NumberOf(keys_[key], held);
    WriteOptions options = ChooseExpiry(*world, number);
    options.keep_expiry = Chance(&random_, 50);
    // The number before may have been touched: when it expires is one of two moments.
    if (options.keep_expiry && !absent) expiries_[number] = world->model.ExpiryOf(before);
    double result = 0;
    const Status status = Write(world, key, number, faultless::store::kNumberBytes, [&] {
      return world->store->Increment(AsBytes(keys_[key]), static_cast<double>(number) - static_cast<double>(before),
                                     options, &result);
    });
    EXPECT_TRUE(!status.ok() || result == static_cast<double>(number)) << world->what << keys_[key];
    counters_[kIncremented]++;
    return status;
  }

  /** The value stays: a cut may leave the expiry that it had, or the new one. */
  Status Touch(World* world, size_t key) {
    const uint64_t number = world->model.now[key];
    if (number == 0) return Code::kOk;
    const WriteOptions options = ChooseExpiry(*world, 0);
    const uint64_t expires_at_ms = options.expires_at_ms == 0 ? kNoExpiry : options.expires_at_ms;
    Expiry expiry = world->model.ExpiryOf(number);
    expiry.earliest_ms = std::min(expiry.earliest_ms, expires_at_ms);
    expiry.latest_ms = std::max(expiry.latest_ms, expires_at_ms);
    expiries_[number] = expiry;
    bool existed = false;
    const Status status = Guarded(
        world, [&] { return Patiently([&] { return world->store->Touch(AsBytes(keys_[key]), options, &existed); }); });
    EXPECT_TRUE(!status.ok() || world->model.Shows(number, existed ? number : 0) || !world->model.ghosts[key].empty() ||
                (load_.evicts && !existed))
        << world->what << keys_[key];
    counters_[kTouched]++;
    return status;
  }

  WriteOptions ChooseExpiry(const World& world, uint64_t number) {
    if (!Chance(&random_, load_.expired_percent)) return {};
    const uint64_t expires_at_ms = world.store->ExpiryAfter(Logarithmic(&random_, 3000));
    if (number != 0) expiries_[number] = {expires_at_ms, expires_at_ms};
    counters_[kExpiring]++;
    return {expires_at_ms};
  }

  template <typename Call>
  Status Write(World* world, size_t key, uint64_t number, uint64_t value_bytes, const Call& call) {
    const DiskFigures before = FiguresOf(world->disk->memory());
    world->model.Begin(Action::kSet, key, number);
    const Status status = Guarded(world, [&] { return Patiently(call); });
    world->model.End(status);
    counters_[kSets]++;
    if (status.code() == Code::kStoreFull) counters_[kFull]++;
    Compare(before, FiguresOf(world->disk->memory()), value_bytes);
    if (status.ok()) NoteLarge(key, value_bytes);
    return status;
  }

  Status Delete(World* world, size_t key) {
    const uint64_t now = world->model.now[key];
    bool existed = false;
    const DiskFigures before = FiguresOf(world->disk->memory());
    world->model.Begin(Action::kDelete, key);
    const Status status = Guarded(world, [&] { return store_test::Delete(*world->store, keys_[key], &existed); });
    world->model.End(status);
    // A delete that found an expired value gone has deleted nothing: when the clock goes back it may show again.
    // What had been evicted is deleted all the same.
    if (status.ok() && !existed && now != 0 && (!load_.evicts || world->model.MayBeExpired(now))) {
      world->model.ghosts[key].push_back(now);
    }
    if (status.ok() && !existed && now != 0 && load_.evicts) counters_[kEvictedDeleted]++;
    if (status.ok() && !load_.evicts) {
      EXPECT_TRUE(world->model.Shows(now, existed ? now : 0) || !world->model.ghosts[key].empty())
          << world->what << keys_[key];
    }
    counters_[kDeletes]++;
    Compare(before, FiguresOf(world->disk->memory()), 0);
    if (status.ok()) NoteLarge(key, 0);
    return status;
  }

  /** Sets and deletes of keys that are not incremented, some of them expected to hold what they hold. */
  Status Batch(World* world) {
    BatchOf batch(keys_);
    for (uint64_t i = 1 + Below(&random_, load_.longest_batch); i > 0; i--) {
      const size_t key = Below(&random_, keys_.size());
      if (key % 8 == 7 || batch.Has(key)) continue;
      if (Chance(&random_, 20)) batch.ExpectWhatItHolds(*world->store, key);
      if (Chance(&random_, load_.delete_percent)) {
        batch.Delete(key);
        continue;
      }
      uint64_t size = Below(&random_, load_.longest);
      if (Chance(&random_, load_.large_percent)) size = 65'536 + Below(&random_, load_.largest - 65'536);
      const uint64_t number = ++number_;
      batch.Set(key, number, size, ChooseExpiry(*world, number).expires_at_ms);
      sizes_[key] = 0;  // not followed
    }
    world->model.BeginBatch(batch.writes());
    bool done = false;
    const Status status = Guarded(world, [&] { return batch.Commit(*world->store, &done); });
    EXPECT_TRUE(done || !status.ok()) << world->what << "a check of what was held";
    world->model.End(status);
    counters_[kBatches]++;
    if (status.code() == Code::kStoreFull) counters_[kFull]++;
    return status;
  }

  Status Flush(World* world) {
    world->model.Begin(Action::kFlush);
    const Status status = Guarded(world, [&] { return Patiently([&] { return world->store->Flush(); }); });
    world->model.End(status);
    if (status.ok()) counters_[kFlushes]++;
    return status;
  }

  Status Clear(World* world) {
    world->model.Begin(Action::kClear);
    const Status status = Guarded(world, [&] { return store_test::Clear(*world->store); });
    world->model.End(status);
    counters_[kClears]++;
    return status;
  }

  /** False where it failed. */
  bool Close(World* world) {
    const Status status = TryClose(world);
    EXPECT_OK(status) << world->what;
    return status.ok();
  }
  Status TryClose(World* world) {
    world->model.Begin(Action::kClose);
    const Status status = Guarded(world, [&] { return world->store->Close(); });
    world->model.End(status);
    world->store.reset();
    if (status.ok()) counters_[kCloses]++;
    return status;
  }
  /** An opening that is to fail. */
  Status TryOpen(World* world) {
    std::shared_ptr<Store> store;
    return Store::OpenOn(std::make_unique<SimulatedStorage>(world->disk), IdentityOf(*world), {}, &store);
  }

  /** One operation as the workload has them. */
  void Operate(World* world) {
    const uint64_t choice = Below(&random_, 1000);
    if (choice < load_.flush_permille) {
      MustOrFull(world, Flush(world));
    } else if (choice < load_.flush_permille + load_.clear_permille) {
      MustOrFull(world, Clear(world));
    } else if (choice < load_.flush_permille + load_.clear_permille + load_.close_permille) {
      if (!Close(world)) return;
      if (Chance(&random_, 30)) Audit(*world);
      Reopen(world);
    } else {
      // New keys one after the other, so that many of them are there soon.
      if (Chance(&random_, load_.batch_percent)) {
        MustOrFull(world, Batch(world));
        PassTime(Below(&random_, 30));
        NoteClock(world);
        return;
      }
      const size_t key = next_key_ < keys_.size() && Chance(&random_, 60) ? next_key_++ : Below(&random_, keys_.size());
      if (Chance(&random_, load_.delete_percent)) {
        MustOrFull(world, Delete(world, key));
      } else if (load_.expired_percent > 0 && Chance(&random_, 15)) {
        MustOrFull(world, Touch(world, key));
      } else {
        MustOrFull(world, Set(world, key));
      }
    }
    PassTime(Below(&random_, 30));
    if (world->store != nullptr) NoteClock(world);
    if (Chance(&random_, 1) && Chance(&random_, 50)) {
      world->disk->WriteBack(&random_);
      counters_[kWrittenBack]++;
    }
  }

  /** Operations until a cut is pending, at most so many; then one between two of them. */
  void WorkUntilCut(World* world, uint64_t most) {
    const uint64_t operations = Logarithmic(&random_, most);
    const uint64_t kind = Below(&random_, 10);
    const bool death = Chance(&random_, 8);
    const auto fire = [this, world, death] { Snap(world, death); };
    if (kind < 4) {
      Trigger::The().AfterPoints(Logarithmic(&random_, 3000), fire);
    } else if (kind < 7) {
      Trigger::The().AtSync(1 + Below(&random_, 2), Chance(&random_, 40) ? 0 : Logarithmic(&random_, 600), fire);
      if (Chance(&random_, 50)) {
        for (uint64_t i = 0; i < operations / 2 && world->pending.empty() && world->store; i++) Operate(world);
        if (world->store && world->pending.empty()) MustOrFull(world, Flush(world));
      }
    }
    for (uint64_t i = 0; i < operations && world->pending.empty() && world->store != nullptr; i++) Operate(world);
    Trigger::The().Clear();
    if (world->pending.empty()) Snap(world, death);
  }

  // ── cuts

  /** What would be found if the power went now; or if the process died. */
  void Snap(World* world, bool death) {
    const Action action = world->model.opening ? Action::kOpen : world->model.action;
    const std::string what = world->what + " > " + std::to_string(world->depth) + ":" +
                             std::to_string(static_cast<int>(action)) + "#" + std::to_string(counters_[kCuts]);
    if (death) {
      counters_[kDeaths]++;
      if (action != Action::kNone) counters_[kDeathsInside]++;
      world->pending.push_back({world->disk->Fork(), world->model, world->boot, what + " death"});
      return;
    }
    for (uint64_t i = Below(&random_, 3) + 1; i > 0; i--) {
      std::shared_ptr<SimulatedDisk> found = world->disk->Cut(&random_);
      if (found->bytes() < world->disk->bytes()) counters_[kLengthsLost]++;
      world->pending.push_back({std::move(found), world->model, 0, what + " cut"});
      counters_[kCuts]++;
      left_--;
      if (world->depth > 0) counters_[kCutsOfRecovered]++;
      constexpr Counter kOf[] = {kCutsBetween, kCutsInSet,   kCutsInDelete, kCutsInClear,
                                 kCutsInFlush, kCutsInClose, kCutsInOpen,   kCutsInBatch};
      counters_[action == Action::kOpen && world->model.unrecovered ? kCutsInRecovery
                                                                    : kOf[static_cast<size_t>(action)]]++;
      if (in_sync_) counters_[kCutsInSync]++;
      if (Trigger::The().after_sync()) counters_[kCutsAfterSync]++;
    }
  }

  /** Opens what a cut left and looks at all of it; sometimes goes on with it, up to more cuts. nullptr: it could not be
   * opened. */
  std::unique_ptr<World> Examine(World::Moment moment) {
    const bool dead = moment.boot != 0;
    std::unique_ptr<World> world = Boot(std::move(moment), depth_ < 4 && Chance(&random_, 30));
    if (world == nullptr) return nullptr;
    if (!dead && Chance(&random_, 12)) Verify(*world);
    std::vector<World::Moment> pending = std::move(world->pending);
    world->pending.clear();
    depth_++;
    for (World::Moment& inner : pending) Examine(std::move(inner));
    if (Chance(&random_, 50)) {
      if (depth_ < 5 && Chance(&random_, 50)) {
        WorkUntilCut(world.get(), 40);
        pending = std::move(world->pending);
        world->pending.clear();
        for (World::Moment& inner : pending) Examine(std::move(inner));
      } else {
        for (uint64_t i = Logarithmic(&random_, 30); i > 0 && world->store != nullptr; i--) Operate(world.get());
      }
    }
    depth_--;
    if (world->store != nullptr && Chance(&random_, 35)) {
      if (Close(world.get())) {
        Audit(*world);
        if (Chance(&random_, 30)) Reopen(world.get());
      }
    }
    return world->store != nullptr ? std::move(world) : nullptr;
  }

  /** Opens the store that was found, which must hold what it may hold, and only that. */
  std::unique_ptr<World> Boot(World::Moment moment, bool cut_inside) {
    auto world = std::make_unique<World>(moment.model);
    world->disk = std::move(moment.disk);
    world->what = std::move(moment.what);
    world->depth = depth_ + (moment.boot == 0 ? 1 : 0);
    world->boot = moment.boot;
    if (moment.boot == 0) {
      world->boot = ++boot_;
      if (Chance(&random_, 10)) wall_clock_ms -= Below(&random_, 2000);
      world->model.unrecovered = true;
    }
    if (!OpenStore(world.get(), cut_inside)) return nullptr;
    return world;
  }

  /** After a clean close. */
  void Reopen(World* world) {
    if (!OpenStore(world, false)) world->store.reset();
  }

  bool OpenStore(World* world, bool cut_inside) {
    World* const self = world;
    world->disk->at_sync = [this, self](bool completed) {
      in_sync_ = !completed;
      Trigger::The().OnSync(completed);
      in_sync_ = false;
      if (completed && self->model.action != Action::kNone && !self->model.opening) self->model.Flushed();
    };
    // What was under way when the cut came stays what may be there: the opening itself changes nothing.
    world->model.opening = false;
    const Model before = world->model;
    world->model.opening = true;
    if (cut_inside) {
      const bool death = Chance(&random_, 10);
      const auto fire = [this, self, death] { Snap(self, death); };
      if (Chance(&random_, 50)) {
        Trigger::The().AfterPoints(Logarithmic(&random_, 20'000), fire);
      } else {
        Trigger::The().AtSync(1 + Below(&random_, 3), Chance(&random_, 40) ? 0 : Logarithmic(&random_, 2000), fire);
      }
    }
    OpenOptions options;
    uint64_t last_done = 0;
    uint64_t steps = 0;
    options.on_progress = [&](uint64_t done, uint64_t total) {
      EXPECT_TRUE(done >= last_done && done <= total) << self->what << "progress";
      last_done = done;
      steps++;
    };
    const Status status = Guarded(world, [&] {
      return Store::OpenOn(std::make_unique<SimulatedStorage>(world->disk), IdentityOf(*world), options, &world->store);
    });
    if (cut_inside) Trigger::The().Clear();
    EXPECT_OK(status) << world->what << "cannot be opened";
    if (!status.ok()) return false;
    if (steps > 0) counters_[kRecoveries]++;
    world->model = before;
    world->model.clock_ms = 0;  // a power cut may set it back
    NoteClock(world);
    EXPECT_GE(world->model.clock_ms, before.flushed_clock_ms) << world->what << "the clock went back";
    const Model& held = world->model;
    std::vector<uint64_t> found(keys_.size());
    ReadAll(*world, &found);
    for (size_t i = 0; i < keys_.size(); i++) {
      const bool allowed = before.unrecovered || before.IsUnderWay(i) ? held.Allows(i, found[i]) : held.Is(i, found[i]);
      EXPECT_TRUE(allowed) << world->what << load_.name << keys_[i] << "has number" << found[i] << "promised was"
                           << before.durable[i] << "last" << before.now[i] << "recovered" << steps;
    }
    for (const Model::Batch& batch : before.batches) {
      bool old = false;
      bool done = false;
      held.Judge(batch, found, load_.expired_percent > 0, &old, &done);
      EXPECT_FALSE(old && done) << world->what << load_.name << "half of a batch of" << batch.writes.size()
                                << "is there";
      if (before.unrecovered && old != done) counters_[done ? kBatchesKept : kBatchesLost]++;
    }
    // An open that recovers, and one after a close, promises what is there; the death of a process promises nothing.
    if (before.unrecovered || steps > 0) {
      bool dropped = false;
      for (const auto& shard : FiguresOf(world->disk->memory()).shards) dropped |= shard.evicted_sequence != 0;
      world->model.Recovered(found, dropped);
    } else {
      for (size_t i = 0; i < found.size(); i++) {
        if (!before.IsUnderWay(i)) continue;
        world->model.now[i] = found[i];
        // Gone because it had expired, or because of what was under way: that cannot be told. (What was under way stays
        // what a cut may show, up to the next flush: model.later.)
        const uint64_t last = before.now[i];
        if (found[i] == 0 && last != 0 && before.MayBeExpired(last)) world->model.ghosts[i].push_back(last);
      }
      world->model.action = Action::kNone;
    }
    return true;
  }

  /** Within one boot the store's clock never goes back, and it is never behind the wall clock for long. */
  void NoteClock(World* world) {
    const uint64_t now_ms = world->store->NowMs();
    EXPECT_GE(now_ms, world->model.clock_ms) << world->what << "the clock went back";
    EXPECT_LE(now_ms, latest_clock_ms) << world->what << "the clock is ahead of all that it has been told";
    world->model.clock_ms = now_ms;
  }

  void Audit(const World& world) {
    Ledger ledger(world.disk->memory(), world.disk->bytes());
    EXPECT_EQ(ledger.Check(), "") << world.what << load_.name;
    counters_[kAudited]++;
  }

  const std::vector<std::string>& keys() const { return keys_; }
  Random& random() { return random_; }
  const char* name() const { return load_.name; }

 private:
  std::string What(const char* what) const {
    return std::string(load_.name) + " seed " + std::to_string(seed_) + " " + what;
  }

  faultless::store::FileIdentity IdentityOf(const World& world) const { return {{world.boot, seed_ + 1}, 7, 11, 13}; }

  void ChooseKeys(const format::Superblock& block) {
    for (uint64_t i = 0; keys_.size() < load_.keys; i++) {
      std::string key = "k" + std::to_string(i);
      const uint64_t hash = faultless::HashBytes(key.data(), key.size(), block.hash_seed);
      if ((hash >> 32) * block.shard_count >> 32 >= load_.shards) continue;
      index_[key] = keys_.size();
      keys_.push_back(std::move(key));
    }
    sizes_.resize(keys_.size());
    next_key_ = load_.filled;
  }

  template <typename Call>
  Status Guarded(World*, const Call& call) {
    Trigger::The().BeginOperation();
    const Status status = call();
    Trigger::The().EndOperation();
    return status;
  }

  void MustOrFull(World* world, const Status& status) {
    if (status.code() == Code::kStoreFull && load_.max_bytes <= uint64_t{8} << 20 && !load_.evicts) return;
    if (status.code() == Code::kAbsent && load_.evicts) return;  // compared with what was evicted meanwhile
    if (status.code() == Code::kNoSpace && world->disk->fail_reserve == 1) return;
    EXPECT_OK(status) << world->what << load_.name;
  }

  /** What a set or a delete has brought about. */
  void Compare(const DiskFigures& before, const DiskFigures& after, uint64_t value_bytes) {
    // More than a record and a mark take: cleaning has appended something again.
    const uint64_t most =
        128 + (value_bytes < format::kUnitBytes ? value_bytes : value_bytes % format::kUnitBytes + 400);
    for (uint32_t i = 0; i < format::kDefaultShards; i++) {
      const DiskFigures::Shard& was = before.shards[i];
      const DiskFigures::Shard& is = after.shards[i];
      if (is.head_unit != was.head_unit) {
        if (!heads_.insert(is.head_unit).second) counters_[kReused]++;
      }
      if (was.tail_unit != 0 && is.tail_unit != was.tail_unit) counters_[kLeft]++;
      if (is.head_unit == was.head_unit && is.head - was.head > most) counters_[kMoved]++;
      if (is.places > was.places && was.places != 0) counters_[kSplits]++;
      if (is.depth > was.depth) counters_[kDoublings]++;
      counters_[kEvicted] += is.evictions - std::min(is.evictions, was.evictions);
    }
    if (after.published != before.published) counters_[kGrowths]++;
    counters_[kEngineFlushes] += after.flushes - before.flushes;
  }

  void NoteLarge(size_t key, uint64_t size) {
    if (sizes_[key] >= format::kUnitBytes) counters_[kLargeReplaced]++;
    sizes_[key] = size;
  }

  /** Everything that is there, by a scan and by reads, which must agree. */
  void ReadAll(const World& world, std::vector<uint64_t>* found) {
    MapSink all;
    ScanAll(*world.store, &all);
    EXPECT_FALSE(all.twice) << world.what;
    if (load_.expired_percent == 0) {
      EXPECT_EQ(world.store->Size(), all.entries.size()) << world.what;
    } else {
      EXPECT_GE(world.store->Size(), all.entries.size()) << world.what;
    }
    for (const auto& [key, value] : all.entries) {
      const auto at = index_.find(key);
      if (at == index_.end()) {
        FAIL() << world.what << key << "was never written";
        continue;
      }
      (*found)[at->second] = NumberOf(key, value);
      EXPECT_NE((*found)[at->second], 0) << world.what << key << "is not whole";
    }
    const size_t reads = std::min<size_t>(keys_.size(), load_.large_percent > 50 ? 4 : 60);
    const size_t first = Below(&random_, keys_.size());
    for (size_t i = 0; i < reads; i++) {
      const std::string& key = keys_[(first + i) % keys_.size()];
      std::string value;
      const Status status = Get(*world.store, key, &value);
      const auto at = all.entries.find(key);
      EXPECT_CODE(status, at == all.entries.end() ? Code::kAbsent : Code::kOk) << world.what << key;
      EXPECT_TRUE(!status.ok() || (at != all.entries.end() && at->second == value)) << world.what << key << "differs";
    }
    counters_[kKeysRead] += all.entries.size();
  }

  void Verify(const World& world) {
    const auto verification = world.store->Verify();
    while (!verification->done()) EXPECT_OK(Patiently([&] { return verification->Step(); })) << world.what;
    for (const auto& damage : verification->Report().damaged) {
      FAIL() << world.what << "damaged at" << damage.offset << damage.reason;
    }
    counters_[kVerified]++;
  }

  const uint64_t seed_;
  Random random_;
  Counters& counters_;
  const Workload load_;
  std::vector<std::string> keys_;
  std::unordered_map<std::string, size_t> index_;
  Expiries expiries_;
  std::vector<uint64_t> sizes_;  // of the values last written
  std::set<uint64_t> heads_;
  size_t next_key_ = 0;
  uint64_t number_ = 0;
  uint64_t boot_ = 1;
  int64_t left_ = 0;
  int depth_ = 0;
  bool in_sync_ = false;
};

}  // namespace store_test
