// Window layers keep their window and a little slack, and still agree with a reference that keeps everything.
#include <catch2/catch.hpp>

#include "tests/support/model_runner.hpp"
#include "tests/support/reference_model.hpp"
#include "tests/support/tiny_model.hpp"

namespace lcrun::testing {
namespace {

constexpr int64_t kTokens = 260;

TinyOptions windowed(const std::string& arch, int64_t window) {
  TinyOptions options;
  options.arch = arch;
  options.window = window;
  return options;
}

}  // namespace

TEST_CASE("window layers agree with the reference long after their first keys were dropped", "[model]") {
  const std::vector<int32_t> tokens = random_tokens(kTokens, kTinyVocab, 31);
  for (const std::string& arch : tiny_archs()) {
    if (!tiny_has_window(arch)) continue;
    for (const int64_t window : {1, 7, 64, 100}) {
      CAPTURE(arch, window);
      const auto file = open_tiny(tiny_recipe(windowed(arch, window)));
      const Rows want = ReferenceModel(file).logits(tokens);
      ModelRunner runner(file);
      const FloatRows got = runner.run(tokens, 37);
      double worst = 0.0;
      for (size_t t = 0; t < want.size(); ++t) worst = std::max(worst, relative_error(got[t], want[t]));
      CHECK(worst <= 1e-4);
    }
  }
}

TEST_CASE("a window layer holds its window and a few blocks, a global layer holds everything", "[model]") {
  const std::vector<int32_t> tokens = random_tokens(kTokens, kTinyVocab, 31);
  ModelRunner runner(open_tiny(tiny_recipe(windowed("gemma2", 8))));
  runner.run(tokens, 37);
  bool any_window = false;
  for (int64_t i = 0; i < runner.model().config().n_layers; ++i) {
    const storage::Region& kv = runner.state().layer(i).regions[0];
    const bool is_window = runner.model().config().layers[static_cast<size_t>(i)].window > 0;
    any_window = any_window || is_window;
    CHECK(kv.rows() == kTokens);
    if (is_window) {
      CHECK(kv.first_row() > kTokens - 8 - 3 * storage::kBlockTokens);
      CHECK(kv.first_row() <= kTokens - 8);
    } else {
      CHECK(kv.first_row() == 0);
    }
  }
  CHECK(any_window);
}

TEST_CASE("the pattern of window layers follows the file where it states one", "[model]") {
  TinyRecipe recipe = tiny_recipe(windowed("gemma3", 8));
  recipe.set_key("gemma3.attention.sliding_window_pattern", std::vector<bool>{false, true, true, false});
  const auto file = open_tiny(recipe);
  ModelRunner runner(file);
  const std::vector<int64_t> want_windows = {0, 8, 8, 0};
  for (size_t i = 0; i < 4; ++i) CHECK(runner.model().config().layers[i].window == want_windows[i]);
  const std::vector<int32_t> tokens = random_tokens(60, kTinyVocab, 8);
  const Rows want = ReferenceModel(file).logits(tokens);
  const FloatRows got = runner.run(tokens);
  CHECK(relative_error(got.back(), want.back()) <= 1e-4);
}

}  // namespace lcrun::testing
