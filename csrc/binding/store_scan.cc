// Iteration: a scan keeps the engine's cursor between steps; each step hands over about as many bytes as asked for.
#include <algorithm>
#include <vector>

#include "binding/convert.h"
#include "binding/exports.h"
#include "binding/scan_column.h"
#include "binding/store_handle.h"

namespace faultless::binding {

namespace {

constexpr napi_type_tag kScanTag = {0x6661756c746c6573, 0x7363616e2e2e6831};

/**
 * What a step collects: (slab, offset, size) of key and value per entry, and the bytes. Keys lie together and values
 * lie together, so that who keeps a key does not keep values alive.
 */
class StepSink final : public store::ScanSink {
 public:
  void Begin(uint32_t limit, bool text_keys, bool text_values) {
    limit_ = limit;
    keys_.Begin(text_keys);
    values_.Begin(text_values);
    table_.clear();
    count_ = 0;
    out_of_memory_ = false;
  }

  bool Entry(store::Bytes key, store::Bytes value) override {
    ValuePlace places[2];
    if (!keys_.Append(key, &places[0]) || !values_.Append(value, &places[1])) {
      out_of_memory_ = true;
      return false;
    }
    for (const ValuePlace& place : places) table_.insert(table_.end(), {place.slab, place.offset, place.size});
    return ++count_ < limit_;
  }

  bool out_of_memory() const { return out_of_memory_; }

  /** {count, table: Uint32Array, keySlabs, valueSlabs: (string | Buffer)[], done} */
  napi_value ToJs(napi_env env, bool done) {
    napi_value result = nullptr;
    napi_value memory = nullptr;
    napi_value table = nullptr;
    void* words = nullptr;
    napi_value key_slabs = keys_.ToJs(env);
    napi_value value_slabs = values_.ToJs(env);
    if (key_slabs == nullptr || value_slabs == nullptr || napi_create_object(env, &result) != napi_ok ||
        napi_create_arraybuffer(env, table_.size() * sizeof(uint32_t), &words, &memory) != napi_ok) {
      return nullptr;
    }
    if (!table_.empty()) std::copy(table_.begin(), table_.end(), static_cast<uint32_t*>(words));
    if (napi_create_typedarray(env, napi_uint32_array, table_.size(), memory, 0, &table) != napi_ok) return nullptr;
    SetProperty(env, result, "count", NewNumber(env, count_));
    SetProperty(env, result, "table", table);
    SetProperty(env, result, "keySlabs", key_slabs);
    SetProperty(env, result, "valueSlabs", value_slabs);
    SetProperty(env, result, "done", NewBool(env, done));
    return result;
  }

  void Release() {
    keys_.Release();
    values_.Release();
    table_ = std::vector<uint32_t>();
  }

 private:
  uint32_t limit_ = 0;
  ScanColumn keys_;
  ScanColumn values_;
  std::vector<uint32_t> table_;
  uint32_t count_ = 0;
  bool out_of_memory_ = false;
};

/** One iteration; its steps never overlap (ts/ asks for the next one only after the one before). */
struct Scan {
  std::shared_ptr<StoreHandle> handle;
  std::vector<uint8_t> prefix;
  bool want_values;
  bool text_keys;
  store::ScanCursor cursor;
  StepSink sink;
  // JavaScript thread.
  bool stepping = false;
  bool ended = false;

  /** Gives memory back that would else stay until the handle is collected. */
  void ReleaseIfEnded() {
    if (stepping || !ended) return;
    cursor = {};
    sink.Release();
  }
};

struct StepArguments {
  std::shared_ptr<Scan> scan;
  uint64_t max_bytes;
  uint32_t limit;
  bool text_values;
};

/** May wait. Repeatable while it answers kWouldBlock. */
Status Step(const StepArguments& step) {
  Scan* const scan = step.scan.get();
  const StoreUse use(scan->handle.get());
  if (use.engine() == nullptr) return Code::kClosed;
  scan->sink.Begin(step.limit, scan->text_keys, step.text_values);
  FAULTLESS_TRY(use.engine()->Scan(&scan->cursor, scan->prefix, scan->want_values, step.max_bytes, &scan->sink));
  return scan->sink.out_of_memory() ? Status(Code::kValueTooLarge, "no memory for the entry") : Status();
}

class StepJob final : public Job {
 public:
  explicit StepJob(StepArguments step) : Job(step.scan->handle->lane()), step_(std::move(step)) {
    step_.scan->stepping = true;
  }
  ~StepJob() override {
    step_.scan->stepping = false;
    step_.scan->ReleaseIfEnded();
  }

