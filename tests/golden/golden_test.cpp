// Agreement with the reference runtime on both real models, on every instruction set of this machine.
//
// Token ids must be equal. Logits cannot be: both runtimes round activations to 8 bits, differently, so that each is
// some way from the exact value of the same weights and two runs that differ in a last bit drift apart. How far, and
// how far llama.cpp is from its own figures on another processor, is in docs/speed.md ("agreement"). The limits here
// are those distances with some room, so that a wrong graph fails and another rounding does not.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "ggufish/model_file.hpp"
#include "src/base/parallel.hpp"
#include "src/kernels/ops.hpp"
#include "src/model/model.hpp"
#include "src/text/tokenizer.hpp"

using namespace lcrun;
using nlohmann::json;

namespace {

constexpr double kNearTie = 0.1;        // nats between the reference's two best
constexpr double kMinTop1Clear = 0.97;  // of positions without a near tie
constexpr double kMinTop1 = 0.93;       // of all listed positions
constexpr double kMaxKl = 5e-3;         // nats over the reference's eight best, mean of all listed positions
constexpr double kMinGreedy = 0.93;
constexpr double kMaxGreedyGap = 1.0;  // nats by which a reply's token of the reference may miss our best

struct Loaded {
  std::shared_ptr<const ggufish::ModelFile> file;
  std::shared_ptr<const model::Model> model;
  std::unique_ptr<const text::Tokenizer> tokenizer;
};

Loaded load(const std::string& name) {
  const char* dir = std::getenv("LCRUN_MODEL_DIR");
  REQUIRE(dir != nullptr);
  Loaded out;
  auto file = ggufish::ModelFile::open(std::string(dir) + "/" + name, ggufish::LoadMode::kMmap, posix_file_system());
  if (!file.has_value()) FAIL(file.error().message);
  out.file = *file;
  model::LoadOptions options;
  options.n_threads = default_thread_count();
  auto model = model::Model::load(out.file, options);
  if (!model.has_value()) FAIL(model.error().message);
  out.model = *model;
  auto tokenizer = text::Tokenizer::load(*out.file);
  if (!tokenizer.has_value()) FAIL(tokenizer.error().message);
  out.tokenizer = std::move(tokenizer).value();
  return out;
}

// Final rows of every token, in chunks.
class Runner {
 public:
  explicit Runner(const model::Model& model) : model_(model) {
    model::StepOptions options;
    options.max_rows = 128;
    options.n_threads = default_thread_count();
    step_.emplace(model.plan(options).value());
    state_.emplace(model.new_state(options.cache).value());
    logits_.resize(static_cast<size_t>(model.config().n_vocab));
  }

  // visit(position, logits) for the wanted positions; tokens are appended to the state.
  template <class Visit>
  void run(std::span<const model::Token> tokens, const std::vector<bool>& wanted, const Visit& visit) {
    const auto max_rows = static_cast<size_t>(step_->options().max_rows);
    for (size_t first = 0; first < tokens.size(); first += max_rows) {
      const size_t n = std::min(max_rows, tokens.size() - first);
      auto rows = model_.forward(tokens.subspan(first, n), *state_, *step_);
      if (!rows.has_value()) FAIL(rows.error().message);
      for (size_t i = 0; i < n; ++i) {
        if (!wanted[first + i]) continue;
        const int64_t vocab = model_.config().n_vocab;
        const MatView row{rows->row(static_cast<int64_t>(i)), 1, rows->cols, rows->stride};
        model_.logits(row, MatView{logits_.data(), 1, vocab, vocab}, *step_);
        visit(first + i, std::span<const float>(logits_));
      }
    }
  }

