// What the control groups of version 1 and 2 allow this process: least of its own group and all groups above it.
//
// `root` stands in front of every path, so that a test can give a tree of its own. Thread rule: pure functions that
// read files.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace lcrun {

constexpr uint64_t kNoMemoryLimit = UINT64_MAX;

// Directories of this process's group under a controller of version 1 (version 2: ""), from its own up to the root
// of the hierarchy, which is there also when the process cannot see its place in it (a container).
std::vector<std::string> cgroup_directories(const std::string& controller, const std::string& root = "");

struct CgroupMemory {
  uint64_t limit = kNoMemoryLimit;  // least of memory.max, memory.high and memory.limit_in_bytes
  uint64_t room = kNoMemoryLimit;   // least of what each of them leaves above the present use
};
CgroupMemory cgroup_memory(const std::string& root = "");

}  // namespace lcrun
