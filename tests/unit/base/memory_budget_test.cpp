#include "src/base/memory_budget.hpp"

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

#include "src/base/cgroup.hpp"
#include "tests/support/temp_dir.hpp"

using namespace lcrun;

namespace {

// A tree of files that stands for a machine.
class FakeRoot {
 public:
  void put(const std::string& path, const std::string& text) {
    const std::filesystem::path full = dir_.path() + path;
    std::filesystem::create_directories(full.parent_path());
    std::ofstream(full) << text << "\n";
  }
  const std::string& path() const { return dir_.path(); }

 private:
  test::TempDir dir_;
};

}  // namespace

TEST_CASE("a reservation past the cap is refused, names the holders and changes nothing", "[base]") {
  MemoryBudget budget(1000);
  auto weights = budget.reserve(Arena::kWeights, 600);
  REQUIRE(weights.has_value());
  auto cache = budget.reserve(Arena::kCache, 400);
  REQUIRE(cache.has_value());
  const auto refused = budget.reserve(Arena::kScratch, 1);
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error().code == Code::kNoMemory);
  CHECK(refused.error().message.find("weights 600") != std::string::npos);
  CHECK(refused.error().message.find("scratch wants 1 ") != std::string::npos);
  CHECK(budget.used() == 1000);
  CHECK_FALSE(budget.reserve(Arena::kScratch, UINT64_MAX).has_value());
  CHECK_FALSE(cache.value().resize(401).has_value());
  CHECK(cache.value().bytes() == 400);
  REQUIRE(cache.value().resize(100).has_value());
  CHECK(budget.used(Arena::kCache) == 100);
  CHECK(budget.reserve(Arena::kScratch, 300).has_value());  // given back at once
  CHECK(budget.used() == 700);
  CHECK(budget.peak() == 1000);
}

TEST_CASE("what is moved from holds nothing, and a reservation may outlive its budget", "[base]") {
  MemoryReservation kept;
  {
    MemoryBudget budget(100);
    auto made = budget.reserve(Arena::kIndex, 60);
    REQUIRE(made.has_value());
    kept = std::move(made).value();
    CHECK(budget.used() == 60);
    kept = MemoryReservation();
    CHECK(budget.used() == 0);
    auto again = budget.reserve(Arena::kIndex, 100);
    REQUIRE(again.has_value());
    kept = std::move(again).value();
  }
  CHECK(kept.bytes() == 100);
  CHECK_FALSE(kept.resize(101).has_value());
}

TEST_CASE("threads that reserve together never pass the cap", "[base]") {
  MemoryBudget budget(64);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&budget] {
      for (int i = 0; i < 2000; ++i) {
        auto a = budget.reserve(Arena::kCache, 20);
        auto b = budget.reserve(Arena::kBuffers, 30);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(budget.used() == 0);
  CHECK(budget.peak() <= 64);
  CHECK(budget.peak() >= 50);
}

TEST_CASE("the cap is the least of the flag and of every limit on the way up the groups of version 2", "[base]") {
  FakeRoot root;
  CHECK(effective_memory_cap(0, root.path()) == kNoMemoryLimit);
  CHECK(effective_memory_cap(77, root.path()) == 77);
  root.put("/proc/self/cgroup", "0::/user/app");
  root.put("/sys/fs/cgroup/user/app/memory.max", "max");
  CHECK(effective_memory_cap(0, root.path()) == kNoMemoryLimit);
  root.put("/sys/fs/cgroup/user/memory.max", "9000");
  root.put("/sys/fs/cgroup/user/memory.current", "8500");
  CHECK(effective_memory_cap(0, root.path()) == 9000);
  CHECK(cgroup_memory(root.path()).room == 500);
  root.put("/sys/fs/cgroup/user/app/memory.high", "7000");
  root.put("/sys/fs/cgroup/user/app/memory.current", "6900");
  CHECK(effective_memory_cap(0, root.path()) == 7000);
  CHECK(cgroup_memory(root.path()).room == 100);
  CHECK(effective_memory_cap(5000, root.path()) == 5000);
}

TEST_CASE("a container that cannot see its own group, and version 1, are limited too", "[base]") {
  FakeRoot hidden;
  hidden.put("/proc/self/cgroup", "0::/not/in/this/namespace");
  hidden.put("/sys/fs/cgroup/memory.max", "4096");
  CHECK(effective_memory_cap(0, hidden.path()) == 4096);

  FakeRoot old;
  old.put("/proc/self/cgroup", "5:cpu,cpuacct:/a\n3:memory:/job\n");
  old.put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712");
  CHECK(effective_memory_cap(0, old.path()) == kNoMemoryLimit);
  old.put("/sys/fs/cgroup/memory/job/memory.limit_in_bytes", "123456");
  old.put("/sys/fs/cgroup/memory/job/memory.usage_in_bytes", "200000");
  CHECK(effective_memory_cap(0, old.path()) == 123456);
  CHECK(cgroup_memory(old.path()).room == 0);
}
