// retri: InfiniRetri (arXiv 2502.12962, section 3), in its text form.
//
// The text is read window by window. What was kept so far and the window are laid out as a prompt with the question;
// the attention from the question to each token, smoothed over neighbours (a phrase counts, not a word), says which
// passages are kept. At the end the question is answered from what was kept. Memory does not depend on the text.
// Other than in the paper: heads that are known to find things are asked (retrieval_heads.hpp) in place of all heads of
// the last layer, and layers above them are not computed; a passage that was kept has a memory of its score, so that
// one window of louder neighbours does not push it out.
#include <algorithm>
#include <iterator>
#include <numeric>

#include "src/base/format.hpp"
#include "src/runtime/driver.hpp"

namespace lcrun::runtime {
namespace {

constexpr int64_t kKeep = 300;   // tokens
constexpr int64_t kPhrase = 8;   // tokens that are smoothed over
constexpr float kMemory = 0.5F;  // what counts of the score that a passage had before

// FNV-1a over the bytes of tokens.
uint64_t checksum(uint64_t sum, std::span<const Token> tokens) {
  for (const Token token : tokens) {
    for (int shift = 0; shift < 32; shift += 8)
      sum = (sum ^ (static_cast<uint32_t>(token) >> shift & 255)) * 1099511628211ULL;
  }
  return sum;
}

// Means of kPhrase neighbours.
std::vector<float> smooth(const std::vector<float>& values) {
  std::vector<float> made(values.size());
  const auto n = static_cast<int64_t>(values.size());
  for (int64_t i = 0; i < n; ++i) {
    float sum = 0;
    for (int64_t j = std::max<int64_t>(0, i - kPhrase / 2); j < std::min(n, i + kPhrase / 2); ++j) {
      sum += values[static_cast<size_t>(j)];
    }
    made[static_cast<size_t>(i)] = sum / static_cast<float>(kPhrase);
  }
  return made;
}

class Retrieval {
 public:
  Retrieval(const DriverInput& input, DriverState& state, Session& session)
      : input_(input), state_(state), session_(session), probe_(state.heads->heads) {
    probe_.leave_out_the_rest(true);
  }

  Result<DriverReading> run() {
    session_.clear();
    session_.watch(&probe_);
    const Status read = read_windows();
    session_.watch(nullptr);
    session_.clear();  // its layers were not all run
    LCRUN_TRY(read);
    std::vector<Passage> kept;
    for (KeptPassage& one : kept_) kept.push_back(std::move(one.passage));
    LCRUN_ASSIGN(auto reading, lay_out(input_, kept));
    reading.text_tokens = read_tokens_;
    return reading;
  }

 private:
  Status read_windows() {
    sum_ = checksum(sum_, input_.question_part);
    bool more = true;
    while (more) {
      int64_t n = 0;
      std::vector<KeptPassage> window;
      while (n < input_.settings.window) {
        KeptPassage next;
        LCRUN_ASSIGN(more, input_.text.next(next.passage));
        if (!more) break;
        n += static_cast<int64_t>(next.passage.tokens.size());
        sum_ = checksum(sum_, next.passage.tokens);
        window.push_back(std::move(next));
      }
      read_tokens_ += n;
      if (n > 0) LCRUN_TRY(take(std::move(window)));
      if (input_.progress && !input_.progress(read_tokens_, 0)) {
        return make_error(Code::kCancelled, "reading was stopped");
      }
    }
    return {};
  }

  Status take(std::vector<KeptPassage> window) {
    if (const auto known = state_.memory.find(sum_); known != state_.memory.end()) {
      kept_ = known->second;
      return {};
    }
    const size_t n_old = kept_.size();
    std::move(window.begin(), window.end(), std::back_inserter(kept_));
    LCRUN_TRY(score(n_old));
    drop_least();
    if (state_.remembers) state_.memory.emplace(sum_, kept_);
    return {};
  }

  // Of kept_, whose first n_old passages were kept before.
  Status score(size_t n_old) {
    std::vector<Passage> all;
    for (const KeptPassage& one : kept_) all.push_back(one.passage);
    LCRUN_ASSIGN(const auto reading, lay_out(input_, all));
    probe_.watch(reading.text_end, INT64_MAX);
    LCRUN_TRY(session_.sync(reading.prompt, {}, reading.text_end));
    const int64_t first = reading.passages.front().begin;
    const auto scores = smooth(attention_of(*state_.heads, probe_, first, reading.text_end));
    for (size_t i = 0; i < kept_.size(); ++i) {
      const auto from = scores.begin() + (reading.passages[i].begin - first);
      const auto to = scores.begin() + (reading.passages[i].end - first);
      const float now = *std::max_element(from, to);
      kept_[i].score = i < n_old ? std::max(now, kMemory * kept_[i].score + (1 - kMemory) * now) : now;
    }
    return {};
  }

  void drop_least() {
    std::vector<size_t> order(kept_.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return kept_[a].score > kept_[b].score; });
    const int64_t most = input_.settings.keep > 0 ? input_.settings.keep : kKeep;
    int64_t n = 0;
    std::vector<bool> stays(kept_.size());
    for (const size_t i : order) {
      n += static_cast<int64_t>(kept_[i].passage.tokens.size());
      if (n > most && n > static_cast<int64_t>(kept_[i].passage.tokens.size())) break;
      stays[i] = true;
    }
    std::vector<KeptPassage> left;
    for (size_t i = 0; i < kept_.size(); ++i) {
      if (stays[i]) left.push_back(std::move(kept_[i]));
    }
    kept_ = std::move(left);
  }

  const DriverInput& input_;
  DriverState& state_;
  Session& session_;
  attention::AttnProbe probe_;
  std::vector<KeptPassage> kept_;  // in the order of the text
  int64_t read_tokens_ = 0;
  uint64_t sum_ = 1469598103934665603ULL;  // of the question and what was read
};

}  // namespace

Result<DriverReading> read_retri(const DriverInput& input, DriverState& state) {
  const DriverSettings& settings = input.settings;
  LCRUN_ASSIGN(const auto frame, input.layout.frame(settings.system));
  const int64_t keep = std::max(settings.keep > 0 ? settings.keep : kKeep, PassageSplitter::kMostTokens);
  const int64_t read = settings.window + PassageSplitter::kMostTokens + keep;
  const auto around = static_cast<int64_t>(frame.size() + input.question_part.size());
  const int64_t n_ctx = std::max(kHeadTestTokens + static_cast<int64_t>(frame.size()),
                                 around + read + std::max<int64_t>(settings.n_predict, 512));
  LCRUN_ASSIGN(Session* const session, session_for(input, state, n_ctx));
  if (!state.heads.has_value()) {
    LCRUN_ASSIGN(state.heads, find_retrieval_heads(*session, input.tokenizer, input.layout, settings.system));
  }
  if (state.heads->heads.empty()) {
    return make_error(Code::kUnsupported, "--driver retri: the model has no layer that attends to all of a text");
  }
  return Retrieval(input, state, *session).run();
}

}  // namespace lcrun::runtime
