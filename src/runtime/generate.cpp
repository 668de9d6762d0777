#include "src/runtime/generate.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>

#include "src/base/format.hpp"
#include "src/base/log.hpp"

namespace lcrun::runtime {
namespace {

using Clock = std::chrono::steady_clock;

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

// Which tokens may come next, by the grammar and by --ignore-eos.
class Constraint {
 public:
  Constraint(const text::Tokenizer& tokenizer, const GenerateOptions& options, int64_t n_vocab)
      : ignore_eos_(options.ignore_eos) {
    for (Token id = 0; id < tokenizer.vocab_size(); ++id) {
      if (tokenizer.is_end_of_generation(id)) end_tokens_.push_back(id);
    }
    if (!options.grammar) return;
    pieces_ = options.pieces;
    state_ = options.grammar->start(pieces_);
    allowed_.resize(static_cast<size_t>(n_vocab));
  }

  // False when the grammar leaves nothing to say.
  bool apply(Sampler& sampler, std::span<float> logits) {
    if (ignore_eos_) {
      for (const Token id : end_tokens_) logits[static_cast<size_t>(id)] = -std::numeric_limits<float>::infinity();
    }
    if (!state_) return true;
    state_->allowed_tokens(allowed_);
    allowed_.resize(logits.size());
    const bool may_end = state_->can_end() && !ignore_eos_;
    for (const Token id : end_tokens_) allowed_[static_cast<size_t>(id)] = may_end;
    if (std::find(allowed_.begin(), allowed_.end(), true) == allowed_.end()) return false;
    sampler.mask(logits, allowed_);
    return true;
  }

  // False when the grammar does not take the token (a bug of the mask; generation must not go on).
  bool accept(Token token) { return !state_ || state_->accept(pieces_[static_cast<size_t>(token)]); }

 private:
  bool ignore_eos_;
  std::vector<Token> end_tokens_;
  std::span<const std::string> pieces_;
  std::unique_ptr<text::GrammarState> state_;
  std::vector<bool> allowed_;
};

// One reply in the making.
class Generation {
 public:
  Generation(Session& session, const text::Tokenizer& tokenizer, const GenerateOptions& options, const TextSink& sink,
             Sampler sampler)
      : session_(session),
        tokenizer_(tokenizer),
        options_(options),
        sink_(sink),
        sampler_(std::move(sampler)),
        constraint_(tokenizer, options, session.model().config().n_vocab) {}

  Status read_prompt(std::span<const Token> prompt, const ProgressCallback& progress) {
    const auto start = Clock::now();
    LCRUN_ASSIGN(const auto logits, session_.sync(prompt, progress, options_.ask_from));
    logits_.assign(logits.begin(), logits.end());
    made_.timings.prefill_ms = ms_since(start);
    made_.timings.prompt_tokens = static_cast<int64_t>(prompt.size());
    made_.timings.cached_tokens = session_.reused_tokens();
    history_.assign(prompt.begin(), prompt.end());
    return {};
  }

  Status run() {
    const DecodeReads before = reads_so_far();
    LCRUN_TRY(emit(options_.answer_prefix));
    const auto start = Clock::now();
    while (true) {
      if (options_.n_predict >= 0 && static_cast<int64_t>(made_.tokens.size()) >= options_.n_predict) {
        made_.stop = StopReason::kLength;
        break;
      }
      LCRUN_ASSIGN(const bool goes_on, step());
      if (!goes_on) break;
    }
    made_.timings.decode_ms = ms_since(start);
    const DecodeReads after = reads_so_far();
    made_.reads = {after.attention - before.attention, after.disk_bytes - before.disk_bytes,
                   after.page_hits - before.page_hits, after.page_misses - before.page_misses};
    std::string rest;
    stream_.finish(rest);
    return emit(rest);
  }

  Generated take() { return std::move(made_); }

 private:
  DecodeReads reads_so_far() const {
    const storage::PageStore* store = session_.page_store();
    if (store == nullptr) return {session_.attention_stats()};
    return {session_.attention_stats(), store->io_stats().bytes_read, store->stats().hits, store->stats().misses};
  }

