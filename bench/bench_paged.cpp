// bench_paged MODEL [TOKENS] [CAP_MIB] [DIR] [TYPE] [THREADS]: decoding over a cache that is mostly on the disk.
//
// Fills a session with TOKENS of context (copies of the first 512 tokens' cache, so that it takes seconds), under a cap
// on all private memory of the process, and decodes token by token. A disk may change from second to second, so what
// counts are medians of the ratios in rounds of
//   - a token as always, and one whose pages nobody checks (the linker wraps check_page() for this program),
//   - raw reads of as many bytes of the same scratch file through the store's own device with nothing else done: once
//     into 2 MiB again and again, once into 64 MiB in turn (what lands in memory that no cache holds arrives slower;
//     a store's frames are of that kind).
// Afterwards the same tokens are decoded with the cache in memory, and the logits compared bit for bit. A thread
// watches anonymous and shared memory all the while. Prints one JSON object. Run it on an idle machine, and on a disk
// instead of tmpfs.
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>
#include <vector>

#include "quant/format.hpp"
#include "src/base/format.hpp"
#include "src/base/log.hpp"
#include "src/kernels/ops.hpp"
#include "src/runtime/budget.hpp"
#include "src/runtime/engine.hpp"

using namespace lcrun;
using namespace lcrun::runtime;

// storage::check_page(payload, check) and what stands in its place here (bench/meson.build).
#define LCRUN_CHECK_PAGE(prefix) \
  prefix##_ZN5lcrun7storage10check_pageESt4spanIKSt4byteLm18446744073709551615EERKSt5arrayImLm2EE
extern "C" storage::Verdict LCRUN_CHECK_PAGE(__real_)(std::span<const std::byte>, const storage::PageCheck&);
extern "C" storage::Verdict LCRUN_CHECK_PAGE(__wrap_)(std::span<const std::byte>, const storage::PageCheck&);

static std::atomic<bool> pages_are_checked{true};
static std::atomic<uint64_t> page_checks{0};

storage::Verdict LCRUN_CHECK_PAGE(__wrap_)(std::span<const std::byte> payload, const storage::PageCheck& wanted) {
  if (!pages_are_checked) return storage::Verdict::kOk;
  ++page_checks;
  return LCRUN_CHECK_PAGE(__real_)(payload, wanted);
}

namespace {

constexpr int kRounds = 15;  // of a token that is checked and one that is not
constexpr int kTokens = 2 * kRounds;
constexpr uint64_t kHotBytes = 2 << 20, kWideBytes = 64 << 20;
constexpr size_t kComputed = 512;
constexpr uint64_t kBesides = uint64_t{84}
                              << 20;  // buffers of raw reads, token lists, logits of the comparison, what a libc keeps

using Clock = std::chrono::steady_clock;

struct Setup {
  std::string model;
  int64_t tokens = 262144;
  uint64_t cap_mib = 1024;
  std::string directory = "/var/tmp";
  std::string type = "f16";
  int threads = 2;
};

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.empty() ? 0 : values[values.size() / 2];
}

// Most anonymous and shared memory that the process has held, sampled every 5 ms.
class Watch {
 public:
  Watch() : thread_([this] { run(); }) {}
  ~Watch() { stop(); }
  uint64_t stop() {
    done_ = true;
    if (thread_.joinable()) thread_.join();
    return most_;
  }

 private:
  void run() {
    while (!done_) {
      std::ifstream file("/proc/self/status");
      std::string word;
      uint64_t total = 0, kib = 0;
      while (file >> word) {
        if ((word == "RssAnon:" || word == "RssShmem:") && file >> kib) total += kib * 1024;
      }
      most_ = std::max<uint64_t>(most_, total);
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }
  std::atomic<bool> done_{false};
  std::atomic<uint64_t> most_{0};
  std::thread thread_;
};

std::vector<Token> some_tokens(int64_t n, int64_t n_vocab) {
  std::vector<Token> tokens(static_cast<size_t>(n));
  uint64_t state = 42;
  for (Token& token : tokens) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    token = static_cast<Token>((state >> 33) % static_cast<uint64_t>(n_vocab));
  }
  return tokens;
}