 private:
  const model::Model& model_;
  std::optional<model::Step> step_;
  std::optional<storage::SequenceState> state_;
  std::vector<float> logits_;
};

struct Tally {
  int positions = 0;
  int top1 = 0;
  int clear = 0;  // positions without a near tie
  int clear_top1 = 0;
  double kl = 0;
  int greedy = 0;
  int greedy_equal = 0;
};

int64_t arg_max(std::span<const float> logits) {
  return std::max_element(logits.begin(), logits.end()) - logits.begin();
}

void compare_position(const json& row, std::span<const float> logits, Tally& tally) {
  const double lse = kernels::log_sum_exp(logits.data(), static_cast<int64_t>(logits.size()));
  for (const json& pair : row["top"]) {
    const double reference = pair[1].get<double>() - row["lse"].get<double>();
    const double ours = static_cast<double>(logits[pair[0].get<size_t>()]) - lse;
    tally.kl += std::exp(reference) * (reference - ours);
  }
  tally.positions++;
  const int equal = arg_max(logits) == row["top"][0][0].get<int64_t>() ? 1 : 0;
  tally.top1 += equal;
  if (row["top"][0][1].get<double>() - row["top"][1][1].get<double>() < kNearTie) return;
  tally.clear++;
  tally.clear_top1 += equal;
}

void compare_reply(size_t index, size_t token, std::span<const float> logits, Tally& tally) {
  const auto best = static_cast<size_t>(arg_max(logits));
  const double gap = static_cast<double>(logits[best]) - static_cast<double>(logits[token]);
  INFO("reply token " << index << ": reference " << token << ", ours " << best << ", gap " << gap);
  CHECK(gap < kMaxGreedyGap);
  tally.greedy++;
  tally.greedy_equal += best == token ? 1 : 0;
}

// The prompt and the reference's own reply in one pass: listed positions, then each token of the reply.
void compare_text(const model::Model& model, const json& entry, Tally& tally) {
  auto tokens = entry["tokens"].get<std::vector<model::Token>>();
  const auto reply = entry["greedy"]["tokens"].get<std::vector<model::Token>>();
  REQUIRE(entry["greedy"]["prompt_tokens"].get<size_t>() == tokens.size());
  const size_t last = tokens.size() - 1;
  tokens.insert(tokens.end(), reply.begin(), reply.end() - 1);
  std::vector<bool> wanted(tokens.size(), false);
  std::fill(wanted.begin() + static_cast<int64_t>(last), wanted.end(), true);
  std::vector<const json*> listed(tokens.size(), nullptr);
  for (const json& row : entry["logits"]) {
    wanted[row["pos"].get<size_t>()] = true;
    listed[row["pos"].get<size_t>()] = &row;
  }
  Runner runner(model);
  runner.run(tokens, wanted, [&](size_t pos, std::span<const float> logits) {
    if (listed[pos] != nullptr) compare_position(*listed[pos], logits, tally);
    if (pos >= last) compare_reply(pos - last, static_cast<size_t>(reply[pos - last]), logits, tally);
  });
}

void check_model(const std::string& file, const std::string& golden) {
  std::ifstream in(std::string(LCRUN_TEST_ROOT) + "/golden/" + golden);
  const json texts = json::parse(in);
  const Loaded loaded = load(file);
  for (const auto& [name, entry] : texts.items()) {
    INFO(name);
    const auto ids = loaded.tokenizer->encode(entry["text"].get<std::string>(), true, true);
    CHECK(ids == entry["tokens"].get<std::vector<model::Token>>());
  }
  auto isas = kernels::available_isas();
  std::reverse(isas.begin(), isas.end());  // fastest first: a wrong graph shows early
  for (const std::string& isa : isas) {
    INFO(isa);
    REQUIRE(kernels::set_isa(isa).has_value());
    Tally tally;
    for (const auto& [name, entry] : texts.items()) {
      INFO(name);
      // The long text would take the plain C++ kernels minutes.
      if (isa == "scalar" && name == "kjv") continue;
      compare_text(*loaded.model, entry, tally);
    }
    const auto share = [](int part, int all) { return static_cast<double>(part) / all; };
    const double kl = tally.kl / tally.positions;
    WARN(golden << " " << isa << ": top-1 " << tally.top1 << "/" << tally.positions << ", without near ties "
                << tally.clear_top1 << "/" << tally.clear << ", mean KL " << kl << ", greedy " << tally.greedy_equal
                << "/" << tally.greedy);
    CHECK(share(tally.top1, tally.positions) >= kMinTop1);
    CHECK(share(tally.clear_top1, tally.clear) >= kMinTop1Clear);
    CHECK(kl < kMaxKl);
    CHECK(share(tally.greedy_equal, tally.greedy) >= kMinGreedy);
  }
  REQUIRE(kernels::set_isa(kernels::available_isas().back()).has_value());
}

}  // namespace

TEST_CASE("SmolLM2 agrees with the reference runtime", "[golden]") {
  check_model("SmolLM2-135M-Instruct.Q4_1.gguf", "smollm2_logits.json");
}

TEST_CASE("Gemma 3 agrees with the reference runtime", "[golden]") {
  check_model("gemma-3-270m-q4_k_m.gguf", "gemma3_logits.json");
}

TEST_CASE("a decode step meets its threads at most four times a layer and once for the logits", "[golden]") {
  const Loaded loaded = load("SmolLM2-135M-Instruct.Q4_1.gguf");
  model::StepOptions options;
  options.max_rows = 1;
  options.n_threads = 2;
  model::Step step = loaded.model->plan(options).value();
  auto state = loaded.model->new_state(options.cache).value();
  const int64_t vocab = loaded.model->config().n_vocab;
  std::vector<float> logits(static_cast<size_t>(vocab));
  const model::Token token[] = {1};
  const int64_t before = parallel_regions();
  const auto hidden = loaded.model->forward(token, state, step);
  REQUIRE(hidden.has_value());
  loaded.model->logits(hidden.value(), MatView{logits.data(), 1, vocab, vocab}, step);
  const int64_t meetings = parallel_regions() - before;
  CHECK(meetings > 1);
  CHECK(meetings <= 4 * loaded.model->config().n_layers + 1);
}
