// A whole store beside a std::map: operations from the fuzzer's bytes, with reopening, and with copies made while it is
// open, which must recover to the same contents. Source: the idea of RocksDB's db_map_fuzzer.
#include <unistd.h>

#include <set>

#include "fuzz_fixture.h"

namespace {

using namespace fuzz;
using faultless::store::ReadMode;

constexpr uint64_t kMaxBytes = uint64_t{8} << 20;
constexpr int kMaxOperations = 3000;

/** With FUZZ_TRACE in the environment: what is done, for somebody who looks into a failure. */
void Trace(const char* what, const std::string& key, uint64_t number) {
  static const bool wanted = ::getenv("FUZZ_TRACE") != nullptr;
  if (wanted)
    fprintf(stderr, "%s %02x… (%zu) %llu\n", what, static_cast<uint8_t>(key[0]), key.size(),
            static_cast<unsigned long long>(number));
}

class Model {
 public:
  explicit Model(Decisions* decisions) : decisions_(*decisions) {
    const uint8_t options = decisions_.Byte();
    durable_ = (options & 1) != 0;
    SetDurable(durable_);
    SeedRandom(options);
    for (int i = 0; i < 2; i++) ::unlink(FilePath(i).c_str());
    Reopen();
  }

  ~Model() {
    CheckAll();
    FUZZ_REQUIRE(store_->Close().ok(), "close");
  }

  void Step() {
    const uint8_t operation = decisions_.Byte();
    switch (operation % 16) {
      case 0:
      case 1:
      case 2:
      case 3:
        SetOne(NextKey(), 8 + decisions_.Byte());
        break;
      case 4:
        SetOne(NextKey(), decisions_.Short());
        break;
      case 5:
        SetOne(NextKey(), 65'536 + uint64_t{decisions_.Byte()} * 4'001);
        break;
      case 6: {  // many, so that segments split and extents follow each other
        const int count = decisions_.Byte() * 4;
        const uint64_t size = uint64_t{decisions_.Byte()} * 16;
        for (int i = 0; i < count; i++) SetOne("many" + std::to_string(i), size);
        break;
      }
      case 7: {
        const int count = decisions_.Byte() * 4;
        for (int i = 0; i < count; i++) DeleteOne("many" + std::to_string(i));
        break;
      }
      case 8:
      case 9:
        DeleteOne(NextKey());
        break;
      case 10:
        GetOne(NextKey());
        break;
      case 11:
        DependOnOne(NextKey());
        break;
      case 12:
        Flush();
        break;
      case 13: {
        if (decisions_.Byte() % 4 != 0) break;
        Trace("clear", "", 0);
        faultless::store::ClearProgress shard;
        FUZZ_REQUIRE(store_->Clear(&shard).ok(), "clear");
        for (const auto& [key, value] : map_) Remember(key);
        map_.clear();
        break;
      }
      case 14:
        CheckAll();
        break;
      case 15:
        if (decisions_.Byte() % 2 == 0) {
          Trace("reopen", "", 0);
          history_.clear();
          FUZZ_REQUIRE(store_->Close().ok(), "close");
          Reopen();
        } else {
          GoOnWithACopy(decisions_.Byte() % 2 == 0);
        }
        CheckAll();
        break;
    }
  }

