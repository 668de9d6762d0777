// Laws of a sequence's state, for every architecture, bit for bit: how a prompt is split, how many threads work, what
// is saved, cloned, interleaved or taken back makes no difference.
#include <atomic>
#include <catch2/catch.hpp>

#include "storage/snapshot.hpp"
#include "tests/support/model_runner.hpp"
#include "tests/support/state_bytes.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_model.hpp"

namespace lcrun::testing {
namespace {

constexpr int64_t kTokens = 90;

struct Setup {
  std::string arch;
  std::shared_ptr<const ggufish::ModelFile> file;
  std::vector<int32_t> tokens = random_tokens(kTokens, kTinyVocab, 21);
};

// Calls body(setup) for every architecture, and for llama with experts.
template <class Body>
void for_each_arch(const Body& body) {
  const auto run = [&](const TinyOptions& options) {
    const Setup setup{options.arch + (options.moe ? " with experts" : ""), open_tiny(tiny_recipe(options))};
    CAPTURE(setup.arch);
    body(setup);
  };
  for (const std::string& arch : tiny_archs()) {
    TinyOptions options;
    options.arch = arch;
    options.n_layers = 4;
    run(options);
  }
  TinyOptions mixtral;
  mixtral.moe = true;
  run(mixtral);
}

std::span<const int32_t> part(const std::vector<int32_t>& tokens, int64_t first, int64_t end) {
  return std::span(tokens).subspan(static_cast<size_t>(first), static_cast<size_t>(end - first));
}

FloatRows tail(const FloatRows& rows, int64_t first) { return {rows.begin() + first, rows.end()}; }

std::vector<std::byte> saved(storage::SequenceState& state) { return state_bytes(state); }

}  // namespace

TEST_CASE("any split of a prompt gives the same bits", "[model]") {
  for_each_arch([](const Setup& setup) {
    for (const DType cache : {DType::kF32, DType::kF16}) {
      RunnerOptions options;
      options.cache_type = cache;
      ModelRunner whole(setup.file, options);
      const FloatRows want = whole.run(setup.tokens);
      const auto state = saved(whole.state());
      ModelRunner single(whole.shared_model(), options);
      CHECK(single.run(setup.tokens, 1) == want);
      CHECK(saved(single.state()) == state);
      for (uint64_t seed = 0; seed < 3; ++seed) {
        ModelRunner split(whole.shared_model(), options);
        CHECK(split.run_split(setup.tokens, random_split(kTokens, 23, seed)) == want);
        CHECK(saved(split.state()) == state);
      }
    }
  });
}

TEST_CASE("one thread and several give the same bits", "[model]") {
  for_each_arch([](const Setup& setup) {
    const auto tokens = part(setup.tokens, 0, 40);
    ModelRunner one(setup.file);
    RunnerOptions options;
    options.n_threads = 3;
    ModelRunner several(setup.file, options);
    CHECK(several.run(tokens, 32) == one.run(tokens));
  });
}

TEST_CASE("a saved and restored sequence goes on with the same bits", "[model]") {
  const test::TempDir dir;
  const std::string path = dir.path() + "/s";
  for_each_arch([&](const Setup& setup) {
    ModelRunner whole(setup.file);
    const FloatRows want = whole.run(setup.tokens);
    ModelRunner first(whole.shared_model());
    first.run(part(setup.tokens, 0, 70));
    const storage::SaveRequest request{.state = first.state(), .identity = {}, .tokens = {}, .extra = {}, .last = {}};
    REQUIRE(storage::save_snapshot(posix_file_system(), path, request).has_value());
    ModelRunner second(whole.shared_model());
    auto snapshot = storage::open_snapshot(posix_file_system(), path);
    REQUIRE(snapshot.has_value());
    CHECK(storage::restore_snapshot(*snapshot, second.state(), 2).value() == 70);
    CHECK(saved(second.state()) == saved(first.state()));
    CHECK(second.run(part(setup.tokens, 70, kTokens)) == tail(want, 70));
    CHECK(saved(second.state()) == saved(whole.state()));
  });
}

TEST_CASE("a clone goes its own way and the original too", "[model]") {
  for_each_arch([](const Setup& setup) {
    ModelRunner original(setup.file);
    const FloatRows want = original.run(setup.tokens);
    original.state().clear();
    original.run(part(setup.tokens, 0, 40));
    ModelRunner copy(original.shared_model());
    copy.state() = original.state().clone().value();
    copy.run(random_tokens(30, kTinyVocab, 99));
    CHECK(original.run(part(setup.tokens, 40, kTokens)) == tail(want, 40));
  });
}

TEST_CASE("two sequences that take turns are as if each were alone", "[model]") {
  for_each_arch([](const Setup& setup) {
    const std::vector<int32_t> other = random_tokens(kTokens, kTinyVocab, 4);
    ModelRunner a(setup.file);
    ModelRunner b(a.shared_model());
    const FloatRows want_a = a.run(setup.tokens);
    const FloatRows want_b = b.run(other);
    a.state().clear();
    b.state().clear();
    for (int64_t at = 0; at < kTokens; at += 30) {
      const FloatRows got_a = a.run(part(setup.tokens, at, at + 30), 7);
      const FloatRows got_b = b.run(part(other, at, at + 30), 11);
      CHECK(got_a == FloatRows(want_a.begin() + at, want_a.begin() + at + 30));
      CHECK(got_b == FloatRows(want_b.begin() + at, want_b.begin() + at + 30));
    }
  });
}

TEST_CASE("a truncated sequence goes on as if the tokens had never been", "[model]") {
  for_each_arch([](const Setup& setup) {
    ModelRunner runner(setup.file);
    const FloatRows want = runner.run(setup.tokens);
    if (tiny_is_recurrent(setup.arch)) {
      // A recurrent state cannot be taken back by part, and says so.
      CHECK_FALSE(runner.state().can_truncate(kTokens - 1));
      CHECK(runner.state().can_truncate(kTokens));
    } else {
      // Windows keep some slack: a few tokens can always be taken back.
      REQUIRE(runner.state().can_truncate(kTokens - 13));
      runner.state().truncate(kTokens - 13);
      runner.run(random_tokens(9, kTinyVocab, 77));
      runner.state().truncate(kTokens - 13);
      CHECK(runner.run(part(setup.tokens, kTokens - 13, kTokens)) == tail(want, kTokens - 13));
    }
    runner.state().clear();
    CHECK(runner.state().tokens() == 0);
    CHECK(runner.run(setup.tokens, 13) == want);
  });
}

TEST_CASE("a cache of 4 bits keeps the laws of splits, threads, saving, forks and going back", "[model]") {
  const test::TempDir dir;
  const std::string path = dir.path() + "/s";
  for (const char* arch : {"llama", "gemma3", "qwen3"}) {
    TinyOptions tiny;
    tiny.arch = arch;
    tiny.head_dim = 32;
    const std::vector<int32_t> tokens = random_tokens(200, kTinyVocab, 5);
    RunnerOptions options;
    options.cache_type = DType::kQ4_0;
    ModelRunner whole(open_tiny(tiny_recipe(tiny)), options);
    const FloatRows want = whole.run(tokens);
    const auto state = saved(whole.state());
    CAPTURE(arch);
    for (uint64_t seed = 0; seed < 3; ++seed) {
      options.n_threads = seed == 0 ? 1 : 3;
      ModelRunner split(whole.shared_model(), options);
      CHECK(split.run_split(tokens, random_split(200, seed == 0 ? 2 : 64, seed)) == want);
      CHECK(saved(split.state()) == state);
    }
    ModelRunner other(whole.shared_model(), options);
    other.run(part(tokens, 0, 150));
    const storage::SaveRequest request{.state = other.state(), .identity = {}, .tokens = {}, .extra = {}, .last = {}};
    REQUIRE(storage::save_snapshot(posix_file_system(), path, request).has_value());
    ModelRunner restored(whole.shared_model(), options);
    auto snapshot = storage::open_snapshot(posix_file_system(), path);
    REQUIRE(snapshot.has_value());
    REQUIRE(storage::restore_snapshot(*snapshot, restored.state(), 2).value() == 150);
    CHECK(restored.run(part(tokens, 150, 200)) == tail(want, 150));
    auto fork = other.state().clone();
    REQUIRE(fork.has_value());
    other.run(random_tokens(50, kTinyVocab, 6));
    other.state() = std::move(*fork);
    CHECK(other.run(part(tokens, 150, 200)) == tail(want, 150));
    // Exactly where the open block is held, else to the beginning of a block; windows forget what lies far back.
    for (const int64_t wanted : {int64_t{195}, int64_t{128}, int64_t{100}, int64_t{64}}) {
      whole.state().clear();
      whole.run(tokens);
      const int64_t point = whole.state().truncation_point(wanted);
      if (wanted == 195) CHECK(point == wanted);
      if (std::string_view(arch) != "gemma3") CHECK(point == (wanted == 100 ? 64 : wanted));
      whole.state().truncate(point);
      CHECK(whole.run(part(tokens, point, 200)) == tail(want, point));
    }
  }
}

TEST_CASE("a token outside the vocabulary is refused and changes nothing", "[model]") {
  for_each_arch([](const Setup& setup) {
    ModelRunner runner(setup.file);
    const FloatRows want = runner.run(setup.tokens);
    runner.state().clear();
    runner.run(part(setup.tokens, 0, 50));
    const auto before = saved(runner.state());
    model::StepOptions options;
    options.cache = {DType::kF32, DType::kF32};
    model::Step step = runner.model().plan(options).value();
    for (const int32_t bad : {-1, static_cast<int32_t>(kTinyVocab), INT32_MAX, INT32_MIN}) {
      const std::vector<int32_t> tokens = {1, bad};
      const auto result = runner.model().forward(tokens, runner.state(), step);
      REQUIRE_FALSE(result.has_value());
      CHECK(result.error().code == Code::kInvalidArgument);
    }
    CHECK(saved(runner.state()) == before);
    CHECK(runner.run(part(setup.tokens, 50, kTokens)) == tail(want, 50));
  });
}

TEST_CASE("rows that nobody wants leave the same state, and the others the same bits", "[model]") {
  for_each_arch([](const Setup& setup) {
    ModelRunner all(setup.file);
    model::StepOptions options;
    options.cache = {DType::kF32, DType::kF32};
    model::Step step = all.model().plan(options).value();
    const auto tokens = part(setup.tokens, 0, 50);
    const MatView rows = all.model().forward(tokens, all.state(), step).value();
    REQUIRE(rows.rows == 50);
    for (const int64_t wanted : {0, 1, 7, 50, 99}) {
      ModelRunner some(all.shared_model());
      model::Step own = some.model().plan(options).value();
      const MatView last = some.model().forward(tokens, some.state(), own, false, wanted).value();
      REQUIRE(last.rows == std::min<int64_t>(wanted, 50));
      for (int64_t i = 0; i < last.rows; ++i) {
        const float* want = rows.row(50 - last.rows + i);
        CHECK(std::equal(want, want + rows.cols, last.row(i)));
      }
      CHECK(saved(some.state()) == saved(all.state()));
    }
  });
}

TEST_CASE("a stopped step can be recovered from", "[model]") {
  for_each_arch([](const Setup& setup) {
    ModelRunner runner(setup.file);
    const FloatRows want = runner.run(setup.tokens);
    runner.state().clear();
    runner.run(part(setup.tokens, 0, 50));
    const std::atomic<bool> stop{true};
    model::StepOptions options;
    options.cache = {DType::kF32, DType::kF32};
    options.cancel = &stop;
    model::Step step = runner.model().plan(options).value();
    const auto result = runner.model().forward(part(setup.tokens, 50, 60), runner.state(), step);
    REQUIRE_FALSE(result.has_value());
    CHECK(result.error().code == Code::kCancelled);
    CHECK(runner.state().tokens() == 50);
    const int64_t back = runner.state().can_truncate(50) ? 50 : 0;
    runner.state().truncate(back);
    CHECK(runner.run(part(setup.tokens, back, kTokens)) == tail(want, back));
  });
}

}  // namespace lcrun::testing