  // Picks a token, hands out its text and feeds it back.
  Result<bool> step() {
    if (is_cancelled()) return stop(StopReason::kInterrupted);
    if (!constraint_.apply(sampler_, logits_)) return stop(StopReason::kGrammar);
    const Token token = sampler_.pick(logits_, history_);
    if (tokenizer_.is_end_of_generation(token) && !options_.ignore_eos) return stop(StopReason::kEnd);
    if (!constraint_.accept(token)) {
      return make_error(Code::kInternal, "the grammar allowed token {} and then refused it", token);
    }
    made_.tokens.push_back(token);
    history_.push_back(token);
    std::string text;
    stream_.push(tokenizer_.piece(token, options_.show_special), text);
    LCRUN_TRY(emit(text));
    const bool is_last = static_cast<int64_t>(made_.tokens.size()) == options_.n_predict;
    if (static_cast<int64_t>(session_.tokens().size()) >= session_.max_tokens()) {
      const int64_t n_ctx = session_.options().n_ctx;
      if (session_.max_tokens() < n_ctx) return stop(StopReason::kMemory);
      if (options_.n_predict < 0) return stop(StopReason::kContext);
      if (!is_last) tell_end(n_ctx);
    }
    // The last token is not fed: nobody would read its logits.
    if (is_last) return stop(StopReason::kLength);
    const auto logits = session_.decode(token, Session::AtEnd::kSlide);
    if (!logits.has_value()) {
      if (logits.error().code == Code::kCancelled) return stop(StopReason::kInterrupted);
      return logits.error();
    }
    logits_.assign(logits->begin(), logits->end());
    ++made_.timings.decoded_tokens;
    return true;
  }

  void tell_end(int64_t n_ctx) {
    if (told_end_) return;
    told_end_ = true;
    const attention::Slide& slide = session_.options().cache.slide;
    log(LogLevel::kInfo,
        "the context of {} tokens is full: the reply goes on with the first {} and the latest {} tokens; "
        "-c gives more room",
        n_ctx, slide.sinks, slide.window);
  }

  bool is_cancelled() const {
    const auto* cancel = session_.options().cancel;
    return cancel != nullptr && cancel->load(std::memory_order_relaxed);
  }

  Result<bool> stop(StopReason reason) {
    made_.stop = reason;
    return false;
  }

  Status emit(std::string_view text) {
    if (text.empty()) return {};
    made_.text += text;
    return sink_ ? sink_(text) : Status();
  }

  Session& session_;
  const text::Tokenizer& tokenizer_;
  const GenerateOptions& options_;
  const TextSink& sink_;
  Sampler sampler_;
  Constraint constraint_;
  text::Utf8Stream stream_;
  bool told_end_ = false;
  std::vector<float> logits_;   // a copy: the sampler works in place
  std::vector<Token> history_;  // prompt and reply, for penalties
  Generated made_;
};

}  // namespace

const char* stop_reason_name(StopReason reason) {
  switch (reason) {
    case StopReason::kEnd:
      return "eos";
    case StopReason::kLength:
      return "length";
    case StopReason::kContext:
      return "context";
    case StopReason::kMemory:
      return "memory";
    case StopReason::kInterrupted:
      return "interrupted";
    case StopReason::kGrammar:
      return "grammar";
  }
  return "unknown";
}

double Timings::prefill_tps() const {
  return prefill_ms > 0 ? static_cast<double>(prompt_tokens - cached_tokens) * 1e3 / prefill_ms : 0;
}

double Timings::decode_tps() const { return decode_ms > 0 ? static_cast<double>(decoded_tokens) * 1e3 / decode_ms : 0; }

Result<Generated> generate(Session& session, const text::Tokenizer& tokenizer, std::span<const Token> prompt,
                           const GenerateOptions& options, const TextSink& sink, const ProgressCallback& progress) {
  LCRUN_ASSIGN(auto sampler, Sampler::create(options.sampling, session.model().config().n_vocab));
  Generation generation(session, tokenizer, options, sink, std::move(sampler));
  LCRUN_TRY(generation.read_prompt(prompt, progress));
  LCRUN_TRY(generation.run());
  return generation.take();
}

}  // namespace lcrun::runtime
