#include "src/base/parallel.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <ctime>
#include <thread>
#include <vector>

#include "src/base/team.hpp"

using namespace lcrun;

TEST_CASE("every task runs once, whatever the team", "[base]") {
  for (const int threads : {1, 2, 3, 8}) {
    std::vector<std::atomic<int>> hits(101);
    std::atomic<bool> thread_in_range{true};
    parallel_for(threads, 101, [&](int64_t task, int thread) {
      hits[static_cast<size_t>(task)]++;
      if (thread < 0 || thread >= threads) thread_in_range = false;
    });
    for (const auto& h : hits) CHECK(h == 1);
    CHECK(thread_in_range);
  }
  CHECK(default_thread_count() >= 1);
}

namespace {

int64_t sum_of_tasks(int threads, int64_t n) {
  std::atomic<int64_t> sum{0};
  parallel_for(threads, n, [&](int64_t task, int) { sum += task; });
  return sum;
}

}  // namespace

TEST_CASE("jobs follow each other without losing a task", "[base]") {
  for (int64_t job = 0; job < 20000; ++job) {
    const int64_t n = 2 + job % 7;
    REQUIRE(sum_of_tasks(2 + static_cast<int>(job % 3), n) == n * (n - 1) / 2);
  }
}

TEST_CASE("several threads drive jobs at the same time", "[base]") {
  std::atomic<int> wrong{0};
  std::vector<std::thread> drivers;
  for (int i = 0; i < 4; ++i) {
    drivers.emplace_back([&] {
      for (int job = 0; job < 500; ++job) wrong += sum_of_tasks(3, 50) == 1225 ? 0 : 1;
    });
  }
  for (std::thread& driver : drivers) driver.join();
  CHECK(wrong == 0);
}

TEST_CASE("a body may call parallel_for", "[base]") {
  std::atomic<int64_t> sum{0};
  parallel_for(3, 10, [&](int64_t, int) { sum += sum_of_tasks(3, 10); });
  CHECK(sum == 450);
}

TEST_CASE("a job ends although no worker ever begins", "[base]") {
  REQUIRE(sum_of_tasks(2, 100) == 4950);  // the team has a worker now
  const pid_t child = fork();             // in a copy of the process that worker does not exist
  REQUIRE(child >= 0);
  if (child == 0) _exit(sum_of_tasks(2, 100) == 4950 ? 0 : 1);
  int status = -1;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("a team sleeps between jobs and wakes up", "[base]") {
  Team team;
  for (int job = 0; job < 3; ++job) {
    std::atomic<int> done{0};
    team.run(
        4, 64, [](void* context, int64_t, int) { ++*static_cast<std::atomic<int>*>(context); }, &done);
    CHECK(done == 64);
    // Longer than workers spin, in the processor's time so that a busy machine does not shorten it.
    for (const auto end = std::clock() + CLOCKS_PER_SEC / 500; std::clock() < end;) {
    }
  }
  CHECK(team.n_workers() == 3);
}
