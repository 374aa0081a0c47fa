#include "harness.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <string_view>

namespace harness {
namespace {

struct Test {
  std::string name;
  void (*body)();
};
struct Process {
  std::string name;
  void (*body)(const std::vector<std::string>&);
};

// Filled by static initialization, in the order of the file.
std::vector<Test>& Tests() {
  static std::vector<Test> tests;
  return tests;
}
std::vector<Process>& Processes() {
  static std::vector<Process> processes;
  return processes;
}

/** The driver hands one filter to every program, and fails where none of them had such a test. */
constexpr int kNothingSelected = 3;

std::atomic<int> failures{0};  // of this process
bool skipped = false;          // the running test

/** Tests fork and print from several processes: each line is one write. */
void PrintLine(const std::string& line) {
  std::fflush(stdout);
  std::string text = line + "\n";
  if (::write(STDOUT_FILENO, text.data(), text.size()) < 0) failures.fetch_add(1);
}

/** Of this process and of those that it has waited for: tells a slow test from a busy machine. */
int64_t ProcessorMs() {
  int64_t us = 0;
  for (const int whose : {RUSAGE_SELF, RUSAGE_CHILDREN}) {
    rusage usage{};
    ::getrusage(whose, &usage);
    for (const timeval& time : {usage.ru_utime, usage.ru_stime}) us += int64_t{time.tv_sec} * 1'000'000 + time.tv_usec;
  }
  return us / 1000;
}

int RunProcess(std::string_view name, const std::vector<std::string>& arguments) {
  for (const Process& process : Processes()) {
    if (process.name != name) continue;
    process.body(arguments);
    return failures.load() == 0 ? 0 : 1;
  }
  PrintLine("no CHILD_PROCESS of that name: " + std::string(name));
  return 1;
}

int RunTests(std::string_view filter) {
  int passed = 0, failed = 0, skips = 0;
  for (const Test& test : Tests()) {
    if (test.name.find(filter) == std::string::npos) continue;
    failures = 0;
    skipped = false;
    auto start = std::chrono::steady_clock::now();
    const int64_t processor_before_ms = ProcessorMs();
    test.body();
    auto elapsed_ms =
        std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - start).count();
    const char* outcome = "ok  ";
    if (failures.load() != 0) {
      outcome = "FAIL";
      failed++;
    } else if (skipped) {
      outcome = "SKIP";
      skips++;
    } else {
      passed++;
    }
    PrintLine(std::string("  ") + outcome + " " + test.name + " (" + std::to_string(elapsed_ms) + " ms, processor " +
              std::to_string(ProcessorMs() - processor_before_ms) + " ms)");
  }
  PrintLine("  " + std::to_string(passed) + " passed, " + std::to_string(failed) + " failed, " + std::to_string(skips) +
            " skipped");
  if (passed + failed + skips == 0) return kNothingSelected;
  return failed == 0 ? 0 : 1;
}

}  // namespace

Registration::Registration(const char* suite, const char* name, void (*body)()) {
  Tests().push_back({std::string(suite) + "." + name, body});
}

ProcessRegistration::ProcessRegistration(const char* name, void (*body)(const std::vector<std::string>&)) {
  Processes().push_back({name, body});
}

Failure::~Failure() {
  failures.fetch_add(1);
  PrintLine(std::string("  ") + file_ + ":" + std::to_string(line_) + ": " + text_.str());
}

void Skip(const char* reason) {
  skipped = true;
  PrintLine(std::string("  NOT TESTED HERE: ") + reason);
  const char* ci = ::getenv("CI");
  if (ci != nullptr && std::string_view(ci) == "true") failures.fetch_add(1);
}

std::optional<std::string> CheckCode(const char* expression, faultless::Status status, faultless::Code expected) {
  if (status.code() == expected) return std::nullopt;
  std::string text = std::string(expression) + ": code " + Print(status.code()) + ", expected " + Print(expected);
  if (status.syscall() != nullptr) text += std::string(", ") + status.syscall();
  if (status.error() != 0) text += std::string(", ") + ::strerror(status.error());
  if (status.message() != nullptr) text += std::string(", ") + status.message();
  if (status.has_offset()) text += ", offset " + std::to_string(status.offset());
  return text;
}

Child Child::Fork(const std::function<void()>& body) {
  std::fflush(stdout);
  pid_t pid = ::fork();
  if (pid == 0) {
    failures = 0;
    body();
    std::fflush(stdout);
    ::_exit(failures.load() == 0 ? 0 : 1);
  }
  if (pid < 0) FAIL() << "fork:" << ::strerror(errno);
  return Child(pid);
}

Child Child::Start(const char* name, const std::vector<std::string>& arguments) {
  std::string program = std::filesystem::read_symlink("/proc/self/exe").string();
  std::vector<std::string> strings = {program, "--process", name};
  strings.insert(strings.end(), arguments.begin(), arguments.end());
  std::vector<char*> pointers;
  for (std::string& string : strings) pointers.push_back(string.data());
  pointers.push_back(nullptr);
  pid_t pid = ::fork();
  if (pid == 0) {
    ::execv(program.c_str(), pointers.data());
    ::_exit(127);
  }
  if (pid < 0) FAIL() << "fork:" << ::strerror(errno);
  return Child(pid);
}

Child::~Child() {
  if (pid_ <= 0) return;
  Signal(SIGKILL);
  Wait();
}

void Child::Signal(int signal) const {
  // A pid that fork did not give must never reach kill(): -1 means every process.
  if (pid_ > 0) ::kill(pid_, signal);
}

int Child::Wait() {
  if (pid_ <= 0) return -1;
  int status = 0;
  pid_t got;
  do {
    got = ::waitpid(pid_, &status, 0);
  } while (got < 0 && errno == EINTR);
  pid_ = -1;
  if (got < 0) return -1;
  return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

TemporaryDirectory::TemporaryDirectory() {
  const char* parent = ::getenv("TMPDIR");
  path_ = std::string(parent != nullptr && *parent != '\0' ? parent : "/tmp") + "/faultless-test-XXXXXX";
  if (::mkdtemp(path_.data()) == nullptr) {
    PrintLine("mkdtemp " + path_ + ": " + ::strerror(errno));
    ::abort();
  }
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace harness

int main(int argc, char** argv) {
  std::vector<std::string> arguments(argv + 1, argv + argc);
  if (arguments.size() >= 2 && arguments[0] == "--process") {
    return harness::RunProcess(arguments[1], {arguments.begin() + 2, arguments.end()});
  }
  return harness::RunTests(arguments.empty() ? "" : arguments[0]);
}
