#include "binding/byte_results.h"

#include <cstdlib>
#include <cstring>

namespace faultless::binding {

namespace {

constexpr double kAbsent = -1;
constexpr size_t kNoSlab = ~size_t{0};

void FreeChunk(napi_env /*env*/, void* /*data*/, void* memory) { std::free(memory); }

}  // namespace

ByteResults::~ByteResults() {
  for (const Chunk& chunk : chunks_) std::free(chunk.data);
}

std::byte* ByteResults::Add(size_t size) {
  if (size <= kMaxSharedBytes) {
    Chunk* slab = SlabFor(size);
    if (slab == nullptr) return nullptr;
    std::byte* data = slab->data + slab->size;
    results_.push_back({static_cast<double>(slab_), static_cast<double>(slab->size), static_cast<double>(size)});
    slab->size += size;
    return data;
  }
  auto* data = static_cast<std::byte*>(std::malloc(size));
  if (data == nullptr) return nullptr;
  results_.push_back({static_cast<double>(chunks_.size()), 0, static_cast<double>(size)});
  chunks_.push_back({data, size, /*slab=*/false});
  return data;
}

ByteResults::Chunk* ByteResults::SlabFor(size_t size) {
  if (slab_ != kNoSlab && chunks_[slab_].size + size <= kSlabBytes) return &chunks_[slab_];
  auto* data = static_cast<std::byte*>(std::malloc(kSlabBytes));
  if (data == nullptr) return nullptr;
  slab_ = chunks_.size();
  chunks_.push_back({data, 0, /*slab=*/true});
  return &chunks_[slab_];
}

void ByteResults::DropLast() {
  const Result last = results_.back();
  results_.pop_back();
  if (last.chunk == kAbsent) return;
  Chunk& chunk = chunks_[static_cast<size_t>(last.chunk)];
  if (chunk.slab) {
    chunk.size -= static_cast<size_t>(last.size);
    return;
  }
  // A result with memory of its own is the last chunk: slabs come in between only with later results, which are gone.
  std::free(chunk.data);
  chunk.data = nullptr;
  chunk.size = 0;
}

void ByteResults::AddAbsent() { results_.push_back({kAbsent, 0, 0}); }

napi_value ByteResults::ChunkToJs(napi_env env, Chunk* chunk) {
  napi_value buffer = nullptr;
  // A slab that is nearly full goes as it is, too.
  if (chunk->size > 0 && (!chunk->slab || chunk->size >= kSlabBytes / 4 * 3) &&
      napi_create_external_arraybuffer(env, chunk->data, chunk->size, FreeChunk, chunk->data, &buffer) == napi_ok) {
    chunk->data = nullptr;
    return buffer;
  }
  // A slab of which much is unused, or a runtime that refuses memory which is not its own.
  void* data = nullptr;
  if (napi_create_arraybuffer(env, chunk->size, &data, &buffer) != napi_ok) return nullptr;
  if (chunk->size > 0) std::memcpy(data, chunk->data, chunk->size);
  return buffer;
}

napi_value ByteResults::ToJs(napi_env env) {
  napi_value answer = nullptr;
  napi_value chunks = nullptr;
  napi_value layout = nullptr;
  napi_value layout_memory = nullptr;
  void* layout_data = nullptr;
  if (napi_create_array_with_length(env, 2, &answer) != napi_ok ||
      napi_create_array_with_length(env, chunks_.size(), &chunks) != napi_ok) {
    return nullptr;
  }
  for (size_t i = 0; i < chunks_.size(); ++i) {
    napi_value buffer = ChunkToJs(env, &chunks_[i]);
    if (buffer == nullptr || napi_set_element(env, chunks, static_cast<uint32_t>(i), buffer) != napi_ok) return nullptr;
  }
  static_assert(sizeof(Result) == 3 * sizeof(double));
  const size_t layout_size = results_.size() * sizeof(Result);
  if (napi_create_arraybuffer(env, layout_size, &layout_data, &layout_memory) != napi_ok) return nullptr;
  if (layout_size > 0) std::memcpy(layout_data, results_.data(), layout_size);
  if (napi_create_typedarray(env, napi_float64_array, results_.size() * 3, layout_memory, 0, &layout) != napi_ok ||
      napi_set_element(env, answer, 0, chunks) != napi_ok || napi_set_element(env, answer, 1, layout) != napi_ok) {
    return nullptr;
  }
  return answer;
}

}  // namespace faultless::binding
