#include "src/runtime/retrieval_heads.hpp"

#include <algorithm>
#include <numeric>

#include "src/base/format.hpp"
#include "src/base/log.hpp"
#include "src/runtime/eval_prose.hpp"
#include "src/runtime/passages.hpp"

namespace lcrun::runtime {
namespace {

struct Fact {
  const char* sentence;
  const char* question;
  const char* answer_prefix;
};
// A number, a word, a place and a name, asked in the fact's words and in others.
constexpr Fact kFacts[] = {
    {"The ferry to Maren costs 37 crowns.", "What is the price of the ferry to Maren?", "The ferry costs"},
    {"Widow Harrit keeps her ring in the blue teapot.", "Where is the ring of Widow Harrit?", "The ring is in the"},
    {"The secret word of the guild is marigold.", "What is the secret word of the guild?", "The secret word is"},
    {"The wheel of the mill was built by Anselm Brook.", "Who made the mill's wheel?", "It was made by"},
};
constexpr size_t kFactsN = std::size(kFacts);
constexpr uint64_t kProseSeed = 404;
constexpr size_t kProseTokens = 170;  // between facts
constexpr size_t kMostHeads = 8;
constexpr float kLeftOut = 0.15F;  // of their weight, for the sake of the layers above the others

struct Test {
  std::vector<Token> text;
  std::pair<int64_t, int64_t> facts[kFactsN];  // tokens
};

void append(std::vector<Token>& to, const std::vector<Token>& tokens) {
  to.insert(to.end(), tokens.begin(), tokens.end());
}

Result<Test> make_test(const text::Tokenizer& tokenizer, const PromptLayout& layout, const std::string& system) {
  Test test;
  LCRUN_ASSIGN(test.text, layout.frame(system));
  const auto add = [&](const std::string& text) {
    const text::Span span{text, false};
    append(test.text, tokenizer.encode_continuation({&span, 1}));
  };
  const auto add_prose = [&](uint64_t number) {
    const size_t before = test.text.size();
    add(generated_prose(kProseSeed + number, 8 * kProseTokens));
    test.text.resize(std::min(test.text.size(), before + kProseTokens));
    add("\n");
  };
  for (size_t i = 0; i < kFactsN; ++i) {
    add_prose(i);
    const auto first = static_cast<int64_t>(test.text.size());
    add(std::string(kFacts[i].sentence) + "\n");
    test.facts[i] = {first, static_cast<int64_t>(test.text.size())};
  }
  add_prose(kFactsN);
  return test;
}

std::vector<attention::WatchedHead> all_heads(const model::ModelConfig& config) {
  std::vector<attention::WatchedHead> heads;
  for (int64_t layer = 0; layer < config.n_layers; ++layer) {
    const model::LayerConfig& one = config.layers[static_cast<size_t>(layer)];
    if (one.mixer != "attention" || one.window > 0) continue;
    for (int64_t head = 0; head < one.n_heads; ++head) {
      heads.push_back({layer, head, static_cast<int64_t>(heads.size())});
    }
  }
  return heads;
}

// The heads with the largest leads, less those of the highest layers as long as they are of little weight: the layers
// up to the highest one that is asked must be computed.
RetrievalHeads best_of(std::span<const attention::WatchedHead> heads, std::span<const float> lead) {
  const auto lead_of = [&](const attention::WatchedHead& head) {
    return std::max(lead[static_cast<size_t>(head.slot)], 1e-6F);
  };
  std::vector<attention::WatchedHead> best(heads.begin(), heads.end());
  std::stable_sort(best.begin(), best.end(), [&](const auto& a, const auto& b) { return lead_of(a) > lead_of(b); });
  best.resize(std::min(best.size(), kMostHeads));
  float total = 0;
  for (const auto& head : best) total += lead_of(head);
  std::vector<attention::WatchedHead> upwards = best;
  std::stable_sort(upwards.begin(), upwards.end(), [](const auto& a, const auto& b) { return a.layer < b.layer; });
  int64_t last = upwards.back().layer;
  for (float left_out = 0; upwards.size() > 1; upwards.pop_back()) {
    left_out += lead_of(upwards.back());
    if (left_out > kLeftOut * total) break;
    last = upwards[upwards.size() - 2].layer;
  }
  RetrievalHeads found;
  float kept = 0;
  for (const auto& head : best) {
    if (head.layer > last) continue;
    found.heads.push_back({head.layer, head.head, static_cast<int64_t>(found.heads.size())});
    found.weights.push_back(lead_of(head));
    kept += lead_of(head);
  }
  for (float& weight : found.weights) weight /= kept;
  return found;
}

}  // namespace

Result<RetrievalHeads> find_retrieval_heads(Session& session, const text::Tokenizer& tokenizer,
                                            const PromptLayout& layout, const std::string& system) {
  RetrievalHeads found;
  attention::AttnProbe probe(all_heads(session.model().config()));
  if (probe.heads().empty()) return found;
  LCRUN_ASSIGN(const Test test, make_test(tokenizer, layout, system));
  std::vector<float> lead(probe.heads().size());  // of the right fact over the best of the others
  session.clear();
  session.watch(&probe);
  Status read;
  const auto text_end = static_cast<int64_t>(test.text.size());
  for (size_t i = 0; i < kFactsN && read.has_value(); ++i) {
    std::vector<Token> prompt = test.text;
    LCRUN_ASSIGN(const auto question, layout.question_part(kFacts[i].question, system, kFacts[i].answer_prefix));
    append(prompt, question);
    probe.watch(text_end, INT64_MAX);
    auto logits = session.sync(prompt, {}, text_end);
    if (!logits.has_value()) read = Error(logits.error());
    for (const attention::WatchedHead& head : probe.heads()) {
      float right = 0, wrong = 0;
      for (size_t j = 0; j < kFactsN; ++j) {
        const auto mass = probe.mass(test.facts[j].first, test.facts[j].second, head.slot);
        const float sum = std::accumulate(mass.begin(), mass.end(), 0.0F);
        if (j == i) {
          right = sum;
        } else {
          wrong = std::max(wrong, sum);
        }
      }
      lead[static_cast<size_t>(head.slot)] += (right - wrong) / static_cast<float>(question.size());
    }
  }
  session.watch(nullptr);
  session.clear();
  if (!read.has_value()) return read.error();
  found = best_of(probe.heads(), lead);
  for (const attention::WatchedHead& head : found.heads) {
    log(LogLevel::kDebug, "retrieval head: layer {}, head {}, weight {}", head.layer, head.head,
        found.weights[static_cast<size_t>(head.slot)]);
  }
  return found;
}

std::vector<float> attention_of(const RetrievalHeads& heads, const attention::AttnProbe& probe, int64_t first,
                                int64_t end) {
  std::vector<float> sum(static_cast<size_t>(std::max<int64_t>(0, end - first)));
  for (const attention::WatchedHead& head : heads.heads) {
    const std::vector<float> mass = probe.mass(first, end, head.slot);
    const float weight = heads.weights[static_cast<size_t>(head.slot)];
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += weight * mass[i];
  }
  return sum;
}

}  // namespace lcrun::runtime
