// Damaged models of every architecture: each integer key with values that no model has, each number that is not one,
// each required tensor missing, mis-shaped or of a type that cannot be computed with. Loading ends in an error that
// names what is wrong, or in a model that runs; it never crashes and never allocates from a number it has not checked.
#include <catch2/catch.hpp>
#include <cmath>
#include <fstream>
#include <functional>
#include <limits>
#include <string>

#include "src/model/model.hpp"
#include "tests/support/tiny_model.hpp"

namespace lcrun::testing {
namespace {

TinyOptions small(const std::string& arch) {
  TinyOptions options;
  options.arch = arch;
  options.d_model = 32;
  options.n_heads = 4;
  options.n_kv_heads = 2;
  options.head_dim = 8;
  options.d_ff = 24;
  options.n_experts = 3;
  return options;
}

enum class Verdict : uint8_t { kRuns, kRefused };

// Loads and, where that works, runs three tokens. Any error but a model error fails the test.
Verdict try_model(const TinyRecipe& recipe, std::string& message) {
  const auto bytes = encode_tiny(recipe);
  REQUIRE(bytes.has_value());
  const auto refused = [&](const Error& error) {
    message = error.message;
    INFO(message);
    CHECK((error.code == Code::kBadModel || error.code == Code::kUnsupported));
    CHECK_FALSE(message.empty());
    return Verdict::kRefused;
  };
  auto file = ggufish::ModelFile::parse(bytes.value(), "hostile.gguf");
  if (!file) return refused(file.error());
  const auto loaded = model::Model::load(file.value(), {});
  if (!loaded) return refused(loaded.error());
  const model::Model& model = *loaded.value();
  model::StepOptions options;
  options.max_rows = 4;
  auto state = model.new_state(options.cache);
  auto step = model.plan(options);
  REQUIRE(state.has_value());
  REQUIRE(step.has_value());
  const std::vector<int32_t> tokens = {1, 2, 3};
  CHECK(model.forward(tokens, state.value(), step.value()).has_value());
  return Verdict::kRuns;
}

// Peak of the address space in MiB: what an absurd allocation would move even if it is never touched.
double peak_mib() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmPeak:")) return std::stod(line.substr(7)) / 1024.0;
  }
  return 0.0;
}

bool ends_with(const std::string& text, std::initializer_list<const char*> tails) {
  for (const char* tail : tails) {
    if (text.ends_with(tail)) return true;
  }
  return false;
}

// Keys that mean something even when they are 0: no window; a width that is not used, or derived, where there are
// experts of a width of their own.
bool may_be_zero(const std::string& arch, const std::string& key) {
  if (key.ends_with("attention.sliding_window")) return true;
  if (!tiny_has_experts(arch) || arch == "olmoe" || arch == "granitemoe") return false;
  return ends_with(key, {".feed_forward_length", "expert_shared_feed_forward_length"});
}
// Keys that have no upper bound worth the name.
bool may_be_huge(const std::string& key) { return ends_with(key, {"context_length", "attention.sliding_window"}); }
bool must_exist(const std::string& key) {
  return ends_with(key, {".block_count", ".context_length", ".embedding_length", "layer_norm_epsilon",
                         "layer_norm_rms_epsilon", "expert_count", "expert_used_count", "ssm.inner_size",
                         "ssm.state_size", "ssm.conv_kernel", "ssm.time_step_rank"});
}

// Keys of the architecture (not of the vocabulary) that hold the given type.
template <class T>
std::vector<std::string> keys_of(const TinyRecipe& recipe, const std::string& arch) {
  std::vector<std::string> names;
  for (const TinyKey& key : recipe.keys) {
    if (key.key.starts_with(arch + ".") && std::holds_alternative<T>(key.value)) names.push_back(key.key);
  }
  return names;
}

