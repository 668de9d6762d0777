// Sessions that share the pages of a sealed one: they say what others say, or refuse, and never hold what is there.
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>

#include "src/runtime/session.hpp"
#include "src/runtime/session_file.hpp"
#include "tests/support/memory_files.hpp"
#include "tests/support/random.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_session.hpp"

using namespace lcrun;
using namespace lcrun::runtime;
using namespace lcrun::testing;

namespace {

constexpr size_t kShared = 700;
using Missing = Session::IfParentIsMissing;

std::shared_ptr<const model::Model> load_wide(const std::string& arch) {
  TinyOptions tiny;
  tiny.arch = arch;
  tiny.head_dim = 32;
  return model::Model::load(open_tiny(tiny_recipe(tiny)), {}).value();
}

struct Family {
  test::TempDir dir;
  std::shared_ptr<const model::Model> model;
  SessionOptions options = tiny_session_options();
  std::vector<Token> tokens = random_tokens(1200, kTinyVocab, 81);

  explicit Family(const std::string& arch = "llama", DType type = DType::kF16) : model(load_wide(arch)) {
    options.n_ctx = 2048;
    options.cache.type_k = options.cache.type_v = type;
    auto session = open_tiny_session(model, options);
    sync_copy(session, part(kShared));
    REQUIRE(session.save(posix_file_system(), path("parent"), {.seal = true}).has_value());
  }
  std::span<const Token> part(size_t n) const { return std::span(tokens).first(n); }
  std::string path(const std::string& name) const { return dir.path() + "/" + name; }
  storage::Snapshot open(const std::string& name) const {
    auto snapshot = storage::open_snapshot(posix_file_system(), path(name));
    REQUIRE(snapshot.has_value());
    return std::move(snapshot).value();
  }
  Session load(const std::string& name, SealedForm form = SealedForm::kCopied) const {
    SessionOptions with = options;
    with.n_threads = with.n_threads_batch = 2;
    with.paging.directory = dir.path();
    with.paging.sealed = form;
    auto session = open_tiny_session(model, with);
    const auto restored = session.load(posix_file_system(), path(name));
    INFO((restored.has_value() ? "" : restored.error().message));
    REQUIRE(restored.has_value());
    CHECK(restored->damage.empty());
    return session;
  }
  std::vector<float> truth(size_t n) const {
    auto session = open_tiny_session(model, options);
    return sync_copy(session, part(n));
  }
  void save(Session& session, const std::string& name) const {
    const auto report = session.save(posix_file_system(), path(name));
    INFO((report.has_value() ? "" : report.error().message));
    REQUIRE(report.has_value());
  }
};

const SealedForm kForms[] = {SealedForm::kCopied, SealedForm::kMapped, SealedForm::kRead};

}  // namespace

TEST_CASE("a session saved beside a sealed one that it began with holds only what is its own", "[runtime][parent]") {
  for (const std::string arch : {"llama", "gemma2", "qwen3next"}) {
    for (const DType type : {DType::kF16, DType::kQ4_0}) {
      const Family family(arch, type);
      const auto wanted = family.truth(1100);
      for (const SealedForm form : kForms) {
        CAPTURE(arch, static_cast<int>(type), static_cast<int>(form));
        auto first = family.load("parent", form);
        sync_copy(first, family.part(800));
        family.save(first, "child");
        const auto child = family.open("child");
        REQUIRE(child.parent.has_value());
        CHECK(child.parent->tokens == kShared / 64 * 64);
        CHECK(child.parent->path == family.path("parent"));
        CHECK(child.shared_bytes() > 0);
        CHECK(child.parent_file != nullptr);
        // Added to, in a session of its own: the pages stay shared.
        for (const size_t n : {900, 901, 1000}) {
          auto next = family.load("child", form);
          CHECK(sync_copy(next, family.part(n)) == family.truth(n));
          CHECK(next.reused_tokens() >= 800);
          family.save(next, "child");
          CHECK(family.open("child").shared_bytes() == child.shared_bytes());
        }
        auto last = family.load("child", form);
        CHECK(last.tokens().size() == 1000);
        CHECK(sync_copy(last, family.part(1100)) == wanted);
        CHECK(last.reused_tokens() == 1000);
        auto whole = open_tiny_session(family.model, family.options);
        sync_copy(whole, family.part(1000));
        family.save(whole, "whole");
        auto snapshot = family.open("child");
        CHECK(snapshot.live_bytes() + child.shared_bytes() < family.open("whole").live_bytes() + (32 << 10));
        CHECK(storage::verify_snapshot(snapshot, 2).value() == 0);
        std::filesystem::remove(family.path("child"));
      }
    }
  }
}