Result<Session> open_filled(const Engine& engine, const Setup& setup, bool paged, std::span<const Token> tokens) {
  SessionOptions options;
  options.policy.attention = "dense";
  LCRUN_ASSIGN(const auto type, [&]() -> Result<DType> {
    const quant::TypeInfo* found = quant::find_type(setup.type);
    if (found == nullptr) return make_error(Code::kInvalidArgument, "unknown type {}", setup.type);
    return found->dtype;
  }());
  options.cache = {type, type};
  options.n_ctx = static_cast<int64_t>(tokens.size());
  options.n_threads = options.n_threads_batch = setup.threads;
  LCRUN_ASSIGN(auto session, Session::open(engine.model, options));
  if (paged) {
    const uint64_t held = private_memory_bytes() + kBesides;
    const uint64_t cap = setup.cap_mib << 20;
    if (cap <= held) return make_error(Code::kNoMemory, "the model alone takes {} bytes", held);
    PagingOptions paging;
    paging.directory = setup.directory;
    paging.reserve_tokens = options.n_ctx;
    LCRUN_TRY(session.limit_state(cap - held, paging));
  }
  LCRUN_TRY(session.sync(tokens.first(kComputed)));
  LCRUN_TRY(session.pretend(tokens.first(static_cast<size_t>(setup.tokens))));
  return session;
}

// `bytes` of the scratch file, from its beginning again after its end, in requests of 256 KiB, eight in flight, to
// `memory` in turn; `at` is where it goes on: bytes a second.
Result<double> raw_read(storage::PageStore& store, uint64_t bytes, uint64_t& at, AlignedBuffer& memory) {
  constexpr uint32_t kPiece = 256 << 10;
  storage::BlockDevice& device = store.device();
  const uint32_t depth = std::min(8U, device.depth());
  const uint64_t places = memory.size() / kPiece;
  const uint64_t end = store.disk_bytes() / kPiece * kPiece;
  store.drain();
  storage::IoQueue queue(device);
  std::vector<storage::IoOutcome> outcomes(depth);
  const uint64_t pieces = bytes / kPiece;
  const auto start = Clock::now();
  for (uint64_t i = 0; i < pieces || queue.in_flight() > 0;) {
    for (; i < pieces && queue.in_flight() < depth; ++i) {
      queue.start({storage::IoOp::kRead, at, memory.data() + kPiece * (i % places), kPiece, i});
      at = at + kPiece < end ? at + kPiece : 0;
    }
    const size_t n = queue.poll(outcomes, true);
    for (size_t o = 0; o < n; ++o) {
      if (outcomes[o].error != 0) return storage::io_error("raw pass", outcomes[o].error);
    }
  }
  return static_cast<double>(pieces * kPiece) / seconds_since(start);
}

struct Decoded {
  std::vector<double> token_seconds, unchecked_seconds, read_rates, hot_rates, wide_rates;
  std::vector<double> of_hot, of_wide, of_unchecked;  // of each round
  std::vector<float> logits;                          // of all decoded tokens, one after another
};

Status decode_one(Session& session, Token token, bool checked, Decoded& out) {
  pages_are_checked = checked;
  const auto start = Clock::now();
  LCRUN_ASSIGN(const auto logits, session.decode(token));
  (checked ? out.token_seconds : out.unchecked_seconds).push_back(seconds_since(start));
  pages_are_checked = true;
  out.logits.insert(out.logits.end(), logits.begin(), logits.end());
  return {};
}

Status decode_in_memory(Session& session, std::span<const Token> next, Decoded& out) {
  for (const Token token : next) LCRUN_TRY(decode_one(session, token, true, out));
  return {};
}

Status decode_in_rounds(Session& session, std::span<const Token> next, Decoded& out) {
  storage::PageStore& store = *session.page_store();
  LCRUN_ASSIGN(auto hot, AlignedBuffer::allocate(kHotBytes, 4096));
  LCRUN_ASSIGN(auto wide, AlignedBuffer::allocate(kWideBytes, 4096));
  uint64_t at = 0;
  for (size_t i = 0; i + 1 < next.size(); i += 2) {
    const bool checked_first = i % 4 == 0;  // what comes first in a round may have it easier
    uint64_t bytes = 0;
    for (const bool second : {false, true}) {
      const uint64_t before = store.io_stats().bytes_read;
      LCRUN_TRY(decode_one(session, next[i + (second ? 1 : 0)], checked_first != second, out));
      if (checked_first != second) bytes = store.io_stats().bytes_read - before;
    }
    LCRUN_ASSIGN(const double hot_rate, raw_read(store, bytes, at, hot));
    LCRUN_ASSIGN(const double wide_rate, raw_read(store, bytes, at, wide));
    out.read_rates.push_back(static_cast<double>(bytes) / out.token_seconds.back());
    out.hot_rates.push_back(hot_rate);
    out.wide_rates.push_back(wide_rate);
    out.of_hot.push_back(out.read_rates.back() / hot_rate);
    out.of_wide.push_back(out.read_rates.back() / wide_rate);
    out.of_unchecked.push_back(out.token_seconds.back() / out.unchecked_seconds.back());
  }
  return {};
}

