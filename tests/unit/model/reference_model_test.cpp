// The tools of the other tests are tested too: recipes encode, and the reference behaves as a causal model must.
#include "tests/support/reference_model.hpp"

#include <catch2/catch.hpp>
#include <cmath>

#include "tests/support/tiny_model.hpp"

namespace lcrun::testing {
namespace {

TinyOptions options_for(const std::string& arch) {
  TinyOptions options;
  options.arch = arch;
  return options;
}

}  // namespace

TEST_CASE("the reference gives finite logits of order one for every architecture", "[reference]") {
  for (const std::string& arch : tiny_archs()) {
    CAPTURE(arch);
    const ReferenceModel reference(open_tiny(tiny_recipe(options_for(arch))));
    const Rows logits = reference.logits(random_tokens(12, kTinyVocab, 7));
    REQUIRE(logits.size() == 12);
    double square = 0.0;
    for (const double value : logits.back()) square += value * value;
    const double rms = std::sqrt(square / static_cast<double>(logits.back().size()));
    CHECK(rms > 0.1);
    CHECK(rms < 10.0);
  }
}

TEST_CASE("in the reference a later token changes no earlier logits, an earlier one changes later ones",
          "[reference]") {
  for (const std::string& arch : tiny_archs()) {
    CAPTURE(arch);
    const ReferenceModel reference(open_tiny(tiny_recipe(options_for(arch))));
    std::vector<int32_t> tokens = random_tokens(10, kTinyVocab, 3);
    const Rows before = reference.logits(tokens);
    tokens[5] = (tokens[5] + 1) % static_cast<int32_t>(kTinyVocab);
    const Rows after = reference.logits(tokens);
    for (size_t t = 0; t < 5; ++t) CHECK(before[t] == after[t]);
    for (size_t t = 5; t < 10; ++t) CHECK(before[t] != after[t]);
  }
}

TEST_CASE("dropping a tensor leaves the values of the others alone", "[tiny]") {
  TinyRecipe recipe = tiny_recipe(options_for("llama"));
  const auto whole = open_tiny(recipe);
  recipe.drop_tensor("blk.0.attn_norm.weight");
  const auto part = open_tiny(recipe);
  CHECK(part->find_tensor("blk.0.attn_norm.weight") == nullptr);
  const TensorView a = *whole->find_tensor("output.weight");
  const TensorView b = *part->find_tensor("output.weight");
  REQUIRE(a.size_bytes == b.size_bytes);
  CHECK(std::equal(a.data, a.data + a.size_bytes, b.data));
}

}  // namespace lcrun::testing
