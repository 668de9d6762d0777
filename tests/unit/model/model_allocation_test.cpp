// Decoding inside a block of the cache allocates nothing, for every architecture.
#include <catch2/catch.hpp>

#include "tests/support/alloc_counter.hpp"
#include "tests/support/model_runner.hpp"
#include "tests/support/tiny_model.hpp"

namespace lcrun::testing {

TEST_CASE("decode steps inside a cache block allocate nothing", "[model]") {
  for (const std::string& arch : tiny_archs()) {
    CAPTURE(arch);
    TinyOptions options;
    options.arch = arch;
    ModelRunner runner(open_tiny(tiny_recipe(options)));
    runner.run(random_tokens(10, kTinyVocab, 1));
    const model::Model& model = runner.model();
    model::StepOptions step_options;
    step_options.cache = {DType::kF32, DType::kF32};
    step_options.max_rows = 1;
    model::Step step = model.plan(step_options).value();
    std::vector<float> logits(kTinyVocab);
    bool ok = true;
    int64_t before = 0;
    for (int32_t token = 0; token < 20; ++token) {
      if (token == 1) before = allocation_count();
      const int32_t tokens[] = {token};
      const auto hidden = model.forward(tokens, runner.state(), step);
      ok = ok && hidden.has_value();
      if (ok) model.logits(hidden.value(), MatView{logits.data(), 1, kTinyVocab, kTinyVocab}, step);
    }
    const int64_t after = allocation_count();
    REQUIRE(ok);
    CHECK(after - before == 0);
  }
}

}  // namespace lcrun::testing