TEST_CASE("what is edited before the end of the shared tokens is shared up to there", "[runtime][parent]") {
  for (const std::string arch : {"llama", "gemma2"}) {
    for (const SealedForm form : kForms) {
      const Family family(arch);
      for (const size_t at : {size_t{10}, size_t{64}, size_t{300}, size_t{699}}) {
        CAPTURE(arch, static_cast<int>(form), at);
        auto edited = family.tokens;
        edited[at] = (edited[at] + 1) % static_cast<Token>(kTinyVocab);
        auto session = family.load("parent", form);
        const auto wanted = sync_copy(session, {edited.data(), 750});
        family.save(session, "child");
        const auto child = family.open("child");
        CHECK((child.parent.has_value() ? child.parent->tokens : 0) <= at);
        auto again = family.load("child", form);
        CHECK(std::equal(wanted.begin(), wanted.end(), again.logits().begin(), again.logits().end()));
        CHECK(sync_copy(again, {edited.data(), 760}) == sync_copy(session, {edited.data(), 760}));
        // Back to the shared text: what was written over is not taken for it.
        CHECK(sync_copy(again, family.part(740)) == family.truth(740));
        family.save(again, "child");
        auto third = family.load("child", form);
        CHECK(sync_copy(third, family.part(760)) == family.truth(760));
      }
    }
  }
}

TEST_CASE("children of children share with the first parent, and need no one else", "[runtime][parent]") {
  const Family family;
  for (const SealedForm form : kForms) {
    auto child = family.load("parent", form);
    sync_copy(child, family.part(800));
    REQUIRE(child.save(posix_file_system(), family.path("child"), {.seal = true}).has_value());
    auto grandchild = family.load("child", form);
    sync_copy(grandchild, family.part(900));
    family.save(grandchild, "grandchild");
    CHECK(family.open("grandchild").parent->path == family.path("parent"));
    std::filesystem::remove(family.path("child"));
    auto again = family.load("grandchild", form);
    CHECK(again.tokens().size() == 900);
    CHECK(sync_copy(again, family.part(1000)) == family.truth(1000));
  }
}

TEST_CASE("a parent that is missing, or another file, is an error that names it, or is read again",
          "[runtime][parent]") {
  for (const bool is_other : {false, true}) {
    const Family family("gemma2");
    auto session = family.load("parent");
    sync_copy(session, family.part(800));
    family.save(session, "child");
    std::filesystem::remove(family.path("parent"));
    if (is_other) {
      auto other = open_tiny_session(family.model, family.options);
      sync_copy(other, family.part(kShared));
      REQUIRE(other.save(posix_file_system(), family.path("parent"), {.seal = true}).has_value());
    }
    auto fresh = open_tiny_session(family.model, family.options);
    const auto before = sync_copy(fresh, family.part(50));
    const auto refused = fresh.load(posix_file_system(), family.path("child"));
    REQUIRE_FALSE(refused.has_value());
    CHECK(refused.error().code == Code::kBadSession);
    CHECK(refused.error().message.find(family.path("parent")) != std::string::npos);
    CHECK(sync_copy(fresh, family.part(50)) == before);
    const auto read_again = fresh.load(posix_file_system(), family.path("child"), Missing::kReread);
    REQUIRE(read_again.has_value());
    CHECK(read_again->tokens.size() == 800);
    CHECK_FALSE(read_again->damage.empty());
    CHECK(sync_copy(fresh, family.part(850)) == family.truth(850));
    // Saved again it holds all of itself.
    family.save(fresh, "child");
    CHECK_FALSE(family.open("child").parent.has_value());
    CHECK(sync_copy(fresh, family.part(860)) == family.truth(860));
    auto last = family.load("child");
    CHECK(last.tokens().size() == 850);
    // One that was open all the while has lost nothing.
    CHECK(sync_copy(session, family.part(860)) == family.truth(860));
    family.save(session, "second");
    CHECK_FALSE(family.open("second").parent.has_value());
    CHECK(family.load("second").tokens().size() == 860);
  }
}

