#include "src/base/cgroup.hpp"

#include <algorithm>
#include <fstream>
#include <sstream>

namespace lcrun {
namespace {

// The path of this process's group, or "" when there is none.
std::string own_path(const std::string& controller, const std::string& root) {
  std::ifstream file(root + "/proc/self/cgroup");
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

// A file that holds one number; "max", version 1's huge number for "none", and what cannot be read are no limit.
uint64_t number_of(const std::string& path) {
  constexpr uint64_t kHuge = uint64_t{1} << 62;
  std::ifstream file(path);
  uint64_t value = 0;
  return file >> value && value < kHuge ? value : kNoMemoryLimit;
}

void narrow(CgroupMemory& memory, uint64_t limit, uint64_t used) {
  if (limit == kNoMemoryLimit) return;
  memory.limit = std::min(memory.limit, limit);
  if (used == kNoMemoryLimit) used = 0;
  memory.room = std::min(memory.room, limit > used ? limit - used : 0);
}

}  // namespace

std::vector<std::string> cgroup_directories(const std::string& controller, const std::string& root) {
  const std::string top = root + "/sys/fs/cgroup" + (controller.empty() ? "" : "/" + controller);
  std::vector<std::string> directories;
  for (std::string path = own_path(controller, root);;) {
    while (!path.empty() && path.back() == '/') path.pop_back();
    directories.push_back(top + path);
    const size_t slash = path.find_last_of('/');
    if (slash == std::string::npos) break;
    path.resize(slash);
  }
  return directories;
}

CgroupMemory cgroup_memory(const std::string& root) {
  CgroupMemory memory;
  for (const std::string& dir : cgroup_directories("", root)) {
    const uint64_t used = number_of(dir + "/memory.current");
    narrow(memory, number_of(dir + "/memory.max"), used);
    narrow(memory, number_of(dir + "/memory.high"), used);
  }
  for (const std::string& dir : cgroup_directories("memory", root)) {
    narrow(memory, number_of(dir + "/memory.limit_in_bytes"), number_of(dir + "/memory.usage_in_bytes"));
  }
  return memory;
}

}  // namespace lcrun
