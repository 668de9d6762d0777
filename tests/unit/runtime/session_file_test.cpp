// Session files: restored = continued, or an error and no effect.
#include "src/runtime/session_file.hpp"

#include <catch2/catch.hpp>
#include <fstream>
#include <iterator>

#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_session.hpp"

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
    REQUIRE(session.save(posix_file_system(), path, "a note").has_value());

    auto other = open_tiny_session(model);
    sync_copy(other, random_tokens(10, kTinyVocab, 22));
    std::string note;
    REQUIRE(other.load(posix_file_system(), path, &note).has_value());
    CHECK(note == "a note");
    CHECK(std::equal(other.tokens().begin(), other.tokens().end(), session.tokens().begin(), session.tokens().end()));
    CHECK(std::equal(other.logits().begin(), other.logits().end(), logits.begin(), logits.end()));
    for (Token token = 0; token < 80; ++token) CHECK(decode_copy(other, token) == decode_copy(session, token));
    CHECK(dir.count_files() == 1);
  }
}

TEST_CASE("any damaged byte and any cut is refused, and changes nothing", "[runtime][session_file]") {
  const test::TempDir dir;
  const std::string path = dir.path() + "/s";
  const auto model = load_tiny("llama");
  auto session = open_tiny_session(model);
  sync_copy(session, random_tokens(40, kTinyVocab, 23));
  REQUIRE(session.save(posix_file_system(), path).has_value());
  const auto good = read_all(path);
  auto other = open_tiny_session(model);
  const auto before = sync_copy(other, random_tokens(9, kTinyVocab, 24));
  const auto refuses = [&](const std::vector<char>& bytes) {
    write_all(path, bytes);
    const Status loaded = other.load(posix_file_system(), path);
    return !loaded.has_value() && loaded.error().code == Code::kBadSession && other.tokens().size() == 9 &&
           std::equal(before.begin(), before.end(), other.logits().begin());
  };
  // Every byte of the header, then a sample.
  for (size_t at = 0; at < good.size(); at += at < 96 ? 1 : 211) {
    auto bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 0x40);
    INFO("byte " << at);
    CHECK(refuses(bad));
  }
  for (size_t size = 0; size < good.size(); size += size < 96 ? 1 : 509) {
    INFO("size " << size);
    CHECK(refuses(std::vector<char>(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size))));
  }
  auto longer = good;
  longer.push_back(0);
  CHECK(refuses(longer));
  write_all(path, good);
  CHECK(other.load(posix_file_system(), path).has_value());
}

TEST_CASE("a session of another model or of other cache types is refused by name", "[runtime][session_file]") {
  const test::TempDir dir;
  const std::string path = dir.path() + "/s";
  auto session = open_tiny_session(load_tiny("llama", 1));
  sync_copy(session, random_tokens(20, kTinyVocab, 25));
  REQUIRE(session.save(posix_file_system(), path).has_value());

  auto other_weights = open_tiny_session(load_tiny("llama", 2));
  const Status weights = other_weights.load(posix_file_system(), path);
  REQUIRE_FALSE(weights.has_value());
  CHECK(weights.error().code == Code::kBadSession);
  CHECK(weights.error().message.find("model fingerprint") != std::string::npos);

  auto options = tiny_session_options();
  options.cache = {DType::kF32, DType::kF32};
  auto other_types = open_tiny_session(load_tiny("llama", 1), options);
  const Status types = other_types.load(posix_file_system(), path);
  REQUIRE_FALSE(types.has_value());
  CHECK(types.error().code == Code::kBadSession);
  CHECK(types.error().message.find("F16") != std::string::npos);
}

TEST_CASE("a missing session file is a bad session", "[runtime][session_file]") {
  auto session = open_tiny_session(load_tiny("llama"));
  const Status loaded = session.load(posix_file_system(), "/nonexistent/session");
  REQUIRE_FALSE(loaded.has_value());
  CHECK(loaded.error().code == Code::kBadSession);
}

TEST_CASE("whatever step of saving fails, the old file is still whole", "[runtime][session_file]") {
  const test::TempDir dir;
  const std::string path = dir.path() + "/s";
  const auto model = load_tiny("llama");
  auto session = open_tiny_session(model);
  sync_copy(session, random_tokens(20, kTinyVocab, 26));
  REQUIRE(session.save(posix_file_system(), path).has_value());
  const auto old = read_all(path);
  REQUIRE(session.decode(3).has_value());

  FailingFileSystem counting(-1);
  REQUIRE(session.save(counting, dir.path() + "/t").has_value());
  REQUIRE(posix_file_system().remove(dir.path() + "/t").has_value());
  for (int k = 0; k < counting.count(); ++k) {
    INFO("operation " << k);
    FailingFileSystem fs(k);
    const Status saved = session.save(fs, path);
    REQUIRE_FALSE(saved.has_value());
    CHECK(saved.error().code == Code::kNoSpace);
    // Syncing the directory comes after the rename: the new file may be there, but whole.
    const auto now = read_all(path);
    auto check = open_tiny_session(model);
    CHECK(check.load(posix_file_system(), path).has_value());
    if (k + 1 < counting.count()) CHECK(now == old);
    CHECK(dir.count_files() == 1);
    write_all(path, old);
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
