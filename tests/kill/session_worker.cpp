// A process to be killed: goes on in a session file of a tiny model, saves every few tokens, and can end itself by
// SIGKILL at any operation on a file. bench/kill_cycles.py drives it and compares what it tells.
//
//   session_worker FILE WANTED EVERY ARCH TYPE THREADS SYNC [kill OPERATION HALF]
//
// Decodes greedily from a fixed prompt until the session holds WANTED tokens, saving every EVERY ones. With `kill` the
// operation with that number is the last thing the process does; a write is done by half if HALF is 1.
// Prints "start TOKENS", "saved TOKENS" and at the end "operations N", then all tokens in one line.
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "src/runtime/option_values.hpp"
#include "src/runtime/session.hpp"
#include "tests/support/tiny_session.hpp"

namespace {

using namespace lcrun;

constexpr int64_t kPromptTokens = 100;

// Counts what changes files, or reads them, and ends the process at one of them.
class KillingFiles final : public FileSystem {
 public:
  KillingFiles(int64_t kill_at, bool half) : kill_at_(kill_at), half_(half) {}

  Result<std::unique_ptr<File>> open(const std::string& path, OpenMode mode) override {
    count();
    LCRUN_ASSIGN(auto file, posix_file_system().open(path, mode));
    return std::unique_ptr<File>(std::make_unique<KillingFile>(std::move(file), *this));
  }
  Status rename(const std::string& from, const std::string& to) override {
    count();
    return posix_file_system().rename(from, to);
  }
  Status remove(const std::string& path) override {
    count();
    return posix_file_system().remove(path);
  }
  Status sync_directory_of(const std::string& path) override {
    count();
    return posix_file_system().sync_directory_of(path);
  }
  bool exists(const std::string& path) override { return posix_file_system().exists(path); }
  int64_t operations() const { return operations_; }

 private:
  class KillingFile final : public File {
   public:
    KillingFile(std::unique_ptr<File> file, KillingFiles& files) : file_(std::move(file)), files_(files) {}
    const std::string& path() const override { return file_->path(); }
    Result<uint64_t> size() const override { return file_->size(); }
    Status read_at(uint64_t offset, std::span<std::byte> out) override { return file_->read_at(offset, out); }
    Status write_at(uint64_t offset, std::span<const std::byte> data) override {
      if (files_.half_ && files_.operations_ == files_.kill_at_) {
        static_cast<void>(file_->write_at(offset, data.first(data.size() / 2)));
      }
      files_.count();
      return file_->write_at(offset, data);
    }
    Status sync() override {
      files_.count();
      return file_->sync();
    }
    bool try_lock(bool exclusive) override { return file_->try_lock(exclusive); }
    Result<std::unique_ptr<Mapping>> map() override { return file_->map(); }

   private:
    std::unique_ptr<File> file_;
    KillingFiles& files_;
  };

  void count() {
    if (operations_++ == kill_at_) std::raise(SIGKILL);
  }

  int64_t kill_at_;
  bool half_;
  int64_t operations_ = 0;
};

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

}  // namespace

int main(int argc, char** argv) {
  if (argc < 8) fail("usage: session_worker FILE WANTED EVERY ARCH TYPE THREADS SYNC [kill OPERATION HALF]");
  const std::string path = argv[1];
  const int64_t wanted = std::atoll(argv[2]);
  const int64_t every = std::atoll(argv[3]);
  KillingFiles files(argc > 9 ? std::atoll(argv[9]) : -1, argc > 10 && std::string(argv[10]) == "1");
  testing::TinyOptions tiny;
  tiny.arch = argv[4];
  tiny.n_layers = 3;
  tiny.head_dim = 32;  // one block of q4_0 and q8_0
  auto model = must(model::Model::load(testing::open_tiny(testing::tiny_recipe(tiny)), {}));
  auto options = testing::tiny_session_options();
  options.n_ctx = 4096;
  options.cache = {cache_type(argv[5]), cache_type(argv[5])};
  options.n_threads = options.n_threads_batch = std::atoi(argv[6]);
  const auto sync = static_cast<storage::SyncMode>(std::atoi(argv[7]));
  auto session = must(runtime::Session::open(model, options));
  auto prompt = testing::random_tokens(kPromptTokens, testing::kTinyVocab, 5);
  if (files.exists(path)) {
    const auto restored = must(session.load(files, path));
    if (!restored.damage.empty()) fail("damage after a kill: " + restored.damage);
    if (restored.tokens.size() >= prompt.size()) prompt = restored.tokens;
  }
  std::printf("start %zu\n", session.tokens().size());
  std::fflush(stdout);
  auto logits = must(session.sync(prompt));
  while (static_cast<int64_t>(session.tokens().size()) < wanted) {
    const auto best = std::max_element(logits.begin(), logits.end()) - logits.begin();
    logits = must(session.decode(static_cast<model::Token>(best)));
    const auto n = static_cast<int64_t>(session.tokens().size());
    if (n % every != 0 && n != wanted) continue;
    must(session.save(files, path, {.sync = sync}));
    std::printf("saved %lld\n", static_cast<long long>(n));
    std::fflush(stdout);
  }
  std::printf("operations %lld\n", static_cast<long long>(files.operations()));
  for (const model::Token token : session.tokens()) std::printf("%d ", token);
  std::printf("\n");
  return 0;
}
