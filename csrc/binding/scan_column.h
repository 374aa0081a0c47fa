// Purpose: the keys, or the values, of one step of an iteration on their way to JavaScript. As bytes they lie in slabs
// (store_values.h). As text they lie in pieces of a few KiB, each of which becomes one JavaScript string where it is
// ASCII, so that bytes and characters count the same: an entry is cut out of it there, which costs a fraction of a
// string that is made here. Other pieces become Buffers.
// Thread safety: filled by one thread at a time; ToJs on the JavaScript thread, when nobody fills any more.
// Invariants: who keeps a string keeps no more than kPieceBytes alive beside it.
// Ownership: owns the bytes until ToJs gives them to JavaScript; keeps its memory for the next step.
#pragma once

#include <node_api.h>

#include <cstdint>
#include <vector>

#include "binding/store_values.h"
#include "store/store.h"

namespace faultless::binding {

class ScanColumn {
 public:
  static constexpr size_t kPieceBytes = 4096;
  /** A longer text is a piece of its own. */
  static constexpr size_t kMaxSharedBytes = 1024;

  /** Forgets everything; what comes next is text, or bytes. */
  void Begin(bool text);
  /** Copies bytes in. False where there is no memory. */
  bool Append(store::Bytes bytes, ValuePlace* place);
  /** An array of what the places refer to, strings and Buffers. nullptr where that fails. */
  napi_value ToJs(napi_env env);
  /** Gives the memory back. */
  void Release();

 private:
  struct Piece {
    size_t offset;  // in bytes_, of a shared one
    size_t size;
    bool ascii;
    MallocBytes own;  // of a long text; nullptr: shared
  };

  bool AppendLong(store::Bytes bytes);

  bool text_ = false;
  ValueArena arena_;
  std::vector<uint8_t> bytes_;
  std::vector<Piece> pieces_;
};

}  // namespace faultless::binding
