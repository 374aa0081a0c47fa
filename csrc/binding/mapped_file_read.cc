// Reads of a mapped file that are jobs: all ranges or none (readMany), or the reads of one tick, each with an outcome
// of its own.
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "binding/byte_results.h"
#include "binding/exports.h"
#include "binding/mapped_file_handle.h"

namespace faultless::binding {

namespace {

bool ToRanges(napi_env env, napi_value value, std::vector<map::ReadRange>* ranges) {
  const double* numbers;
  size_t count;
  if (!ToDoubles(env, value, &numbers, &count)) return false;
  ranges->reserve(count / 2);
  for (size_t i = 0; i + 1 < count; i += 2) {
    ranges->push_back({static_cast<uint64_t>(numbers[i]), static_cast<uint64_t>(numbers[i + 1]), nullptr});
  }
  return true;
}

class ReadJob final : public MapJob {
 public:
  ReadJob(Map map, std::vector<map::ReadRange> ranges)
      : MapJob(std::move(map), Mode::kShared, static_cast<uint32_t>(ranges.size())), ranges_(std::move(ranges)) {}

 protected:
  Status Execute() override {
    for (map::ReadRange& range : ranges_) {
      range.length = file().Clip(range.position, range.length);
      range.target = results_.Add(range.length);
      if (range.target == nullptr) return Status::FromErrno(ENOMEM, "malloc");
    }
    return file().Read(ranges_);
  }

  napi_value Result(napi_env env) override { return results_.ToJs(env); }

 private:
  std::vector<map::ReadRange> ranges_;
  ByteResults results_;
};

constexpr uint32_t kFailed = ~uint32_t{0};

/** Reads of one job that have come to an end together. */
struct ReadPart {
  ByteResults bytes;
  std::vector<uint32_t> indexes;  // among the job's reads, of what is in `bytes`; or kFailed
  std::vector<std::pair<uint32_t, Status>> failures;
};

/**
 * Reads that have nothing to do with each other. What is in memory is answered first, where anything else has to be
 * waited for; of that the device is told all before the first is read, so that it sees them together.
 */
class ReadEachJob final : public MapJob {
 public:
  ReadEachJob(napi_env env, Map map, std::vector<map::ReadRange> ranges)
      : MapJob(std::move(map), Mode::kShared, static_cast<uint32_t>(ranges.size())),
        env_(env),
        ranges_(std::move(ranges)) {}
  ~ReadEachJob() override {
    if (on_part_ != nullptr) (void)napi_delete_reference(env_, on_part_);
  }
  bool KeepCallback(napi_value callback) { return napi_create_reference(env_, callback, 1, &on_part_) == napi_ok; }

 protected:
  Status Execute() override {
    std::vector<uint32_t> cold;
    for (uint32_t i = 0; i < ranges_.size(); i++) {
      map::ReadRange& range = ranges_[i];
      range.length = file().Clip(range.position, range.length);
      range.target = hot_.bytes.Add(range.length);
      if (range.target == nullptr) return Status::FromErrno(ENOMEM, "malloc");
      const uint64_t length = range.length;
      const Status status = file().TryRead(&range, /*may_start_reading=*/true);
      if (status.ok() && range.length == length) {
        hot_.indexes.push_back(i);
        continue;
      }
      // Whatever the matter is, the read that may wait tells.
      range.length = length;
      hot_.bytes.DropLast();
      cold.push_back(i);
    }
    if (cold.empty()) return {};
    waited_ = true;
    if (!hot_.indexes.empty()) Notify();
    return ReadCold(cold);
  }

  void OnNotice(napi_env env) override {
    napi_handle_scope scope;
    if (napi_open_handle_scope(env, &scope) != napi_ok) return;
    napi_value callback = nullptr;
    napi_value part = PartToJs(env, &hot_);
    if (part != nullptr && napi_get_reference_value(env, on_part_, &callback) == napi_ok && callback != nullptr) {
      // It fails where the environment is being terminated.
      (void)napi_call_function(env, Undefined(env), callback, 1, &part, nullptr);
    }
    bool pending = false;
    napi_value exception = nullptr;
    if (napi_is_exception_pending(env, &pending) == napi_ok && pending) {
      (void)napi_get_and_clear_last_exception(env, &exception);
    }
    (void)napi_close_handle_scope(env, scope);
  }

