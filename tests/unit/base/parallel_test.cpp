#include "src/base/parallel.hpp"

#include <atomic>
#include <catch2/catch.hpp>
#include <vector>

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
