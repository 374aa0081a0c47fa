// The store's C++ core alone, without Node: several processes put, then get, keys and values of 4 bytes in one store,
// as the performance test of SharedHashFile does (test.f.shf, "mix" aside). Prints operations per second of all
// processes together. Every answer is checked.
//
//   core [--keys N] [--processes P] [--batch B] [--path FILE]
//
// Batches of B keys are prepared before they are read, so that their cache misses overlap (store/prepare.h); puts go
// one by one.
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "os/os.h"
#include "store/store.h"

namespace {

using faultless::Code;
using faultless::Status;
using faultless::store::Bytes;
using faultless::store::OpenOptions;
using faultless::store::ReadMode;
using faultless::store::Store;
using faultless::store::ValueSink;

struct Settings {
  uint64_t keys = 2'000'000;
  uint64_t processes = 2;
  uint64_t batch = 64;
  std::string path = "/dev/shm/faultless.bench-core";
  uint64_t worker = ~uint64_t{0};  // which of the processes this is; none: who starts them
  uint64_t board = 0;              // its descriptor
};

[[noreturn]] void Fail(const char* what, const Status& status = {}) {
  std::fprintf(stderr, "core: %s (code %d)\n", what, static_cast<int>(status.code()));
  std::_Exit(1);
}

void Require(const Status& status, const char* what) {
  if (!status.ok()) Fail(what, status);
}

/** Where processes wait for each other: memory behind a descriptor that workers inherit. */
struct Board {
  std::atomic<uint32_t> arrived[5];
};

/** All processes go on together. */
void Meet(Board* board, int phase, uint64_t processes) {
  board->arrived[phase].fetch_add(1);
  while (board->arrived[phase].load() < processes) ::usleep(50);
}

class FourBytes final : public ValueSink {
 public:
  uint8_t* Allocate(uint64_t size) override {
    return size == sizeof value ? reinterpret_cast<uint8_t*>(&value) : nullptr;
  }
  uint32_t value = 0;
};

/** No order, and each once: an odd factor is invertible modulo 2^32. */
uint32_t KeyOf(uint64_t number) { return static_cast<uint32_t>(number * 2'654'435'761U); }
uint32_t ValueOf(uint64_t number) { return ~KeyOf(number); }
Bytes BytesOf(const uint32_t& word) { return {reinterpret_cast<const uint8_t*>(&word), sizeof word}; }

std::shared_ptr<Store> OpenIt(const Settings& settings, bool create) {
  OpenOptions options;
  options.path = settings.path;
  options.create = create;
  options.kept.max_bytes = uint64_t{1} << 34;
  std::shared_ptr<Store> store;
  Require(Store::Open(options, &store), "the store does not open");
  return store;
}

void Put(Store* store, uint64_t first, uint64_t end) {
  for (uint64_t i = first; i < end; i++) {
    const uint32_t key = KeyOf(i);
    const uint32_t value = ValueOf(i);
    Status status;
    do status = store->Set(BytesOf(key), BytesOf(value), {});
    while (status.code() == Code::kWouldBlock);
    Require(status, "put");
  }
}

void Get(Store* store, uint64_t first, uint64_t end, uint64_t batch) {
  std::vector<uint32_t> words(batch);
  std::vector<Bytes> keys(batch);
  std::vector<uint64_t> hashes(batch);
  for (uint64_t at = first; at < end; at += batch) {
    const uint64_t count = std::min(batch, end - at);
    for (uint64_t i = 0; i < count; i++) {
      words[i] = KeyOf(at + i);
      keys[i] = BytesOf(words[i]);
    }
    if (batch > 1) store->Prepare({keys.data(), count}, {hashes.data(), count}, /*advise=*/false);
    for (uint64_t i = 0; i < count; i++) {
      FourBytes sink;
      const Status status = batch > 1 ? store->Get(keys[i], hashes[i], &sink, ReadMode::kMayFault, nullptr)
                                      : store->Get(keys[i], &sink, ReadMode::kMayFault);
      Require(status, "get");
      if (sink.value != ValueOf(at + i)) Fail("a wrong value");
    }
  }
}

/** What each process does; the first one makes the store, and prints. */
void Work(const Settings& settings, Board* board, uint64_t index) {
  std::shared_ptr<Store> store;
  if (index == 0) store = OpenIt(settings, /*create=*/true);
  Meet(board, 0, settings.processes);
  if (index != 0) store = OpenIt(settings, /*create=*/false);
  const uint64_t share = settings.keys / settings.processes;
  const uint64_t first = index * share;
  uint64_t begin_ns = 0;
  const auto told = [&](const char* what) {
    const double seconds = static_cast<double>(faultless::os::MonotonicNs() - begin_ns) / 1e9;
    if (index == 0) std::printf("%s %.3f M/s\n", what, static_cast<double>(share * settings.processes) / seconds / 1e6);
  };
  Meet(board, 1, settings.processes);
  begin_ns = faultless::os::MonotonicNs();
  Put(store.get(), first, first + share);
  Meet(board, 2, settings.processes);
  told("put");
  // The keys of another process: nothing of them is in this one's caches.
  const uint64_t other = (index + 1) % settings.processes * share;
  Meet(board, 3, settings.processes);
  begin_ns = faultless::os::MonotonicNs();
  Get(store.get(), other, other + share, settings.batch);
  Meet(board, 4, settings.processes);
  told("get");
  std::fflush(stdout);
  Require(store->Close(), "close");
}

uint64_t NumberIn(const char* text, uint64_t least) {
  char* end = nullptr;
  const uint64_t number = std::strtoull(text, &end, 10);
  if (*text == '\0' || *end != '\0' || number < least) Fail("a number is wrong");
  return number;
}

Settings Parse(int argc, char** argv) {
  Settings settings;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    if (name == "--keys")
      settings.keys = NumberIn(argv[i + 1], 1'000);
    else if (name == "--processes")
      settings.processes = NumberIn(argv[i + 1], 1);
    else if (name == "--batch")
      settings.batch = NumberIn(argv[i + 1], 1);
    else if (name == "--path")
      settings.path = argv[i + 1];
    else if (name == "--worker")
      settings.worker = NumberIn(argv[i + 1], 0);
    else if (name == "--board")
      settings.board = NumberIn(argv[i + 1], 0);
    else
      Fail("usage: core [--keys N] [--processes P] [--batch B] [--path FILE]");
  }
  return settings;
}

}  // namespace

int main(int argc, char** argv) {
  const Settings settings = Parse(argc, argv);
  const bool is_worker = settings.worker != ~uint64_t{0};
  const int fd = is_worker ? static_cast<int>(settings.board) : ::memfd_create("board", 0);
  if (fd < 0 || ::ftruncate(fd, sizeof(Board)) != 0) Fail("no memory");
  void* const memory = ::mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) Fail("no memory");
  if (is_worker) {
    Work(settings, static_cast<Board*>(memory), settings.worker);
    return 0;
  }
  ::unlink(settings.path.c_str());
  std::vector<pid_t> workers;
  for (uint64_t i = 0; i < settings.processes; i++) {
    // A child that did not exec may not use a store.
    const std::string index = std::to_string(i);
    const std::string board = std::to_string(fd);
    std::vector<char*> arguments(argv, argv + argc);
    for (const char* const more : {"--worker", index.c_str(), "--board", board.c_str()}) {
      arguments.push_back(const_cast<char*>(more));
    }
    arguments.push_back(nullptr);
    pid_t worker;
    if (::posix_spawn(&worker, "/proc/self/exe", nullptr, nullptr, arguments.data(), environ) != 0) Fail("no process");
    workers.push_back(worker);
  }
  bool failed = false;
  int status = 0;
  while (::wait(&status) > 0) {
    if (status == 0 || failed) continue;
    // The others would wait for it for ever.
    failed = true;
    for (const pid_t worker : workers) ::kill(worker, SIGKILL);
  }
  ::unlink(settings.path.c_str());
  return failed ? 1 : 0;
}
