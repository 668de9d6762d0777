// rag: AttentionRAG (arXiv 2503.10720, section 3).
//
// The question becomes the beginning of its own answer (a hint: "The ferry costs"), so that one next token, the anchor,
// is what is asked for. The text goes by in chunks; of each, the passages are kept that the anchor attends to most. A
// chunk is dropped if the anchor is "none", and in the end every passage that got far less attention than the best one:
// small models rarely say "none". The answer comes from what is left, here or from another model (--compress).
// Other than in the paper: heads that are known to find things (retrieval_heads.hpp) in place of all heads.
#include <algorithm>
#include <cctype>
#include <numeric>

#include "src/base/format.hpp"
#include "src/runtime/driver.hpp"
#include "src/runtime/generate.hpp"

namespace lcrun::runtime {
namespace {

constexpr int64_t kChunk = 320;        // tokens
constexpr size_t kTopTokens = 12;      // of a chunk, whose passages are kept
constexpr float kLeastOfBest = 0.05F;  // attention of a passage, as a part of the best one's
constexpr int64_t kKeep = 512;         // tokens, at most
constexpr int64_t kHintTokens = 16;

constexpr const char* kHintExamples =
    "Q: Where did the miller hide the letter?\nA: The miller hid the letter in\n"
    "Q: Who repaired the old clock?\nA: The old clock was repaired by\n"
    "Q: What is the price of the boat?\nA: The price of the boat is\n"
    "Q: When does the fair begin?\nA: The fair begins on\nQ: ";

struct Candidate {
  Passage passage;
  float score = 0;
  int64_t number = 0;  // in the text
};

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

class Compression {
 public:
  Compression(const DriverInput& input, DriverState& state, Session& session)
      : input_(input), session_(session), heads_(*state.heads), probe_(heads_.heads) {}

  Result<DriverReading> run() {
    LCRUN_ASSIGN(hint_, hint());
    session_.watch(&probe_);
    const Status read = read_chunks();
    session_.watch(nullptr);
    LCRUN_TRY(read);
    drop_least(true);
    std::sort(kept_.begin(), kept_.end(), [](const auto& a, const auto& b) { return a.number < b.number; });
    std::vector<Passage> passages;
    for (Candidate& one : kept_) passages.push_back(std::move(one.passage));
    LCRUN_ASSIGN(auto reading, lay_out(input_, passages));
    reading.text_tokens = read_tokens_;
    return reading;
  }

 private:
  // What follows a chunk up to its anchor: the question, and the answer's beginning, which the user may have given.
  Result<std::vector<Token>> hint() {
    if (input_.question.empty() || input_.has_answer_prefix) return input_.question_part;
    const std::string asked = kHintExamples + input_.question + "\nA:";
    const auto prompt = input_.tokenizer.encode(asked, true, false);
    GenerateOptions options;
    options.n_predict = kHintTokens;
    options.sampling.temp = 0;
    options.sampling.repeat_penalty = 1;
    LCRUN_ASSIGN(const auto made, generate(session_, input_.tokenizer, prompt, options, {}));
    std::string prefix = made.text.substr(0, made.text.find('\n'));
    prefix.erase(0, prefix.find_first_not_of(' ') == std::string::npos ? prefix.size() : prefix.find_first_not_of(' '));
    if (lower(prefix).starts_with("none") || made.text.find('\n') == std::string::npos) prefix.clear();
    return input_.layout.question_part(input_.question, input_.settings.system, prefix);
  }

  Status read_chunks() {
    bool more = true;
    while (more) {
      std::vector<Passage> chunk;
      int64_t n = 0;
      while (n < kChunk) {
        Passage next;
        LCRUN_ASSIGN(more, input_.text.next(next));
        if (!more) break;
        n += static_cast<int64_t>(next.tokens.size());
        chunk.push_back(std::move(next));
      }
      read_tokens_ += n;
      if (n > 0) LCRUN_TRY(look_at(std::move(chunk)));
      if (input_.progress && !input_.progress(read_tokens_, 0))
        return make_error(Code::kCancelled, "reading was stopped");
    }
    return {};
  }

