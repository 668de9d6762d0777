// Restoring a session, beside bench/peer_session.cpp (llama.cpp's prompt cache).
//
//   bench_session save MODEL FILE N_TOKENS THREADS [TYPE]
//       writes a session of N_TOKENS (contents of the right size); seal instead of save: a sealed one
//   bench_session same MODEL FILE N_TOKENS THREADS [TYPE]
//       the same, goes on with it, restores it with one thread and with THREADS: are the logits those, bit for bit?
//   bench_session load MODEL FILE N_CTX THREADS [TYPE [CAP_MIB [mmap|read|copy|auto]]]
//       one line of JSON: milliseconds to load the model, to open the session, to restore it, to the first token in
//       all, and for each of eight more; bytes read into frames; memory. With a cap (0: what there is) the cache may
//       go to a disk (/var/tmp), and pages of a sealed file may stay there.
//
// f16 cache, if not said. The figures are wall-clock of a fresh process; whether the file is in the page cache is up
// to the caller.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "quant/format.hpp"
#include "src/runtime/budget.hpp"
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

runtime::SealedForm form_of(const std::string& name) {
  if (name == "mmap") return runtime::SealedForm::kMapped;
  if (name == "read") return runtime::SealedForm::kRead;
  return name == "copy" ? runtime::SealedForm::kCopied : runtime::SealedForm::kAuto;
}

int write_session(runtime::Session& session, const char* path, int64_t n, bool seal) {
  const auto start = Clock::now();
  std::vector<runtime::Token> tokens;
  for (int64_t i = 0; i < n; ++i) tokens.push_back(static_cast<runtime::Token>((i * 7919 + 13) % 40000));
  must(session.sync(std::span(tokens).first(1024)));
  const Status grown = session.pretend(tokens);
  if (!grown.has_value()) return 1;
  const auto report = must(session.save(posix_file_system(), path, {.sync = storage::SyncMode::kFull, .seal = seal}));
  std::printf("{\"bytes\":%llu,\"save_ms\":%.1f}\n", static_cast<unsigned long long>(report.bytes), ms_since(start));
  return 0;
}

runtime::Session open_with(const runtime::Engine& engine, runtime::SessionOptions options, int threads) {
  options.n_threads = options.n_threads_batch = threads;
  return must(runtime::Session::open(engine.model, options));
}

std::vector<float> next_logits(runtime::Session& session) {
  std::vector<float> all;
  for (runtime::Token token = 5; token < 9; ++token) {
    const auto logits = must(session.decode(token));
    all.insert(all.end(), logits.begin(), logits.end());
  }
  return all;
}

int restore_and_compare(const runtime::Engine& engine, const runtime::SessionOptions& options, const char* path,
                        int64_t n) {
  auto session = open_with(engine, options, options.n_threads);
  if (write_session(session, path, n, false) != 0) return 1;
  const auto wanted = next_logits(session);
  bool all_same = true;
  for (const int threads : {1, options.n_threads}) {
    auto other = open_with(engine, options, threads);
    const auto restored = must(other.load(posix_file_system(), path));
    const auto found = next_logits(other);
    const bool same = restored.damage.empty() && found.size() == wanted.size() &&
                      std::memcmp(found.data(), wanted.data(), found.size() * sizeof(float)) == 0;
    std::printf("{\"tokens\":%lld,\"threads\":%d,\"logits\":%zu,\"same_bits\":%s}\n", static_cast<long long>(n),
                threads, found.size(), same ? "true" : "false");
    all_same = all_same && same;
  }
  return all_same ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 6) {
    std::fprintf(stderr, "usage: bench_session save|seal|same|load MODEL FILE N THREADS [TYPE [CAP_MIB [FORM]]]\n");
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
  options.policy.attention = "dense";
  const bool loads = std::strcmp(argv[1], "load") == 0;
  options.n_ctx = loads ? n : n + 256;
  if (argc > 6) options.cache.type_k = options.cache.type_v = quant::find_type(argv[6])->dtype;
  options.n_threads = options.n_threads_batch = request.n_threads;
  if (std::strcmp(argv[1], "same") == 0) return restore_and_compare(engine, options, argv[3], n);
  auto session = must(runtime::Session::open(engine.model, options));
  if (!loads) return write_session(session, argv[3], n, std::strcmp(argv[1], "seal") == 0);
  if (argc > 7) {
    runtime::PagingOptions paging;
    paging.directory = "/var/tmp";
    paging.sealed = form_of(argc > 8 ? argv[8] : "auto");
    paging.for_sealed = true;
    const uint64_t cap = std::strtoull(argv[7], nullptr, 10) << 20;
    const uint64_t held = runtime::private_memory_bytes();
    const Status limited = session.limit_state(cap > held ? cap - held : runtime::available_memory_bytes(), paging);
    if (!limited.has_value()) {
      std::fprintf(stderr, "bench_session: %s\n", limited.error().message.c_str());
      return 1;
    }
  }
  const double open_ms = ms_since(start);
  must(session.load(posix_file_system(), argv[3]));
  const double load_ms = ms_since(start);
  must(session.decode(5));
  const double first_ms = ms_since(start);
  for (runtime::Token token = 6; token < 14; ++token) must(session.decode(token));
  const storage::PageStore* store = session.page_store();
  std::printf(
      "{\"tokens\":%zu,\"model_ms\":%.1f,\"open_ms\":%.1f,\"restore_ms\":%.1f,\"first_token_ms\":%.1f,"
      "\"next_token_ms\":%.1f,\"read_mib\":%llu,\"anonymous_mib\":%llu,\"peak_rss_mib\":%llu}\n",
      session.tokens().size() - 9, model_ms, open_ms - model_ms, load_ms - open_ms, first_ms,
      (ms_since(start) - first_ms) / 8,
      static_cast<unsigned long long>(store == nullptr ? 0 : store->io_stats().bytes_read >> 20),
      static_cast<unsigned long long>(runtime::private_memory_bytes() >> 20),
      static_cast<unsigned long long>(runtime::peak_memory_bytes() >> 20));
  return 0;
}