 protected:
  Status Execute() override { return YieldWhileBlocked(Step(step_), &blocked_since_ns_); }
  napi_value Result(napi_env env) override { return step_.scan->sink.ToJs(env, step_.scan->cursor.done); }
  napi_value Failure(napi_env env, const Status& status) override {
    return StatusToJs(env, status, step_.scan->handle->path().c_str());
  }

 private:
  const StepArguments step_;
  uint64_t blocked_since_ns_ = 0;
};

bool ToStep(napi_env env, napi_callback_info info, StepArguments* step) {
  napi_value arguments[4];
  return GetArguments(env, info, 4, arguments) && ToShared(env, arguments[0], kScanTag, &step->scan) &&
         ToUint64(env, arguments[1], &step->max_bytes) && ToUint32(env, arguments[2], &step->limit) &&
         ToBool(env, arguments[3], &step->text_values);
}

/** storeScan(handle, prefix: Uint8Array, wantValues: boolean, textKeys: boolean): Scan */
napi_value StoreScan(napi_env env, napi_callback_info info) {
  napi_value arguments[4];
  auto scan = std::make_shared<Scan>();
  const std::byte* prefix = nullptr;
  size_t prefix_size = 0;
  if (!GetArguments(env, info, 4, arguments) || !ToStoreHandle(env, arguments[0], &scan->handle) ||
      !ToBytes(env, arguments[1], &prefix, &prefix_size) || !ToBool(env, arguments[2], &scan->want_values) ||
      !ToBool(env, arguments[3], &scan->text_keys)) {
    return nullptr;
  }
  const auto* bytes = reinterpret_cast<const uint8_t*>(prefix);
  scan->prefix.assign(bytes, bytes + prefix_size);
  return NewSharedHandle(env, std::move(scan), kScanTag);
}

/** storeScanStep(scan, maxBytes, limit, textValues): Promise<Step>: at most `limit` entries, about maxBytes of them. */
napi_value StoreScanStep(napi_env env, napi_callback_info info) {
  StepArguments step;
  if (!ToStep(env, info, &step)) return nullptr;
  return Job::Start(env, std::make_unique<StepJob>(std::move(step)));
}

/** storeScanStepSync(scan, maxBytes, limit, textValues): Step. Waits. */
napi_value StoreScanStepSync(napi_env env, napi_callback_info info) {
  StepArguments step;
  if (!ToStep(env, info, &step)) return nullptr;
  const Status status = RepeatWhileBlocked([&] { return Step(step); });
  if (!status.ok()) return ThrowStatus(env, status, step.scan->handle->path().c_str());
  return step.scan->sink.ToJs(env, step.scan->cursor.done);
}

/** storeScanEnd(scan): void. No step will be asked for any more. */
napi_value StoreScanEnd(napi_env env, napi_callback_info info) {
  napi_value argument;
  std::shared_ptr<Scan> scan;
  if (!GetArguments(env, info, 1, &argument) || !ToShared(env, argument, kScanTag, &scan)) return nullptr;
  scan->ended = true;
  scan->ReleaseIfEnded();
  return Undefined(env);
}

}  // namespace

bool InitStoreScan(napi_env env, napi_value exports) {
  return Export(env, exports, "storeScan", StoreScan) && Export(env, exports, "storeScanStep", StoreScanStep) &&
         Export(env, exports, "storeScanStepSync", StoreScanStepSync) &&
         Export(env, exports, "storeScanEnd", StoreScanEnd);
}

}  // namespace faultless::binding
