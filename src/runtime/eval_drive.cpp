#include "src/runtime/eval_drive.hpp"

#include <algorithm>
#include <chrono>

#include "src/base/format.hpp"
#include "src/runtime/citations.hpp"
#include "src/runtime/eval_score.hpp"

namespace lcrun::runtime {
namespace {

using Clock = std::chrono::steady_clock;

struct Bytes {
  uint64_t first;
  uint64_t end;
};

uint64_t bytes_of(const text::Tokenizer& tokenizer, std::span<const Token> tokens) {
  uint64_t n = 0;
  for (const Token token : tokens) n += tokenizer.piece(token, true).size();
  return n;
}

// Where the hidden sentences lie in a text that begins with token `n_before` of the prompt.
std::vector<Bytes> hidden_bytes(const text::Tokenizer& tokenizer, const EvalCase& made, std::span<const Token> prompt,
                                size_t n_before) {
  std::vector<Bytes> all;
  for (const Replacement& hidden : made.hidden) {
    const auto text = prompt.subspan(n_before, static_cast<size_t>(hidden.at) - n_before);
    const uint64_t first = bytes_of(tokenizer, text);
    all.push_back({first, first + bytes_of(tokenizer, hidden.tokens)});
  }
  return all;
}

class DrivenCases {
 public:
  DrivenCases(const SessionOpener& open, const text::Tokenizer& tokenizer, const PromptLayout& layout,
              const EvalRequest& request)
      : open_(open), tokenizer_(tokenizer), layout_(layout), request_(request), settings_(request.driver_settings) {
    settings_.n_predict = request.task->n_predict;
    settings_.system = request.system;
    state_.remembers = true;
  }

  Result<EvalRecord> run(const EvalCase& made, const std::string& attention, const ProgressCallback& progress) {
    const auto start = Clock::now();
    const std::vector<Token> prompt = made.prompt();
    LCRUN_ASSIGN(const auto frame, layout_.frame(request_.system));
    const bool has_frame =
        frame.size() <= static_cast<size_t>(made.n_text) && std::equal(frame.begin(), frame.end(), prompt.begin());
    const size_t n_before = has_frame ? frame.size() : 0;
    TokenPassages text(tokenizer_, std::span(prompt).first(static_cast<size_t>(made.n_text)).subspan(n_before));
    const DriverInput input{tokenizer_, layout_, settings_, open_, text, made.asked, made.question, true, progress};
    LCRUN_ASSIGN(const auto reading, request_.driver->read(input, state_));
    GenerateOptions options = greedy_options(request_.task->n_predict);
    options.ask_from = reading.text_end;
    Session& session = *state_.session;
    std::optional<CitationWatch> watch;
    if (request_.cites) watch.emplace(session, reading.text_end, static_cast<int64_t>(reading.prompt.size()));
    LCRUN_ASSIGN(const auto reply, generate(session, tokenizer_, reading.prompt, options, {}));
    if (reply.stop == StopReason::kInterrupted) return make_error(Code::kCancelled, "the evaluation was stopped");
    EvalRecord record = record_of(*request_.task, made, reply, attention);
    const auto text_tokens = static_cast<double>(std::max<int64_t>(1, reading.text_tokens));
    record.scores.emplace_back("kept", static_cast<double>(reading.kept_tokens) / text_tokens);
    const auto hidden = hidden_bytes(tokenizer_, made, prompt, n_before);
    if (watch.has_value()) {
      std::vector<TextPlace> places;
      std::string words;
      for (const Citation& one : watch->cite(tokenizer_, reading.prompt, reading.passages)) {
        places.push_back(one.place);
        words += one.text + "\n";
      }
      record.scores.emplace_back("cited", share_of(made, hidden, places, words));
    }
    std::vector<TextPlace> kept;
    for (const PromptPassage& one : reading.passages) kept.push_back(one.place);
    const auto text_part = std::span(reading.prompt).first(static_cast<size_t>(reading.text_end));
    record.scores.emplace_back("there", share_of(made, hidden, kept, text_of(tokenizer_, text_part)));
    record.prompt_tokens = made.prompt_tokens();
    record.cached_tokens = 0;
    record.prefill_ms = std::chrono::duration<double, std::milli>(Clock::now() - start).count() - record.decode_ms;
    return record;
  }

 private:
  // How many of the hidden sentences some of these places touch; without any, whether an answer is in the words.
  static double share_of(const EvalCase& made, std::span<const Bytes> hidden, std::span<const TextPlace> places,
                         const std::string& words) {
    if (hidden.empty()) return holds_answer(words, made.answers) ? 1 : 0;
    double found = 0;
    for (const Bytes& one : hidden) {
      found += std::any_of(places.begin(), places.end(), [&](const TextPlace& place) {
        return place.first_byte < one.end && one.first < place.end_byte;
      });
    }
    return found / static_cast<double>(hidden.size());
  }

  const SessionOpener& open_;
  const text::Tokenizer& tokenizer_;
  const PromptLayout& layout_;
  const EvalRequest& request_;
  DriverSettings settings_;
  DriverState state_;
};

}  // namespace

Status run_driven_cases(const SessionOpener& open, const text::Tokenizer& tokenizer, const PromptLayout& layout,
                        const EvalRequest& request, std::span<const EvalCase> cases, const std::string& attention,
                        const EvalSink& sink, const ProgressCallback& progress) {
  DrivenCases driven(open, tokenizer, layout, request);
  int64_t total = 0;
  for (const EvalCase& made : cases) total += made.n_text;
  int64_t before = 0;
  for (const EvalCase& made : cases) {
    const auto case_progress = [&](int64_t n, int64_t) { return !progress || progress(before + n, total); };
    LCRUN_ASSIGN(const EvalRecord record, driven.run(made, attention, case_progress));
    before += made.n_text;
    LCRUN_TRY(sink(record));
  }
  return {};
}

}  // namespace lcrun::runtime
