// Purpose: the bytes that a job hands to JavaScript. Small results share slabs, larger ones have memory of their own,
// so that a Buffer which is kept never keeps much more alive than itself. Thread safety: filled on the job's pool
// thread, handed over on the JavaScript thread. Ownership: owns its memory until ToJs; then JavaScript does.
#pragma once

#include <node_api.h>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace faultless::binding {

class ByteResults {
 public:
  /** Results of at most kMaxSharedBytes lie in slabs of at most kSlabBytes. */
  static constexpr size_t kSlabBytes = 64 * 1024;
  static constexpr size_t kMaxSharedBytes = 16 * 1024;

  ByteResults() = default;
  ~ByteResults();
  ByteResults(const ByteResults&) = delete;
  ByteResults& operator=(const ByteResults&) = delete;

  /** Memory for the next result, valid until ToJs or DropLast; nullptr where there is none (the result is not added
   * then). */
  std::byte* Add(size_t size);
  /** Takes back the last result added. */
  void DropLast();
  /** A result that is absent: `undefined` to JavaScript. */
  void AddAbsent();
  size_t count() const { return results_.size(); }

  /**
   * [chunks: ArrayBuffer[], layout: Float64Array]: result i is layout[3i + 2] bytes at layout[3i + 1] of
   * chunks[layout[3i]]; a chunk of -1 is an absent result. ts/byte-results.ts makes Buffers of it. nullptr with a
   * pending exception where that fails.
   */
  napi_value ToJs(napi_env env);

 private:
  struct Chunk {
    std::byte* data;
    size_t size;  // used so far
    bool slab;
  };
  struct Result {
    double chunk;
    double offset;
    double size;
  };

  Chunk* SlabFor(size_t size);
  static napi_value ChunkToJs(napi_env env, Chunk* chunk);

  std::vector<Chunk> chunks_;
  std::vector<Result> results_;
  size_t slab_ = ~size_t{0};  // index of the slab being filled
};

}  // namespace faultless::binding
