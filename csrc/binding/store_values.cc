#include "binding/store_values.h"

#include <algorithm>
#include <cstring>

#include "binding/convert.h"

namespace faultless::binding {

namespace {

constexpr uint64_t kFirstSlabBytes = 1024;

void FreeExternal(napi_env /*env*/, void* data, void* /*hint*/) { std::free(data); }

}  // namespace

bool ValueArena::PushSlab(uint64_t capacity, bool shared) {
  auto* bytes = static_cast<uint8_t*>(std::malloc(std::max<uint64_t>(capacity, 1)));
  if (bytes == nullptr) return false;
  slabs_.push_back(Slab{MallocBytes(bytes), capacity, 0, shared});
  return true;
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
    if (shared_ == kNone || slabs_[shared_].used + size > kSlabBytes) {
      // The first one starts small: most requests carry little.
      if (!PushSlab(shared_ == kNone ? std::max(size, kFirstSlabBytes) : kSlabBytes, /*shared=*/true)) return nullptr;
      shared_ = slabs_.size() - 1;
    }
    Slab& slab = slabs_[shared_];
    if (slab.used + size > slab.capacity) {
      const uint64_t capacity = std::min<uint64_t>(std::max(slab.capacity * 2, slab.used + size), kSlabBytes);
      auto* bytes = static_cast<uint8_t*>(std::realloc(slab.bytes.get(), capacity));
      if (bytes == nullptr) return nullptr;
      (void)slab.bytes.release();
      slab.bytes.reset(bytes);
      slab.capacity = capacity;
    }
    current_ = shared_;
  }
  current_size_ = size;
  begun_ = true;
  return slabs_[current_].bytes.get() + slabs_[current_].used;
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
  slabs_.push_back(Slab{std::move(value->bytes_), value->size_, value->size_, /*shared=*/false});
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
