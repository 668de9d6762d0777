// How many threads are worth using: the affinity mask, limited by cgroup quotas of version 1 and 2.
#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <string>

#include "src/base/cgroup.hpp"
#include "src/base/parallel.hpp"

namespace lcrun {
namespace {

// CPUs allowed by one cgroup directory, or a huge number when it sets no quota.
double quota_of(const std::string& dir, bool unified) {
  constexpr double kNone = 1e9;
  if (unified) {
    std::ifstream file(dir + "/cpu.max");
    std::string quota;
    double period = 0;
    if (!(file >> quota >> period) || quota == "max" || period <= 0) return kNone;
    return std::strtod(quota.c_str(), nullptr) / period;
  }
  std::ifstream quota_file(dir + "/cpu.cfs_quota_us");
  std::ifstream period_file(dir + "/cpu.cfs_period_us");
  double quota = 0;
  double period = 0;
  if (!(quota_file >> quota) || !(period_file >> period) || quota <= 0 || period <= 0) return kNone;
  return quota / period;
}

// The least quota of the group and its ancestors, in CPUs.
double cgroup_cpu_limit() {
  double limit = 1e9;
  for (const bool unified : {true, false}) {
    for (const std::string& dir : cgroup_directories(unified ? "" : "cpu"))
      limit = std::min(limit, quota_of(dir, unified));
  }
  return limit;
}

}  // namespace

int default_thread_count() {
  cpu_set_t set;
  CPU_ZERO(&set);
  int cpus = 1;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) cpus = std::max(1, CPU_COUNT(&set));
  const double limit = cgroup_cpu_limit();
  if (limit < cpus) cpus = std::max(1, static_cast<int>(std::floor(limit)));
  return cpus;
}

}  // namespace lcrun
