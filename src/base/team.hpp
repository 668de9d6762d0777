// Team: the persistent threads behind parallel_for.
//
// A driver posts a job, works on it itself, and at the end takes the offer back from every worker that has not begun:
// a worker whose core is busy with something else never holds a job up. Workers spin for a short while after a job,
// because the next one of a decode step is microseconds away, and then sleep in the kernel.
// A process holds as many teams as it has threads that drive at the same time; a driver leases one for its lifetime.
// Thread rule: one driver at a time; bodies run on the driver and the workers.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

namespace lcrun {

using TaskBody = void (*)(void* context, int64_t task, int thread);

class Team {
 public:
  Team();
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  // Runs body(context, task, thread) once for each task in [0, n_tasks), on at most n_threads threads (>= 1, the caller
  // is thread 0). Tasks are handed out in order. When threads cannot be made, fewer do the work.
  void run(int n_threads, int64_t n_tasks, TaskBody body, void* context);

  // Whether the calling thread is a worker of some team.
  static bool is_worker();

  int n_workers() const { return static_cast<int>(workers_.size()); }

 private:
  // Own cache lines: the driver writes one while its neighbour's worker reads another.
  struct alignas(64) Slot {
    std::atomic<uint32_t> state{0};
    std::thread thread;
  };
  struct Job {
    TaskBody body = nullptr;
    void* context = nullptr;
    int64_t n_tasks = 0;
  };

  void hire(int n_workers);
  void work(Slot& slot, int thread);
  void take_tasks(int thread);

  Job job_;                                   // written by the driver while no worker runs
  alignas(64) std::atomic<int64_t> next_{0};  // the next task to hand out
  std::vector<std::unique_ptr<Slot>> workers_;
  alignas(64) bool is_short_of_threads_ = false;
  int64_t owner_process_ = 0;  // threads do not cross a fork
};

}  // namespace lcrun
