// Restoring a session, beside bench/peer_session.cpp (llama.cpp's prompt cache).
//
//   bench_session save MODEL FILE N_TOKENS THREADS     writes a session of N_TOKENS (contents of the right size)
//   bench_session load MODEL FILE N_CTX THREADS        one line of JSON: milliseconds to load the model, to open the
//                                                      session, to restore it, and to the first token in all
//
// f16 cache. The figures are wall-clock of a fresh process; whether the file is in the page cache is up to the caller.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "src/runtime/engine.hpp"
#include "src/runtime/session.hpp"

namespace {

using namespace lcrun;
using Clock = std::chrono::steady_clock;

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

template <class T>
T must(Result<T> result) {
  if (result.has_value()) return std::move(result).value();
  std::fprintf(stderr, "bench_session: %s\n", result.error().message.c_str());
  std::exit(1);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 6) {
    std::fprintf(stderr, "usage: bench_session save|load MODEL FILE N THREADS\n");
    return 2;
  }
  const int64_t n = std::atoll(argv[4]);
  const auto start = Clock::now();
  runtime::EngineRequest request;
  request.path = argv[2];
  request.n_threads = std::atoi(argv[5]);
  const auto engine = must(runtime::load_engine(request, posix_file_system()));
  const double model_ms = ms_since(start);
  runtime::SessionOptions options;
  options.n_ctx = std::strcmp(argv[1], "save") == 0 ? n + 256 : n;
  options.n_threads = options.n_threads_batch = request.n_threads;
  auto session = must(runtime::Session::open(engine.model, options));
  const double open_ms = ms_since(start);
  if (std::strcmp(argv[1], "save") == 0) {
    std::vector<runtime::Token> tokens;
    for (int64_t i = 0; i < n; ++i) tokens.push_back(static_cast<runtime::Token>((i * 7919 + 13) % 40000));
    must(session.sync(std::span(tokens).first(1024)));
    const Status grown = session.pretend(tokens);
    if (!grown.has_value()) return 1;
    const auto report = must(session.save(posix_file_system(), argv[3], {.sync = storage::SyncMode::kFull}));
    std::printf("{\"bytes\":%llu,\"save_ms\":%.1f}\n", static_cast<unsigned long long>(report.bytes),
                ms_since(start) - open_ms);
    return 0;
  }
  must(session.load(posix_file_system(), argv[3]));
  const double load_ms = ms_since(start);
  must(session.decode(5));
  std::printf("{\"tokens\":%zu,\"model_ms\":%.1f,\"open_ms\":%.1f,\"restore_ms\":%.1f,\"first_token_ms\":%.1f}\n",
              session.tokens().size() - 1, model_ms, open_ms - model_ms, load_ms - open_ms, ms_since(start));
  return 0;
}