  /** All that had to be waited for; what was in memory has been told before. Or else everything. */
  napi_value Result(napi_env env) override { return PartToJs(env, waited_ ? &cold_ : &hot_); }

 private:
  Status ReadCold(const std::vector<uint32_t>& indexes) {
    std::vector<map::ReadRange> ranges;
    ranges.reserve(indexes.size());
    for (const uint32_t i : indexes) {
      map::ReadRange range = ranges_[i];
      range.target = cold_.bytes.Add(range.length);
      if (range.target == nullptr) return Status::FromErrno(ENOMEM, "malloc");
      ranges.push_back(range);
    }
    cold_.indexes = indexes;
    if (file().Read(ranges).ok()) return {};
    // One of them fails, and not the others for that.
    for (size_t i = 0; i < ranges.size(); i++) {
      const Status status = file().Read({&ranges[i], 1});
      if (status.ok()) continue;
      cold_.failures.emplace_back(indexes[i], status);
      cold_.indexes[i] = kFailed;
    }
    return {};
  }

  /** {results, indexes: number[], failures: [index, descriptor, …]}: see ts/mapped-file-reads.ts. */
  napi_value PartToJs(napi_env env, ReadPart* part) {
    napi_value answer = nullptr;
    napi_value indexes = nullptr;
    napi_value index_memory = nullptr;
    napi_value failures = nullptr;
    void* data = nullptr;
    napi_value results = part->bytes.ToJs(env);
    const size_t index_bytes = part->indexes.size() * sizeof(uint32_t);
    if (results == nullptr || napi_create_object(env, &answer) != napi_ok ||
        napi_create_arraybuffer(env, index_bytes, &data, &index_memory) != napi_ok ||
        napi_create_typedarray(env, napi_uint32_array, part->indexes.size(), index_memory, 0, &indexes) != napi_ok ||
        napi_create_array(env, &failures) != napi_ok) {
      return nullptr;
    }
    if (index_bytes > 0) std::memcpy(data, part->indexes.data(), index_bytes);
    uint32_t at = 0;
    for (const auto& [index, status] : part->failures) {
      if (napi_set_element(env, failures, at++, NewNumber(env, index)) != napi_ok ||
          napi_set_element(env, failures, at++, ToJs(env, status)) != napi_ok) {
        return nullptr;
      }
    }
    SetProperty(env, answer, "results", results);
    SetProperty(env, answer, "indexes", indexes);
    SetProperty(env, answer, "failures", failures);
    return answer;
  }

  const napi_env env_;
  napi_ref on_part_ = nullptr;
  std::vector<map::ReadRange> ranges_;
  ReadPart hot_;  // complete when Notify is called
  ReadPart cold_;
  bool waited_ = false;
};

/** mapRead(handle, ranges: Float64Array of position, length, position, length …): Promise<ByteResults> */
napi_value Read(napi_env env, napi_callback_info info) {
  napi_value arguments[2];
  Map map;
  std::vector<map::ReadRange> ranges;
  if (!GetArguments(env, info, 2, arguments) || !ToMap(env, arguments[0], &map) ||
      !ToRanges(env, arguments[1], &ranges)) {
    return nullptr;
  }
  return Job::Start(env, std::make_unique<ReadJob>(std::move(map), std::move(ranges)));
}

/**
 * mapReadEach(handle, ranges, onPart: (part) => void): Promise<ReadPart>: each with an outcome of its own; onPart gets
 * what was in memory where the rest has to be waited for.
 */
napi_value ReadEach(napi_env env, napi_callback_info info) {
  napi_value arguments[3];
  Map map;
  std::vector<map::ReadRange> ranges;
  if (!GetArguments(env, info, 3, arguments) || !ToMap(env, arguments[0], &map) ||
      !ToRanges(env, arguments[1], &ranges)) {
    return nullptr;
  }
  auto job = std::make_unique<ReadEachJob>(env, std::move(map), std::move(ranges));
  if (!job->KeepCallback(arguments[2])) return nullptr;
  return Job::Start(env, std::move(job));
}

}  // namespace

bool InitMappedFileRead(napi_env env, napi_value exports) {
  return Export(env, exports, "mapRead", Read) && Export(env, exports, "mapReadEach", ReadEach);
}

}  // namespace faultless::binding
