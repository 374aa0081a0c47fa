#include "binding/store_batch.h"

#include <cstring>
#include <vector>

#include "binding/store_values.h"

namespace faultless::binding {

namespace {

constexpr size_t kEntryHeaderBytes = 16;

template <typename T>
T Load(const uint8_t* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

bool ToEntries(store::Bytes list, store::Store* engine, std::vector<store::BatchEntry>* entries) {
  while (!list.empty()) {
    if (list.size() < kEntryHeaderBytes) return false;
    const uint8_t kind = list[0];
    const size_t key_bytes = Load<uint16_t>(&list[2]);
    const size_t value_bytes = Load<uint32_t>(&list[4]);
    const uint64_t ttl_ms = ToTtl(Load<double>(&list[8]));
    list = list.subspan(kEntryHeaderBytes);
    if (kind > static_cast<uint8_t>(store::BatchEntry::Kind::kExpectAbsent) || list.size() < key_bytes ||
        list.size() - key_bytes < value_bytes) {
      return false;
    }
    entries->push_back({static_cast<store::BatchEntry::Kind>(kind), list.first(key_bytes),
                        list.subspan(key_bytes, value_bytes), engine->ExpiryAfter(ttl_ms)});
    list = list.subspan(key_bytes + value_bytes);
  }
  return true;
}

}  // namespace

Status CommitBatchOf(store::Bytes list, store::Store* engine) {
  std::vector<store::BatchEntry> entries;
  if (!ToEntries(list, engine, &entries)) return Code::kInvalidArgValue;
  bool done = false;
  FAULTLESS_TRY(engine->CommitBatch(entries, &done));
  return done ? Code::kOk : Code::kAbsent;
}

}  // namespace faultless::binding
