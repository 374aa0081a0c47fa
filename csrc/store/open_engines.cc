#include "store/open_engines.h"

#include <cerrno>
#include <map>
#include <mutex>
#include <thread>
#include <tuple>

#include "os/os.h"

namespace faultless::store {
namespace {

struct Entry {
  std::mutex mutex;  // held while the file is opened or closed
  std::weak_ptr<Engine> engine;
  int users = 0;
};

enum class Way : uint8_t { kWriting, kReading, kSalvaging };
using Key = std::tuple<uint64_t, uint64_t, Way>;  // device, inode

struct Registry {
  std::mutex mutex;
  std::map<Key, std::shared_ptr<Entry>> entries;
  std::map<const Engine*, Key> keys;
};

Registry& TheRegistry() {
  static Registry* const engines = new Registry;
  return *engines;
}

Status OpenOrCreate(const OpenOptions& options, int* fd) {
  const os::Access access = options.read_only ? os::Access::kReadOnly : os::Access::kReadWrite;
  constexpr int kAttempts = 100;  // somebody may create and destroy the file again and again
  for (int attempt = 0; attempt < kAttempts; attempt++) {
    const Status opened = os::OpenFile(options.path.c_str(), access, fd);
    if (opened.ok()) {
      if (!options.exclusive) return Code::kOk;
      os::CloseFile(*fd);
      return Code::kExists;
    }
    if (opened.error() == EISDIR)
      return {Code::kFormat, "not a regular file"};  // as where it is opened for reading alone
    if (opened.code() != Code::kNotFound || !options.create || options.read_only) return opened;
    const Status created = Engine::Create(options);
    if (created.ok()) return os::OpenFile(options.path.c_str(), access, fd);
    if (created.code() != Code::kExists || options.exclusive) return created;
  }
  return {Code::kBusy, "the file comes and goes"};
}

/** Of an engine that is shared; nullptr: it was made for one user (Store::OpenOn). */
std::shared_ptr<Entry> EntryOf(Registry* engines, const Engine* engine) {
  const std::lock_guard<std::mutex> guard(engines->mutex);
  const auto key = engines->keys.find(engine);
  return key == engines->keys.end() ? nullptr : engines->entries[key->second];
}

/** Nobody in this process uses the file any more. The entry's mutex is held. */
void Forget(Registry* engines, const std::shared_ptr<Entry>& entry, const Engine* engine) {
  entry->engine.reset();
  const std::lock_guard<std::mutex> guard(engines->mutex);
  const auto key = engines->keys.find(engine);
  // Whoever waits for the entry's mutex holds the entry, and keeps it in the map.
  constexpr long kMapAndCaller = 2;
  if (entry.use_count() == kMapAndCaller) engines->entries.erase(key->second);
  engines->keys.erase(key);
}

}  // namespace

Status AcquireEngine(const OpenOptions& options, std::shared_ptr<Engine>* engine) {
  if (options.salvage && !options.read_only) return {Code::kInvalidArgValue, "salvage is for reading only"};
  if (os::InForkedChild()) return {Code::kUnsupported, "use in a forked child that did not exec"};
  int fd = -1;
  FAULTLESS_TRY(OpenOrCreate(options, &fd));
  os::FileInfo info{};
  const Status stated = os::StatFile(fd, &info);
  if (!stated.ok()) {
    os::CloseFile(fd);
    return stated;
  }
  const Way way = !options.read_only ? Way::kWriting : options.salvage ? Way::kSalvaging : Way::kReading;
  const Key key{info.device, info.inode, way};
  Registry& engines = TheRegistry();
  std::shared_ptr<Entry> entry;
  {
    const std::lock_guard<std::mutex> guard(engines.mutex);
    auto& place = engines.entries[key];
    if (!place) place = std::make_shared<Entry>();
    entry = place;
  }
  const std::lock_guard<std::mutex> opening(entry->mutex);
  if (std::shared_ptr<Engine> open = entry->engine.lock(); open && entry->users > 0) {
    format::Superblock block;
    Status status = Engine::ReadSuperblock(fd, &block);
    os::CloseFile(fd);
    FAULTLESS_TRY(status);
    FAULTLESS_TRY(Engine::CheckKept(block, options.kept));
    if (options.pin) FAULTLESS_TRY(open->Pin());
    entry->users++;
    *engine = std::move(open);
    return Code::kOk;
  }
  std::unique_ptr<Engine> opened;
  FAULTLESS_TRY(Engine::Open(fd, options, &opened));
  std::shared_ptr<Engine> shared(std::move(opened));
  entry->engine = shared;
  entry->users = 1;
  {
    const std::lock_guard<std::mutex> guard(engines.mutex);
    engines.keys[shared.get()] = key;
  }
  *engine = std::move(shared);
  return Code::kOk;
}

void AbandonEngine(std::shared_ptr<Engine>* engine) {
  if (EntryOf(&TheRegistry(), engine->get()) == nullptr) return engine->reset();
  // Letting go may wait (for somebody who opens the same file just now, for a FUSE server at the last close): a thread
  // of its own does it.
  std::thread([abandoned = std::move(*engine)]() mutable {
    Registry& engines = TheRegistry();
    const std::shared_ptr<Entry> entry = EntryOf(&engines, abandoned.get());
    const std::lock_guard<std::mutex> closing(entry->mutex);
    if (--entry->users == 0) Forget(&engines, entry, abandoned.get());
    abandoned.reset();
  }).detach();
  engine->reset();
}

Status ReleaseEngine(std::shared_ptr<Engine>* engine) {
  Registry& engines = TheRegistry();
  const std::shared_ptr<Entry> entry = EntryOf(&engines, engine->get());
  Status status;
  if (entry == nullptr) {
    status = (*engine)->Close();
    engine->reset();
    return status;
  }
  const std::lock_guard<std::mutex> closing(entry->mutex);
  const Engine* const closed = engine->get();
  if (--entry->users == 0) {
    status = (*engine)->Close();
    Forget(&engines, entry, closed);
  }
  engine->reset();
  return status;
}

}  // namespace faultless::store
