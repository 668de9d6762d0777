#include "src/runtime/eval_run.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "src/base/format.hpp"
#include "src/kernels/ops.hpp"
#include "src/runtime/citations.hpp"
#include "src/runtime/eval_score.hpp"
#include "src/runtime/eval_sharing.hpp"
#include "src/runtime/generate.hpp"

namespace lcrun::runtime {
namespace {

using Clock = std::chrono::steady_clock;

// Texts of neighbouring seeds begin this far apart: other sentences, and not much more haystack.
constexpr int64_t kSeedStride = 2048;

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

// Tokens read so far, in proportion to all that will be, as tokens of `total`: what cases share is known only here.
class CaseProgress {
 public:
  CaseProgress(const SharedReading& sharing, std::span<const EvalCase> cases, int64_t total,
               const ProgressCallback& progress)
      : total_(total), all_(total), progress_(progress) {
    if (!sharing.is_worth_it()) return;
    all_ = sharing.tokens();
    for (const EvalCase& made : cases) all_ += sharing.tokens(made) + static_cast<int64_t>(made.question.size());
  }

  // `n` tokens of what is being read.
  bool update(int64_t n) const {
    const double part =
        static_cast<double>(std::min(before_ + n, all_)) / static_cast<double>(std::max<int64_t>(all_, 1));
    return !progress_ || progress_(static_cast<int64_t>(part * static_cast<double>(total_)), total_);
  }
  void finish(int64_t n) { before_ += n; }

 private:
  int64_t total_;
  int64_t all_;
  int64_t before_ = 0;
  const ProgressCallback& progress_;
};

// What counts of a reply: one line, without the blank that the prefix has left to it.
std::string_view scored_part(const EvalTask& task, const EvalCase& made, std::string_view reply) {
  if (made.adds_blank && !reply.empty() && reply.front() == ' ') reply.remove_prefix(1);
  if (task.kind != EvalKind::kQuestions) return reply;
  const size_t first = reply.find_first_not_of(" \r\n");
  if (first == std::string_view::npos) return {};
  reply.remove_prefix(first);
  return reply.substr(0, reply.find('\n'));
}

// The share of the hidden sentences that citations name; without any, whether an answer is among their words.
double are_cited(const text::Tokenizer& tokenizer, const EvalCase& made, std::span<const Token> prompt,
                 const CitationWatch& watch) {
  const auto text = prompt.first(static_cast<size_t>(made.n_text));
  const auto citations = watch.cite(tokenizer, prompt, passages_of(tokenizer, text, UINT64_MAX));
  double named = 0;
  for (const Replacement& hidden : made.hidden) {
    named += std::any_of(citations.begin(), citations.end(), [&](const Citation& citation) {
      return citation.begin < hidden.end() && hidden.at < citation.end;
    });
  }
  if (!made.hidden.empty()) return named / static_cast<double>(made.hidden.size());
  std::string words;
  for (const Citation& citation : citations) words += citation.text + "\n";
  return holds_answer(words, made.answers) ? 1 : 0;
}

}  // namespace

GenerateOptions greedy_options(int64_t n_predict) {
  GenerateOptions options;
  options.n_predict = n_predict;
  options.sampling.temp = 0;
  options.sampling.repeat_penalty = 1;
  return options;
}

EvalRecord record_of(const EvalTask& task, const EvalCase& made, const Generated& reply, const std::string& attention) {
  EvalRecord record;
  record.key = made.key;
  record.key.attention = attention;
  for (const EvalScore& score : task.score(scored_part(task, made, reply.text), made.answers)) {
    record.scores.emplace_back(score.name, score.value);
  }
  record.reply = reply.text;
  record.answers = made.answers;
  record.prompt_tokens = reply.timings.prompt_tokens;
  record.cached_tokens = reply.timings.cached_tokens;
  record.prefill_ms = reply.timings.prefill_ms;
  record.decode_ms = reply.timings.decode_ms;
  return record;
}

namespace {

// Blocks that hold what a case has hidden.
std::vector<int32_t> blocks_of(const EvalCase& made) {
  std::vector<int32_t> blocks;
  for (const Replacement& hidden : made.hidden) {
    for (int64_t block = hidden.at / storage::kBlockTokens; block * storage::kBlockTokens < hidden.end(); ++block) {
      blocks.push_back(static_cast<int32_t>(block));
    }
  }
  return blocks;
}

// The cases of one kind of attention, one after another.
class CaseRun {
 public:
  CaseRun(Session& session, const text::Tokenizer& tokenizer, const EvalRequest& request,
          std::span<const EvalCase> cases, const ProgressCallback& progress)
      : session_(session),
        tokenizer_(tokenizer),
        request_(request),
        sharing_(session, cases),
        done_(sharing_, cases, tokens_to_read(cases), progress) {}

  Result<EvalRecord> answer(const EvalCase& made, const std::string& attention);
  // The same with the blocks of what is hidden forced. Nothing of it is left in the session.
  Result<EvalRecord> answer_forced(const EvalCase& made, const std::string& attention);

 private:
  // What the case needs of the shared reading; returns the tokens read.
  Result<int64_t> go_to(const EvalCase& made);

