// The base layer against values from elsewhere: CPython's SipHash-1-3, the published SipHash-1-3 test vectors, the CRC
// catalogue's check value, and implementations written straight from the definitions.
#include <cerrno>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "base/checksum.h"
#include "base/hash.h"
#include "base/status.h"
#include "harness.h"

namespace faultless {
namespace {

uint64_t Seed() {
  static const uint64_t seed = std::random_device()();
  return seed;
}

std::vector<uint8_t> CountingBytes(size_t size) {
  std::vector<uint8_t> bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<uint8_t>(i);
  return bytes;
}

// ───────────────────────────────────────────────────────────── hash

TEST(Hash, GivesThePublishedVectors) {
  constexpr uint64_t kSeed[2] = {0x0706050403020100, 0x0F0E0D0C0B0A0908};
  // Input 00 01 02 …, of as many bytes as the index; little-endian outputs.
  constexpr uint8_t kVectors[][8] = {
      {0xDC, 0xC4, 0x0F, 0x05, 0x58, 0x01, 0xAC, 0xAB}, {0x93, 0xCA, 0x57, 0x7D, 0xF3, 0x9B, 0xF4, 0xC9},
      {0x4D, 0xD4, 0xC7, 0x4D, 0x02, 0x9B, 0xCB, 0x82}, {0xFB, 0xF7, 0xDD, 0xE7, 0xB8, 0x0A, 0xF8, 0x8B},
      {0x28, 0x83, 0xD3, 0x88, 0x60, 0x57, 0x75, 0xCF}, {0x67, 0x3B, 0x53, 0x49, 0x2F, 0xD5, 0xF9, 0xDE},
      {0xA7, 0x22, 0x9F, 0xC5, 0x50, 0x2B, 0x0D, 0xC5}, {0x40, 0x11, 0xB1, 0x9B, 0x98, 0x7D, 0x92, 0xD3},
  };
  const std::vector<uint8_t> input = CountingBytes(8);
  for (size_t size = 0; size < std::size(kVectors); ++size) {
    uint64_t expected = 0;
    for (size_t i = 0; i < 8; ++i) expected |= uint64_t{kVectors[size][i]} << (8 * i);
    EXPECT_EQ(HashBytes(input.data(), size, kSeed), expected) << "size" << size;
  }
}

TEST(Hash, GivesWhatCPythonGives) {
  // PYTHONHASHSEED=0 python3.11 -c 'print(hex(hash(b"a") & (2**64 - 1)))'
  constexpr uint64_t kZero[2] = {0, 0};
  EXPECT_EQ(HashBytes("a", 1, kZero), 0x407448D2B89B1813);
  EXPECT_EQ(HashBytes("faultless", 9, kZero), 0x4FF3DDCDFAEC0552);
  const std::vector<uint8_t> counting = CountingBytes(63);
  EXPECT_EQ(HashBytes(counting.data(), counting.size(), kZero), 0x385D3E39E5F37359);
}

TEST(Hash, DependsOnEachBitOfTheSeedAndOfTheInput) {
  std::vector<uint8_t> input = CountingBytes(21);
  constexpr uint64_t kSeed[2] = {1, 2};
  const uint64_t hash = HashBytes(input.data(), input.size(), kSeed);
  for (int bit = 0; bit < 128; ++bit) {
    uint64_t other[2] = {kSeed[0], kSeed[1]};
    other[bit / 64] ^= uint64_t{1} << (bit % 64);
    EXPECT_NE(HashBytes(input.data(), input.size(), other), hash) << "seed bit" << bit;
  }
  for (size_t bit = 0; bit < 8 * input.size(); ++bit) {
    input[bit / 8] ^= static_cast<uint8_t>(1 << (bit % 8));
    EXPECT_NE(HashBytes(input.data(), input.size(), kSeed), hash) << "input bit" << bit;
    input[bit / 8] ^= static_cast<uint8_t>(1 << (bit % 8));
  }
}

TEST(Hash, DoesNotDependOnAlignment) {
  constexpr uint64_t kSeed[2] = {3, 4};
  const std::vector<uint8_t> input = CountingBytes(40);
  const uint64_t hash = HashBytes(input.data(), input.size(), kSeed);
  std::vector<uint8_t> buffer(64);
  for (size_t skew = 0; skew < 16; ++skew) {
    std::memcpy(buffer.data() + skew, input.data(), input.size());
    EXPECT_EQ(HashBytes(buffer.data() + skew, input.size(), kSeed), hash) << "skew" << skew;
  }
}

// ───────────────────────────────────────────────────────────── checksum

/** Bit by bit, from the definition. */
uint32_t Crc32cByDefinition(const uint8_t* data, size_t size) {
  uint32_t remainder = ~uint32_t{0};
  for (size_t i = 0; i < size; ++i) {
    remainder ^= data[i];
    for (int bit = 0; bit < 8; ++bit) remainder = (remainder >> 1) ^ ((remainder & 1) != 0 ? 0x82F63B78 : 0);
  }
  return ~remainder;
}

TEST(Checksum, GivesTheCheckValues) {
  EXPECT_EQ(Crc32c(0, "123456789", 9), 0xE3069283u);
  EXPECT_EQ(internal::Crc32cTable(0, "123456789", 9), 0xE3069283u);
  EXPECT_EQ(Crc32c(0, "", 0), 0u);
  // RFC 3720, B.4: 32 bytes of zeros, of ones, of 00 … 1F.
  const std::vector<uint8_t> zeros(32, 0x00);
  const std::vector<uint8_t> ones(32, 0xFF);
  const std::vector<uint8_t> counting = CountingBytes(32);
  EXPECT_EQ(Crc32c(0, zeros.data(), 32), 0x8A9136AAu);
  EXPECT_EQ(Crc32c(0, ones.data(), 32), 0x62A8AB43u);
  EXPECT_EQ(Crc32c(0, counting.data(), 32), 0x46DD794Eu);
}

TEST(Checksum, BothImplementationsAgreeWithTheDefinition) {
  std::mt19937_64 random(Seed());
  std::vector<uint8_t> buffer(30'000);
  for (uint8_t& byte : buffer) byte = static_cast<uint8_t>(random());
  for (int round = 0; round < 2000; ++round) {
    const size_t skew = random() % 16;
    // Stretches of 3 × 128 and 3 × 4,096 bytes are folded at once.
    const size_t most = round % 16 == 0 ? buffer.size() - 16 : 5000;
    const size_t size = round < 200 ? static_cast<size_t>(round) : random() % most;
    const uint8_t* data = buffer.data() + skew;
    const uint32_t expected = Crc32cByDefinition(data, size);
    ASSERT_EQ(Crc32c(0, data, size), expected) << "seed" << Seed() << "size" << size << "skew" << skew;
    ASSERT_EQ(internal::Crc32cTable(0, data, size), expected) << "seed" << Seed() << "size" << size << "skew" << skew;
    const size_t first = size == 0 ? 0 : random() % size;
    ASSERT_EQ(Crc32c(Crc32c(0, data, first), data + first, size - first), expected)
        << "seed" << Seed() << "at" << first;
    ASSERT_EQ(internal::Crc32cTable(internal::Crc32cTable(0, data, first), data + first, size - first), expected)
        << "seed" << Seed() << "at" << first;
  }
}

// ───────────────────────────────────────────────────────────── status

TEST(Status, TranslatesErrno) {
  EXPECT_CODE(Status::FromErrno(ENOENT, "open"), Code::kNotFound);
  EXPECT_CODE(Status::FromErrno(EEXIST, "linkat"), Code::kExists);
  EXPECT_CODE(Status::FromErrno(EACCES, "open"), Code::kAccess);
  EXPECT_CODE(Status::FromErrno(EPERM, "open"), Code::kAccess);
  EXPECT_CODE(Status::FromErrno(EROFS, "open"), Code::kAccess);
  EXPECT_CODE(Status::FromErrno(ENOSPC, "fallocate"), Code::kNoSpace);
  EXPECT_CODE(Status::FromErrno(EDQUOT, "fallocate"), Code::kNoSpace);
  EXPECT_CODE(Status::FromErrno(EOPNOTSUPP, "fallocate"), Code::kUnsupported);
  EXPECT_CODE(Status::FromErrno(EIO, "pread"), Code::kIo);
  EXPECT_CODE(Status::FromErrno(EFAULT, "madvise"), Code::kIo);
  const Status status = Status::FromErrno(EIO, "pread");
  EXPECT_EQ(status.error(), EIO);
  EXPECT_EQ(std::string(status.syscall()), "pread");
  EXPECT_FALSE(status.has_offset());
}

TEST(Status, KnowsWhereItHappened) {
  EXPECT_OK(Status());
  const Status corrupt = Status::Corrupt("a bad length", 4096);
  EXPECT_CODE(corrupt, Code::kCorrupt);
  EXPECT_TRUE(corrupt.has_offset());
  EXPECT_EQ(corrupt.offset(), 4096);
  EXPECT_EQ(std::string(corrupt.message()), "a bad length");
  EXPECT_CODE(Status::Io("cut short", 0), Code::kIo);
  EXPECT_TRUE(Status::Io("cut short", 0).has_offset());
}

Status Fails() { return Code::kBusy; }
Status TriesTwice(int* reached) {
  FAULTLESS_TRY(Status());
  *reached = 1;
  FAULTLESS_TRY(Fails());
  *reached = 2;
  return {};
}

TEST(Status, TryReturnsTheFirstFailure) {
  int reached = 0;
  EXPECT_CODE(TriesTwice(&reached), Code::kBusy);
  EXPECT_EQ(reached, 1);
}

}  // namespace
}  // namespace faultless
