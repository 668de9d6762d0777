#include "src/runtime/bench.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <ctime>
#include <random>

#include "src/base/format.hpp"
#include "src/base/parallel.hpp"

namespace lcrun::runtime {
namespace {

using Clock = std::chrono::steady_clock;
using storage::kBlockTokens;

constexpr uint32_t kTokenSeed = 42;
constexpr size_t kComputedDepth = 512;
constexpr size_t kProbePiece = size_t{1} << 20;
constexpr int kProbePasses = 5;
constexpr size_t kProbeAheadWords = 4096 / sizeof(uint64_t);

double ns_since(Clock::time_point start) {
  return std::chrono::duration<double, std::nano>(Clock::now() - start).count();
}

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

std::vector<Token> random_prompt(int64_t n, int64_t n_vocab) {
  std::mt19937 random(kTokenSeed);
  std::vector<Token> tokens(static_cast<size_t>(n));
  for (auto& token : tokens) token = static_cast<Token>(random() % static_cast<uint64_t>(n_vocab));
  return tokens;
}

double bytes_per_token(const Session& session, const BenchCase& bench_case) {
  const auto& options = session.options();
  const int64_t n = bench_case.n_prompt + bench_case.n_gen;
  const int64_t batch = bench_case.n_prompt > 0 ? std::min(options.batch, n) : 1;
  const int64_t calls = (n + batch - 1) / batch;
  const auto& model = session.model();
  const uint64_t read = model.weight_bytes() + model.state_bytes(options.cache, bench_case.n_depth + n / 2);
  return static_cast<double>(read) * static_cast<double>(calls) / static_cast<double>(n);
}

Status go_to_depth(Session& session, std::span<const Token> depth, bool copied) {
  if (depth.empty()) {
    session.clear();
    return {};
  }
  const size_t whole = depth.size() / kBlockTokens * kBlockTokens;
  if (copied && whole > kComputedDepth && session.tokens().size() < whole) {
    LCRUN_TRY(session.sync(depth.first(kComputedDepth), {}, INT64_MAX));
    LCRUN_TRY(session.pretend(depth.first(whole)));
  }
  // The last token of a prompt is always computed.
  const bool is_there = std::equal(depth.begin(), depth.end(), session.tokens().begin(), session.tokens().end());
  if (!is_there) LCRUN_TRY(session.sync(depth, {}, INT64_MAX));
  return {};
}

// One timed run on top of what the session holds.
Result<double> run_once(Session& session, const BenchCase& bench_case, const std::vector<Token>& prompt) {
  const auto start = Clock::now();
  if (bench_case.n_prompt > 0) {
    LCRUN_TRY(session.sync(prompt, {}, INT64_MAX));
    return ns_since(start);
  }
  for (int64_t i = 0; i < bench_case.n_gen; ++i) {
    LCRUN_TRY(session.decode(prompt[static_cast<size_t>(bench_case.n_depth + i)]));
  }
  return ns_since(start);
}

}  // namespace

std::string BenchCase::name() const {
  const std::string test = n_prompt > 0 ? format("pp{}", n_prompt) : format("tg{}", n_gen);
  return n_depth > 0 ? format("{} @ d{}", test, n_depth) : test;
}

std::vector<double> BenchResult::samples_ts() const {
  std::vector<double> rates;
  for (const double ns : samples_ns) rates.push_back(static_cast<double>(n_tokens()) * 1e9 / ns);
  return rates;
}

double mean_of(const std::vector<double>& values) {
  if (values.empty()) return 0;
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

double stddev_of(const std::vector<double>& values) {
  if (values.size() < 2) return 0;
  const double mean = mean_of(values);
  double sum = 0;
  for (const double value : values) sum += (value - mean) * (value - mean);
  return std::sqrt(sum / static_cast<double>(values.size() - 1));
}

std::vector<BenchCase> bench_cases(const std::vector<int64_t>& prompts, const std::vector<int64_t>& gens,
                                   const std::vector<int64_t>& depths) {
  std::vector<BenchCase> cases;
  for (const int64_t depth : depths) {
    for (const int64_t n : prompts) {
      if (n > 0) cases.push_back({n, 0, depth});
    }
    for (const int64_t n : gens) {
      if (n > 0) cases.push_back({0, n, depth});
    }
  }
  return cases;
}

Result<BenchResult> run_bench(Session& session, const BenchCase& bench_case, const BenchOptions& options) {
  BenchResult result;
  result.bench_case = bench_case;
  result.test_time = utc_now();
  result.bytes_per_token = bytes_per_token(session, bench_case);
  const auto tokens = random_prompt(bench_case.n_depth + result.n_tokens(), session.model().config().n_vocab);
  const auto depth = std::span<const Token>(tokens).first(static_cast<size_t>(bench_case.n_depth));
  LCRUN_TRY(go_to_depth(session, depth, options.copied_depth));
  LCRUN_ASSIGN(const auto mark, session.mark());
  if (options.warmup) {
    BenchCase warmup = bench_case;
    warmup.n_gen = std::min<int64_t>(1, warmup.n_gen);
    LCRUN_TRY(run_once(session, warmup, tokens));
    LCRUN_TRY(session.rewind(mark));
  }
  for (int64_t i = 0; i < options.repetitions; ++i) {
    LCRUN_ASSIGN(const double ns, run_once(session, bench_case, tokens));
    result.samples_ns.push_back(ns);
    LCRUN_TRY(session.rewind(mark));
  }
  return result;
}

Result<double> read_bandwidth(int n_threads, uint64_t bytes) {
  const size_t probe_bytes = std::max<size_t>(1, bytes / kProbePiece) * kProbePiece;
  LCRUN_ASSIGN(auto buffer, AlignedBuffer::allocate(probe_bytes));
  const auto words = buffer.as<uint64_t>().first(probe_bytes / sizeof(uint64_t));
  constexpr size_t kPieceWords = kProbePiece / sizeof(uint64_t);
  const auto n_pieces = static_cast<int64_t>(words.size() / kPieceWords);
  // Written first: until then every page is the same page of zeros, which is read from a cache.
  parallel_for(n_threads, n_pieces, [&](int64_t piece, int) {
    std::fill_n(words.data() + static_cast<size_t>(piece) * kPieceWords, kPieceWords, uint64_t{1});
  });
  std::vector<uint64_t> sums(static_cast<size_t>(n_pieces));
  double best_ns = 0;
  for (int pass = 0; pass < kProbePasses; ++pass) {
    const auto start = Clock::now();
    parallel_for(n_threads, n_pieces, [&](int64_t piece, int) {
      const uint64_t* data = words.data() + static_cast<size_t>(piece) * kPieceWords;
      uint64_t a = 0, b = 0, c = 0, d = 0;
      for (size_t i = 0; i < kPieceWords; i += 32) {
        // As the products of decoding do: hardware alone stops at every page.
        for (size_t line = 0; line < 32; line += 8) __builtin_prefetch(data + i + kProbeAheadWords + line);
        for (size_t j = 0; j < 8; ++j) {
          a += data[i + j];
          b += data[i + 8 + j];
          c += data[i + 16 + j];
          d += data[i + 24 + j];
        }
      }
      sums[static_cast<size_t>(piece)] = a + b + c + d;
    });
    const double ns = ns_since(start);
    if (pass == 0 || ns < best_ns) best_ns = ns;
  }
  // The sums are looked at, so that the reads cannot be left out.
  uint64_t total = 0;
  for (const uint64_t sum : sums) total += sum;
  if (total != words.size()) {
    return make_error(Code::kInternal, "the bandwidth probe read a sum of {}, wanted {}", total, words.size());
  }
  return static_cast<double>(probe_bytes) * 1e9 / best_ns;
}

}  // namespace lcrun::runtime
