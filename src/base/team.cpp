#include "src/base/team.hpp"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <system_error>

namespace lcrun {
namespace {

// States of a worker. The driver turns kIdle to kPosted, and kPosted back to kIdle or to kStop; the worker turns
// kPosted to kRunning and kRunning to kIdle.
constexpr uint32_t kIdle = 0;
constexpr uint32_t kPosted = 1;
constexpr uint32_t kRunning = 2;
constexpr uint32_t kStop = 3;

// Longer than what a decode step does alone between two jobs, sampling included, and short enough that a session
// that waits for its user costs nothing.
constexpr std::chrono::microseconds kSpinTime{200};
constexpr int kPausesPerLook = 32;
constexpr int kPatientLooks = 16;

void pause_cpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// True when `state` has left `value` within the spinning time.
bool spin_while(const std::atomic<uint32_t>& state, uint32_t value) {
  const auto end = std::chrono::steady_clock::now() + kSpinTime;
  int looks = 0;
  do {
    for (int i = 0; i < kPausesPerLook; ++i) {
      if (state.load(std::memory_order_acquire) != value) return true;
      pause_cpu();
    }
    // Lets whatever shares this core run: with more threads than cores, that may be the one we wait for.
    if (++looks > kPatientLooks) sched_yield();
  } while (std::chrono::steady_clock::now() < end);
  return false;
}

void wait_while(const std::atomic<uint32_t>& state, uint32_t value) {
  if (!spin_while(state, value)) state.wait(value, std::memory_order_acquire);
}

thread_local bool on_worker = false;

}  // namespace

bool Team::is_worker() { return on_worker; }

Team::Team() : owner_process_(getpid()) {}

Team::~Team() {
  for (auto& slot : workers_) {
    if (getpid() != owner_process_) {
      slot->thread.detach();  // a copy made by fork: there is no such thread here
      continue;
    }
    slot->state.store(kStop);
    slot->state.notify_one();
    slot->thread.join();
  }
}

void Team::hire(int wanted) {
  while (n_workers() < wanted && !is_short_of_threads_) {
    auto slot = std::make_unique<Slot>();
    const int thread = n_workers() + 1;
    try {
      slot->thread = std::thread([this, at = slot.get(), thread] { work(*at, thread); });
    } catch (const std::system_error&) {
      is_short_of_threads_ = true;  // a limit on threads: not a reason to fail, nor to try again for every job
      return;
    }
    workers_.push_back(std::move(slot));
  }
}

void Team::take_tasks(int thread) {
  const Job job = job_;
  for (int64_t task = next_.fetch_add(1, std::memory_order_relaxed); task < job.n_tasks;
       task = next_.fetch_add(1, std::memory_order_relaxed)) {
    job.body(job.context, task, thread);
  }
}

void Team::work(Slot& slot, int thread) {
  on_worker = true;
  for (;;) {
    uint32_t seen = kPosted;
    if (slot.state.compare_exchange_strong(seen, kRunning, std::memory_order_acquire)) {
      take_tasks(thread);
      slot.state.store(kIdle);
      slot.state.notify_one();  // the driver may sleep by now
      continue;
    }
    if (seen == kStop) return;
    wait_while(slot.state, seen);
  }
}

void Team::run(int n_threads, int64_t n_tasks, TaskBody body, void* context) {
  const int wanted = static_cast<int>(std::min<int64_t>(n_threads, n_tasks)) - 1;
  hire(wanted);
  const int posted = std::min(wanted, n_workers());
  job_ = {body, context, n_tasks};
  next_.store(0, std::memory_order_relaxed);
  for (int i = 0; i < posted; ++i) {
    workers_[static_cast<size_t>(i)]->state.store(kPosted);
    workers_[static_cast<size_t>(i)]->state.notify_one();
  }
  take_tasks(0);
  for (int i = 0; i < posted; ++i) {
    std::atomic<uint32_t>& state = workers_[static_cast<size_t>(i)]->state;
    uint32_t seen = kPosted;
    if (state.compare_exchange_strong(seen, kIdle)) continue;  // it never began: all tasks are done without it
    while (seen == kRunning) {
      wait_while(state, kRunning);
      seen = state.load(std::memory_order_acquire);
    }
  }
}

}  // namespace lcrun
