#include "binding/store_request.h"

#include <algorithm>
#include <cstring>
#include <string_view>
#include <unordered_set>

#include "binding/convert.h"
#include "binding/exports.h"
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

bool IsRead(OperationKind kind) { return kind == OperationKind::kGet || kind == OperationKind::kHas; }

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
  napi_value Result(napi_env env) override { return request_->Report(env); }

 private:
  const std::shared_ptr<StoreRequest> request_;
};

void FinalizeRequest(napi_env env, void* data, void* /*hint*/) {
  auto* request = static_cast<std::shared_ptr<StoreRequest>*>(data);
  (*request)->DropReferences(env);
  delete request;
}

bool ToRequest(napi_env env, napi_value value, std::shared_ptr<StoreRequest>* request) {
  void* data = nullptr;
  if (!ToHandlePointer(env, value, kRequestTag, &data)) return false;
  *request = *static_cast<std::shared_ptr<StoreRequest>*>(data);
  return true;
}

bool ToRequestAndIndex(napi_env env, napi_callback_info info, std::shared_ptr<StoreRequest>* request, uint32_t* index) {
  napi_value arguments[2];
  if (!GetArguments(env, info, 2, arguments) || !ToRequest(env, arguments[0], request) ||
      !ToUint32(env, arguments[1], index)) {
    return false;
  }
  return *index < (*request)->count() || ThrowMalformed(env);
}

/** storeRequest(handle, buffer, count, largeValues: Uint8Array[] | undefined): StoreRequest */
napi_value NewStoreRequest(napi_env env, napi_callback_info info) {
  napi_value arguments[4];
  std::shared_ptr<StoreHandle> handle;
  uint32_t count;
  if (!GetArguments(env, info, 4, arguments) || !ToStoreHandle(env, arguments[0], &handle) ||
      !ToUint32(env, arguments[2], &count)) {
    return nullptr;
  }
  auto request = std::make_shared<StoreRequest>(std::move(handle));
  if (!request->Parse(env, arguments[1], count, arguments[3])) {
    request->DropReferences(env);
    return nullptr;
  }
  auto* owned = new std::shared_ptr<StoreRequest>(std::move(request));
  napi_value result = NewHandle(env, owned, kRequestTag, FinalizeRequest);
  if (result == nullptr) FinalizeRequest(env, owned, nullptr);
  return result;
}

/** storeRun(request): Promise<Report>: one turn. */
napi_value StoreRun(napi_env env, napi_callback_info info) {
  napi_value argument;
  std::shared_ptr<StoreRequest> request;
  if (!GetArguments(env, info, 1, &argument) || !ToRequest(env, argument, &request)) return nullptr;
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

}  // namespace

bool StoreRequest::Parse(napi_env env, napi_value buffer, uint32_t count, napi_value large_values) {
  const std::byte* data = nullptr;
  size_t size = 0;
  if (!ToBytes(env, buffer, &data, &size)) return false;
  buffer_ = reinterpret_cast<uint8_t*>(const_cast<std::byte*>(data));

  std::vector<store::Bytes> large;
  bool has_large = false;
  if (napi_is_array(env, large_values, &has_large) == napi_ok && has_large) {
    uint32_t length = 0;
    if (napi_get_array_length(env, large_values, &length) != napi_ok) return ThrowMalformed(env);
    large.reserve(length);
    for (uint32_t i = 0; i < length; i++) {
      napi_value element = nullptr;
      const std::byte* bytes = nullptr;
      size_t bytes_size = 0;
      if (napi_get_element(env, large_values, i, &element) != napi_ok) return ThrowMalformed(env);
      if (!ToBytes(env, element, &bytes, &bytes_size)) return false;
      large.emplace_back(reinterpret_cast<const uint8_t*>(bytes), bytes_size);
    }
    if (napi_create_reference(env, large_values, 1, &large_reference_) != napi_ok) return ThrowMalformed(env);
  }
  if (napi_create_reference(env, buffer, 1, &buffer_reference_) != napi_ok) return ThrowMalformed(env);

  // A header takes kHeaderBytes: more operations than that cannot be there.
  if (count > size / kHeaderBytes) return ThrowMalformed(env);
  operations_ = std::make_unique<Operation[]>(count);
  count_ = count;
  size_t position = 0;
  for (uint32_t i = 0; i < count; i++) {
    if (size - position < kHeaderBytes) return ThrowMalformed(env);
    Operation& operation = operations_[i];
    const uint8_t* header = buffer_ + position;
    if (header[0] > static_cast<uint8_t>(OperationKind::kClear)) return ThrowMalformed(env);
    operation.kind = static_cast<OperationKind>(header[0]);
    operation.ordered = (header[1] & kFlagOrdered) != 0;
    operation.header_offset = position;
    const size_t key_size = Load16(header + 2);
    const size_t value_size = Load32(header + 4);
    position += kHeaderBytes;
    if (size - position < key_size) return ThrowMalformed(env);
    operation.key = store::Bytes(buffer_ + position, key_size);
    position += key_size;
    if ((header[1] & kFlagLarge) != 0) {
      if (value_size >= large.size()) return ThrowMalformed(env);
      operation.value = large[value_size];
    } else {
      if (size - position < value_size) return ThrowMalformed(env);
      operation.value = store::Bytes(buffer_ + position, value_size);
      position += value_size;
    }
    if (operation.kind == OperationKind::kSkip) operation.state.store(State::kCancelled, std::memory_order_relaxed);
  }
  return true;
}

