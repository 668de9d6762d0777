// jrt: just read twice (Arora et al., arXiv 2407.05483, section 3).
//
// Question, text, text again, question: a model whose memory is bounded (a recurrent state, a window, a selection)
// knows at the second reading what it is looking for. Costs twice the tokens; of no use to dense attention within its
// window.
#include <algorithm>

#include "src/runtime/driver.hpp"

namespace lcrun::runtime {
namespace {

constexpr int64_t kRoomForAnswer = 512;  // where --n-predict does not say

void append(std::vector<Token>& to, std::span<const Token> tokens) {
  to.insert(to.end(), tokens.begin(), tokens.end());
}

std::vector<Token> tokens_of(const text::Tokenizer& tokenizer, const std::string& text) {
  const text::Span span{text, false};
  return tokenizer.encode_continuation({&span, 1});
}

}  // namespace

Result<DriverReading> read_jrt(const DriverInput& input, DriverState& state) {
  DriverReading reading;
  LCRUN_ASSIGN(reading.prompt, input.layout.frame(input.settings.system));
  if (!input.question.empty()) append(reading.prompt, tokens_of(input.tokenizer, input.question + "\n\n"));
  const size_t first = reading.prompt.size();
  Passage passage;
  while (true) {
    LCRUN_ASSIGN(const bool more, input.text.next(passage));
    if (!more) break;
    const auto begin = static_cast<int64_t>(reading.prompt.size());
    append(reading.prompt, passage.tokens);
    reading.passages.push_back({begin, static_cast<int64_t>(reading.prompt.size()), passage.place});
  }
  const std::vector<Token> text(reading.prompt.begin() + static_cast<std::ptrdiff_t>(first), reading.prompt.end());
  reading.text_tokens = static_cast<int64_t>(text.size());
  append(reading.prompt, tokens_of(input.tokenizer, "\n\n"));
  // The second reading is what the answer is read from.
  const auto shift = static_cast<int64_t>(reading.prompt.size() - first);
  for (PromptPassage& one : reading.passages) {
    one.begin += shift;
    one.end += shift;
  }
  append(reading.prompt, text);
  reading.kept_tokens = reading.text_tokens;
  reading.text_end = static_cast<int64_t>(reading.prompt.size());
  append(reading.prompt, input.question_part);
  const int64_t answer = input.settings.n_predict >= 0 ? input.settings.n_predict : kRoomForAnswer;
  LCRUN_ASSIGN(Session* const session, session_for(input, state, static_cast<int64_t>(reading.prompt.size()) + answer));
  LCRUN_TRY(
      session->sync(std::span(reading.prompt).first(static_cast<size_t>(reading.text_end)), input.progress, INT64_MAX));
  return reading;
}

}  // namespace lcrun::runtime
