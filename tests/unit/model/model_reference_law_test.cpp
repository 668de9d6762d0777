// Every architecture against the double-precision reference, on every instruction set that this machine has.
#include <catch2/catch.hpp>

#include "src/kernels/ops.hpp"
#include "src/model/arch.hpp"
#include "tests/support/model_runner.hpp"
#include "tests/support/reference_model.hpp"
#include "tests/support/tiny_model.hpp"

namespace lcrun::testing {
namespace {

// Float sums of some hundred terms in four to seven layers; a wrong formula is off by 1e-2 or more.
constexpr double kTolerance = 1e-4;
constexpr int64_t kTokens = 80;  // more than a block of 64, and many windows of 8

struct Case {
  std::string label;
  TinyOptions options;
};

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const std::string& arch : tiny_archs()) {
    TinyOptions options;
    options.arch = arch;
    cases.push_back({arch, options});
  }
  const auto add = [&](std::string label, auto change) {
    TinyOptions options;
    change(options);
    cases.push_back({std::move(label), options});
  };
  add("llama with experts", [](TinyOptions& o) { o.moe = true; });
  add("llama with biases and tied output", [](TinyOptions& o) { o.extra_biases = o.tied_output = true; });
  add("llama, linear rope", [](TinyOptions& o) { o.rope = TinyRope::kLinear; });
  add("llama, yarn", [](TinyOptions& o) { o.rope = TinyRope::kYarn; });
  add("llama, rope factors", [](TinyOptions& o) { o.rope = TinyRope::kFactors; });
  add("llama, odd sizes", [](TinyOptions& o) {
    o.d_model = 50;
    o.n_heads = 6;
    o.n_kv_heads = 3;
    o.head_dim = 10;
    o.d_ff = 70;
  });
  add("llama, one kv head", [](TinyOptions& o) { o.n_kv_heads = 1; });
  add("qwen3moe, many experts", [](TinyOptions& o) {
    o.arch = "qwen3moe";
    o.n_experts = 13;
    o.n_experts_used = 5;
  });
  add("gpt-oss, yarn", [](TinyOptions& o) {
    o.arch = "gpt-oss";
    o.rope = TinyRope::kYarn;
  });
  add("olmo2, yarn on global layers only", [](TinyOptions& o) {
    o.arch = "olmo2";
    o.rope = TinyRope::kYarn;
  });
  add("gemma3, seven layers, linear rope on global layers only", [](TinyOptions& o) {
    o.arch = "gemma3";
    o.n_layers = 7;
    o.rope = TinyRope::kLinear;
  });
  return cases;
}

double worst_error(const FloatRows& got, const Rows& want) {
  double worst = 0.0;
  for (size_t t = 0; t < want.size(); ++t) {
    const double error = relative_error(got[t], want[t]);
    if (!(error <= worst)) worst = error;
  }
  return worst;
}

}  // namespace

TEST_CASE("every architecture of the registry has a tiny model", "[model]") {
  const std::vector<std::string> names = tiny_archs();
  for (const model::ArchSpec* arch : model::all_archs()) {
    CAPTURE(arch->name);
    CHECK(std::find(names.begin(), names.end(), arch->name) != names.end());
    CHECK(model::find_arch(arch->name) == arch);
  }
  CHECK(names.size() == model::all_archs().size());
}

TEST_CASE("logits agree with the reference for every architecture and instruction set", "[model]") {
  const std::string before(kernels::active_isa());
  const std::vector<int32_t> tokens = random_tokens(kTokens, kTinyVocab, 5);
  for (const Case& c : all_cases()) {
    const auto file = open_tiny(tiny_recipe(c.options));
    const Rows want = ReferenceModel(file).logits(tokens);
    for (const std::string& isa : kernels::available_isas()) {
      REQUIRE(kernels::set_isa(isa).has_value());
      ModelRunner runner(file);
      const double worst = worst_error(runner.run(tokens), want);
      CAPTURE(c.label, isa, worst);
      CHECK(worst <= kTolerance);
    }
  }
  REQUIRE(kernels::set_isa(before).has_value());
}

}  // namespace lcrun::testing
