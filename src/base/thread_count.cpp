// How many threads are worth using: the affinity mask, limited by cgroup quotas of version 1 and 2.
#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>
#include <string>

#include "src/base/parallel.hpp"

namespace lcrun {
namespace {

// The path of this process's cgroup under a controller ("" = the unified hierarchy), or "" when there is none.
std::string cgroup_path(const std::string& controller) {
  std::ifstream file("/proc/self/cgroup");
  std::string line;
  while (std::getline(file, line)) {
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string names = line.substr(first + 1, second - first - 1);
    std::istringstream list(names);
    std::string name;
    if (names.empty() && controller.empty()) return line.substr(second + 1);
    while (std::getline(list, name, ',')) {
      if (name == controller) return line.substr(second + 1);
    }
  }
  return "";
}

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
    const std::string root = unified ? "/sys/fs/cgroup" : "/sys/fs/cgroup/cpu";
    std::string path = cgroup_path(unified ? "" : "cpu");
    for (;;) {
      limit = std::min(limit, quota_of(root + path, unified));
      const size_t slash = path.find_last_of('/');
      if (path.empty() || slash == std::string::npos) break;
      path.resize(slash);
    }
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
