// Purpose: the one way in which code below csrc/binding/ reports failure: a code, an errno, the system call and the
// file offset where they are known. No exceptions are thrown below the binding.
// Thread safety: a value type. Ownership: `syscall` and `message` point at string literals and are never freed.
#pragma once

#include <cstdint>

namespace faultless {

enum class Code : uint8_t {
  kOk = 0,
  // The public codes, in the order of ErrorCode in ts/errors.ts.
  kClosed,
  kReadOnly,
  kInvalidArgType,
  kInvalidArgValue,
  kOutOfRange,
  kKeyEmpty,
  kKeyTooLong,
  kValueTooLarge,
  kNotANumber,
  kNotFound,
  kExists,
  kAccess,
  kFormat,
  kCorrupt,
  kIo,
  kNoSpace,
  kStoreFull,
  kMemlock,
  kUnsupported,
  kBusy,
  // Never reach a user as an error.
  kAbsent,      // the key is not there: an answer
  kCold,        // answering would wait: an answer of the try* methods
  kWouldBlock,  // a lock is held: run the operation again later, without holding a thread meanwhile
};

class [[nodiscard]] Status {
 public:
  constexpr Status() = default;
  constexpr Status(Code code) : code_(code) {}  // NOLINT(google-explicit-constructor): `return Code::kCold;` reads well
  constexpr Status(Code code, const char* message) : message_(message), code_(code) {}

  /** Translates errno of a failed system call: ENOSPC → kNoSpace, ENOENT → kNotFound, EACCES/EPERM → kAccess, … else
   * kIo. */
  static Status FromErrno(int error, const char* syscall);
  /** A failed system call whose errno alone would not give the right code (mlock's ENOMEM is kMemlock). */
  static constexpr Status WithErrno(Code code, int error, const char* syscall) {
    Status status(code);
    status.errno_ = error;
    status.syscall_ = syscall;
    return status;
  }
  static constexpr Status Corrupt(const char* message, uint64_t offset) {
    Status status(Code::kCorrupt, message);
    status.offset_ = offset;
    return status;
  }
  static constexpr Status Io(const char* message, uint64_t offset) {
    Status status(Code::kIo, message);
    status.offset_ = offset;
    return status;
  }

  constexpr bool ok() const { return code_ == Code::kOk; }
  constexpr Code code() const { return code_; }
  constexpr int error() const { return errno_; }              // 0: none
  constexpr const char* syscall() const { return syscall_; }  // nullptr: none
  constexpr const char* message() const { return message_; }  // nullptr: the code says it all
  constexpr bool has_offset() const { return offset_ != kNoOffset; }
  constexpr uint64_t offset() const { return offset_; }  // in the file, bytes

 private:
  static constexpr uint64_t kNoOffset = ~uint64_t{0};
  uint64_t offset_ = kNoOffset;
  const char* syscall_ = nullptr;
  const char* message_ = nullptr;
  int errno_ = 0;
  Code code_ = Code::kOk;
};

}  // namespace faultless

/** Returns from the calling function where `expression` is a Status that is not ok. */
#define FAULTLESS_TRY(expression)                        \
  do {                                                   \
    ::faultless::Status faultless_status = (expression); \
    if (!faultless_status.ok()) return faultless_status; \
  } while (false)
