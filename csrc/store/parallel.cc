#include "store/parallel.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>

#include "os/os.h"

namespace faultless::store {
namespace {

constexpr uint32_t kMostThreads = 4;
#ifdef FAULTLESS_FAIL_POINTS
constexpr uint64_t kBytesPerThread = uint64_t{256} << 10;  // small stores shall have several, too
constexpr uint32_t kLeastProcessors = 2;
#else
constexpr uint64_t kBytesPerThread = uint64_t{2} << 20;
constexpr uint32_t kLeastProcessors = 1;
#endif

/** Kept by each thread: the call may return while one of them still lets go of the mutex. */
struct Pieces {
  Pieces(size_t all, const std::function<Status(uint32_t, size_t)>& body) : count(all), work(body), failed(all) {}

  /** Does the next piece; false where there is none. */
  bool DoOne(uint32_t thread) {
    if (stopped.load(std::memory_order_relaxed)) return false;  // before the next is taken: what is taken is done
    const size_t piece = next.fetch_add(1, std::memory_order_relaxed);
    if (piece >= count) return false;
    const Status done = work(thread, piece);
    if (done.ok()) return true;
    stopped.store(true, std::memory_order_relaxed);
    const std::lock_guard<std::mutex> lock(mutex);
    if (piece < failed) {
      failed = piece;
      failure = done;
    }
    return false;
  }

  const size_t count;
  const std::function<Status(uint32_t, size_t)>& work;  // outlives every piece
  std::atomic<size_t> next{0};
  std::atomic<bool> stopped{false};
  std::mutex mutex;
  std::condition_variable left;
  uint32_t helping = 0;
  size_t failed;
  Status failure;
};

struct Helper {
  std::shared_ptr<Pieces> pieces;
  uint32_t thread;
};

void Help(void* argument) {
  const std::unique_ptr<Helper> helper(static_cast<Helper*>(argument));
  Pieces& pieces = *helper->pieces;
  while (pieces.DoOne(helper->thread)) {
  }
  const std::lock_guard<std::mutex> lock(pieces.mutex);
  pieces.helping--;
  pieces.left.notify_all();
}

}  // namespace

uint32_t ThreadsFor(uint64_t bytes) {
  static const uint32_t processors = std::max(kLeastProcessors, std::thread::hardware_concurrency());
  return static_cast<uint32_t>(std::clamp<uint64_t>(bytes / kBytesPerThread, 1, std::min(processors, kMostThreads)));
}

Status DoPieces(size_t pieces, uint32_t threads, const std::function<Status(uint32_t, size_t)>& work,
                const std::function<void()>& between) {
  const auto shared = std::make_shared<Pieces>(pieces, work);
  for (uint32_t thread = 1; thread < std::min<uint64_t>(threads, pieces); thread++) {
    auto helper = std::make_unique<Helper>(Helper{shared, thread});
    {
      const std::lock_guard<std::mutex> lock(shared->mutex);
      shared->helping++;
    }
    if (os::StartThread(Help, helper.get()).ok()) {
      static_cast<void>(helper.release());
      continue;
    }
    const std::lock_guard<std::mutex> lock(shared->mutex);
    shared->helping--;
    break;
  }
  while (shared->DoOne(0)) between();
  std::unique_lock<std::mutex> lock(shared->mutex);
  shared->left.wait(lock, [&] { return shared->helping == 0; });
  return shared->failure;
}

}  // namespace faultless::store