void StoreRequest::DropReferences(napi_env env) {
  if (buffer_reference_ != nullptr) (void)napi_delete_reference(env, buffer_reference_);
  if (large_reference_ != nullptr) (void)napi_delete_reference(env, large_reference_);
  buffer_reference_ = nullptr;
  large_reference_ = nullptr;
}

// ───────────────────────────────────────────────────────────── running

void StoreRequest::Run() {
  const StoreUse use(handle_.get());
  blocked_ = false;
  const bool may_part = first_turn_ && count_ > 1 && handle_->tells_residency() && use.engine() != nullptr;
  first_turn_ = false;
  if (may_part && !RunHot(use.engine())) return;
  RunAll(use.engine());
}

bool StoreRequest::RunHot(store::Store* engine) {
  bool any_answered = false;
  bool any_cold = false;
  for (uint32_t i = 0; i < count_; i++) {
    Operation* operation = &operations_[i];
    if (operation->ordered || !IsRead(operation->kind)) continue;
    const std::lock_guard lock(mutex_);
    const Code code = Attempt(operation, engine, store::ReadMode::kResidentOnly);
    (code == Code::kCold || code == Code::kWouldBlock ? any_cold : any_answered) = true;
  }
  if (!any_cold) return true;
  for (uint32_t i = 0; i < count_; i++) {
    Operation* operation = &operations_[i];
    if (operation->ordered || IsRead(operation->kind) || operation->kind == OperationKind::kSkip) continue;
    const std::lock_guard lock(mutex_);
    if (Attempt(operation, engine, store::ReadMode::kMayFault) != Code::kWouldBlock) any_answered = true;
  }
  return !any_answered;  // where nothing is there to report, the rest follows at once
}

void StoreRequest::RunAll(store::Store* engine) {
  uint32_t reads = 0;
  for (uint32_t i = 0; i < count_; i++) {
    if (IsRead(operations_[i].kind) && !IsDone(i)) reads++;
  }
  // The device sees all of them at once, instead of one fault after another.
  for (uint32_t i = 0; reads > 1 && engine != nullptr && i < count_; i++) {
    if (IsRead(operations_[i].kind) && !IsDone(i)) engine->Advise(operations_[i].key);
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
  blocked_ = false;
  for (uint32_t i = 0; i < count_; i++) {
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
    const Code code = Attempt(operation, engine, store::ReadMode::kMayFault);
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
  static const std::atomic<uint32_t> never_changes{0};
  const StoreUse use(handle_.get());
  for (;;) {
    {
      const std::lock_guard lock(mutex_);
      if (Attempt(&operations_[index], use.engine(), store::ReadMode::kMayFault) != Code::kWouldBlock) return;
    }
    os::WaitOnWord(&never_changes, 0, /*timeout_us=*/1'000);
  }
}

bool StoreRequest::TryCancel(uint32_t index) {
  State expected = State::kPending;
  return operations_[index].state.compare_exchange_strong(expected, State::kCancelled, std::memory_order_acq_rel);
}

Code StoreRequest::Attempt(Operation* operation, store::Store* engine, store::ReadMode mode) {
  State expected = State::kPending;
  if (!operation->state.compare_exchange_strong(expected, State::kRunning, std::memory_order_acq_rel)) return Code::kOk;
  Status status = engine == nullptr ? Status(Code::kClosed) : Call(operation, engine, mode);
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

Status StoreRequest::Call(Operation* operation, store::Store* engine, store::ReadMode mode) {
  switch (operation->kind) {
    case OperationKind::kGet: {
      const Status status = engine->Get(operation->key, &arena_, mode);
      if (status.ok()) {
        operation->answer = arena_.Keep();
      } else {
        arena_.TakeBack();
      }
      return status;
    }
    case OperationKind::kHas:
      return engine->Has(operation->key, mode);
    case OperationKind::kSet:
      return engine->Set(operation->key, operation->value, store::WriteOptions{});
    case OperationKind::kDelete: {
      bool existed = false;
      FAULTLESS_TRY(engine->Delete(operation->key, &existed));
      return existed ? Code::kOk : Code::kAbsent;
    }
    case OperationKind::kGetMany:
      return GetMany(operation, engine);
    case OperationKind::kClear:
      return engine->Clear(&next_shard_);
    case OperationKind::kSkip:
      break;
  }
  return Code::kOk;
}

Status StoreRequest::GetMany(Operation* operation, store::Store* engine) {
  std::vector<store::Bytes> keys;
  if (!ToKeys(operation->value, &keys)) return Code::kInvalidArgValue;
  std::vector<OwnedValue> values(keys.size());
  std::vector<store::ValueSink*> sinks(keys.size());
  std::vector<Code> codes(keys.size(), Code::kAbsent);
  for (size_t i = 0; i < keys.size(); i++) sinks[i] = &values[i];
  for (size_t i = 0; keys.size() > 1 && i < keys.size(); i++) engine->Advise(keys[i]);
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
    StoreAnswer(buffer_ + operation.header_offset + 8, answer, operation.answer);
    if (answer != Answer::kFailed) continue;
    if (errors == nullptr && napi_create_array(env, &errors) != napi_ok) return nullptr;
    napi_value descriptor = StatusToJs(env, operation.status, handle_->path().c_str());
    if (descriptor == nullptr || napi_set_element(env, errors, errors_count++, NewNumber(env, i)) != napi_ok ||
        napi_set_element(env, errors, errors_count++, descriptor) != napi_ok) {
      return nullptr;
    }
  }
  if (left == 0) DropReferences(env);
  if (left == 0 && errors == nullptr && arena_.empty()) return Undefined(env);

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
         Export(env, exports, "storeIsDone", StoreIsDone);
}

}  // namespace faultless::binding
