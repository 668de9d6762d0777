// A process to be killed: goes on in a session file of a tiny model, saves every few tokens, and can end itself by
// SIGKILL at a named point (kill_points.hpp). bench/kill_cycles.py drives it and compares what it tells.
//
//   session_worker FILE WANTED EVERY ARCH TYPE THREADS SYNC BATCH CACHE [NAME NTH]
//
// Decodes greedily from a fixed prompt until the session holds WANTED tokens, saving every EVERY ones; then keeps a
// sealed copy in FILE.sealed and says ten tokens more from there. CACHE: memory, or a few pages of memory and a scratch
// file beside FILE: uring, threads; the latter two also read the sealed copy, memory maps it. With NAME the NTH
// time that the process comes by this point is its last moment ("operation": by any).
// Prints "start TOKENS", "saved TOKENS", "point COUNT NAME", "operations N" and at the end all tokens in one line.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "src/runtime/option_values.hpp"
#include "src/runtime/session.hpp"
#include "tests/kill/kill_points.hpp"
#include "tests/support/tiny_session.hpp"

namespace {

using namespace lcrun;

constexpr int64_t kPromptTokens = 700;
constexpr int kTailTokens = 10;
constexpr int64_t kMostTokens = 1000;

testing::KillPoints points;

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "session_worker: %s\n", what.c_str());
  std::exit(1);
}

template <class T>
T must(Result<T> result) {
  if (!result.has_value()) fail(result.error().message);
  return std::move(result).value();
}

DType cache_type(const std::string& name) {
  if (name == "f32") return DType::kF32;
  return name == "f16" ? DType::kF16 : name == "q8_0" ? DType::kQ8_0 : DType::kQ4_0;
}

Result<std::unique_ptr<storage::BlockDevice>> with_points(Result<std::unique_ptr<storage::BlockDevice>> device) {
  if (!device.has_value()) return device;
  points.pass("disk opened");
  return std::unique_ptr<storage::BlockDevice>(
      std::make_unique<testing::KillingDevice>(std::move(device).value(), points));
}

// With pages: as few frames as a step can do with.
runtime::Session open_session(const std::shared_ptr<const model::Model>& model, runtime::SessionOptions options,
                              const std::string& cache, const std::string& path) {
  const std::string directory = path.substr(0, path.find_last_of('/'));
  storage::DeviceOptions disk;
  disk.io = cache == "threads" ? storage::IoChoice::kThreads : storage::IoChoice::kAuto;
  options.paging.sealed = cache == "memory" ? runtime::SealedForm::kMapped : runtime::SealedForm::kRead;
  options.paging.open_device = [=] { return with_points(storage::open_scratch(directory, disk)); };
  options.paging.open_sealed = [=](const std::string& name) {
    return with_points(storage::open_for_reading(name, disk));
  };
  if (cache == "memory") return must(runtime::Session::open(model, options));
  for (options.max_state_bytes = 65536;; options.max_state_bytes += 16384) {
    auto session = runtime::Session::open(model, options);
    const bool has_room = session.has_value() && session->max_tokens() >= kMostTokens;  // paged, or small
    if (has_room) return std::move(session).value();
    if (!session.has_value() && session.error().code != Code::kNoMemory) fail(session.error().message);
  }
}

model::Token best_of(std::span<const float> logits) {
  return static_cast<model::Token>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

// Restores, reads on where it must, decodes to `wanted`.
void go_on(runtime::Session& session, FileSystem& files, const std::string& path, int64_t wanted, int64_t every,
           storage::SyncMode sync) {
  auto prompt = testing::random_tokens(kPromptTokens, testing::kTinyVocab, 5);
  if (files.exists(path)) {
    points.enter("restore");
    const auto restored = must(session.load(files, path));
    if (!restored.damage.empty()) fail("damage after a kill: " + restored.damage);
    if (restored.tokens.size() >= prompt.size()) prompt = restored.tokens;
    points.pass("restored");
  }
  std::printf("start %zu\n", session.tokens().size());
  std::fflush(stdout);
  points.enter("prefill");
  auto logits = must(session.sync(prompt, [](int64_t, int64_t) {
    points.pass("between batches");
    return true;
  }));
  while (static_cast<int64_t>(session.tokens().size()) < wanted) {
    points.enter("decode");
    points.pass("before a token");
    logits = must(session.decode(best_of(logits)));
    points.pass("after a token");
    const auto n = static_cast<int64_t>(session.tokens().size());
    if (n % every != 0 && n != wanted) continue;
    points.enter("save");
    must(session.save(files, path, {.sync = sync}));
    points.pass("saved");
    std::printf("saved %lld\n", static_cast<long long>(n));
    std::fflush(stdout);
  }
}

// The tokens that follow in a sealed copy, whose pages stay in the file.
std::vector<model::Token> sealed_tail(runtime::Session& session, runtime::Session& other, FileSystem& files,
                                      const std::string& path) {
  points.enter("seal");
  if (files.exists(path)) static_cast<void>(files.remove(path));
  must(session.save(files, path, {.sync = storage::SyncMode::kFull, .seal = true}));
  points.pass("sealed");
  points.enter("sealed");
  const auto restored = must(other.load(files, path));
  if (!restored.damage.empty()) fail("damage in a sealed copy: " + restored.damage);
  points.pass("restored");
  std::vector<model::Token> tail;
  auto logits = must(other.sync(restored.tokens));
  for (int i = 0; i < kTailTokens; ++i) {
    tail.push_back(best_of(logits));
    logits = must(other.decode(tail.back()));
    points.pass("after a token");
  }
  return tail;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 10) {
    fail("usage: session_worker FILE WANTED EVERY ARCH TYPE THREADS SYNC BATCH CACHE [NAME NTH]");
  }
  const std::string path = argv[1], cache = argv[9];
  const int64_t wanted = std::atoll(argv[2]);
  if (argc > 11) points.arm(argv[10], std::atoll(argv[11]));
  testing::KillingFiles files(points);
  testing::TinyOptions tiny;
  tiny.arch = argv[4];
  tiny.n_layers = 3;
  tiny.head_dim = 32;  // one block of q4_0 and q8_0
  auto model = must(model::Model::load(testing::open_tiny(testing::tiny_recipe(tiny)), {}));
  auto options = testing::tiny_session_options();
  options.n_ctx = 4096;
  options.cache = {cache_type(argv[5]), cache_type(argv[5])};
  options.n_threads = options.n_threads_batch = std::atoi(argv[6]);
  options.batch = std::atoll(argv[8]);
  const auto sync = static_cast<storage::SyncMode>(std::atoi(argv[7]));
  auto session = open_session(model, options, cache, path);
  go_on(session, files, path, wanted, std::atoll(argv[3]), sync);
  auto other = open_session(model, options, cache, path);
  const auto tail = sealed_tail(session, other, files, path + ".sealed");
  points.print();
  for (const model::Token token : session.tokens()) std::printf("%d ", token);
  for (const model::Token token : tail) std::printf("%d ", token);
  std::printf("\n");
  return 0;
}
