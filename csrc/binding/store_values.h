// Purpose: bytes that the engine hands out, on their way to JavaScript: small values share slabs, a large one has
// memory of its own, so that a Buffer that is kept never keeps much more alive than itself.
//
// Thread safety: filled by one thread at a time; ToJs on the JavaScript thread, when nobody fills any more.
// Ownership: owns the bytes until ToJs gives them to JavaScript.
#pragma once

#include <node_api.h>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

#include "store/store.h"

namespace faultless::binding {

/** Where bytes lie: in which slab, counted since the last ToJs, and where in it. */
struct ValuePlace {
  uint32_t slab = 0;
  uint32_t offset = 0;
  uint32_t size = 0;
};

/** How a store::Freshness reaches JavaScript: slot, version and tag as 32-bit words, four bytes of nothing, the expiry
 * as a double. */
constexpr size_t kFreshnessBytes = 24;
void WriteFreshness(const store::Freshness& freshness, uint8_t* target);

/** Milliseconds to live as JavaScript gives them: a part of one counts as one. 0: none. */
uint64_t ToTtl(double ttl_ms);

struct FreeBytes {
  void operator()(uint8_t* bytes) const { std::free(bytes); }
};
using MallocBytes = std::unique_ptr<uint8_t, FreeBytes>;

/** One value in memory of its own: for reads of several keys at a time. */
class OwnedValue final : public store::ValueSink {
 public:
  uint8_t* Allocate(uint64_t size) override;

 private:
  friend class ValueArena;
  MallocBytes bytes_;
  uint64_t size_ = 0;
};

class ValueArena final : public store::ValueSink {
 public:
  /** A slab's size: at most this is kept alive by a slice of it. */
  static constexpr uint32_t kSlabBytes = 64 * 1024;
  /** From here on a value has memory of its own. */
  static constexpr uint64_t kOwnMemoryBytes = 16 * 1024;

  ValueArena() = default;
  ValueArena(const ValueArena&) = delete;
  ValueArena& operator=(const ValueArena&) = delete;

  /** Memory of somebody else's that takes the first small values after each ToJs, and outlives the arena's use of it.
   */
  void Lend(uint8_t* bytes, uint64_t capacity) {
    lent_ = bytes;
    lent_capacity_ = capacity;
  }
  /** The engine may call it again for the same value: the last one counts. nullptr where there is no memory. */
  uint8_t* Allocate(uint64_t size) override;
  /** What Allocate gave last stays; without it the next Allocate, or TakeBack, takes that place back. */
  ValuePlace Keep();
  void TakeBack();
  /** Copies bytes in, as one value. False where there is no memory. */
  bool Append(store::Bytes bytes, ValuePlace* place);
  /** Takes a value over, without a copy where it is large. False where there is no memory. */
  bool Adopt(OwnedValue* value, ValuePlace* place);

  /** Bytes kept so far and not yet given away. */
  uint64_t size_bytes() const { return size_bytes_; }
  /** Whether all values kept are in memory that was lent. */
  bool only_lent() const { return slabs_.empty() || (slabs_.size() == 1 && slabs_[0].bytes == nullptr); }
  /** Drops everything that was not given away. */
  void Clear();
  /**
   * An array: of each slab since the last ToJs a Buffer, which is JavaScript's from now on, or undefined where it is
   * the lent memory. nullptr where that fails.
   */
  napi_value ToJs(napi_env env);

 private:
  struct Slab {
    MallocBytes bytes;  // nullptr: lent
    uint8_t* data;
    uint64_t capacity;
    uint64_t used;  // kept
    bool shared;    // takes further values
  };

  bool HasRoom(uint64_t size) const;
  bool PushSlab(uint64_t capacity, bool shared);

  static constexpr size_t kNone = ~size_t{0};

  std::vector<Slab> slabs_;
  uint8_t* lent_ = nullptr;
  uint64_t lent_capacity_ = 0;
  size_t shared_ = kNone;  // the slab that takes further small values
  uint64_t size_bytes_ = 0;
  size_t current_ = 0;         // slab of the value begun
  uint64_t current_size_ = 0;  // of the value begun
  bool begun_ = false;         // Allocate has given memory that is neither kept nor taken back
};

}  // namespace faultless::binding