 private:
  std::string NextKey() {
    const uint8_t byte = decisions_.Byte();
    if (byte >= 250) return std::string(1 + byte % 250 * 13'000, static_cast<char>(decisions_.Byte()));
    return std::string(1, static_cast<char>(byte));
  }

  void Reopen() { FUZZ_REQUIRE(OpenStore(FilePath(current_), kMaxBytes, false, &store_).ok(), "open"); }

  void SetOne(const std::string& key, uint64_t size) {
    const std::string value = MakeValue(key, ++number_, size);
    Trace("set", key, size);
    const Status status = store_->Set(AsBytes(key), AsBytes(value), {});
    FUZZ_REQUIRE(status.ok() || status.code() == Code::kStoreFull,
                 status.message() == nullptr ? "set" : status.message());
    if (!status.ok()) return;
    Remember(key);
    map_[key] = value;
  }

  /** A write that depends on what the key holds, or one whose value has expired when it comes. */
  void DependOnOne(const std::string& key) {
    const auto found = map_.find(key);
    const bool there = found != map_.end();
    const uint8_t choice = decisions_.Byte();
    Status status;
    switch (choice % 4) {
      case 0: {
        const std::string held = there ? found->second : std::string();
        const bool right = choice % 8 == 0;
        const std::string other = key + "!";
        const Bytes expected = AsBytes(right ? held : other);
        const bool expects = !right || there;
        const std::string value = MakeValue(key, ++number_, uint64_t{decisions_.Byte()} * (choice < 32 ? 1000 : 1));
        const Bytes wanted = AsBytes(value);
        const bool deletes = choice >= 224;
        Trace(right ? "swap" : "swap refused", key, number_);
        bool done = false;
        status =
            store_->CompareAndSet(AsBytes(key), expects ? &expected : nullptr, deletes ? nullptr : &wanted, {}, &done);
        FUZZ_REQUIRE(!status.ok() || done == right, "whether it was swapped");
        if (!status.ok() || !done) break;
        Remember(key);
        if (deletes)
          map_.erase(key);
        else
          map_[key] = value;
        break;
      }
      case 1: {
        Trace("increment", key, choice);
        double sum = 0;
        status = store_->Increment(AsBytes(key), choice, {}, &sum);
        const bool is_number = there && found->second.size() == faultless::store::kNumberBytes &&
                               found->second[0] == faultless::store::kNumberMark;
        FUZZ_REQUIRE((status.code() == Code::kNotANumber) == (there && !is_number), "whether it is a number");
        if (status.code() == Code::kNotANumber) return;
        if (!status.ok()) break;
        Remember(key);
        std::string value(faultless::store::kNumberBytes, static_cast<char>(faultless::store::kNumberMark));
        std::memcpy(value.data() + 1, &sum, sizeof sum);
        FUZZ_REQUIRE(sum >= choice, "a sum");
        map_[key] = value;
        break;
      }
      case 2: {
        Trace("touch", key, choice);
        bool existed = false;
        status = store_->Touch(AsBytes(key), {choice % 8 == 2 ? store_->ExpiryAfter(1'000'000'000) : 0}, &existed);
        FUZZ_REQUIRE(!status.ok() || existed == there, "whether a touched key was there");
        break;
      }
      case 3: {
        Trace("set, expired", key, choice);
        const std::string value = MakeValue(key, ++number_, uint64_t{choice} * (choice < 128 ? 1 : 700));
        status = store_->Set(AsBytes(key), AsBytes(value), {1});
        if (!status.ok()) break;
        expired_ = true;
        Remember(key);
        map_.erase(key);
        break;
      }
    }
    FUZZ_REQUIRE(status.ok() || status.code() == Code::kStoreFull,
                 status.message() == nullptr ? "a write that depends" : status.message());
  }

  void DeleteOne(const std::string& key) {
    Trace("delete", key, 0);
    bool existed = false;
    const Status status = store_->Delete(AsBytes(key), &existed);
    FUZZ_REQUIRE(status.ok(), status.message() == nullptr ? "delete" : status.message());
    if (map_.contains(key)) Remember(key);
    FUZZ_REQUIRE(existed == (map_.erase(key) == 1), "whether a deleted key was there");
  }

  void GetOne(const std::string& key) {
    for (const ReadMode mode : {ReadMode::kResidentOnly, ReadMode::kMayFault}) {
      StringSink sink;
      const Status status = store_->Get(AsBytes(key), &sink, mode);
      if (status.code() == Code::kCold && mode == ReadMode::kResidentOnly) continue;
      const auto found = map_.find(key);
      if (found == map_.end()) {
        FUZZ_REQUIRE(status.code() == Code::kAbsent, "an absent key");
      } else {
        FUZZ_REQUIRE(status.ok() && sink.value == found->second, "a value");
      }
    }
  }

  void CheckAll() {
    MapSink all;
    faultless::store::ScanCursor cursor;
    while (!cursor.done) FUZZ_REQUIRE(store_->Scan(&cursor, {}, true, 100'000, &all).ok(), "scan");
    for (const auto& [key, value] : all.entries) {
      if (!map_.contains(key)) Trace("too much:", key, NumberOf(key, value));
    }
    for (const auto& [key, value] : map_) {
      const auto found = all.entries.find(key);
      if (found == all.entries.end())
        Trace("missing:", key, NumberOf(key, value));
      else if (found->second != value)
        Trace("another value, wanted number", key, NumberOf(key, value));
    }
    FUZZ_REQUIRE(!all.twice && all.entries == map_, "iteration");
    FUZZ_REQUIRE(expired_ ? store_->Size() >= map_.size() : store_->Size() == map_.size(), "size");
  }

  /** A change: what the key was is allowed to come back until the next flush. */
  void Remember(const std::string& key) {
    const auto found = map_.find(key);
    history_[key].insert(found == map_.end() ? 0 : NumberOf(key, found->second));
  }

  /**
   * As after a power cut that lost no byte, for the copy is another inode: what the last completed flush covered is
   * there, and of each key nothing older than that. Without a device (nothing waits in limbo) nothing comes back.
   */
  void GoOnWithACopy(bool flush) {
    Trace(flush ? "flush, copy" : "copy", "", 0);
    if (flush) Flush();
    const Image image = ReadImage(FilePath(current_));
    FUZZ_REQUIRE(store_->Close().ok(), "close");
    current_ = 1 - current_;
    ::unlink(FilePath(current_).c_str());
    WriteImage(FilePath(current_), image);
    Reopen();
    if (!durable_) history_.clear();
    MapSink all;
    faultless::store::ScanCursor cursor;
    while (!cursor.done) FUZZ_REQUIRE(store_->Scan(&cursor, {}, true, 100'000, &all).ok(), "scan");
    for (const auto& [key, value] : map_) history_[key].insert(NumberOf(key, value));
    for (const auto& [key, value] : all.entries) {
      FUZZ_REQUIRE(history_.contains(key) && history_[key].contains(NumberOf(key, value)),
                   "a value that was not there");
    }
    for (const auto& [key, numbers] : history_) {
      FUZZ_REQUIRE(all.entries.contains(key) || numbers.contains(0) || !map_.contains(key), "a key is lost");
    }
    map_ = std::move(all.entries);
    history_.clear();
  }

  void Flush() {
    FUZZ_REQUIRE(store_->Flush().ok(), "flush");
    history_.clear();
  }

  Decisions& decisions_;
  std::shared_ptr<Store> store_;
  std::map<std::string, std::string> map_;
  std::map<std::string, std::set<uint64_t>> history_;  // numbers of each key since the last flush, 0: absent
  bool durable_ = false;
  uint64_t number_ = 0;
  bool expired_ = false;  // something has been written that had expired by then
  int current_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Decisions decisions(data, size);
  Model model(&decisions);
  for (int i = 0; i < kMaxOperations && !decisions.empty(); i++) model.Step();
  return 0;
}