TEST_CASE("folders: beside each other both may move, elsewhere the whole path is kept", "[runtime][parent]") {
  const Family family;
  auto session = family.load("parent");
  sync_copy(session, family.part(800));
  std::filesystem::create_directory(family.path("a"));
  std::filesystem::create_directory(family.path("b"));
  family.save(session, "a/child");
  CHECK(family.load("a/child").tokens().size() == 800);
  family.save(session, "child");
  for (const char* name : {"parent", "child"}) std::filesystem::rename(family.path(name), family.path("b/") + name);
  CHECK(family.load("b/child").tokens().size() == 800);
  auto fresh = open_tiny_session(family.model, family.options);
  CHECK_FALSE(fresh.load(posix_file_system(), family.path("a/child")).has_value());
}

TEST_CASE("damaged pages of a parent cost time, and damaged references are no others", "[runtime][parent]") {
  const Family family("gemma2");
  auto session = family.load("parent");
  sync_copy(session, family.part(800));
  family.save(session, "child");
  const auto wanted = family.truth(850);
  const auto read = [](const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(file)), {});
    return bytes;
  };
  int parts = 0, errors = 0, whole = 0;
  for (const char* name : {"parent", "child"}) {
    const std::string path = family.path(name), bytes = read(path);
    test::Random random(5);
    for (int i = 0; i < 150; ++i) {
      std::string spoilt = bytes;
      // The beginning has what refers to the rest.
      const auto at = static_cast<size_t>(random.below(i % 3 == 0 ? 40960 : static_cast<int64_t>(bytes.size())));
      spoilt[at] = static_cast<char>(spoilt[at] ^ (1 << random.below(8)));
      std::ofstream(path, std::ios::binary) << spoilt;
      for (const SealedForm form : {SealedForm::kCopied, SealedForm::kMapped}) {
        CAPTURE(name, at, static_cast<int>(form));
        SessionOptions with = family.options;
        with.paging.directory = family.dir.path();
        with.paging.sealed = form;
        auto fresh = open_tiny_session(family.model, with);
        const auto restored = fresh.load(posix_file_system(), family.path("child"));
        if (!restored.has_value()) {
          CHECK(restored.error().code == Code::kBadSession);
          ++errors;
          continue;
        }
        ++(restored->damage.empty() ? whole : parts);
        CHECK(restored->tokens == std::vector<Token>(family.tokens.begin(), family.tokens.begin() + 800));
        CHECK(sync_copy(fresh, family.part(850)) == wanted);
      }
    }
    std::ofstream(path, std::ios::binary) << bytes;
  }
  CHECK(parts > 0);
  CHECK(errors > 0);
  CHECK(whole > 0);
}

TEST_CASE("whichever operation of saving or restoring a child fails, nothing wrong comes of it", "[runtime][parent]") {
  const auto model = load_wide("gemma2");
  const auto tokens = random_tokens(400, kTinyVocab, 82);
  const auto options = tiny_session_options();
  auto truth = open_tiny_session(model, options);
  const auto wanted = sync_copy(truth, tokens);
  test::MemoryFiles original;
  auto first = open_tiny_session(model, options);
  sync_copy(first, {tokens.data(), 200});
  REQUIRE(first.save(original, "parent", {.seal = true}).has_value());
  test::MemoryFiles::Bytes child;
  bool is_past = false;
  for (int64_t k = 0; !is_past; k += 1 + k / 16) {
    CAPTURE(k);
    test::MemoryFiles files;
    files.put("parent", original.get("parent"));
    auto session = open_tiny_session(model, options);
    REQUIRE(session.load(files, "parent").has_value());
    sync_copy(session, {tokens.data(), 300});
    files.fail_at(k);
    const auto saved = session.save(files, "child");
    is_past = !files.has_failed();
    files.fail_at(-1);
    auto again = open_tiny_session(model, options);
    if (!saved.has_value()) {
      REQUIRE(session.save(files, "child").has_value());
    }
    REQUIRE(again.load(files, "child").has_value());
    CHECK(again.tokens().size() == 300);
    CHECK(sync_copy(again, tokens) == wanted);
    child = files.get("child");
  }
  is_past = false;
  for (int64_t k = 0; !is_past; k += 1 + k / 16) {
    CAPTURE(k);
    test::MemoryFiles files;
    files.put("parent", original.get("parent"));
    files.put("child", child);
    auto session = open_tiny_session(model, options);
    files.fail_at(k);
    const auto restored = session.load(files, "child");
    is_past = !files.has_failed();
    files.fail_at(-1);
    if (restored.has_value()) CHECK(restored->tokens.size() == 300);
    CHECK(sync_copy(session, tokens) == wanted);
  }
}
