// Leases of teams to the threads that drive them.
#include "src/base/parallel.hpp"

#include <mutex>
#include <vector>

#include "src/base/team.hpp"

namespace lcrun {
namespace {

// Teams whose driver has ended wait here for the next: a program that answers each request on a new thread keeps its
// workers. Ends, and joins them, with the process or when the library is unloaded.
class TeamPool {
 public:
  std::unique_ptr<Team> take() {
    const std::lock_guard lock(mutex_);
    if (free_.empty()) return std::make_unique<Team>();
    std::unique_ptr<Team> team = std::move(free_.back());
    free_.pop_back();
    return team;
  }
  void give(std::unique_ptr<Team> team) {
    const std::lock_guard lock(mutex_);
    free_.push_back(std::move(team));
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Team>> free_;
};

TeamPool& pool() {
  static TeamPool teams;
  return teams;
}

struct Lease {
  Lease() : team(pool().take()) {}
  ~Lease() { pool().give(std::move(team)); }
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  std::unique_ptr<Team> team;
  bool is_driving = false;
};

Lease& lease() {
  thread_local Lease mine;
  return mine;
}

thread_local int64_t regions = 0;

}  // namespace

int64_t parallel_regions() { return regions; }

void parallel_for_raw(int n_threads, int64_t n_tasks, void (*body)(void* context, int64_t task, int thread),
                      void* context) {
  // A body that calls parallel_for itself runs those tasks alone: its team is busy.
  if (n_threads <= 1 || n_tasks <= 1 || Team::is_worker() || lease().is_driving) {
    for (int64_t task = 0; task < n_tasks; ++task) body(context, task, 0);
    return;
  }
  ++regions;
  lease().is_driving = true;
  lease().team->run(n_threads, n_tasks, body, context);
  lease().is_driving = false;
}

}  // namespace lcrun
