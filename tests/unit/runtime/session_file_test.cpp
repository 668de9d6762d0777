// Session files: restored = continued, or an error and no effect.
#include "src/runtime/session_file.hpp"

#include <catch2/catch.hpp>
#include <fstream>
#include <iterator>

#include "src/base/format.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_session.hpp"
#include "tests/support/twin_state.hpp"

using namespace lcrun;
using namespace lcrun::runtime;
using namespace lcrun::testing;

namespace {

std::vector<char> read_all(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write_all(const std::string& path, const std::vector<char>& bytes) {
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

// Fails the k-th operation that changes something; counts them.
class FailingFileSystem final : public FileSystem {
 public:
  explicit FailingFileSystem(int fail_at) : fail_at_(fail_at) {}

  Result<std::unique_ptr<File>> open(const std::string& path, OpenMode mode) override {
    if (mode != OpenMode::kRead && mode != OpenMode::kReadDirect && fails()) return broken();
    LCRUN_ASSIGN(auto file, posix_file_system().open(path, mode));
    return std::unique_ptr<File>(std::make_unique<FailingFile>(std::move(file), *this));
  }
  Status rename(const std::string& from, const std::string& to) override {
    if (fails()) return broken();
    return posix_file_system().rename(from, to);
  }
  Status remove(const std::string& path) override { return posix_file_system().remove(path); }
  Status sync_directory_of(const std::string& path) override {
    if (fails()) return broken();
    return posix_file_system().sync_directory_of(path);
  }
  bool exists(const std::string& path) override { return posix_file_system().exists(path); }
  int count() const { return count_; }

 private:
  class FailingFile final : public File {
   public:
    FailingFile(std::unique_ptr<File> file, FailingFileSystem& fs) : file_(std::move(file)), fs_(fs) {}
    const std::string& path() const override { return file_->path(); }
    Result<uint64_t> size() const override { return file_->size(); }
    Status read_at(uint64_t offset, std::span<std::byte> out) override { return file_->read_at(offset, out); }
    Status write_at(uint64_t offset, std::span<const std::byte> data) override {
      if (!fs_.fails()) return file_->write_at(offset, data);
      (void)file_->write_at(offset, data.first(data.size() / 2));  // torn
      return broken();
    }
    Status sync() override { return fs_.fails() ? Status(broken()) : file_->sync(); }
    Result<std::unique_ptr<Mapping>> map() override { return file_->map(); }

   private:
    std::unique_ptr<File> file_;
    FailingFileSystem& fs_;
  };

  bool fails() { return count_++ == fail_at_; }
  static Error broken() { return make_error(Code::kNoSpace, "the disk is full, says the test"); }

  int fail_at_;
  int count_ = 0;
};

}  // namespace

TEST_CASE("a restored session goes on bit for bit", "[runtime][session_file]") {
  for (const std::string arch : {"llama", "gemma3", "mamba2"}) {
    INFO(arch);
    const test::TempDir dir;
    const std::string path = dir.path() + "/s";
    const auto model = load_tiny(arch);
    auto session = open_tiny_session(model);
    const auto logits = sync_copy(session, random_tokens(130, kTinyVocab, 21));
    REQUIRE(session.save(posix_file_system(), path, {.note = "a note"}).has_value());

    auto other = open_tiny_session(model);
    sync_copy(other, random_tokens(10, kTinyVocab, 22));
    const auto restored = other.load(posix_file_system(), path);
    REQUIRE(restored.has_value());
    CHECK(restored->note == "a note");
    CHECK(restored->damage.empty());
    CHECK(std::equal(other.tokens().begin(), other.tokens().end(), session.tokens().begin(), session.tokens().end()));
    CHECK(std::equal(other.logits().begin(), other.logits().end(), logits.begin(), logits.end()));
    for (Token token = 0; token < 80; ++token) CHECK(decode_copy(other, token) == decode_copy(session, token));
    CHECK(dir.count_files() == 1);
  }
}

TEST_CASE("any cache type, architecture and number of threads goes on bit for bit, whole or added",
          "[runtime][session_file]") {
  const test::TempDir dir;
  const std::string path = dir.path() + "/s";
  const auto tokens = random_tokens(400, kTinyVocab, 41);
  for (const std::string arch : {"llama", "gemma3", "mamba2", "qwen3next"}) {
    TinyOptions tiny;
    tiny.arch = arch;
    tiny.head_dim = 32;  // one block of q4_0 and q8_0
    const std::shared_ptr<const model::Model> model = model::Model::load(open_tiny(tiny_recipe(tiny)), {}).value();
    for (const DType type : {DType::kF32, DType::kF16, DType::kQ8_0, DType::kQ4_0}) {
      auto options = tiny_session_options();
      options.cache = {type, type};
      auto whole = open_tiny_session(model, options);
      const auto wanted = sync_copy(whole, tokens);
      const auto next = decode_copy(whole, 7);
      CAPTURE(arch, static_cast<int>(type));
      for (const int threads : {1, 3}) {
        options.n_threads = options.n_threads_batch = threads;
        auto first = open_tiny_session(model, options);
        for (const size_t n : {150, 151, 290}) {
          sync_copy(first, {tokens.data(), n});
          const auto report = first.save(posix_file_system(), path);
          REQUIRE(report.has_value());
          CHECK(report->whole == (n == 150));
        }
        options.n_threads_batch = 4 - threads;
        auto second = open_tiny_session(model, options);
        REQUIRE(second.load(posix_file_system(), path).has_value());
        CHECK(second.tokens().size() == 290);
        CHECK(std::equal(second.logits().begin(), second.logits().end(), first.logits().begin(), first.logits().end()));
        CHECK(sync_copy(second, tokens) == wanted);
        CHECK(second.reused_tokens() == 290);
        CHECK(decode_copy(second, 7) == next);
      }
    }
  }
}

TEST_CASE("a prompt that is edited after a restart is read again from near the edit on", "[runtime][session_file]") {
  const test::TempDir dir;
  const std::string path = dir.path() + "/s";
  auto options = tiny_session_options();
  options.n_ctx = 4096;
  for (const std::string arch : {"gemma3", "mamba2"}) {
    const auto model = load_tiny(arch);
    const auto tokens = random_tokens(2400, kTinyVocab, 31);
    auto session = open_tiny_session(model, options);
    sync_copy(session, tokens);
    REQUIRE(session.save(posix_file_system(), path).has_value());
    for (const double part : {0.25, 0.5, 0.9}) {
      CAPTURE(arch, part);
      auto restarted = open_tiny_session(model, options);
      REQUIRE(restarted.load(posix_file_system(), path).has_value());
      auto edited = tokens;
      const auto edit = static_cast<size_t>(part * 2400.0);
      edited[edit] = (edited[edit] + 1) % static_cast<Token>(kTinyVocab);
      const auto found = sync_copy(restarted, edited);
      const auto tail = static_cast<int64_t>(edited.size() - edit);
      CHECK(static_cast<int64_t>(edited.size()) - restarted.reused_tokens() <= tail + 64 + 512);
      auto fresh = open_tiny_session(model, options);
      CHECK(found == sync_copy(fresh, edited));
    }
  }
}

TEST_CASE("any damaged byte and any cut costs tokens that can be read again, or is refused and changes nothing",
          "[runtime][session_file]") {
  const test::TempDir dir;
  const std::string path = dir.path() + "/s";
  for (const std::string arch : {"llama", "gemma3", "mamba2"}) {
    CAPTURE(arch);
    const auto model = load_tiny(arch);
    auto session = open_tiny_session(model);
    const auto tokens = random_tokens(140, kTinyVocab, 23);
    const auto wanted = sync_copy(session, tokens);
    REQUIRE(session.save(posix_file_system(), path).has_value());
    const auto good = read_all(path);
    // Same tokens, part of them, or an error: never others.
    const auto check = [&](const std::vector<char>& bytes) {
      write_all(path, bytes);
      auto other = open_tiny_session(model);
      const auto before = sync_copy(other, random_tokens(9, kTinyVocab, 24));
      const auto loaded = other.load(posix_file_system(), path);
      if (!loaded.has_value()) {
        return loaded.error().code == Code::kBadSession && other.tokens().size() == 9 &&
               std::equal(before.begin(), before.end(), other.logits().begin());
      }
      const bool is_prefix = std::equal(other.tokens().begin(), other.tokens().end(), tokens.begin());
      const bool is_told = !loaded->damage.empty() || other.tokens().size() == tokens.size();
      return is_prefix && is_told && loaded->tokens == tokens && sync_copy(other, tokens) == wanted;
    };
    size_t refused = 0;
    for (size_t at = 0; at < good.size(); at += at < 320 ? 7 : 1999) {
      auto bad = good;
      bad[at] = static_cast<char>(bad[at] ^ 0x40);
      INFO("byte " << at);
      CHECK(check(bad));
    }
    for (size_t size = 0; size < good.size(); size += size < 96 ? 5 : 2503) {
      INFO("size " << size);
      CHECK(check(std::vector<char>(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size))));
      refused += size < 8192 ? 1 : 0;
    }
    CHECK(refused > 10);
    auto longer = good;
    longer.push_back(0);
    CHECK(check(longer));
  }
}

TEST_CASE("a session of another model or of other cache types is refused by name", "[runtime][session_file]") {
  const test::TempDir dir;
  const std::string path = dir.path() + "/s";
  auto session = open_tiny_session(load_tiny("llama", 1));
  sync_copy(session, random_tokens(20, kTinyVocab, 25));
  REQUIRE(session.save(posix_file_system(), path).has_value());

  auto other_weights = open_tiny_session(load_tiny("llama", 2));
  const auto weights = other_weights.load(posix_file_system(), path);
  REQUIRE_FALSE(weights.has_value());
  CHECK(weights.error().code == Code::kBadSession);
  CHECK(weights.error().message.find("model fingerprint") != std::string::npos);

  auto options = tiny_session_options();
  options.cache = {DType::kF32, DType::kF32};
  auto other_types = open_tiny_session(load_tiny("llama", 1), options);
  const auto types = other_types.load(posix_file_system(), path);
  REQUIRE_FALSE(types.has_value());
  CHECK(types.error().code == Code::kBadSession);
  CHECK(types.error().message.find("F16") != std::string::npos);
}

TEST_CASE("a missing session file is a bad session", "[runtime][session_file]") {
  auto session = open_tiny_session(load_tiny("llama"));
  const auto loaded = session.load(posix_file_system(), "/nonexistent/session");
  REQUIRE_FALSE(loaded.has_value());
  CHECK(loaded.error().code == Code::kBadSession);
}

TEST_CASE("whatever step of saving fails, the old file is still whole", "[runtime][session_file]") {
  const test::TempDir dir;
  const std::string path = dir.path() + "/s";
  const auto model = load_tiny("llama");
  for (const bool adds : {false, true}) {
    CAPTURE(adds);
    auto session = open_tiny_session(model);
    sync_copy(session, random_tokens(70, kTinyVocab, 26));
    REQUIRE(session.save(posix_file_system(), path).has_value());
    const auto old = read_all(path);
    REQUIRE(session.decode(3).has_value());
    const std::vector<float> wanted(session.logits().begin(), session.logits().end());
    for (int k = 0;; ++k) {
      INFO("operation " << k);
      FailingFileSystem fs(k);
      // A session that did not save or load this file writes it anew.
      auto writer = open_tiny_session(model);
      if (adds) {
        REQUIRE(writer.load(posix_file_system(), path).has_value());
        REQUIRE(writer.tokens().size() == 70);
        REQUIRE(writer.decode(3).has_value());
      } else {
        sync_copy(writer, session.tokens());
      }
      const auto saved = writer.save(fs, path, {.sync = storage::SyncMode::kFull});
      auto check = open_tiny_session(model);
      const auto loaded = check.load(posix_file_system(), path);
      REQUIRE(loaded.has_value());
      CHECK(loaded->damage.empty());
      CHECK((check.tokens().size() == 70 || check.tokens().size() == 71));
      CHECK(sync_copy(check, session.tokens()) == wanted);
      CHECK(dir.count_files() == 1);
      // The writer goes on, whatever happened.
      REQUIRE(writer.save(posix_file_system(), path).has_value());
      REQUIRE(check.load(posix_file_system(), path).has_value());
      CHECK(check.tokens().size() == 71);
      write_all(path, old);
      if (k >= fs.count()) {
        REQUIRE(saved.has_value());
        CHECK(saved->whole != adds);
        break;
      }
      // Where nothing can be added, a new file may still be written.
      CHECK((saved.has_value() ? saved->whole && adds : saved.error().code == Code::kNoSpace));
    }
  }
}

TEST_CASE("a session longer than the context is refused", "[runtime][session_file]") {
  const test::TempDir dir;
  const std::string path = dir.path() + "/s";
  const auto model = load_tiny("llama");
  auto session = open_tiny_session(model);
  sync_copy(session, random_tokens(100, kTinyVocab, 27));
  REQUIRE(session.save(posix_file_system(), path).has_value());
  auto options = tiny_session_options();
  options.n_ctx = 50;
  auto small = open_tiny_session(model, options);
  CHECK_FALSE(small.load(posix_file_system(), path).has_value());
  CHECK(small.tokens().empty());
}

namespace {

// What tests/golden/session_v2.bin holds: made by the code of the day on which format 2 was settled.
SessionIdentity golden_identity() {
  SessionIdentity identity;
  identity.state_format = 1;
  for (size_t i = 0; i < 16; ++i) identity.model[i] = static_cast<uint8_t>(i);
  identity.type_k = 8;
  identity.type_v = 2;
  identity.rope[3] = 9;
  identity.n_vocab = 1000;
  identity.n_ctx = 4096;
  identity.architecture = "llama";
  identity.model_path = "model.gguf";
  return identity;
}

std::vector<Token> golden_tokens(int64_t n) {
  std::vector<Token> tokens;
  for (int64_t i = 0; i < n; ++i) tokens.push_back(static_cast<Token>((i * 7919 + 5) % 1000));
  return tokens;
}

const std::string kGolden = LCRUN_TEST_ROOT "/golden/session_v2.bin";

}  // namespace

TEST_CASE("a file of format 2 is read for ever", "[runtime][session_file]") {
  auto snapshot = storage::open_snapshot(posix_file_system(), kGolden).value();
  CHECK(snapshot.damage.empty());
  CHECK(snapshot.superblock.sequence == 2);
  CHECK_FALSE(snapshot.superblock.sealed);
  CHECK(snapshot.identity == encode_identity(golden_identity()));
  const auto identity = decode_identity(snapshot.identity, "golden").value();
  CHECK(identity.architecture == "llama");
  CHECK(identity.n_ctx == 4096);
  CHECK(decode_tokens(snapshot, 1000).value() == golden_tokens(600));
  const auto extra = decode_extra(snapshot, 1000).value();
  REQUIRE(extra.logits.size() == 1000);
  CHECK(extra.logits[7] == 3.5F);
  CHECK(extra.note == "a note");
  auto state = test::twin_state(false);
  REQUIRE(storage::restore_snapshot(snapshot, state, 2).value() == 600);
  CHECK(test::twin_difference(state, golden_tokens(600)) == "");
  CHECK(state.truncation_point(560) == 512);  // the mark
  CHECK(storage::verify_snapshot(snapshot, 1).value() == 0);
}

TEST_CASE("a file of format 2 that shares the pages of another is read for ever", "[runtime][session_file]") {
  auto snapshot = storage::open_snapshot(posix_file_system(), LCRUN_TEST_ROOT "/golden/session_child_v2.bin").value();
  REQUIRE(snapshot.parent.has_value());
  CHECK(snapshot.parent->path == LCRUN_TEST_ROOT "/golden/session_parent_v2.bin");
  CHECK(snapshot.parent->tokens == 128);
  CHECK(storage::hex_text(snapshot.parent->chain) ==
        "cdfca000486b3c87cb090e5594991d4eec4a6b20b558efdd94266f6afe80f91a");
  check_parent(snapshot, golden_identity());
  CHECK(snapshot.parent_missing == "");
  REQUIRE(snapshot.parent_file != nullptr);
  auto state = test::twin_state(false);
  REQUIRE(storage::restore_snapshot(snapshot, state, 2).value() == 200);
  CHECK(test::twin_difference(state, golden_tokens(200)) == "");
  CHECK(storage::verify_snapshot(snapshot, 1).value() == 0);
}
