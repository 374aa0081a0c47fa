#include "binding/store_request.h"

#include <algorithm>
#include <cstring>
#include <string_view>
#include <unordered_set>

#include "binding/convert.h"
#include "binding/exports.h"
#include "binding/store_batch.h"
#include "os/os.h"

namespace faultless::binding {

namespace {

constexpr napi_type_tag kRequestTag = {0x6661756c746c6573, 0x7265717565737431};

uint16_t Load16(const uint8_t* from) {
  uint16_t value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

uint32_t Load32(const uint8_t* from) {
  uint32_t value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

double LoadDouble(const uint8_t* from) {
  double value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

void StoreAnswer(uint8_t* to, Answer answer, const ValuePlace& place) {
  const uint32_t words[4] = {static_cast<uint32_t>(answer), place.slab, place.offset, place.size};
  std::memcpy(to, words, sizeof(words));
}

Answer AnswerOf(const Status& status) {
  if (status.ok()) return Answer::kOk;
  return status.code() == Code::kAbsent ? Answer::kAbsent : Answer::kFailed;
}

/** So many operations that meet a held lock, each after a while, end a turn. */
constexpr uint32_t kMaxNewlyBlocked = 8;

/** Operations that are prepared together. */
constexpr size_t kPrepared = 32;

bool IsRead(OperationKind kind) {
  return kind == OperationKind::kGet || kind == OperationKind::kHas || kind == OperationKind::kEntry ||
         kind == OperationKind::kTtl;
}
bool IsWriteOfOne(OperationKind kind) {
  return !IsRead(kind) && kind != OperationKind::kSkip && kind != OperationKind::kGetMany &&
         kind != OperationKind::kClear && kind != OperationKind::kBatch;
}

bool HasNumber(OperationKind kind) {
  return kind == OperationKind::kEntry || kind == OperationKind::kTtl || kind == OperationKind::kIncrement;
}

std::string_view View(store::Bytes bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

bool ThrowMalformed(napi_env env) {
  (void)napi_throw_error(env, nullptr, "faultless: malformed request");
  return false;
}

/** Keys of a kGetMany: false where the list does not add up. */
bool ToKeys(store::Bytes list, std::vector<store::Bytes>* keys) {
  while (!list.empty()) {
    if (list.size() < 2) return false;
    const size_t size = Load16(list.data());
    if (list.size() - 2 < size) return false;
    keys->push_back(list.subspan(2, size));
    list = list.subspan(2 + size);
  }
  return true;
}

class RunJob final : public Job {
 public:
  explicit RunJob(std::shared_ptr<StoreRequest> request)
      : Job(request->handle()->lane(), Mode::kShared, request->count()), request_(std::move(request)) {}

 protected:
  Status Execute() override {
    request_->Run();
    return Code::kOk;
  }
  napi_value Result(napi_env env) override {
    request_->CountTurn(waited_ns(), worked_ns());
    return request_->Report(env);
  }

 private:
  const std::shared_ptr<StoreRequest> request_;
};

void FinalizeRequest(napi_env env, void* data, void* /*hint*/) {
  auto* request = static_cast<std::shared_ptr<StoreRequest>*>(data);
  (*request)->DropReferences(env);
  delete request;
}

bool ToRequestAndIndex(napi_env env, napi_callback_info info, std::shared_ptr<StoreRequest>* request, uint32_t* index) {
  napi_value arguments[2];
  if (!GetArguments(env, info, 2, arguments) || !ToShared(env, arguments[0], kRequestTag, request) ||
      !ToUint32(env, arguments[1], index)) {
    return false;
  }
  return *index < (*request)->count() || ThrowMalformed(env);
}

/** storeRequest(handle, headers, bytes, usedBytes, count, answers, largeValues): StoreRequest */
napi_value NewStoreRequest(napi_env env, napi_callback_info info) {
  napi_value arguments[7];
  std::shared_ptr<StoreHandle> handle;
  StoreRequest::Arguments parts;
  if (!GetArguments(env, info, 7, arguments) || !ToStoreHandle(env, arguments[0], &handle) ||
      !ToUint32(env, arguments[3], &parts.used_bytes) || !ToUint32(env, arguments[4], &parts.count)) {
    return nullptr;
  }
  parts.headers = arguments[1];
  parts.bytes = arguments[2];
  parts.answers = arguments[5];
  parts.large_values = arguments[6];
  auto request = std::make_shared<StoreRequest>(std::move(handle));
  if (!request->Parse(env, parts)) {
    request->DropReferences(env);
    return nullptr;
  }
  napi_value result = NewSharedHandle(env, request, kRequestTag, FinalizeRequest);
  if (result == nullptr) request->DropReferences(env);
  return result;
}

/** storeRun(request): Promise<Report>: one turn. */
napi_value StoreRun(napi_env env, napi_callback_info info) {
  napi_value argument;
  std::shared_ptr<StoreRequest> request;
  if (!GetArguments(env, info, 1, &argument) || !ToShared(env, argument, kRequestTag, &request)) return nullptr;
  return Job::Start(env, std::make_unique<RunJob>(std::move(request)));
}

/** storeFinish(request, index). Waits until the operation is done. */
napi_value StoreFinish(napi_env env, napi_callback_info info) {
  std::shared_ptr<StoreRequest> request;
  uint32_t index;
  if (!ToRequestAndIndex(env, info, &request, &index)) return nullptr;
  request->Finish(index);
  return Undefined(env);
}

/** storeCancel(request, index): boolean: it will not happen. */
napi_value StoreCancel(napi_env env, napi_callback_info info) {
  std::shared_ptr<StoreRequest> request;
  uint32_t index;
  if (!ToRequestAndIndex(env, info, &request, &index)) return nullptr;
  return NewBool(env, request->TryCancel(index));
}

/** storeIsDone(request, index): boolean: the operation has taken effect, reported or not. Never waits. */
napi_value StoreIsDone(napi_env env, napi_callback_info info) {
  std::shared_ptr<StoreRequest> request;
  uint32_t index;
  if (!ToRequestAndIndex(env, info, &request, &index)) return nullptr;
  return NewBool(env, request->IsDone(index));
}

/** storeTimes(request): [milliseconds without a thread, on one]: of all its turns that are over. Never waits. */
napi_value StoreTimes(napi_env env, napi_callback_info info) {
  napi_value argument;
  std::shared_ptr<StoreRequest> request;
  if (!GetArguments(env, info, 1, &argument) || !ToShared(env, argument, kRequestTag, &request)) return nullptr;
  napi_value result = nullptr;
  if (napi_create_array_with_length(env, 2, &result) != napi_ok) return nullptr;
  const double ms[2] = {static_cast<double>(request->waited_ns()) / 1e6,
                        static_cast<double>(request->worked_ns()) / 1e6};
  for (uint32_t i = 0; i < 2; i++) {
    if (napi_set_element(env, result, i, NewNumber(env, ms[i])) != napi_ok) return nullptr;
  }
  return result;
}

}  // namespace

bool StoreRequest::Refer(napi_env env, napi_value value) {
  if (napi_create_reference(env, value, 1, &references_[references_count_]) != napi_ok) return ThrowMalformed(env);
  references_count_++;
  return true;
}

bool StoreRequest::ParseLarge(napi_env env, napi_value values, std::vector<store::Bytes>* large) {
  bool has_large = false;
  if (napi_is_array(env, values, &has_large) != napi_ok || !has_large) return true;
  uint32_t length = 0;
  if (napi_get_array_length(env, values, &length) != napi_ok) return ThrowMalformed(env);
  large->reserve(length);
  for (uint32_t i = 0; i < length; i++) {
    napi_value element = nullptr;
    const std::byte* bytes = nullptr;
    size_t size = 0;
    if (napi_get_element(env, values, i, &element) != napi_ok) return ThrowMalformed(env);
    if (!ToBytes(env, element, &bytes, &size)) return false;
    large->emplace_back(reinterpret_cast<const uint8_t*>(bytes), size);
  }
  return Refer(env, values);
}

bool StoreRequest::Parse(napi_env env, const Arguments& arguments) {
  const std::byte* data = nullptr;
  size_t size = 0;
  void* headers = nullptr;
  size_t header_words = 0;
  napi_typedarray_type type = napi_int8_array;
  std::vector<store::Bytes> large;
  if (napi_get_typedarray_info(env, arguments.headers, &type, &header_words, &headers, nullptr, nullptr) != napi_ok ||
      type != napi_int32_array || !ToBytes(env, arguments.bytes, &data, &size)) {
    return ThrowMalformed(env);
  }
  if (!ParseLarge(env, arguments.large_values, &large) || !Refer(env, arguments.headers) ||
      !Refer(env, arguments.bytes)) {
    return false;
  }
  napi_valuetype answers_type = napi_undefined;
  if (napi_typeof(env, arguments.answers, &answers_type) == napi_ok && answers_type == napi_object) {
    const std::byte* answers = nullptr;
    size_t answers_size = 0;
    if (!ToBytes(env, arguments.answers, &answers, &answers_size) || !Refer(env, arguments.answers)) return false;
    arena_.Lend(reinterpret_cast<uint8_t*>(const_cast<std::byte*>(answers)), answers_size);
  }

  const uint32_t count = arguments.count;
  if (count > header_words * sizeof(int32_t) / kHeaderBytes || arguments.used_bytes > size) return ThrowMalformed(env);
  headers_ = static_cast<uint8_t*>(headers);
  store::Bytes bytes(reinterpret_cast<const uint8_t*>(data), arguments.used_bytes);
  operations_ = std::make_unique<Operation[]>(count);
  count_ = count;
  for (uint32_t i = 0; i < count; i++) {
    if (!ParseOperation(HeaderOf(i), large, &bytes, &operations_[i])) return ThrowMalformed(env);
  }
  return true;
}

bool StoreRequest::ParseOperation(const uint8_t* header, std::span<const store::Bytes> large, store::Bytes* bytes,
                                  Operation* operation) {
  const auto take = [&](size_t size, store::Bytes* taken) {
    if (bytes->size() < size) return false;
    *taken = bytes->first(size);
    *bytes = bytes->subspan(size);
    return true;
  };
  const auto take_value = [&](size_t size, bool is_large, store::Bytes* taken) {
    if (!is_large) return take(size, taken);
    if (size >= large.size()) return false;
    *taken = large[size];
    return true;
  };
  if (header[0] > static_cast<uint8_t>(OperationKind::kTouch) &&
      header[0] != static_cast<uint8_t>(OperationKind::kBatch)) {
    return false;
  }
  operation->kind = static_cast<OperationKind>(header[0]);
  operation->flags = header[1];
  operation->ordered = (header[1] & kFlagOrdered) != 0;
  if (!take(Load16(header + 2), &operation->key)) return false;
  if ((header[1] & kFlagExpects) != 0 &&
      !take_value(Load32(header + 24), (header[1] & kFlagLargeExpected) != 0, &operation->expected)) {
    return false;
  }
  if (!take_value(Load32(header + 4), (header[1] & kFlagLarge) != 0, &operation->value)) return false;
  if ((header[1] & kFlagTtl) != 0) operation->ttl_ms = ToTtl(LoadDouble(header + 16));
  if (operation->kind == OperationKind::kIncrement) operation->number = LoadDouble(header + 24);
  if (operation->kind == OperationKind::kSkip) operation->state.store(State::kCancelled, std::memory_order_relaxed);
  return true;
}

void StoreRequest::DropReferences(napi_env env) {
  for (uint32_t i = 0; i < references_count_; i++) (void)napi_delete_reference(env, references_[i]);
  references_count_ = 0;
}

// ───────────────────────────────────────────────────────────── running

void StoreRequest::Run() {
  const StoreUse use(handle_.get());
  blocked_ = false;
  const bool may_part = first_turn_ && count_ > 1 && handle_->tells_residency() && use.engine() != nullptr;
  first_turn_ = false;
  if (use.engine() != nullptr) use.engine()->FollowWallClock();
  if (hashes_ == nullptr) hashes_ = std::make_unique<uint64_t[]>(count_);
  if (may_part && !RunHot(use.engine())) return;
  RunAll(use.engine());
}

uint32_t StoreRequest::PrepareFrom(uint32_t index, store::Store* engine, bool reads_only) {
  store::Bytes keys[kPrepared];
  uint64_t hashes[kPrepared];
  uint32_t indexes[kPrepared];
  size_t count = 0;
  for (; index < count_ && count < kPrepared; index++) {
    const Operation& operation = operations_[index];
    const bool one_key = IsRead(operation.kind) || (!reads_only && IsWriteOfOne(operation.kind));
    if (!one_key || !IsPending(index)) continue;
    keys[count] = operation.key;
    indexes[count++] = index;
  }
  engine->Prepare({keys, count}, {hashes, count}, /*advise=*/false);
  for (size_t i = 0; i < count; i++) hashes_[indexes[i]] = hashes[i];
  return index;
}

bool StoreRequest::RunHot(store::Store* engine) {
  bool any_answered = false;
  bool any_cold = false;
  uint32_t prepared = 0;
  for (uint32_t i = 0; i < count_; i++) {
    if (i == prepared) prepared = PrepareFrom(i, engine, /*reads_only=*/true);
    Operation* operation = &operations_[i];
    if (operation->ordered || !IsRead(operation->kind)) continue;
    const std::lock_guard lock(mutex_);
    const Code code = Attempt(operation, engine, store::ReadMode::kLikelyResident, hashes_[i]);
    (code == Code::kCold || code == Code::kWouldBlock ? any_cold : any_answered) = true;
  }
  if (!any_cold) return true;
  for (uint32_t i = 0; i < count_; i++) {
    Operation* operation = &operations_[i];
    if (operation->ordered || IsRead(operation->kind) || operation->kind == OperationKind::kSkip) continue;
    const std::lock_guard lock(mutex_);
    if (Attempt(operation, engine, store::ReadMode::kMayFault, 0) != Code::kWouldBlock) any_answered = true;
  }
  return !any_answered;  // where nothing is there to report, the rest follows at once
}

void StoreRequest::RunAll(store::Store* engine) {
  // The device sees all of them at once, instead of one fault after another.
  std::vector<store::Bytes> keys;
  for (uint32_t i = 0; engine != nullptr && i < count_; i++) {
    if (IsRead(operations_[i].kind) && IsPending(i)) keys.push_back(operations_[i].key);
  }
  if (keys.size() > 1) {
    std::vector<uint64_t> hashes(keys.size());
    engine->Prepare(keys, hashes, /*advise=*/true);
  }
  // Operations that a lock held up before are probably behind the same one still, and each attempt costs a while: one
  // of them is tried, another one each turn, and the rest only after it.
  uint32_t held_up_before = 0;
  for (uint32_t i = 0; i < count_; i++) {
    if (operations_[i].blocked_since_ns != 0 && IsPending(i)) held_up_before++;
  }
  const uint32_t probe = held_up_before == 0 ? 0 : turn_++ % held_up_before;
  bool probe_passed = false;
  const bool left_early = RunInOrder(engine, probe, &probe_passed);
  if (!left_early && probe_passed) (void)RunInOrder(engine, 0, &probe_passed);
}

bool StoreRequest::RunInOrder(store::Store* engine, uint32_t probe, bool* probe_passed) {
  std::unordered_set<std::string_view> held_up;  // keys with an operation that is left for the next turn
  uint32_t newly_blocked = 0;
  uint32_t ordinal = 0;  // among those that a lock held up before
  uint32_t prepared = 0;
  blocked_ = false;
  for (uint32_t i = 0; i < count_; i++) {
    if (i == prepared && count_ > 1 && engine != nullptr) {
      prepared = PrepareFrom(i, engine, /*reads_only=*/false);
    }
    Operation* operation = &operations_[i];
    if (!IsPending(i)) continue;
    const bool before = operation->blocked_since_ns != 0;
    const bool skip = before && ordinal++ != probe && !*probe_passed && !IsTimeUp(*operation);
    if (skip || (operation->ordered && held_up.contains(View(operation->key)))) {
      blocked_ = true;
      held_up.insert(View(operation->key));
      continue;
    }
    const std::lock_guard lock(mutex_);
    const Code code = Attempt(operation, engine, store::ReadMode::kMayFault, hashes_[i]);
    if (code == Code::kWouldBlock) {
      blocked_ = true;
      held_up.insert(View(operation->key));
      // Others want the thread as well.
      if (!before && ++newly_blocked >= kMaxNewlyBlocked) {
        blocked_ = false;
        return true;
      }
    } else if (before && code != Code::kBusy) {
      *probe_passed = true;
    }
  }
  return false;
}

void StoreRequest::Finish(uint32_t index) {
  if (operations_ == nullptr) return;
  static const std::atomic<uint32_t> never_changes{0};
  const StoreUse use(handle_.get());
  for (;;) {
    {
      const std::lock_guard lock(mutex_);
      Operation& operation = operations_[index];
      if (Attempt(&operation, use.engine(), store::ReadMode::kMayFault, 0) != Code::kWouldBlock) {
        // The rest of the answer comes with the report.
        const auto answer = static_cast<uint32_t>(AnswerOf(operation.status));
        if (IsDone(index)) std::memcpy(HeaderOf(index) + 8, &answer, sizeof answer);
        return;
      }
    }
    os::WaitOnWord(&never_changes, 0, /*timeout_us=*/1'000);
  }
}

bool StoreRequest::TryCancel(uint32_t index) {
  if (operations_ == nullptr) return false;
  State expected = State::kPending;
  return operations_[index].state.compare_exchange_strong(expected, State::kCancelled, std::memory_order_acq_rel);
}

Code StoreRequest::Attempt(Operation* operation, store::Store* engine, store::ReadMode mode, uint64_t hash) {
  State expected = State::kPending;
  if (!operation->state.compare_exchange_strong(expected, State::kRunning, std::memory_order_acq_rel)) return Code::kOk;
  Status status = engine == nullptr ? Status(Code::kClosed) : Call(operation, engine, mode, hash);
  if (status.code() == Code::kWouldBlock) {
    if (operation->blocked_since_ns == 0) operation->blocked_since_ns = os::MonotonicNs();
    if (IsTimeUp(*operation)) {
      status = Status(Code::kBusy, "a lock is held by a process that does not let go");
    }
  }
  operation->status = status;
  const bool again = status.code() == Code::kWouldBlock || status.code() == Code::kCold;
  operation->state.store(again ? State::kPending : State::kDone, std::memory_order_release);
  return status.code();
}

bool StoreRequest::IsTimeUp(const Operation& operation) {
  return os::MonotonicNs() - operation.blocked_since_ns >= uint64_t{kLockTimeoutMs} * 1'000'000;
}

Status StoreRequest::Call(Operation* operation, store::Store* engine, store::ReadMode mode, uint64_t hash) {
  switch (operation->kind) {
    case OperationKind::kGet:
    case OperationKind::kEntry:
      return Get(operation, engine, mode, hash);
    case OperationKind::kHas:
      return hash == 0 ? engine->Has(operation->key, mode) : engine->Has(operation->key, hash, mode);
    case OperationKind::kSet:
      return engine->Set(operation->key, operation->value, OptionsOf(*operation, engine));
    case OperationKind::kDelete: {
      bool existed = false;
      FAULTLESS_TRY(engine->Delete(operation->key, &existed));
      return existed ? Code::kOk : Code::kAbsent;
    }
    case OperationKind::kGetMany:
      return GetMany(operation, engine);
    case OperationKind::kClear:
      return engine->Clear(&clear_);
    case OperationKind::kTtl: {
      FAULTLESS_TRY(hash == 0 ? engine->Get(operation->key, nullptr, mode, &operation->freshness)
                              : engine->Get(operation->key, hash, nullptr, mode, &operation->freshness));
      operation->number = engine->MsLeft(operation->freshness.expires_at_ms);
      return Code::kOk;
    }
    case OperationKind::kCompareAndSet:
      return CompareAndSet(operation, engine);
    case OperationKind::kIncrement: {
      double sum = 0;
      FAULTLESS_TRY(engine->Increment(operation->key, operation->number, OptionsOf(*operation, engine), &sum));
      operation->number = sum;
      return Code::kOk;
    }
    case OperationKind::kTouch: {
      bool existed = false;
      FAULTLESS_TRY(engine->Touch(operation->key, OptionsOf(*operation, engine), &existed));
      return existed ? Code::kOk : Code::kAbsent;
    }
    case OperationKind::kBatch:
      return CommitBatchOf(operation->value, engine);
    case OperationKind::kSkip:
      break;
  }
  return Code::kOk;
}

Status StoreRequest::Get(Operation* operation, store::Store* engine, store::ReadMode mode, uint64_t hash) {
  const Status status = hash == 0 ? engine->Get(operation->key, &arena_, mode, &operation->freshness)
                                  : engine->Get(operation->key, hash, &arena_, mode, &operation->freshness);
  if (!status.ok()) {
    arena_.TakeBack();
    return status;
  }
  operation->answer = arena_.Keep();
  if (operation->kind == OperationKind::kEntry) {
    operation->number = engine->MsLeft(operation->freshness.expires_at_ms);
  }
  return Code::kOk;
}

store::WriteOptions StoreRequest::OptionsOf(const Operation& operation, store::Store* engine) {
  return {engine->ExpiryAfter(operation.ttl_ms), (operation.flags & kFlagKeepTtl) != 0};
}

Status StoreRequest::CompareAndSet(Operation* operation, store::Store* engine) {
  const bool expects = (operation->flags & kFlagExpects) != 0;
  const bool sets = (operation->flags & kFlagDelete) == 0;
  bool done = false;
  FAULTLESS_TRY(engine->CompareAndSet(operation->key, expects ? &operation->expected : nullptr,
                                      sets ? &operation->value : nullptr, OptionsOf(*operation, engine), &done));
  return done ? Code::kOk : Code::kAbsent;
}

Status StoreRequest::GetMany(Operation* operation, store::Store* engine) {
  std::vector<store::Bytes> keys;
  if (!ToKeys(operation->value, &keys)) return Code::kInvalidArgValue;
  std::vector<OwnedValue> values(keys.size());
  std::vector<store::ValueSink*> sinks(keys.size());
  std::vector<Code> codes(keys.size(), Code::kAbsent);
  for (size_t i = 0; i < keys.size(); i++) sinks[i] = &values[i];
  FAULTLESS_TRY(engine->GetMany(keys, sinks, codes));

  std::vector<uint8_t> answers(keys.size() * 16);
  for (size_t i = 0; i < keys.size(); i++) {
    ValuePlace place;
    if (codes[i] == Code::kOk && !arena_.Adopt(&values[i], &place)) return Code::kValueTooLarge;
    StoreAnswer(&answers[i * 16], AnswerOf(codes[i]), place);
  }
  return arena_.Append(answers, &operation->answer) ? Code::kOk : Code::kValueTooLarge;
}

// ───────────────────────────────────────────────────────────── reporting

napi_value StoreRequest::Report(napi_env env) {
  uint32_t left = 0;
  napi_value errors = nullptr;
  uint32_t errors_count = 0;
  for (uint32_t i = 0; i < count_; i++) {
    Operation& operation = operations_[i];
    if (operation.reported) continue;
    const State state = operation.state.load(std::memory_order_acquire);
    if (state == State::kCancelled) continue;
    if (state != State::kDone) {
      left++;
      continue;
    }
    operation.reported = true;
    const Answer answer = AnswerOf(operation.status);
    StoreAnswer(HeaderOf(i) + 8, answer, operation.answer);
    if (operation.kind == OperationKind::kGet) {
      WriteFreshness(operation.freshness, HeaderOf(i) + 24);
    } else if (HasNumber(operation.kind)) {
      std::memcpy(HeaderOf(i) + 24, &operation.number, sizeof operation.number);
    }
    if (answer != Answer::kFailed) continue;
    if (errors == nullptr && napi_create_array(env, &errors) != napi_ok) return nullptr;
    napi_value descriptor = StatusToJs(env, operation.status, handle_->path().c_str());
    if (descriptor == nullptr || napi_set_element(env, errors, errors_count++, NewNumber(env, i)) != napi_ok ||
        napi_set_element(env, errors, errors_count++, descriptor) != napi_ok) {
      return nullptr;
    }
  }
  if (left == 0) {
    DropReferences(env);
    // Now, not when the handle is collected: a burst of requests would take new memory for each.
    operations_.reset();
    if (errors == nullptr && arena_.only_lent()) return Undefined(env);
  }

  napi_value report = nullptr;
  napi_value slabs = arena_.ToJs(env);
  if (slabs == nullptr || napi_create_object(env, &report) != napi_ok) return nullptr;
  SetProperty(env, report, "slabs", slabs);
  SetProperty(env, report, "errors", errors == nullptr ? Undefined(env) : errors);
  SetProperty(env, report, "left", NewNumber(env, left));
  SetProperty(env, report, "blocked", NewBool(env, blocked_));
  return report;
}

bool InitStoreRequest(napi_env env, napi_value exports) {
  return Export(env, exports, "storeRequest", NewStoreRequest) && Export(env, exports, "storeRun", StoreRun) &&
         Export(env, exports, "storeFinish", StoreFinish) && Export(env, exports, "storeCancel", StoreCancel) &&
         Export(env, exports, "storeIsDone", StoreIsDone) && Export(env, exports, "storeTimes", StoreTimes);
}

}  // namespace faultless::binding
