// Purpose: keeps asynchronous signals away from this thread during a system call that a signal would break off or that
// itself raises one. (1) A file made longer than RLIMIT_FSIZE raises SIGXFSZ, whose default ends the process: here it
// is swallowed and EFBIG alone remains. (2) fallocate on tmpfs undoes all its work on EINTR: under a profiler's timer a
// retry would never end. Signals that came meanwhile are delivered when the guard goes.
// Thread safety: acts on the calling thread alone; create and destroy it in one scope.
#pragma once

#include <csignal>

namespace faultless::os {

class SignalGuard {
 public:
  SignalGuard();
  ~SignalGuard();
  SignalGuard(const SignalGuard&) = delete;
  SignalGuard& operator=(const SignalGuard&) = delete;

 private:
  sigset_t earlier_mask_;
  bool size_signal_was_pending_;
};

}  // namespace faultless::os