  Status look_at(std::vector<Passage> chunk) {
    DriverInput hinted = input_;
    hinted.question_part = hint_;
    LCRUN_ASSIGN(const auto laid, lay_out(hinted, chunk));
    const auto n_prompt = static_cast<int64_t>(laid.prompt.size());
    probe_.watch(n_prompt - 1, n_prompt);
    LCRUN_ASSIGN(const auto logits, session_.sync(laid.prompt, {}, laid.text_end));
    const auto anchor = std::max_element(logits.begin(), logits.end()) - logits.begin();
    const std::string word = lower(input_.tokenizer.piece(static_cast<Token>(anchor), false));
    const bool is_none = word == "none" || word == " none";
    const int64_t first = laid.passages.front().begin;
    const auto mass = attention_of(heads_, probe_, first, laid.text_end);
    std::vector<float> sorted = mass;
    const size_t top = std::min(kTopTokens, sorted.size());
    std::partial_sort(sorted.begin(), sorted.begin() + static_cast<std::ptrdiff_t>(top), sorted.end(),
                      std::greater<>());
    for (size_t i = 0; i < chunk.size(); ++i) {
      const auto from = mass.begin() + (laid.passages[i].begin - first);
      const auto to = mass.begin() + (laid.passages[i].end - first);
      ++number_;
      if (is_none || *std::max_element(from, to) < sorted[top - 1]) continue;
      kept_.push_back({std::move(chunk[i]), std::accumulate(from, to, 0.0F), number_});
    }
    drop_least(false);
    return {};
  }

  // The best come first. Until the end more is held than will be kept: what is best is not known yet.
  void drop_least(bool is_last) {
    std::stable_sort(kept_.begin(), kept_.end(), [](const auto& a, const auto& b) { return a.score > b.score; });
    const int64_t keep = input_.settings.keep > 0 ? input_.settings.keep : kKeep;
    const int64_t most = is_last ? keep : 4 * keep;
    int64_t n = 0;
    size_t stays = 0;
    for (; stays < kept_.size(); ++stays) {
      n += static_cast<int64_t>(kept_[stays].passage.tokens.size());
      const bool is_little = kept_[stays].score < kLeastOfBest * kept_.front().score;
      if (stays > 0 && (n > most || is_little)) break;
    }
    kept_.resize(stays);
  }

  const DriverInput& input_;
  Session& session_;
  const RetrievalHeads& heads_;
  attention::AttnProbe probe_;
  std::vector<Token> hint_;
  std::vector<Candidate> kept_;
  int64_t read_tokens_ = 0;
  int64_t number_ = 0;
};

}  // namespace

Result<DriverReading> read_rag(const DriverInput& input, DriverState& state) {
  const DriverSettings& settings = input.settings;
  LCRUN_ASSIGN(const auto frame, input.layout.frame(settings.system));
  const int64_t keep = std::max(settings.keep, kKeep) + PassageSplitter::kMostTokens;
  const auto around = static_cast<int64_t>(frame.size() + input.question_part.size());
  const int64_t n_ctx = std::max(kHeadTestTokens + static_cast<int64_t>(frame.size()),
                                 around + keep + kChunk + std::max<int64_t>(settings.n_predict, 512));
  LCRUN_ASSIGN(Session* const session, session_for(input, state, n_ctx));
  if (!state.heads.has_value()) {
    LCRUN_ASSIGN(state.heads, find_retrieval_heads(*session, input.tokenizer, input.layout, settings.system));
  }
  if (state.heads->heads.empty()) {
    return make_error(Code::kUnsupported, "--driver rag: the model has no layer that attends to all of a text");
  }
  return Compression(input, state, *session).run();
}

}  // namespace lcrun::runtime
