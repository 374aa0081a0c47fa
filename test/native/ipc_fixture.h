// Purpose: what the native tests of segments, exchanges and logs share: processes that are killed at fail points
// (base/fail_point.h). A program that includes this for that defines CHILD_PROCESS(Victim), whose arguments begin with
// path, point and file for the count. Thread safety: as the harness.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <chrono>
#include <string>
#include <vector>

#include "base/fail_point.h"
#include "harness.h"
#include "os/os.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

namespace ipc_test {

using faultless::Code;
using faultless::fail_points;
using faultless::Status;
using harness::Child;

/** First words of a child: it ends with its parent, and after `seconds` at the latest. */
inline void LiveAtMost(unsigned seconds) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::alarm(seconds);
}

/** A number that processes share. */
class SharedCount {
 public:
  explicit SharedCount(const std::string& path) {
    const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ::ftruncate(fd, 8) != 0) ::abort();
    void* const address = ::mmap(nullptr, 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (address == MAP_FAILED) ::abort();
    ::close(fd);
    count_ = static_cast<std::atomic<uint64_t>*>(address);
  }
  SharedCount(const SharedCount&) = delete;
  ~SharedCount() { ::munmap(count_, 8); }
  std::atomic<uint64_t>& operator*() const { return *count_; }

 private:
  std::atomic<uint64_t>* count_;
};

/** Of a victim: from Arm to Disarm it is killed at the point that it was given, or counts points where that is 0. */
class VictimPoints {
 public:
  explicit VictimPoints(const std::vector<std::string>& arguments) : count_(arguments[2]) {
    LiveAtMost(120);
    fail_points.fail = [] { ::kill(::getpid(), SIGKILL); };
    fail_points.fail_at = std::stoull(arguments[1]);
  }
  void Arm() { fail_points.armed = true; }
  void Disarm() {
    fail_points.armed = false;
    *count_ = fail_points.passed.load();
  }

 private:
  SharedCount count_;
};

inline std::vector<std::string> VictimArguments(const std::string& path, uint64_t point, const std::string& sites,
                                                const std::vector<std::string>& more) {
  std::vector<std::string> arguments{path, std::to_string(point), sites};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

/** How many points a victim passes that lives. */
inline uint64_t CountPoints(const std::string& path, const std::string& sites,
                            const std::vector<std::string>& more = {}) {
  EXPECT_EQ(Child::Start("Victim", VictimArguments(path, 0, sites, more)).Wait(), 0);
  const SharedCount count(sites);
  return (*count).load();
}

/** Whether a victim was killed at the point. */
inline bool KillAt(const std::string& path, uint64_t point, const std::string& sites,
                   const std::vector<std::string>& more = {}) {
  const int ended = Child::Start("Victim", VictimArguments(path, point, sites, more)).Wait();
  EXPECT_TRUE(ended == 0 || ended == -SIGKILL) << ended;
  return ended == -SIGKILL;
}

}  // namespace ipc_test
