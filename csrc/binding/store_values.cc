#include "binding/store_values.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "binding/convert.h"

namespace faultless::binding {

namespace {

constexpr uint64_t kFirstSlabBytes = 1024;

void FreeExternal(napi_env /*env*/, void* data, void* /*hint*/) { std::free(data); }

}  // namespace

void WriteFreshness(const store::Freshness& freshness, uint8_t* target) {
  const uint32_t words[4] = {freshness.slot, freshness.version, freshness.tag, 0};
  const double expires_at_ms = static_cast<double>(freshness.expires_at_ms);
  std::memcpy(target, words, sizeof words);
  std::memcpy(target + sizeof words, &expires_at_ms, sizeof expires_at_ms);
}

uint64_t ToTtl(double ttl_ms) {
  constexpr double kMost = 9'007'199'254'740'991;
  if (!(ttl_ms > 0)) return 0;
  return static_cast<uint64_t>(std::ceil(std::min(ttl_ms, kMost)));
}

bool ValueArena::PushSlab(uint64_t capacity, bool shared) {
  auto* bytes = static_cast<uint8_t*>(std::malloc(std::max<uint64_t>(capacity, 1)));
  if (bytes == nullptr) return false;
  slabs_.push_back(Slab{MallocBytes(bytes), bytes, capacity, 0, shared});
  return true;
}

bool ValueArena::HasRoom(uint64_t size) const {
  if (shared_ == kNone) return false;
  const Slab& slab = slabs_[shared_];
  return slab.used + size <= (slab.bytes == nullptr ? slab.capacity : kSlabBytes);
}

uint8_t* OwnedValue::Allocate(uint64_t size) {
  if (size > UINT32_MAX) return nullptr;
  bytes_.reset(static_cast<uint8_t*>(std::malloc(std::max<uint64_t>(size, 1))));
  size_ = size;
  return bytes_.get();
}

void ValueArena::TakeBack() {
  // Memory of its own was pushed last; in a shared slab nothing counts before it is kept.
  if (begun_ && !slabs_[current_].shared) slabs_.pop_back();
  begun_ = false;
}

uint8_t* ValueArena::Allocate(uint64_t size) {
  TakeBack();
  if (size > UINT32_MAX) return nullptr;
  const bool own = size >= kOwnMemoryBytes;
  if (own) {
    if (!PushSlab(size, /*shared=*/false)) return nullptr;
    current_ = slabs_.size() - 1;
  } else {
    if (!HasRoom(size)) {
      if (shared_ == kNone && lent_ != nullptr && size <= lent_capacity_) {
        slabs_.push_back(Slab{nullptr, lent_, lent_capacity_, 0, /*shared=*/true});
      } else if (!PushSlab(shared_ == kNone ? std::max(size, kFirstSlabBytes) : kSlabBytes, /*shared=*/true)) {
        return nullptr;  // the first one starts small: most requests carry little
      }
      shared_ = slabs_.size() - 1;
    }
    Slab& slab = slabs_[shared_];
    if (slab.used + size > slab.capacity) {
      const uint64_t capacity = std::min<uint64_t>(std::max(slab.capacity * 2, slab.used + size), kSlabBytes);
      auto* bytes = static_cast<uint8_t*>(std::realloc(slab.bytes.get(), capacity));
      if (bytes == nullptr) return nullptr;
      (void)slab.bytes.release();
      slab.bytes.reset(bytes);
      slab.data = bytes;
      slab.capacity = capacity;
    }
    current_ = shared_;
  }
  current_size_ = size;
  begun_ = true;
  return slabs_[current_].data + slabs_[current_].used;
}

ValuePlace ValueArena::Keep() {
  if (!begun_) return ValuePlace{};
  begun_ = false;
  Slab& slab = slabs_[current_];
  const ValuePlace place{static_cast<uint32_t>(current_), static_cast<uint32_t>(slab.used),
                         static_cast<uint32_t>(current_size_)};
  slab.used += current_size_;
  size_bytes_ += current_size_;
  return place;
}

bool ValueArena::Append(store::Bytes bytes, ValuePlace* place) {
  uint8_t* target = Allocate(bytes.size());
  if (target == nullptr) return false;
  if (!bytes.empty()) std::memcpy(target, bytes.data(), bytes.size());
  *place = Keep();
  return true;
}

bool ValueArena::Adopt(OwnedValue* value, ValuePlace* place) {
  if (value->size_ < kOwnMemoryBytes) return Append(store::Bytes(value->bytes_.get(), value->size_), place);
  TakeBack();
  uint8_t* data = value->bytes_.get();
  slabs_.push_back(Slab{std::move(value->bytes_), data, value->size_, value->size_, /*shared=*/false});
  size_bytes_ += value->size_;
  *place = ValuePlace{static_cast<uint32_t>(slabs_.size() - 1), 0, static_cast<uint32_t>(value->size_)};
  return true;
}

void ValueArena::Clear() {
  slabs_.clear();
  shared_ = kNone;
  size_bytes_ = 0;
  begun_ = false;
}

napi_value ValueArena::ToJs(napi_env env) {
  napi_value array = nullptr;
  if (napi_create_array_with_length(env, slabs_.size(), &array) != napi_ok) return nullptr;
  for (uint32_t i = 0; i < slabs_.size(); i++) {
    Slab& slab = slabs_[i];
    if (slab.bytes == nullptr) continue;
    napi_value buffer = nullptr;
    napi_status status = napi_generic_failure;
    if (!slab.shared && slab.used == slab.capacity && slab.used > 0) {
      status = napi_create_external_buffer(env, slab.used, slab.bytes.get(), FreeExternal, nullptr, &buffer);
      if (status == napi_ok) (void)slab.bytes.release();
    }
    // Slabs are copied: that costs less than a finalizer each. So are large values where no memory of ours is taken.
    if (status != napi_ok) {
      status = napi_create_buffer_copy(env, slab.used, slab.bytes.get(), nullptr, &buffer);
    }
    if (status != napi_ok || napi_set_element(env, array, i, buffer) != napi_ok) return nullptr;
  }
  Clear();
  return array;
}

}  // namespace faultless::binding
