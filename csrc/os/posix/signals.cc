#include "os/posix/signals.h"

#include <cerrno>

namespace faultless::os {

namespace {

constexpr int kRaisedByTheProcessor[] = {SIGBUS, SIGSEGV, SIGFPE, SIGILL, SIGTRAP};

bool IsPending(int signal) {
  sigset_t pending;
  return sigpending(&pending) == 0 && sigismember(&pending, signal) == 1;
}

}  // namespace

SignalGuard::SignalGuard() {
  sigset_t blocked;
  sigfillset(&blocked);
  // What the processor raises cannot be put off.
  for (const int signal : kRaisedByTheProcessor) sigdelset(&blocked, signal);
  pthread_sigmask(SIG_SETMASK, &blocked, &earlier_mask_);
  size_signal_was_pending_ = IsPending(SIGXFSZ);
}

SignalGuard::~SignalGuard() {
  const int saved_errno = errno;
  if (!size_signal_was_pending_ && IsPending(SIGXFSZ)) {
    sigset_t size_signal;
    sigemptyset(&size_signal);
    sigaddset(&size_signal, SIGXFSZ);
    int taken;
    sigwait(&size_signal, &taken);
  }
  pthread_sigmask(SIG_SETMASK, &earlier_mask_, nullptr);
  errno = saved_errno;
}

}  // namespace faultless::os
