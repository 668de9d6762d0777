// bench_branch MODEL TEXT [TOKENS] [THREADS] [DIR]: how much of an edited prompt is read again.
//
// Reads the first TOKENS (24,576) of a text and saves them. Then one token in the middle is changed, at 25, 50 and
// 90 %, in the session that has read the prompt, and in a fresh process that restores it. Prints one JSON object each:
// tokens read again beyond those from the edit on, and whether the logits are, bit for bit, those of a session that
// has read the edited prompt from its beginning.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
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
using runtime::Session;
using runtime::Token;
using Clock = std::chrono::steady_clock;

constexpr double kPlaces[] = {0.25, 0.5, 0.9};

struct Setup {
  std::string model, text;
  int64_t tokens = 24576;
  int threads = 2;
  std::string directory = "/var/tmp";
  std::string file() const { return directory + "/bench_branch.session"; }
};

template <class T>
T must(Result<T> result) {
  if (result.has_value()) return std::move(result).value();
  std::fprintf(stderr, "bench_branch: %s\n", result.error().message.c_str());
  std::exit(1);
}

Session open(const runtime::Engine& engine, const Setup& setup) {
  runtime::SessionOptions options;
  options.n_ctx = setup.tokens;
  options.policy.attention = "dense";
  options.n_threads = options.n_threads_batch = setup.threads;
  return must(Session::open(engine.model, options));
}

std::vector<Token> edited(std::vector<Token> tokens, double place) {
  Token& token = tokens[static_cast<size_t>(place * static_cast<double>(tokens.size()))];
  token = token == 1000 ? 1001 : 1000;
  return tokens;
}

std::vector<float> copy_of(std::span<const float> logits) { return {logits.begin(), logits.end()}; }

void report(const char* where, double place, const Setup& setup, const Session& session, double seconds, bool same) {
  const auto tail = setup.tokens - static_cast<int64_t>(place * static_cast<double>(setup.tokens));
  const int64_t again = setup.tokens - session.reused_tokens();
  std::printf(
      "{\"where\":\"%s\",\"tokens\":%lld,\"edit_at\":%.2f,\"read_again\":%lld,\"beyond_the_tail\":%lld,"
      "\"seconds\":%.2f,\"same_bits\":%s}\n",
      where, static_cast<long long>(setup.tokens), place, static_cast<long long>(again),
      static_cast<long long>(again - tail), seconds, same ? "true" : "false");
  std::fflush(stdout);
}

// What session gives for the edited prompt, beside what a fresh one gives.
void edit(const char* where, const runtime::Engine& engine, const Setup& setup, Session& session, double place,
          const std::vector<Token>& tokens) {
  const auto changed = edited(tokens, place);
  const auto start = Clock::now();
  const auto found = copy_of(must(session.sync(changed)));
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  auto fresh = open(engine, setup);
  const auto wanted = copy_of(must(fresh.sync(changed)));
  report(where, place, setup, session, seconds,
         found.size() == wanted.size() && std::memcmp(found.data(), wanted.data(), found.size() * sizeof(float)) == 0);
}

struct Ready {
  runtime::Engine engine;
  std::vector<Token> tokens;
};

Ready ready(const Setup& setup) {
  Ready made;
  runtime::EngineRequest request;
  request.path = setup.model;
  request.n_threads = setup.threads;
  made.engine = must(runtime::load_engine(request, posix_file_system()));
  const auto text = must(read_text_file(posix_file_system(), setup.text, uint64_t{1} << 30));
  made.tokens = made.engine.tokenizer->encode(text, true, false);
  if (static_cast<int64_t>(made.tokens.size()) < setup.tokens) {
    std::fprintf(stderr, "bench_branch: %s: found %zu tokens, wanted %lld\n", setup.text.c_str(), made.tokens.size(),
                 static_cast<long long>(setup.tokens));
    std::exit(1);
  }
  made.tokens.resize(static_cast<size_t>(setup.tokens));
  return made;
}

void in_process(const Setup& setup) {
  const Ready it = ready(setup);
  for (const double place : kPlaces) {
    auto session = open(it.engine, setup);
    must(session.sync(it.tokens));
    if (place == kPlaces[0]) must(session.save(posix_file_system(), setup.file()));
    edit("in process", it.engine, setup, session, place, it.tokens);
  }
}

void after_restart(const Setup& setup, double place) {
  const Ready it = ready(setup);
  auto session = open(it.engine, setup);
  must(session.load(posix_file_system(), setup.file()));
  edit("after a restart", it.engine, setup, session, place, it.tokens);
}

}  // namespace

int main(int argc, char** argv) {
  Setup setup;
  if (argc < 3) {
    std::fprintf(stderr, "usage: bench_branch MODEL TEXT [TOKENS] [THREADS] [DIR]\n");
    return 2;
  }
  setup.model = argv[1];
  setup.text = argv[2];
  if (argc > 3) setup.tokens = std::atoll(argv[3]);
  if (argc > 4) setup.threads = std::atoi(argv[4]);
  if (argc > 5) setup.directory = argv[5];
  const auto in_child = [](const auto& work) {
    if (const pid_t child = fork(); child == 0) {
      work();
      std::exit(0);
    } else {
      int status = 0;
      waitpid(child, &status, 0);
      if (status != 0) std::exit(1);
    }
  };
  in_child([&] { in_process(setup); });
  for (const double place : kPlaces) in_child([&] { after_restart(setup, place); });
  unlink(setup.file().c_str());
  return 0;
}
