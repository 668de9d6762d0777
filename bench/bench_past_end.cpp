// bench_past_end MODEL [N_CTX] [TYPE] [THREADS] [CAP_MIB] [DIR]: tokens past the end of the context.
//
// Reads half a context and decodes to three times its length, five times over. Of each token the fastest of the five
// counts: what the program itself does comes again at the same token, what others do to the machine does not. Prints
// one line of JSON: the median token and the longest ones before the end and past it, by the clock and in processor
// time of all threads; memory at the end of the context and at the end of the run; what the disk holds. With a cap the
// cache goes to a scratch file in DIR.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>
#include <vector>

#include "quant/format.hpp"
#include "src/kernels/ops.hpp"
#include "src/runtime/budget.hpp"
#include "src/runtime/engine.hpp"
#include "src/runtime/session.hpp"

namespace {

using namespace lcrun;
using namespace lcrun::runtime;
using Clock = std::chrono::steady_clock;

template <class T>
T must(Result<T> result) {
  if (result.has_value()) return std::move(result).value();
  std::fprintf(stderr, "bench_past_end: %s\n", result.error().message.c_str());
  std::exit(1);
}

double cpu_ms() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) / 1e6;
}

// Milliseconds of each token.
struct Times {
  std::vector<double> wall, cpu;

  void print(const char* name) const {
    const auto sorted = [](std::vector<double> values) {
      std::sort(values.begin(), values.end());
      return values;
    };
    const auto by_wall = sorted(wall), by_cpu = sorted(cpu);
    const size_t n = by_wall.size();
    std::printf(
        "\"%s\":{\"tokens\":%zu,\"median_ms\":%.3f,\"p999_ms\":%.3f,\"longest_ms\":%.3f,\"median_cpu_ms\":%.3f,"
        "\"longest_cpu_ms\":%.3f,\"longest_of_median\":%.2f},",
        name, n, by_wall[n / 2], by_wall[n - 1 - n / 1000], by_wall.back(), by_cpu[n / 2], by_cpu.back(),
        by_wall.back() / by_wall[n / 2]);
  }

  void add(double wall_ms, double processor_ms) {
    wall.push_back(wall_ms);
    cpu.push_back(processor_ms);
  }
  // Token by token the faster of both.
  void take_faster(const Times& other) {
    if (wall.empty()) *this = other;
    for (size_t i = 0; i < wall.size(); ++i) {
      wall[i] = std::min(wall[i], other.wall[i]);
      cpu[i] = std::min(cpu[i], other.cpu[i]);
    }
  }
};

constexpr int kRuns = 5;

struct Run {
  Times before, past;
  uint64_t bytes_at_end = 0;
};

Run decode_past_end(Session& session, int64_t n_ctx) {
  std::vector<Token> tokens;
  for (int64_t i = 0; i < n_ctx / 2; ++i) tokens.push_back(static_cast<Token>((i * 7919 + 13) % 40000));
  must(session.sync(tokens));
  Run run;
  for (int64_t pos = n_ctx / 2; pos < 3 * n_ctx; ++pos) {
    const auto wall = Clock::now();
    const double cpu = cpu_ms();
    must(session.decode(static_cast<Token>((pos * 7919 + 13) % 40000), Session::AtEnd::kSlide));
    const double taken = cpu_ms() - cpu;
    (pos < n_ctx ? run.before : run.past)
        .add(std::chrono::duration<double, std::milli>(Clock::now() - wall).count(), taken);
    if (pos == n_ctx) run.bytes_at_end = private_memory_bytes();
  }
  return run;
}

Session open_session(const Engine& engine, const SessionOptions& options, uint64_t cap, const char* directory) {
  auto session = must(Session::open(engine.model, options));
  if (cap == 0) return session;
  PagingOptions paging;
  paging.directory = directory;
  const uint64_t held = private_memory_bytes();
  const Status limited = session.limit_state(cap > held ? cap - held : 1, paging);
  if (limited.has_value()) return session;
  std::fprintf(stderr, "bench_past_end: %s\n", limited.error().message.c_str());
  std::exit(1);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: bench_past_end MODEL [N_CTX] [TYPE] [THREADS] [CAP_MIB] [DIR]\n");
    return 2;
  }
  const int64_t n_ctx = argc > 2 ? std::atoll(argv[2]) : 2048;
  const std::string type = argc > 3 ? argv[3] : "q8_0";
  EngineRequest request;
  request.path = argv[1];
  request.n_threads = argc > 4 ? std::atoi(argv[4]) : 2;
  const auto engine = must(load_engine(request, posix_file_system()));
  SessionOptions options;
  options.n_ctx = n_ctx;
  options.policy.attention = "dense";
  options.cache.type_k = options.cache.type_v = quant::find_type(type)->dtype;
  options.n_threads = options.n_threads_batch = request.n_threads;
  const uint64_t cap = argc > 5 ? std::strtoull(argv[5], nullptr, 10) << 20 : 0;
  auto session = open_session(engine, options, cap, argc > 6 ? argv[6] : "/var/tmp");
  Run run;
  for (int i = 0; i < kRuns; ++i) {
    session.clear();
    const Run one = decode_past_end(session, n_ctx);
    run.before.take_faster(one.before);
    run.past.take_faster(one.past);
    run.bytes_at_end = one.bytes_at_end;
  }
  const storage::PageStore* store = session.page_store();
  std::printf("{\"n_ctx\":%lld,\"type\":\"%s\",\"threads\":%d,\"isa\":\"%s\",", static_cast<long long>(n_ctx),
              type.c_str(), request.n_threads, std::string(kernels::active_isa()).c_str());
  run.before.print("before");
  run.past.print("past");
  std::printf(
      "\"cache_bytes\":%llu,\"private_bytes_at_end\":%llu,\"private_bytes\":%llu,\"disk_bytes\":%llu,"
      "\"read_bytes\":%llu}\n",
      static_cast<unsigned long long>(session.state_bytes()), static_cast<unsigned long long>(run.bytes_at_end),
      static_cast<unsigned long long>(private_memory_bytes()),
      static_cast<unsigned long long>(store == nullptr ? 0 : store->disk_bytes()),
      static_cast<unsigned long long>(store == nullptr ? 0 : store->io_stats().bytes_read));
  return 0;
}
