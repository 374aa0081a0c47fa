// Purpose: what the fuzz targets share: reading decisions from bytes, a file to work on, values that can be judged,
// guard pages. Thread safety: one thread per process, as libFuzzer works.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "store/store.h"

/** Ends the process where the code under test is wrong; libFuzzer keeps the input. */
#define FUZZ_REQUIRE(condition, what)                                             \
  do {                                                                            \
    if (!(condition)) {                                                           \
      fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #condition, (what)); \
      abort();                                                                    \
    }                                                                             \
  } while (false)

namespace fuzz {

using faultless::Code;
using faultless::Status;
using faultless::store::Bytes;
using faultless::store::Store;

/** Takes decisions from the fuzzer's bytes; zeros when they are used up. */
class Decisions {
 public:
  Decisions(const uint8_t* data, size_t size) : data_(data), left_(size) {}
  bool empty() const { return left_ == 0; }
  uint8_t Byte() {
    if (left_ == 0) return 0;
    left_--;
    return *data_++;
  }
  uint32_t Short() { return Byte() | uint32_t{Byte()} << 8; }
  uint64_t Word() {
    uint64_t word = 0;
    for (int i = 0; i < 8; i++) word |= uint64_t{Byte()} << (8 * i);
    return word;
  }

 private:
  const uint8_t* data_;
  size_t left_;
};

/** Words of a whole file. */
using Image = std::vector<uint64_t>;

/**
 * The path of a file of this process in memory, the same inode for as long as the process lives; removed at its end.
 * Number 0 or 1.
 */
const std::string& FilePath(int number = 0);
Image ReadImage(const std::string& path);
/** Gives the file these contents without changing its inode. */
void WriteImage(const std::string& path, const Image& image);

/**
 * Whether the files count as being on a device rather than in memory: then the rules for what a flush has promised
 * apply. (The calls that sync do nothing either way.)
 */
void SetDurable(bool durable);
/** Random numbers of the code under test are the same ones from here on. */
void SeedRandom(uint64_t seed);

inline Bytes AsBytes(const std::string& text) { return {reinterpret_cast<const uint8_t*>(text.data()), text.size()}; }

/** A value that tells its key and number, and shows damage. */
std::string MakeValue(const std::string& key, uint64_t number, uint64_t size);
/** The number; of what an increment left a large one; 0 where it is no value of that key. */
uint64_t NumberOf(const std::string& key, const std::string& value);

class StringSink final : public faultless::store::ValueSink {
 public:
  uint8_t* Allocate(uint64_t size) override {
    if (size > (uint64_t{64} << 20)) return nullptr;
    value.assign(size, '\0');
    return reinterpret_cast<uint8_t*>(value.data());
  }
  std::string value;
};

class MapSink final : public faultless::store::ScanSink {
 public:
  bool Entry(Bytes key, Bytes value) override {
    if (!entries.emplace(std::string(key.begin(), key.end()), std::string(value.begin(), value.end())).second)
      twice = true;
    return true;
  }
  std::map<std::string, std::string> entries;
  bool twice = false;
};

/** Opens with `create`, for writing unless said otherwise. */
Status OpenStore(const std::string& path, uint64_t max_bytes, bool read_only, std::shared_ptr<Store>* store,
                 bool salvage = false);

}  // namespace fuzz
