// Purpose: what the native tests of the store share.
#pragma once

#include <stdlib.h>

#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>

#include "harness.h"
#include "store/store.h"

namespace store_test {

using faultless::Code;
using faultless::Status;
using faultless::store::Bytes;
using faultless::store::OpenOptions;
using faultless::store::ReadMode;
using faultless::store::Store;

inline Bytes AsBytes(const std::string& text) { return {reinterpret_cast<const uint8_t*>(text.data()), text.size()}; }

class StringSink final : public faultless::store::ValueSink {
 public:
  uint8_t* Allocate(uint64_t size) override {
    value.assign(size, '\0');
    return reinterpret_cast<uint8_t*>(value.data());
  }
  std::string value;
};

/** Of this process's random numbers: FAULTLESS_SEED, or a new one. */
inline uint64_t Seed() {
  const char* const given = ::getenv("FAULTLESS_SEED");
  static const uint64_t seed = given != nullptr ? std::stoull(given) : std::random_device{}();
  return seed;
}

/** kWouldBlock is an invitation to come again. */
template <typename Call>
Status Patiently(const Call& call) {
  while (true) {
    const Status status = call();
    if (status.code() != Code::kWouldBlock) return status;
  }
}

/** All the steps of a verification, a compaction or a backup, whose progress never goes back. */
template <typename Work>
Status RunToEnd(Work& work) {
  uint64_t before = 0;
  while (!work.done()) {
    const Status status = Patiently([&] { return work.Step(); });
    if (!status.ok()) return status;
    uint64_t done;
    uint64_t total;
    work.Progress(&done, &total);
    EXPECT_TRUE(done >= before && done <= total) << done << before << total;
    before = done;
  }
  return Code::kOk;
}

inline std::shared_ptr<Store> Open(const std::string& path, uint64_t max_bytes = uint64_t{1} << 30) {
  OpenOptions options;
  options.path = path;
  options.kept.max_bytes = max_bytes;
  std::shared_ptr<Store> store;
  EXPECT_OK(Store::Open(options, &store));
  return store;
}

inline Status OpenWith(const std::string& path, const std::function<void(OpenOptions*)>& change,
                       std::shared_ptr<Store>* store) {
  OpenOptions options;
  options.path = path;
  if (change) change(&options);
  return Store::Open(options, store);
}

inline Status Set(Store& store, const std::string& key, const std::string& value) {
  return Patiently([&] { return store.Set(AsBytes(key), AsBytes(value), {}); });
}

inline Status Delete(Store& store, const std::string& key, bool* existed) {
  return Patiently([&] { return store.Delete(AsBytes(key), existed); });
}

inline Status Get(Store& store, const std::string& key, std::string* value, ReadMode mode = ReadMode::kMayFault) {
  StringSink sink;
  const Status status = Patiently([&] { return store.Get(AsBytes(key), &sink, mode); });
  *value = std::move(sink.value);
  return status;
}

inline Status Clear(Store& store) {
  faultless::store::ClearProgress progress;
  return Patiently([&] { return store.Clear(&progress); });
}

class MapSink final : public faultless::store::ScanSink {
 public:
  bool Entry(Bytes key, Bytes value) override {
    const std::string name(key.begin(), key.end());
    if (!entries.emplace(name, std::string(value.begin(), value.end())).second) twice = true;
    return true;
  }
  std::map<std::string, std::string> entries;
  bool twice = false;
};

inline void ScanAll(Store& store, MapSink* sink, const std::string& prefix = "", uint64_t step_bytes = 64 * 1024) {
  faultless::store::ScanCursor cursor;
  while (!cursor.done) {
    ASSERT_OK(Patiently([&] { return store.Scan(&cursor, AsBytes(prefix), true, step_bytes, sink); }));
  }
}

}  // namespace store_test