  Session& session_;
  const text::Tokenizer& tokenizer_;
  const EvalRequest& request_;
  SharedReading sharing_;
  CaseProgress done_;
  bool is_read_ = false;
};

Result<int64_t> CaseRun::go_to(const EvalCase& made) {
  if (!sharing_.is_worth_it()) return made.prompt_tokens();
  int64_t read = sharing_.tokens(made);
  const auto progress = [&](int64_t n, int64_t) { return done_.update(n); };
  if (!is_read_) {
    LCRUN_TRY(sharing_.read(progress));
    done_.finish(sharing_.tokens());
    is_read_ = true;
    read = made.n_text;  // the record of the first case is that of the reading, too
  }
  LCRUN_TRY(sharing_.go_to(made, progress));
  done_.finish(sharing_.tokens(made));
  return read;
}

Result<EvalRecord> CaseRun::answer(const EvalCase& made, const std::string& attention) {
  const EvalTask& task = *request_.task;
  const auto start = Clock::now();
  LCRUN_ASSIGN(const int64_t read, go_to(made));
  const double shared_ms = ms_since(start);
  const auto progress = [&](int64_t n, int64_t) { return done_.update(n - session_.reused_tokens()); };
  GenerateOptions asking = greedy_options(task.n_predict);
  asking.ask_from = made.n_text;
  const std::vector<Token> prompt = made.prompt();
  std::optional<CitationWatch> watch;
  if (request_.cites) watch.emplace(session_, made.n_text, made.prompt_tokens());
  LCRUN_ASSIGN(const auto reply, generate(session_, tokenizer_, prompt, asking, {}, progress));
  // A reply that was cut short is no result.
  if (reply.stop == StopReason::kInterrupted) return make_error(Code::kCancelled, "the evaluation was stopped");
  EvalRecord record = record_of(task, made, reply, attention);
  if (watch.has_value()) record.scores.emplace_back("cited", are_cited(tokenizer_, made, prompt, *watch));
  const int64_t asked = reply.timings.prompt_tokens - reply.timings.cached_tokens;
  done_.finish(asked);
  if (sharing_.is_worth_it()) {
    record.cached_tokens = std::max<int64_t>(0, record.prompt_tokens - read - asked);
    record.prefill_ms += shared_ms;
  }
  return record;
}

Result<EvalRecord> CaseRun::answer_forced(const EvalCase& made, const std::string& attention) {
  session_.force_blocks(blocks_of(made));
  auto record = answer(made, attention);
  session_.force_blocks({});
  // A shared reading begins each case with its text. Otherwise the question would be taken for read.
  if (!record.has_value() || sharing_.is_worth_it()) return record;
  const std::vector<Token> prompt = made.prompt();
  LCRUN_TRY(session_.sync(std::span(prompt).first(static_cast<size_t>(made.n_text)), {}, made.n_text));
  return record;
}

}  // namespace

Status run_cases(Session& session, const text::Tokenizer& tokenizer, const EvalRequest& request,
                 std::span<const EvalCase> cases, const std::string& attention, const EvalSink& sink,
                 const ProgressCallback& progress) {
  CaseRun run(session, tokenizer, request, cases, progress);
  for (const EvalCase& made : cases) {
    // The oracle first: a run that is stopped between the two finds the case undone.
    if (request.oracle) {
      LCRUN_ASSIGN(const EvalRecord record, run.answer_forced(made, oracle_of(attention)));
      LCRUN_TRY(sink(record));
    }
    LCRUN_ASSIGN(const EvalRecord record, run.answer(made, attention));
    LCRUN_TRY(sink(record));
  }
  return {};
}

Status run_likelihood(Session& session, std::span<const Token> tokens, const LikelihoodRequest& request,
                      const EvalSink& sink, const ProgressCallback& progress) {
  const auto total = static_cast<int64_t>(tokens.size());
  session.clear();
  int64_t done = 0;
  for (const int64_t length : request.lengths) {
    const auto start = Clock::now();
    double sum = 0;
    int64_t scored = 0;
    const auto score = [&](int64_t pos, std::span<const float> logits) -> Status {
      if (pos + 1 >= length) return {};
      const auto next = static_cast<size_t>(tokens[static_cast<size_t>(pos + 1)]);
      sum +=
          kernels::log_sum_exp(logits.data(), static_cast<int64_t>(logits.size())) - static_cast<double>(logits[next]);
      ++scored;
      return {};
    };
    const auto part_progress = [&](int64_t in_part, int64_t) { return !progress || progress(done + in_part, total); };
    const auto part = tokens.subspan(static_cast<size_t>(done), static_cast<size_t>(length - done));
    LCRUN_TRY(session.score(part, std::min(length - done, kLikelihoodTokens), score, part_progress));
    EvalRecord record;
    record.key = {request.attention, length, -1, request.seed, -1};
    const double nll = sum / static_cast<double>(std::max<int64_t>(scored, 1));
    record.scores = {{"nll", nll}, {"ppl", std::exp(nll)}};
    record.prompt_tokens = length;
    record.cached_tokens = done;
    record.prefill_ms = std::chrono::duration<double, std::milli>(Clock::now() - start).count();
    done = length;
    LCRUN_TRY(sink(record));
  }
  return {};
}

int64_t likelihood_tokens(int64_t longest, int64_t last_seed) { return longest + (last_seed - 1) * kSeedStride; }

std::vector<Token> likelihood_text(const text::Tokenizer& tokenizer, const Haystack& haystack, int64_t n_tokens,
                                   int64_t seed) {
  int64_t start = (seed - 1) * kSeedStride;
  // Back to where a line begins, if one is near: further back there is always enough text.
  const int64_t first = std::max<int64_t>(0, start - kSeedStride / 2);
  for (int64_t at = start; at >= first; --at) {
    if (haystack.join(at) != Haystack::Join::kLine) continue;
    start = at;
    break;
  }
  std::vector<Token> tokens;
  if (tokenizer.adds_bos()) tokens.push_back(tokenizer.special().bos);
  const auto rest = haystack.tokens().subspan(static_cast<size_t>(start));
  const auto take = std::min(rest.size(), static_cast<size_t>(n_tokens) - tokens.size());
  tokens.insert(tokens.end(), rest.begin(), rest.begin() + static_cast<int64_t>(take));
  return tokens;
}

}  // namespace lcrun::runtime
