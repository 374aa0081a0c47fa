#include "base/hash.h"

#include <bit>
#include <cstring>

namespace faultless {

namespace {

uint64_t LoadLittleEndian64(const unsigned char* bytes) {
  uint64_t word;
  std::memcpy(&word, bytes, sizeof word);
  if constexpr (std::endian::native == std::endian::big) word = __builtin_bswap64(word);
  return word;
}

/** The last word: up to seven remaining bytes, the length's low byte on top. */
uint64_t LastWord(const unsigned char* tail, size_t size) {
  uint64_t word = uint64_t{size & 0xFF} << 56;
  for (size_t i = 0; i < (size & 7); ++i) word |= uint64_t{tail[i]} << (8 * i);
  return word;
}

struct SipState {
  uint64_t v0, v1, v2, v3;

  void Round() {
    v0 += v1;
    v1 = std::rotl(v1, 13) ^ v0;
    v0 = std::rotl(v0, 32);
    v2 += v3;
    v3 = std::rotl(v3, 16) ^ v2;
    v0 += v3;
    v3 = std::rotl(v3, 21) ^ v0;
    v2 += v1;
    v1 = std::rotl(v1, 17) ^ v2;
    v2 = std::rotl(v2, 32);
  }

  /** One compression round per word: the 1 of SipHash-1-3. */
  void Absorb(uint64_t word) {
    v3 ^= word;
    Round();
    v0 ^= word;
  }
};

}  // namespace

uint64_t HashBytes(const void* data, size_t size, const uint64_t seed[2]) {
  SipState state{seed[0] ^ 0x736f6d6570736575, seed[1] ^ 0x646f72616e646f6d, seed[0] ^ 0x6c7967656e657261,
                 seed[1] ^ 0x7465646279746573};
  const auto* bytes = static_cast<const unsigned char*>(data);
  size_t whole = size & ~size_t{7};
  for (size_t i = 0; i < whole; i += 8) state.Absorb(LoadLittleEndian64(bytes + i));
  state.Absorb(LastWord(bytes + whole, size));
  state.v2 ^= 0xFF;
  for (int i = 0; i < 3; ++i) state.Round();  // the 3 of SipHash-1-3
  return state.v0 ^ state.v1 ^ state.v2 ^ state.v3;
}

}  // namespace faultless
