#include <vector>

#include "os/os.h"

namespace faultless::os {

uint8_t* ThreadBuffer(size_t which, size_t size) {
  constexpr size_t kStep = 4096;
  thread_local std::vector<uint64_t> buffers[2];
  std::vector<uint64_t>& buffer = buffers[which];
  if (buffer.size() * 8 < size) buffer.resize((size + kStep - 1) / kStep * kStep / 8);
  return reinterpret_cast<uint8_t*>(buffer.data());
}

}  // namespace faultless::os
