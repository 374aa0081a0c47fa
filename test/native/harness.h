// Purpose: what the native tests are written with: named tests, expectations, child processes, temporary directories.
//
//   TEST(Hash, DependsOnTheSeed) {
//     ASSERT_OK(Open(...));                      // ASSERT_* leaves the test, EXPECT_* notes the failure and goes on
//     EXPECT_EQ(count, 3) << "seed " << seed;    // integers of any signedness compare by value
//   }
//
// Every test/native/*_test.cc becomes a program of its own; its first argument, if any, selects tests by a part of
// "Suite.Name". Exit code 0: all passed. ASSERT_* may be used in functions that return void only.
// Thread safety: expectations may be checked on any thread; the rest belongs to the thread that runs the tests.
#pragma once

#include <sys/types.h>

#include <functional>
#include <optional>
#include <sstream>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/status.h"

namespace harness {

// ───────────────────────────────────────────────────────────── tests and failures

struct Registration {
  Registration(const char* suite, const char* name, void (*body)());
};

/** One failed expectation: prints itself, with what was streamed into it, at the end of the statement. */
class Failure {
 public:
  Failure(const char* file, int line, std::string what) : file_(file), line_(line) { text_ << what; }
  Failure(Failure&&) = delete;
  ~Failure();
  template <typename T>
  Failure& operator<<(const T& value) {
    text_ << ' ' << value;
    return *this;
  }

 private:
  const char* file_;
  int line_;
  std::ostringstream text_;
};
struct ReturnVoid {
  void operator=(const Failure&) const {}
};

/** Ends the running test as skipped, said loudly; under CI=true it fails instead. Return after it. */
void Skip(const char* reason);

template <typename T>
std::string Print(const T& value) {
  if constexpr (std::is_same_v<T, bool>) {
    return value ? "true" : "false";
  } else if constexpr (std::is_same_v<T, std::nullptr_t>) {
    return "nullptr";
  } else if constexpr (std::is_enum_v<T>) {
    return Print(static_cast<std::underlying_type_t<T>>(value));
  } else if constexpr (std::is_integral_v<T> && sizeof(T) == 1) {
    return std::to_string(static_cast<int>(value));
  } else if constexpr (requires(std::ostringstream stream) { stream << value; }) {
    std::ostringstream stream;
    stream << value;
    return stream.str();
  } else {
    return "(" + std::to_string(sizeof(T)) + " bytes)";
  }
}

template <typename T>
inline constexpr bool kCountable = std::is_integral_v<T> && !std::is_same_v<T, bool> && !std::is_same_v<T, char>;

struct Equal {
  template <typename A, typename B>
  static bool Holds(const A& a, const B& b) {
    if constexpr (kCountable<A> && kCountable<B>) {
      return std::cmp_equal(a, b);
    } else {
      return a == b;
    }
  }
};
struct Less {
  template <typename A, typename B>
  static bool Holds(const A& a, const B& b) {
    if constexpr (kCountable<A> && kCountable<B>) {
      return std::cmp_less(a, b);
    } else {
      return a < b;
    }
  }
};

template <typename Relation, bool kSwap, bool kNegate, typename A, typename B>
std::optional<std::string> Compare(const char* expression, const A& a, const B& b) {
  bool holds = false;
  if constexpr (kSwap) {
    holds = Relation::Holds(b, a);
  } else {
    holds = Relation::Holds(a, b);
  }
  if (holds != kNegate) return std::nullopt;
  return std::string(expression) + ": " + Print(a) + " and " + Print(b);
}

std::optional<std::string> CheckCode(const char* expression, faultless::Status status, faultless::Code expected);

// ───────────────────────────────────────────────────────────── child processes

/**
 * A process started by a test. The child's failed expectations make its exit code 1, and so fail whoever expects 0.
 * Destroying a Child that was not waited for kills it.
 */
class Child {
 public:
  /** Runs `body` in a fork of this process, then exits without running destructors. */
  static Child Fork(const std::function<void()>& body);
  /** Runs CHILD_PROCESS(name) in a fresh execution of this program: nothing is inherited but standard output. */
  static Child Start(const char* name, const std::vector<std::string>& arguments = {});

  Child(Child&& other) noexcept : pid_(std::exchange(other.pid_, -1)) {}
  ~Child();

  pid_t pid() const { return pid_; }
  void Signal(int signal) const;
  /** Waits for its end: the exit code, or minus the signal that ended it. */
  int Wait();

