// Calibration over tiny models: the laws of the search. For real models see docs/long-context.md.
#include "src/runtime/calibrate.hpp"

#include <catch2/catch.hpp>
#include <numeric>

#include "tests/support/tiny_session.hpp"

using namespace lcrun;
using namespace lcrun::runtime;
using namespace lcrun::testing;

namespace {

constexpr int64_t kText = 1200;

struct Tiny {
  std::shared_ptr<const model::Model> model;
  std::shared_ptr<const text::Tokenizer> tokenizer;

  explicit Tiny(const std::string& arch) : model(load_tiny(arch)) {
    auto loaded = text::Tokenizer::load(model->file());
    REQUIRE(loaded.has_value());
    tokenizer = std::move(loaded).value();
  }
  Session session(const std::string& policy) const {
    auto options = tiny_session_options();
    options.n_ctx = 2048;
    options.policy = {policy, "auto", 256};
    return open_tiny_session(model, options);
  }
  // A case whose answer is what the model says with all layers: a random model finds nothing.
  EvalCase make_case(uint64_t seed, bool right) const {
    EvalCase made;
    made.base = std::make_shared<const std::vector<Token>>(random_tokens(kText, 200, seed));
    made.n_text = kText;
    made.hidden = {{100, random_tokens(20, 200, seed + 1)}};
    made.question = random_tokens(12, 200, seed + 2);
    auto asking = session("select");
    const auto logits = asking.sync(made.prompt(), {}, kText);
    REQUIRE(logits.has_value());
    std::vector<Token> best(logits->size());
    std::iota(best.begin(), best.end(), 0);
    std::stable_sort(best.begin(), best.end(),
                     [&](Token a, Token b) { return (*logits)[size_t(a)] > (*logits)[size_t(b)]; });
    // The likeliest token that is a text of its own.
    for (const Token token : best) {
      const std::string piece = tokenizer->piece(token, false);
      const text::Span span{piece, false};
      if (piece.empty() || tokenizer->encode_continuation({&span, 1}) != std::vector<Token>{token}) continue;
      if (right && token != best.front()) return make_case(seed + 10, right);
      made.answers = {right ? piece : std::string("q")};
      break;
    }
    return made;
  }
  CalibrationRequest request() const {
    CalibrationRequest made;
    for (const uint64_t seed : {100, 300, 500}) made.cases.push_back(make_case(seed, true));
    for (const uint64_t seed : {700, 900}) made.held_out.push_back(make_case(seed, true));
    return made;
  }
};

}  // namespace

TEST_CASE("calibration keeps to what it is allowed, and gives the same whenever it runs", "[runtime][calibrate]") {
  for (const std::string arch : {"llama", "gemma2"}) {
    const Tiny tiny(arch);
    CalibrationRequest request = tiny.request();
    auto session = tiny.session("select");
    const auto found = calibrate(session, *tiny.tokenizer, request, {});
    INFO((found.has_value() ? std::string() : found.error().message));
    REQUIRE(found.has_value());
    CAPTURE(arch, found->roles.look_back);
    CHECK(found->kept.nll <= found->all.nll + request.most_loss);
    CHECK(found->shared.nll <= found->all.nll + request.most_loss);
    CHECK(found->kept.text_nll <= found->all.text_nll * (1 + request.most_rise / 100));
    CHECK(found->all.right == 3);
    CHECK(found->kept.right == 3);
    CHECK(found->held_out_kept.right >= found->held_out_all.right);
    for (const LayerFinding& one : found->layers) {
      CHECK(tiny.model->config().layers[size_t(one.layer)].window == 0);
      CHECK(one.recall > 0);
      CHECK(one.recall <= 1 + 1e-9);
      CHECK(one.mass >= 0);
    }
    auto again = tiny.session("select");
    const auto second = calibrate(again, *tiny.tokenizer, request, {});
    REQUIRE(second.has_value());
    CHECK(second->roles.look_back == found->roles.look_back);
    CHECK(second->kept.nll == found->kept.nll);
    CHECK(second->tried == found->tried);
  }
}

TEST_CASE("where everything is allowed one layer is left, where nothing is nothing that counts goes",
          "[runtime][calibrate]") {
  const Tiny tiny("llama");
  CalibrationRequest request = tiny.request();
  request.held_out.clear();
  request.share = false;
  const auto left = [&](double loss, double rise) {
    request.most_loss = loss;
    request.most_rise = rise;
    auto session = tiny.session("select");
    const auto found = calibrate(session, *tiny.tokenizer, request, {});
    REQUIRE(found.has_value());
    return std::count_if(found->layers.begin(), found->layers.end(), [](const auto& one) { return one.looks_back; });
  };
  const auto generous = left(100, 1000), strict = left(0, 0);
  CHECK(generous >= 1);
  CHECK(generous <= strict);
}

TEST_CASE("calibration refuses sessions that do not choose, and models that find nothing", "[runtime][calibrate]") {
  const Tiny tiny("llama");
  CalibrationRequest request = tiny.request();
  for (const char* policy : {"stream", "quest"}) {
    auto session = tiny.session(policy);
    const auto found = calibrate(session, *tiny.tokenizer, request, {});
    REQUIRE_FALSE(found.has_value());
    CHECK(found.error().code == Code::kInvalidArgument);
  }
  for (EvalCase& made : request.cases) made.answers = {"zzzzzzzz"};
  auto session = tiny.session("select");
  const auto found = calibrate(session, *tiny.tokenizer, request, {});
  REQUIRE_FALSE(found.has_value());
  CHECK(found.error().code == Code::kUnsupported);
  auto stopped = tiny.session("select");
  int calls = 0;
  const auto stop =
      calibrate(stopped, *tiny.tokenizer, tiny.request(), [&](int64_t, const std::string&) { return ++calls < 5; });
  REQUIRE_FALSE(stop.has_value());
  CHECK(stop.error().code == Code::kCancelled);
}

TEST_CASE("lists of layers are written as they are read", "[runtime][calibrate]") {
  const std::vector<std::vector<int64_t>> lists = {{5}, {5, 11}, {0, 1}, {0, 1, 2}, {8, 14, 17, 18, 20, 21, 22, 29}};
  for (const auto& list : lists) CHECK(attention::parse_layers("", layers_text(list), 30).value() == list);
  CHECK(layers_text(lists.back()) == "8,14,17,18,20-22,29");
}