// Layer 0, the layer that attends in hybrids, and what belongs to no layer.
bool is_probed(const std::string& tensor) {
  return !tensor.starts_with("blk.") || tensor.starts_with("blk.0.") || tensor.starts_with("blk.3.attn");
}

// Tensors that a file may leave out, by name; the others are required.
bool is_optional(const std::string& arch, const std::string& name) {
  if (name.ends_with("ssm_dt.bias")) return false;
  if (name.ends_with(".bias") || name.starts_with("rope_f")) return true;
  if (arch == "mamba2" && name.ends_with("ssm_norm.weight")) return true;
  if (arch == "stablelm" && ends_with(name, {"_q_norm.weight", "_k_norm.weight", "blk.0.ffn_norm.weight"})) return true;
  return name == "output.weight";
}

}  // namespace

TEST_CASE("hostile integers in the metadata are refused, or make a model that runs", "[model][hostile]") {
  const double before = peak_mib();
  int cases = 0;
  for (const std::string& arch : tiny_archs()) {
    const TinyRecipe good = tiny_recipe(small(arch));
    for (const std::string& key : keys_of<uint32_t>(good, arch)) {
      const auto check = [&](const char* what, bool must_fail, const std::function<void(TinyRecipe&)>& damage) {
        TinyRecipe recipe = good;
        damage(recipe);
        std::string message;
        const Verdict verdict = try_model(recipe, message);
        CAPTURE(arch, key, what, message);
        if (must_fail) CHECK(verdict == Verdict::kRefused);
        ++cases;
      };
      const auto set = [&](TinyValue value) { return [&key, value](TinyRecipe& r) { r.set_key(key, value); }; };
      check("0", !may_be_zero(arch, key), set(uint32_t{0}));
      check("1", false, set(uint32_t{1}));
      check("-1", true, set(int32_t{-1}));
      check("2^31", !may_be_huge(key), set(uint32_t{1} << 31U));
      check("2^63", true, set(uint64_t{1} << 63U));
      check("a string", true, set(std::string("7")));
      check("an array of 3", true, set(std::vector<uint32_t>{4, 4, 4}));
      check("an empty array", true, set(std::vector<uint32_t>{}));
      check("missing", must_exist(key), [&](TinyRecipe& r) { r.drop_key(key); });
    }
  }
  CHECK(cases > 2000);
  CHECK(peak_mib() - before < 256.0);
}

TEST_CASE("numbers that are none, and scales of zero, are refused", "[model][hostile]") {
  for (const std::string& arch : tiny_archs()) {
    TinyRecipe good = tiny_recipe(small(arch));
    for (const char* suffix : {".rope.freq_base", ".rope.scaling.factor", ".rope.scaling.attn_factor"}) {
      if (good.find_key(arch + suffix) == nullptr) good.set_key(arch + suffix, 2.0F);
    }
    for (const std::string& key : keys_of<float>(good, arch)) {
      const bool positive = ends_with(key, {"freq_base", "scaling.factor", "attn_factor"});
      std::vector<float> values = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()};
      if (positive) values.insert(values.end(), {0.0F, -1.0F});
      for (const float value : values) {
        TinyRecipe recipe = good;
        recipe.set_key(key, value);
        std::string message;
        CAPTURE(arch, key, value);
        CHECK(try_model(recipe, message) == Verdict::kRefused);
      }
    }
  }
}

