// parallel_for: the one way in which work reaches several threads (team.hpp has the threads).
//
// Results never depend on the number of threads: callers give each output element one owner, and merge partial
// results in index order. Inside a body: no locks, no logging, no waiting for I/O.
// Thread rule: any thread may call parallel_for; each that does drives a team of its own, and bodies run on that team.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>

namespace lcrun {

// Threads worth using: the affinity mask limited by the cgroup CPU quota (v1 or v2), rounded down, at least 1.
int default_thread_count();

// Runs body(task, thread) for task in [0, n_tasks) on up to n_threads threads (0 <= thread < n_threads).
// Tasks are handed out one at a time, in order; use tasks of some 10 us or more.
void parallel_for_raw(int n_threads, int64_t n_tasks, void (*body)(void* context, int64_t task, int thread),
                      void* context);

// Jobs that the calling thread has given to its team so far: each costs a meeting of all its threads.
int64_t parallel_regions();

template <class Body>
void parallel_for(int n_threads, int64_t n_tasks, Body&& body) {
  using Plain = std::remove_reference_t<Body>;
  parallel_for_raw(
      n_threads, n_tasks,
      [](void* context, int64_t task, int thread) { (*static_cast<Plain*>(context))(task, thread); },
      const_cast<void*>(static_cast<const void*>(std::addressof(body))));
}

}  // namespace lcrun
