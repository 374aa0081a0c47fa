// Purpose: bringing keys into memory before they are asked for: what many keys need of the index and of the queues is
// asked of the device at once, then read, so that the device sees its own queue depth instead of one fault after
// another. Thread safety: one thread at a time per object, any number of objects. May wait for the device.
#pragma once

#include <cstdint>
#include <vector>

#include "base/status.h"
#include "format/layout.h"
#include "store/context.h"
#include "store/store.h"

namespace faultless::store {

class Warming {
 public:
  /** `packed`: of each key its length in 4 bytes, little-endian, then its bytes. */
  Warming(const Context& context, std::vector<uint8_t> packed) : context_(context), packed_(std::move(packed)) {}

  /**
   * The next kTogether keys. Absent ones are passed over. kOk; kWouldBlock: do it again, without holding a thread
   * meanwhile; kIo, kCorrupt: of one key; kCorrupt without an offset: `packed` is malformed.
   */
  Status Step();
  bool done() const { return at_ == packed_.size(); }
  /** In bytes of keys. */
  void Progress(uint64_t* done, uint64_t* total) const;

 private:
  // The queue depth of a fast device, twice.
  static constexpr size_t kTogether = 256;

  const Context& context_;
  const std::vector<uint8_t> packed_;
  size_t at_ = 0;
};

}  // namespace faultless::store
