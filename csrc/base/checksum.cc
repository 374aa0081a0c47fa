#include "base/checksum.h"

#include <array>
#include <bit>
#include <cstring>

#if defined(__x86_64__) && defined(__GNUC__)
#include <nmmintrin.h>
#define FAULTLESS_CRC32C_SSE42 1
#endif

namespace faultless {

namespace {

constexpr uint32_t kPolynomial = 0x82F63B78;

/** tables[k][b]: the remainder of byte b followed by k zero bytes, so that eight bytes are folded at once. */
using Tables = std::array<std::array<uint32_t, 256>, 8>;

constexpr Tables MakeTables() {
  Tables tables{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t remainder = byte;
    for (int bit = 0; bit < 8; ++bit) remainder = (remainder >> 1) ^ ((remainder & 1) != 0 ? kPolynomial : 0);
    tables[0][byte] = remainder;
  }
  for (size_t k = 1; k < 8; ++k) {
    for (uint32_t byte = 0; byte < 256; ++byte) {
      uint32_t before = tables[k - 1][byte];
      tables[k][byte] = (before >> 8) ^ tables[0][before & 0xFF];
    }
  }
  return tables;
}

constexpr Tables kTables = MakeTables();

uint64_t LoadLittleEndian64(const unsigned char* bytes) {
  uint64_t word;
  std::memcpy(&word, bytes, sizeof word);
  if constexpr (std::endian::native == std::endian::big) word = __builtin_bswap64(word);
  return word;
}

#ifdef FAULTLESS_CRC32C_SSE42
/** a × b modulo the polynomial; the highest bit is x^0. */
constexpr uint32_t Multiply(uint32_t a, uint32_t b) {
  uint32_t product = 0;
  for (uint32_t bit = uint32_t{1} << 31; bit != 0; bit >>= 1) {
    if ((a & bit) != 0) product ^= b;
    b = (b >> 1) ^ ((b & 1) != 0 ? kPolynomial : 0);
  }
  return product;
}

/** [k][b]: what byte k of a remainder, being b, becomes when `size` zero bytes follow. */
using Shift = std::array<std::array<uint32_t, 256>, 4>;

constexpr Shift MakeShift(size_t size) {
  uint32_t factor = uint32_t{1} << 31;        // x^0 …
  uint32_t square = uint32_t{1} << (31 - 8);  // … and x^8, which is one byte
  for (size_t bytes = size; bytes != 0; bytes >>= 1) {
    if ((bytes & 1) != 0) factor = Multiply(factor, square);
    square = Multiply(square, square);
  }
  Shift shift{};
  for (uint32_t k = 0; k < 4; ++k) {
    for (uint32_t byte = 1; byte < 256; ++byte) {
      const uint32_t rest = byte & (byte - 1);
      shift[k][byte] = rest != 0 ? shift[k][rest] ^ shift[k][byte ^ rest] : Multiply(factor, byte << (8 * k));
    }
  }
  return shift;
}

constexpr uint64_t Append(const Shift& shift, uint64_t before, uint64_t after) {
  return shift[0][before & 0xFF] ^ shift[1][before >> 8 & 0xFF] ^ shift[2][before >> 16 & 0xFF] ^
         shift[3][before >> 24 & 0xFF] ^ after;
}

/**
 * The instruction takes three cycles, and a processor begins one each cycle: three stretches at a time, joined by
 * tables. As in Mark Adler's crc32c.c.
 */
template <size_t kStretch>
__attribute__((target("sse4.2"))) void FoldThree(const unsigned char** bytes, size_t* size, uint64_t* remainder) {
  static constexpr Shift kShift = MakeShift(kStretch);
  for (; *size >= 3 * kStretch; *bytes += 3 * kStretch, *size -= 3 * kStretch) {
    uint64_t first = *remainder;
    uint64_t second = 0;
    uint64_t third = 0;
    for (const unsigned char* at = *bytes; at != *bytes + kStretch; at += 8) {
      first = _mm_crc32_u64(first, LoadLittleEndian64(at));
      second = _mm_crc32_u64(second, LoadLittleEndian64(at + kStretch));
      third = _mm_crc32_u64(third, LoadLittleEndian64(at + 2 * kStretch));
    }
    *remainder = Append(kShift, Append(kShift, first, second), third);
  }
}

__attribute__((target("sse4.2"))) uint32_t Crc32cSse42(uint32_t crc, const void* data, size_t size) {
  const auto* bytes = static_cast<const unsigned char*>(data);
  uint64_t remainder = static_cast<uint32_t>(~crc);
  FoldThree<4096>(&bytes, &size, &remainder);
  FoldThree<128>(&bytes, &size, &remainder);
  for (; size >= 8; bytes += 8, size -= 8) remainder = _mm_crc32_u64(remainder, LoadLittleEndian64(bytes));
  auto remainder32 = static_cast<uint32_t>(remainder);
  for (; size > 0; ++bytes, --size) remainder32 = _mm_crc32_u8(remainder32, *bytes);
  return ~remainder32;
}
#endif

using Implementation = uint32_t (*)(uint32_t crc, const void* data, size_t size);

Implementation ChooseImplementation() {
#ifdef FAULTLESS_CRC32C_SSE42
  __builtin_cpu_init();
  if (__builtin_cpu_supports("sse4.2")) return Crc32cSse42;
#endif
  return internal::Crc32cTable;
}

}  // namespace

namespace internal {

uint32_t Crc32cTable(uint32_t crc, const void* data, size_t size) {
  const auto* bytes = static_cast<const unsigned char*>(data);
  uint32_t remainder = ~crc;
  for (; size >= 8; bytes += 8, size -= 8) {
    uint64_t word = LoadLittleEndian64(bytes) ^ remainder;
    remainder = kTables[7][word & 0xFF] ^ kTables[6][(word >> 8) & 0xFF] ^ kTables[5][(word >> 16) & 0xFF] ^
                kTables[4][(word >> 24) & 0xFF] ^ kTables[3][(word >> 32) & 0xFF] ^ kTables[2][(word >> 40) & 0xFF] ^
                kTables[1][(word >> 48) & 0xFF] ^ kTables[0][word >> 56];
  }
  for (; size > 0; ++bytes, --size) remainder = (remainder >> 8) ^ kTables[0][(remainder ^ *bytes) & 0xFF];
  return ~remainder;
}

}  // namespace internal

uint32_t Crc32c(uint32_t crc, const void* data, size_t size) {
  static const Implementation implementation = ChooseImplementation();
  return implementation(crc, data, size);
}

}  // namespace faultless
