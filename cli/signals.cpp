#include "cli/signals.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>

namespace lcrun::cli {
namespace {

std::atomic<int> signal_count{0};
std::atomic<bool> was_interrupted{false};
std::atomic<bool> saw_sigterm{false};
int event_fd = -1;  // readable while was_interrupted is set; set before the handlers are
static_assert(std::atomic<int>::is_always_lock_free && std::atomic<bool>::is_always_lock_free);

extern "C" void on_signal(int number) {
  if (number == SIGTERM) saw_sigterm = true;
  was_interrupted = true;
  const int kept_errno = errno;
  const uint64_t one = 1;
  if (write(event_fd, &one, sizeof(one)) < 0) {
    // Nobody to tell: then nobody waits for it either, and the flag is asked.
  }
  errno = kept_errno;
  // The first one asks; somebody who presses again does not want to wait.
  if (signal_count.fetch_add(1) >= 1) _exit(130);
}

}  // namespace

void install_signal_handlers() {
  event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  struct sigaction action {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = 0;  // no SA_RESTART: a blocked read must return so that the flag is seen
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
}

const std::atomic<bool>* interrupt_flag() { return &was_interrupted; }
bool interrupted() { return was_interrupted.load(); }
int interrupt_fd() { return event_fd; }
void clear_interrupt() {
  if (saw_sigterm) return;
  signal_count = 0;
  was_interrupted = false;
  uint64_t unread = 0;
  if (read(event_fd, &unread, sizeof(unread)) < 0) {
    // It was empty.
  }
}
bool terminated() { return saw_sigterm; }

}  // namespace lcrun::cli
