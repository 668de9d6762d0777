#include "src/runtime/evaluation.hpp"

#include <algorithm>

#include "src/base/format.hpp"
#include "src/runtime/eval_drive.hpp"
#include "src/runtime/eval_prose.hpp"
#include "storage/snapshot_format.hpp"

namespace lcrun::runtime {
namespace {

// Of the text, not of the cases: cases of all seeds hide their sentences in the same text.
constexpr uint64_t kProseSeed = 1611;
constexpr size_t kProseBytesPerToken = 8;  // more than any tokenizer's mean
constexpr uint64_t kMaxTextBytes = uint64_t{4} << 30;

std::string checksum_of(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string hex;
  for (const uint8_t byte : storage::digest_of(std::as_bytes(std::span(text)))) {
    hex += kDigits[byte >> 4];
    hex += kDigits[byte & 15];
  }
  return hex;
}

int64_t source_tokens(const EvalRequest& request) {
  if (request.task->kind != EvalKind::kLikelihood) return request.longest();
  return likelihood_tokens(request.longest(), request.last_seed());
}

}  // namespace

Result<EvalSource> read_eval_source(FileSystem& fs, const EvalRequest& request, const std::string& haystack,
                                    const std::string& questions) {
  EvalSource source;
  if (request.task->kind == EvalKind::kQuestions) {
    source.name = questions;
    LCRUN_ASSIGN(source.questions, read_questions(fs, questions));
    std::string all;
    for (const EvalQuestion& one : source.questions) all += checksum_of(one.text) + one.question + "\n";
    source.checksum = checksum_of(all);
    return source;
  }
  source.name = format("--haystack {}", haystack);
  if (haystack == "prose") {
    const auto tokens = static_cast<size_t>(source_tokens(request));
    source.text = generated_prose(kProseSeed, (tokens + 1024) * kProseBytesPerToken);
    // Whatever its length: longer prose begins with shorter prose.
    source.checksum = format("prose {}", kProseSeed);
    return source;
  }
  LCRUN_ASSIGN(source.text, read_text_file(fs, haystack, kMaxTextBytes));
  source.checksum = checksum_of(source.text);
  return source;
}

Result<Evaluation> Evaluation::create(const EvalRequest& request, const EvalSource& source,
                                      std::shared_ptr<const text::Tokenizer> tokenizer, const PromptLayout& layout) {
  Evaluation made;
  made.request_ = request;
  made.tokenizer_ = std::move(tokenizer);
  made.layout_ = layout;
  if (request.task->kind == EvalKind::kQuestions) {
    LCRUN_ASSIGN(made.batches_, question_cases(request, *made.tokenizer_, layout, source.questions));
    return made;
  }
  LCRUN_ASSIGN(auto haystack, Haystack::create(*made.tokenizer_, source.text, source.name, source_tokens(request)));
  if (request.task->kind == EvalKind::kLikelihood) {
    made.haystack_ = std::move(haystack);
  } else {
    LCRUN_ASSIGN(made.batches_, hidden_cases(request, *made.tokenizer_, layout, haystack));
  }
  return made;
}

std::vector<EvalKey> Evaluation::keys(const std::string& attention) const {
  std::vector<EvalKey> keys;
  for (const EvalBatch& batch : batches_) {
    for (const EvalCase& made : batch.cases) keys.push_back(made.key);
  }
  for (int64_t seed = request_.first_seed; haystack_.has_value() && seed <= request_.last_seed(); ++seed) {
    for (const int64_t length : request_.lengths) keys.push_back({"", length, -1, seed, -1});
  }
  for (EvalKey& key : keys) key.attention = attention;
  return keys;
}

std::vector<EvalCase> Evaluation::cases_left(const EvalBatch& batch, const std::string& attention,
                                             const EvalRecords& done) const {
  const auto is_done = [&](EvalKey key, const std::string& name) {
    key.attention = name;
    return done.find(key) != done.end();
  };
  std::vector<EvalCase> left;
  for (const EvalCase& made : batch.cases) {
    const bool is_forced_done = !request_.oracle || is_done(made.key, oracle_of(attention));
    if (!is_forced_done || !is_done(made.key, attention)) left.push_back(made);
  }
  return left;
}

bool Evaluation::is_seed_done(const std::string& attention, int64_t seed, const EvalRecords& done) const {
  return std::all_of(request_.lengths.begin(), request_.lengths.end(), [&](int64_t length) {
    return done.find({attention, length, -1, seed, -1}) != done.end();
  });
}

int64_t Evaluation::tokens_to_read(const std::string& attention, const EvalRecords& done) const {
  int64_t tokens = 0;
  for (const EvalBatch& batch : batches_) tokens += runtime::tokens_to_read(cases_left(batch, attention, done));
  for (int64_t seed = request_.first_seed; haystack_.has_value() && seed <= request_.last_seed(); ++seed) {
    if (!is_seed_done(attention, seed, done)) tokens += request_.longest();
  }
  return tokens;
}

Status Evaluation::run(const std::string& attention, const EvalRecords& done, const SessionOpener& open,
                       const EvalSink& sink, const ProgressCallback& progress) const {
  return haystack_.has_value() ? run_seeds(attention, done, open, sink, progress)
                               : run_batches(attention, done, open, sink, progress);
}

Status Evaluation::run_batches(const std::string& attention, const EvalRecords& done, const SessionOpener& open,
                               const EvalSink& sink, const ProgressCallback& progress) const {
  const int64_t total = tokens_to_read(attention, done);
  int64_t before = 0;
  for (const EvalBatch& batch : batches_) {
    const std::vector<EvalCase> left = cases_left(batch, attention, done);
    if (left.empty()) continue;
    const int64_t tokens = runtime::tokens_to_read(left);
    const auto batch_progress = [&](int64_t read, int64_t) { return !progress || progress(before + read, total); };
    if (request_.driver != nullptr) {
      const auto scaled = [&](int64_t read, int64_t all) { return batch_progress(read * tokens / all, tokens); };
      LCRUN_TRY(run_driven_cases(open, *tokenizer_, *layout_, request_, left, attention, sink, scaled));
      before += tokens;
      continue;
    }
    LCRUN_ASSIGN(auto session, open(batch.n_ctx));
    LCRUN_TRY(run_cases(session, *tokenizer_, request_, left, attention, sink, batch_progress));
    before += tokens;
  }
  return {};
}

Status Evaluation::run_seeds(const std::string& attention, const EvalRecords& done, const SessionOpener& open,
                             const EvalSink& sink, const ProgressCallback& progress) const {
  const int64_t total = tokens_to_read(attention, done);
  std::optional<Session> session;
  int64_t before = 0;
  for (int64_t seed = request_.first_seed; seed <= request_.last_seed(); ++seed) {
    if (is_seed_done(attention, seed, done)) continue;
    if (!session.has_value()) {
      LCRUN_ASSIGN(session, open(request_.longest()));
    }
    const std::vector<Token> tokens = likelihood_text(*tokenizer_, *haystack_, request_.longest(), seed);
    const auto new_only = [&](const EvalRecord& record) -> Status {
      return done.find(record.key) == done.end() ? sink(record) : Status();
    };
    const auto seed_progress = [&](int64_t read, int64_t) { return !progress || progress(before + read, total); };
    LCRUN_TRY(run_likelihood(*session, tokens, {request_.lengths, attention, seed}, new_only, seed_progress));
    before += request_.longest();
  }
  return {};
}

}  // namespace lcrun::runtime