TEST_CASE("per-layer arrays are checked value by value", "[model][hostile]") {
  const TinyRecipe good = tiny_recipe(small("llama"));
  const auto verdict = [&](const char* key, std::vector<int32_t> values) {
    TinyRecipe recipe = good;
    recipe.set_key(key, std::move(values));
    std::string message;
    return try_model(recipe, message);
  };
  CHECK(verdict("llama.attention.head_count", {4, 4, 4, 4}) == Verdict::kRuns);
  CHECK(verdict("llama.attention.head_count_kv", {2, 2, 2, 2}) == Verdict::kRuns);
  CHECK(verdict("llama.feed_forward_length", {24, 24, 24, 24}) == Verdict::kRuns);
  CHECK(verdict("llama.attention.head_count", {4, 0, 4, 4}) == Verdict::kRefused);
  CHECK(verdict("llama.attention.head_count", {4, -4, 4, 4}) == Verdict::kRefused);
  CHECK(verdict("llama.attention.head_count_kv", {2, 0, 2, 2}) == Verdict::kRefused);
  CHECK(verdict("llama.attention.head_count_kv", {2, 3, 2, 2}) == Verdict::kRefused);
  CHECK(verdict("llama.attention.head_count_kv", {2, 2, 2, 2, 2}) == Verdict::kRefused);
  CHECK(verdict("llama.feed_forward_length", {24, 24, 0, 24}) == Verdict::kRefused);
  CHECK(verdict("llama.feed_forward_length", {24, 24, 25, 24}) == Verdict::kRefused);
}

TEST_CASE("missing tensors are refused by name where they are required", "[model][hostile]") {
  for (const std::string& arch : tiny_archs()) {
    const TinyRecipe good = tiny_recipe(small(arch));
    for (const TinyTensor& tensor : good.tensors) {
      if (!is_probed(tensor.name)) continue;
      TinyRecipe recipe = good;
      recipe.drop_tensor(tensor.name);
      std::string message;
      const Verdict verdict = try_model(recipe, message);
      CAPTURE(arch, tensor.name, message);
      if (is_optional(arch, tensor.name)) continue;
      CHECK(verdict == Verdict::kRefused);
      // Names the tensor, or says what is absent (attn_q, which could have stood in for attn_qkv).
      const bool named = message.find(tensor.name.substr(0, tensor.name.rfind('.'))) != std::string::npos;
      CHECK((named || message.find("found nothing") != std::string::npos));
    }
  }
}

TEST_CASE("mis-shaped tensors are refused, whichever dimension is off", "[model][hostile]") {
  for (const std::string& arch : tiny_archs()) {
    const TinyRecipe good = tiny_recipe(small(arch));
    for (const TinyTensor& tensor : good.tensors) {
      if (!is_probed(tensor.name)) continue;
      for (size_t dim = 0; dim < tensor.ne.size(); ++dim) {
        if (tensor.name == "token_embd.weight" && dim == 1) continue;  // the vocabulary is what the embedding says
        for (const int64_t change : {-1, 1}) {
          TinyRecipe recipe = good;
          int64_t& n = recipe.find_tensor(tensor.name)->ne[dim];
          n += change;
          if (n == 0) continue;
          std::string message;
          const Verdict verdict = try_model(recipe, message);
          CAPTURE(arch, tensor.name, dim, change);
          CHECK(verdict == Verdict::kRefused);
        }
      }
    }
  }
}

TEST_CASE("tensors of a type that cannot be computed with are refused", "[model][hostile]") {
  for (const std::string& arch : tiny_archs()) {
    const TinyRecipe good = tiny_recipe(small(arch));
    for (const TinyTensor& tensor : good.tensors) {
      if (!is_probed(tensor.name)) continue;
      TinyRecipe recipe = good;
      recipe.find_tensor(tensor.name)->dtype = DType::kI32;
      std::string message;
      const Verdict verdict = try_model(recipe, message);
      CAPTURE(arch, tensor.name, message);
      CHECK(verdict == Verdict::kRefused);
    }
  }
}

TEST_CASE("an unknown architecture is refused with the list of those there are", "[model][hostile]") {
  TinyRecipe recipe = tiny_recipe(small("llama"));
  recipe.set_key("general.architecture", std::string("llama9"));
  std::string message;
  CHECK(try_model(recipe, message) == Verdict::kRefused);
  CHECK(message.find("llama9") != std::string::npos);
  CHECK(message.find("gpt-oss") != std::string::npos);
}

}  // namespace lcrun::testing
