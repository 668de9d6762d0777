// Rows of a batch: for_rows works on independent ones, on one thread when there are few.
#pragma once

#include <cstdint>

#include "src/base/parallel.hpp"
#include "src/base/tensor.hpp"

namespace lcrun::model {

// Fewer rows than this are not worth waking a team for.
constexpr int64_t kSerialRows = 4;
constexpr int64_t kRowsPerTask = 8;

inline MatView last_rows(MatView m, int64_t n) { return {m.row(m.rows - n), n, m.cols, m.stride}; }

// body(row) for row in [0, n).
template <class Body>
void for_rows(int n_threads, int64_t n, const Body& body) {
  if (n < kSerialRows || n_threads == 1) {
    for (int64_t row = 0; row < n; ++row) body(row);
    return;
  }
  const int64_t tasks = (n + kRowsPerTask - 1) / kRowsPerTask;
  parallel_for(n_threads, tasks, [&](int64_t task, int) {
    const int64_t end = task == tasks - 1 ? n : (task + 1) * kRowsPerTask;
    for (int64_t row = task * kRowsPerTask; row < end; ++row) body(row);
  });
}

}  // namespace lcrun::model