 private:
  explicit Child(pid_t pid) : pid_(pid) {}
  pid_t pid_;
};

struct ProcessRegistration {
  ProcessRegistration(const char* name, void (*body)(const std::vector<std::string>&));
};

// ───────────────────────────────────────────────────────────── files

/** A directory of its own under $TMPDIR (/tmp), removed with all that is in it. */
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  ~TemporaryDirectory();
  const std::string& path() const { return path_; }
  std::string File(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace harness

#define TEST(suite, name)                                                                                           \
  static void HarnessTest_##suite##_##name();                                                                       \
  static const ::harness::Registration harness_test_##suite##_##name{#suite, #name, &HarnessTest_##suite##_##name}; \
  static void HarnessTest_##suite##_##name()

/** The body of a child process: CHILD_PROCESS(Writer) { use(arguments[0]); } */
#define CHILD_PROCESS(name)                                                                          \
  static void HarnessProcess_##name(const std::vector<std::string>& arguments);                      \
  static const ::harness::ProcessRegistration harness_process_##name{#name, &HarnessProcess_##name}; \
  static void HarnessProcess_##name([[maybe_unused]] const std::vector<std::string>& arguments)

#define HARNESS_FAILURE(what) ::harness::Failure(__FILE__, __LINE__, what)
#define HARNESS_EXPECT(failed)                             \
  switch (0)                                               \
  case 0:                                                  \
  default:                                                 \
    if (auto harness_failed = (failed); !harness_failed) { \
    } else                                                 \
      HARNESS_FAILURE(*harness_failed)
#define HARNESS_ASSERT(failed)                             \
  switch (0)                                               \
  case 0:                                                  \
  default:                                                 \
    if (auto harness_failed = (failed); !harness_failed) { \
    } else                                                 \
      return ::harness::ReturnVoid() = HARNESS_FAILURE(*harness_failed)

#define HARNESS_IS(expected, ...) \
  (::harness::Compare<::harness::Equal, false, false>(#__VA_ARGS__, bool(__VA_ARGS__), expected))
#define HARNESS_EQ(a, b) (::harness::Compare<::harness::Equal, false, false>(#a " == " #b, a, b))
#define HARNESS_NE(a, b) (::harness::Compare<::harness::Equal, false, true>(#a " != " #b, a, b))
#define HARNESS_LT(a, b) (::harness::Compare<::harness::Less, false, false>(#a " < " #b, a, b))
#define HARNESS_LE(a, b) (::harness::Compare<::harness::Less, true, true>(#a " <= " #b, a, b))
#define HARNESS_GT(a, b) (::harness::Compare<::harness::Less, true, false>(#a " > " #b, a, b))
#define HARNESS_GE(a, b) (::harness::Compare<::harness::Less, false, true>(#a " >= " #b, a, b))
#define HARNESS_CODE(status, code) (::harness::CheckCode(#status, status, code))

#define EXPECT_TRUE(...) HARNESS_EXPECT(HARNESS_IS(true, __VA_ARGS__))
#define EXPECT_FALSE(...) HARNESS_EXPECT(HARNESS_IS(false, __VA_ARGS__))
#define EXPECT_EQ(a, b) HARNESS_EXPECT(HARNESS_EQ(a, b))
#define EXPECT_NE(a, b) HARNESS_EXPECT(HARNESS_NE(a, b))
#define EXPECT_LT(a, b) HARNESS_EXPECT(HARNESS_LT(a, b))
#define EXPECT_LE(a, b) HARNESS_EXPECT(HARNESS_LE(a, b))
#define EXPECT_GT(a, b) HARNESS_EXPECT(HARNESS_GT(a, b))
#define EXPECT_GE(a, b) HARNESS_EXPECT(HARNESS_GE(a, b))
/** Of a Status: its code. */
#define EXPECT_CODE(status, code) HARNESS_EXPECT(HARNESS_CODE(status, code))
#define EXPECT_OK(status) EXPECT_CODE(status, ::faultless::Code::kOk)
#define FAIL() HARNESS_FAILURE("failed")

#define ASSERT_TRUE(...) HARNESS_ASSERT(HARNESS_IS(true, __VA_ARGS__))
#define ASSERT_FALSE(...) HARNESS_ASSERT(HARNESS_IS(false, __VA_ARGS__))
#define ASSERT_EQ(a, b) HARNESS_ASSERT(HARNESS_EQ(a, b))
#define ASSERT_NE(a, b) HARNESS_ASSERT(HARNESS_NE(a, b))
#define ASSERT_LT(a, b) HARNESS_ASSERT(HARNESS_LT(a, b))
#define ASSERT_LE(a, b) HARNESS_ASSERT(HARNESS_LE(a, b))
#define ASSERT_GT(a, b) HARNESS_ASSERT(HARNESS_GT(a, b))
#define ASSERT_GE(a, b) HARNESS_ASSERT(HARNESS_GE(a, b))
#define ASSERT_CODE(status, code) HARNESS_ASSERT(HARNESS_CODE(status, code))
#define ASSERT_OK(status) ASSERT_CODE(status, ::faultless::Code::kOk)
