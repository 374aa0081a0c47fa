// Iteration: a scan keeps the engine's cursor between steps; each step hands over about as many bytes as asked for.
#include <algorithm>
#include <vector>

#include "binding/convert.h"
#include "binding/exports.h"
#include "binding/store_handle.h"
#include "binding/store_values.h"

namespace faultless::binding {

namespace {

constexpr napi_type_tag kScanTag = {0x6661756c746c6573, 0x7363616e2e2e6831};

/** One iteration; its steps never overlap (ts/ asks for the next one only after the one before). */
struct Scan {
  std::shared_ptr<StoreHandle> handle;
  std::vector<uint8_t> prefix;
  bool want_values;
  store::ScanCursor cursor;
};

/** What a step collects: (slab, offset, size) of key and value per entry, and the bytes. */
class StepSink final : public store::ScanSink {
 public:
  explicit StepSink(uint32_t limit) : limit_(limit) {}

  bool Entry(store::Bytes key, store::Bytes value) override {
    ValuePlace places[2];
    if (!arena_.Append(key, &places[0]) || !arena_.Append(value, &places[1])) {
      out_of_memory_ = true;
      return false;
    }
    for (const ValuePlace& place : places) table_.insert(table_.end(), {place.slab, place.offset, place.size});
    return ++count_ < limit_;
  }

  bool out_of_memory() const { return out_of_memory_; }
  void Clear() {
    arena_.Clear();
    table_.clear();
    count_ = 0;
  }

  /** {count, table: Uint32Array, slabs: Buffer[], done} */
  napi_value ToJs(napi_env env, bool done) {
    napi_value result = nullptr;
    napi_value memory = nullptr;
    napi_value table = nullptr;
    void* words = nullptr;
    napi_value slabs = arena_.ToJs(env);
    if (slabs == nullptr || napi_create_object(env, &result) != napi_ok ||
        napi_create_arraybuffer(env, table_.size() * sizeof(uint32_t), &words, &memory) != napi_ok) {
      return nullptr;
    }
    if (!table_.empty()) std::copy(table_.begin(), table_.end(), static_cast<uint32_t*>(words));
    if (napi_create_typedarray(env, napi_uint32_array, table_.size(), memory, 0, &table) != napi_ok) return nullptr;
    SetProperty(env, result, "count", NewNumber(env, count_));
    SetProperty(env, result, "table", table);
    SetProperty(env, result, "slabs", slabs);
    SetProperty(env, result, "done", NewBool(env, done));
    return result;
  }

 private:
  const uint32_t limit_;
  ValueArena arena_;
  std::vector<uint32_t> table_;
  uint32_t count_ = 0;
  bool out_of_memory_ = false;
};

/** May wait. Repeatable while it answers kWouldBlock. */
Status Step(Scan* scan, uint64_t max_bytes, StepSink* sink) {
  const StoreUse use(scan->handle.get());
  if (use.engine() == nullptr) return Code::kClosed;
  sink->Clear();
  FAULTLESS_TRY(use.engine()->Scan(&scan->cursor, scan->prefix, scan->want_values, max_bytes, sink));
  return sink->out_of_memory() ? Status(Code::kValueTooLarge, "no memory for the entry") : Status();
}

class StepJob final : public Job {
 public:
  StepJob(std::shared_ptr<Scan> scan, uint64_t max_bytes, uint32_t limit)
      : Job(scan->handle->lane()), scan_(std::move(scan)), max_bytes_(max_bytes), sink_(limit) {}

 protected:
  Status Execute() override { return YieldWhileBlocked(Step(scan_.get(), max_bytes_, &sink_), &blocked_since_ns_); }
  napi_value Result(napi_env env) override { return sink_.ToJs(env, scan_->cursor.done); }
  napi_value Failure(napi_env env, const Status& status) override {
    return StatusToJs(env, status, scan_->handle->path().c_str());
  }

 private:
  const std::shared_ptr<Scan> scan_;
  const uint64_t max_bytes_;
  StepSink sink_;
  uint64_t blocked_since_ns_ = 0;
};

void FinalizeScan(napi_env /*env*/, void* data, void* /*hint*/) { delete static_cast<std::shared_ptr<Scan>*>(data); }

bool ToScan(napi_env env, const napi_value* arguments, std::shared_ptr<Scan>* scan, uint64_t* max_bytes,
            uint32_t* limit) {
  void* data = nullptr;
  if (!ToHandlePointer(env, arguments[0], kScanTag, &data) || !ToUint64(env, arguments[1], max_bytes) ||
      !ToUint32(env, arguments[2], limit)) {
    return false;
  }
  *scan = *static_cast<std::shared_ptr<Scan>*>(data);
  return true;
}

/** storeScan(handle, prefix: Uint8Array, wantValues: boolean): Scan */
napi_value StoreScan(napi_env env, napi_callback_info info) {
  napi_value arguments[3];
  auto scan = std::make_shared<Scan>();
  const std::byte* prefix = nullptr;
  size_t prefix_size = 0;
  if (!GetArguments(env, info, 3, arguments) || !ToStoreHandle(env, arguments[0], &scan->handle) ||
      !ToBytes(env, arguments[1], &prefix, &prefix_size) || !ToBool(env, arguments[2], &scan->want_values)) {
    return nullptr;
  }
  const auto* bytes = reinterpret_cast<const uint8_t*>(prefix);
  scan->prefix.assign(bytes, bytes + prefix_size);
  auto* owned = new std::shared_ptr<Scan>(std::move(scan));
  napi_value result = NewHandle(env, owned, kScanTag, FinalizeScan);
  if (result == nullptr) delete owned;
  return result;
}

/** storeScanStep(scan, maxBytes, limit): Promise<Step>: at most `limit` entries, about maxBytes of them. */
napi_value StoreScanStep(napi_env env, napi_callback_info info) {
  napi_value arguments[3];
  std::shared_ptr<Scan> scan;
  uint64_t max_bytes;
  uint32_t limit;
  if (!GetArguments(env, info, 3, arguments) || !ToScan(env, arguments, &scan, &max_bytes, &limit)) return nullptr;
  return Job::Start(env, std::make_unique<StepJob>(std::move(scan), max_bytes, limit));
}

/** storeScanStepSync(scan, maxBytes, limit): Step. Waits. */
napi_value StoreScanStepSync(napi_env env, napi_callback_info info) {
  napi_value arguments[3];
  std::shared_ptr<Scan> scan;
  uint64_t max_bytes;
  uint32_t limit;
  if (!GetArguments(env, info, 3, arguments) || !ToScan(env, arguments, &scan, &max_bytes, &limit)) return nullptr;
  StepSink sink(limit);
  const Status status = RepeatWhileBlocked([&] { return Step(scan.get(), max_bytes, &sink); });
  if (!status.ok()) return ThrowStatus(env, status, scan->handle->path().c_str());
  return sink.ToJs(env, scan->cursor.done);
}

}  // namespace

bool InitStoreScan(napi_env env, napi_value exports) {
  return Export(env, exports, "storeScan", StoreScan) && Export(env, exports, "storeScanStep", StoreScanStep) &&
         Export(env, exports, "storeScanStepSync", StoreScanStepSync);
}

}  // namespace faultless::binding