Status run(const Setup& setup) {
  EngineRequest request;
  request.path = setup.model;
  request.n_threads = setup.threads;
  LCRUN_ASSIGN(const auto engine, load_engine(request, posix_file_system()));
  const auto tokens = some_tokens(setup.tokens + kTokens, engine.model->config().n_vocab);
  const auto next = std::span(tokens).subspan(static_cast<size_t>(setup.tokens));
  nlohmann::json json;
  json["model"] = setup.model;
  json["tokens"] = setup.tokens;
  json["type"] = setup.type;
  json["threads"] = setup.threads;
  json["isa"] = kernels::active_isa();
  json["cap_bytes"] = setup.cap_mib << 20;
  Decoded paged, memory;
  {
    Watch watch;
    const auto start = Clock::now();
    LCRUN_ASSIGN(auto session, open_filled(engine, setup, true, tokens));
    json["fill_s"] = seconds_since(start);
    if (session.page_store() == nullptr) return make_error(Code::kInvalidArgument, "all of it fits under the cap");
    LCRUN_TRY(decode_in_rounds(session, next, paged));
    json["most_anonymous_and_shared_bytes"] = watch.stop();
    json["kv_io"] = session.page_store()->device_name();
    json["disk_bytes"] = session.page_store()->disk_bytes();
    json["frames_bytes"] = session.page_store()->memory_bytes();
    json["token_s"] = paged.token_seconds;
    json["read_gbs"] = paged.read_rates;
    json["raw_gbs"] = paged.hot_rates;
    json["raw_wide_gbs"] = paged.wide_rates;
    const storage::IoStats io = session.page_store()->io_stats();
    json["bytes_of_a_read"] = io.reads == 0 ? 0 : io.bytes_read / io.reads;
    json["bytes_of_a_write"] = io.writes == 0 ? 0 : io.bytes_written / io.writes;
    json["read_of_raw"] = median(paged.of_hot);
    json["read_of_raw_wide"] = median(paged.of_wide);
    json["token_of_unchecked"] = median(paged.of_unchecked);
    json["token_of_unchecked_rounds"] = paged.of_unchecked;
    json["pages_checked"] = page_checks.load();
    if (page_checks == 0) return make_error(Code::kInternal, "no page was checked: the linker did not wrap it");
  }
  {
    LCRUN_ASSIGN(auto session, open_filled(engine, setup, false, tokens));
    LCRUN_TRY(decode_in_memory(session, next, memory));
    json["token_s_in_memory"] = memory.token_seconds;
  }
  json["same_bits"] = paged.logits.size() == memory.logits.size() &&
                      std::memcmp(paged.logits.data(), memory.logits.data(), paged.logits.size() * sizeof(float)) == 0;
  std::printf("%s\n", json.dump(1).c_str());
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  Setup setup;
  if (argc < 2) {
    std::fprintf(stderr, "usage: bench_paged MODEL [TOKENS] [CAP_MIB] [DIR] [TYPE] [THREADS]\n");
    return 2;
  }
  setup.model = argv[1];
  if (argc > 2) setup.tokens = std::atoll(argv[2]);
  if (argc > 3) setup.cap_mib = std::strtoull(argv[3], nullptr, 10);
  if (argc > 4) setup.directory = argv[4];
  if (argc > 5) setup.type = argv[5];
  if (argc > 6) setup.threads = std::atoi(argv[6]);
  const Status status = run(setup);
  if (!status.has_value()) std::fprintf(stderr, "bench_paged: %s\n", status.error().message.c_str());
  return status.has_value() ? 0 : 1;
}
