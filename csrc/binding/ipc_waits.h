// Purpose: promises that are settled when something in shared memory happens: from the waiting thread
// (ipc/waiting_thread.h) to the JavaScript thread of the environment.
//
// How it works: a Pending is begun on the JavaScript thread; the waiting thread says Tell once, with its mutex held;
// the environment's loop is woken and settles it there. Until then it can be cancelled. Pending promises keep the
// process alive.
//
// Thread safety: JavaScript thread, but for Tell. Ownership: the hub owns what is pending, and is gone with its
// environment: what is pending then is dropped, after having been told off (Drop).
#pragma once

#include <node_api.h>

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "base/status.h"
#include "ipc/waiting_thread.h"

namespace faultless::binding {

class Waits;

class Pending {
 public:
  virtual ~Pending() = default;

 protected:
  /** On the waiting thread, under its mutex, once: it is to be settled. */
  void Tell();
  /** On the JavaScript thread, after Tell: what the promise resolves to. */
  virtual napi_value Result(napi_env env) = 0;
  /** On the JavaScript thread: from now on nobody calls Tell. False where that has been called already. */
  virtual bool Drop() = 0;

 private:
  friend class Waits;
  Waits* waits_ = nullptr;
  napi_deferred deferred_ = nullptr;
  uint64_t id_ = 0;
};

/** Settled, with nothing, when a word in shared memory is not what was expected, or some time has passed. */
class WordPending final : public Pending, private ipc::Watch {
 public:
  /** `owner` keeps the word's memory. */
  WordPending(std::shared_ptr<const void> owner, const format::HalfWord* word, uint32_t expected, uint64_t timeout_ns);
  /** After Waits::Begin. */
  Status Start();

 protected:
  napi_value Result(napi_env env) override;
  bool Drop() override;

 private:
  void OnWake() override;
  const std::shared_ptr<const void> owner_;
  bool told_ = false;
};

class Waits {
 public:
  /** The environment's; nullptr with a pending exception where it cannot be had. */
  static Waits* Of(napi_env env);

  /** To be called before the pending thing can be told. Answers its promise, nullptr with a pending exception. */
  napi_value Begin(std::unique_ptr<Pending> pending);
  /** Of the one begun last. */
  uint64_t last_id() const { return last_id_; }
  /** Begins a WordPending. */
  napi_value WaitForWord(std::shared_ptr<const void> owner, const format::HalfWord* word, uint32_t expected,
                         uint64_t timeout_ns = ipc::kNever);
  /** Takes back what was just begun: its promise is never seen. */
  void Undo();
  /** Rejects with a descriptor of this code: a public one, or ABORTED where it is kOk. False: it is over, or told. */
  bool Cancel(uint64_t id, Code code);

 private:
  friend class Pending;
  explicit Waits(napi_env env) : env_(env) {}

  void End();
  void Settle(Pending* pending);
  void Count();
  static void OnWake(napi_env env, napi_value callback, void* context, void* data);
  static void OnCleanup(void* data);

  const napi_env env_;
  napi_threadsafe_function wake_ = nullptr;  // referenced exactly while something is pending
  bool referenced_ = false;
  bool ended_ = false;
  uint64_t last_id_ = 0;
  std::unordered_map<uint64_t, std::unique_ptr<Pending>> pending_;
  std::vector<uint64_t> told_;  // guarded by the waiting thread's mutex
};

}  // namespace faultless::binding
