// Speed, measured as llama-bench does it: reading a prompt and generating apart, each on top of `depth` tokens.
//
// A limit is measured in the same run (read_bandwidth), so that a figure can be read as a share of what the machine
// has to give. Thread rule: one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "src/base/result.hpp"
#include "src/runtime/session.hpp"

namespace lcrun::runtime {

// Exactly one of n_prompt and n_gen is not 0.
struct BenchCase {
  int64_t n_prompt = 0;
  int64_t n_gen = 0;
  int64_t n_depth = 0;
  // "pp512", "tg128 @ d4096"
  std::string name() const;
};

struct BenchResult {
  BenchCase bench_case;
  std::vector<double> samples_ns;  // one a repetition
  std::string test_time;           // UTC, ISO 8601
  // Bytes of weights and cache that a token cannot do without reading.
  double bytes_per_token = 0;

  int64_t n_tokens() const { return bench_case.n_prompt + bench_case.n_gen; }
  std::vector<double> samples_ts() const;  // tokens a second
};

double mean_of(const std::vector<double>& values);
// Of a sample (n - 1); 0 for fewer than two values.
double stddev_of(const std::vector<double>& values);

// Cases in llama-bench's order: for each depth, prompts then generation; zeros are left out.
std::vector<BenchCase> bench_cases(const std::vector<int64_t>& prompts, const std::vector<int64_t>& gens,
                                   const std::vector<int64_t>& depths);

struct BenchOptions {
  int64_t repetitions = 5;
  bool warmup = true;
  // Depth beyond the first 512 tokens is copies of their cache: as fast to use, and there at once.
  bool copied_depth = false;
};

// Runs a case in the session, whose context must hold n_depth + n_tokens. The marked depth is reused when the
// session already stands there.
Result<BenchResult> run_bench(Session& session, const BenchCase& bench_case, const BenchOptions& options);

// Bytes a second that n_threads read from a buffer of `bytes` (whole MiB), over and over; the best of some passes. With
// the size of a model's weights, caches hold as much of the buffer as they do of the weights.
Result<double> read_bandwidth(int n_threads, uint64_t bytes);

}  // namespace lcrun::runtime
