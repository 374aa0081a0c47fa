#include "store/open_engines.h"

#include <cerrno>
#include <map>
#include <mutex>
#include <thread>
#include <tuple>
#include <utility>

#include "os/os.h"
#include "store/temporary_door.h"

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

/** What `fd` has open by the store's path: the store, or the door to it. kWouldBlock: look again. */
Status EnterWhereDoor(const OpenOptions& options, int* fd, std::unique_ptr<TemporaryDoor>* door) {
  bool is_door = false;
  Status status = TemporaryDoor::IsDoor(*fd, &is_door);
  if (status.ok() && !is_door && options.temporary) {
    status = {Code::kFormat, "what is there is not a temporary store"};
  } else if (status.ok() && !is_door) {
    if (!options.exclusive) return Code::kOk;
    status = Code::kExists;
  }
  os::CloseFile(std::exchange(*fd, -1));
  FAULTLESS_TRY(status);
  int door_fd = -1;
  const Status opened = os::OpenFile(options.path.c_str(), os::Access::kReadWrite, &door_fd);
  if (opened.code() == Code::kNotFound) return Code::kWouldBlock;
  FAULTLESS_TRY(opened);
  FAULTLESS_TRY(TemporaryDoor::Enter(door_fd, options, fd, door));
  return Code::kOk;
}

Status OpenOrCreate(const OpenOptions& options, int* fd, std::unique_ptr<TemporaryDoor>* door) {
  const os::Access access = options.read_only ? os::Access::kReadOnly : os::Access::kReadWrite;
  constexpr int kAttempts = 100;  // somebody may create and destroy the file again and again
  for (int attempt = 0; attempt < kAttempts; attempt++) {
    const Status opened = os::OpenFile(options.path.c_str(), access, fd);
    if (opened.ok()) {
      const Status entered = EnterWhereDoor(options, fd, door);
      if (entered.code() == Code::kWouldBlock) continue;
      return entered;
    }
    if (opened.error() == EISDIR)
      return {Code::kFormat, "not a regular file"};  // as where it is opened for reading alone
    if (opened.code() != Code::kNotFound || !options.create || options.read_only) return opened;
    if (options.temporary) {
      const Status created = TemporaryDoor::Create(options);
      if (!created.ok() && created.code() != Code::kExists) return created;
      continue;
    }
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

Status AcquireEngine(const OpenOptions& asked, std::shared_ptr<Engine>* engine) {
  OpenOptions options = asked;
  if (options.salvage && !options.read_only) return {Code::kInvalidArgValue, "salvage is for reading only"};
  if (os::InForkedChild()) return {Code::kUnsupported, "use in a forked child that did not exec"};
  int fd = -1;
  std::unique_ptr<TemporaryDoor> door;
  FAULTLESS_TRY(OpenOrCreate(options, &fd, &door));
  options.temporary = door != nullptr;
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
    if (status.ok() && door != nullptr) status = door->Leave();  // by the other one
    FAULTLESS_TRY(status);
    FAULTLESS_TRY(Engine::CheckKept(block, options.kept));
    if (options.pin) FAULTLESS_TRY(open->Pin());
    entry->users++;
    *engine = std::move(open);
    return Code::kOk;
  }
  std::unique_ptr<Engine> opened;
  const Status status = Engine::Open(fd, options, &opened);
  if (!status.ok() && door != nullptr) static_cast<void>(door->Leave());
  FAULTLESS_TRY(status);
  if (door != nullptr) opened->KeepDoor(std::move(door));
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
