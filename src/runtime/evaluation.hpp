// One evaluation: a task, its text, a tokenizer and a layout of prompts; run once for each kind of attention.
//
//   source  what is read: a haystack or a file of questions
//   cases   prompts with known answers, in batches of one session each (eval_cases.hpp)
//   run     a session for each batch, a record for each case (eval_run.hpp)
// Thread rule: that of the sessions.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "src/base/file.hpp"
#include "src/base/result.hpp"
#include "src/runtime/driver.hpp"
#include "src/runtime/eval_cases.hpp"
#include "src/runtime/eval_results.hpp"
#include "src/runtime/eval_run.hpp"
#include "src/runtime/prompt.hpp"

namespace lcrun::runtime {

// What an evaluation reads.
struct EvalSource {
  std::string name;  // for messages
  std::string text;  // kHidden, kLikelihood
  std::vector<EvalQuestion> questions;
  std::string checksum;
};

// `haystack`: a file, or "prose" for as much generated text as the request needs. `questions`: a qa file. Errors: the
// system's, and those of read_questions().
Result<EvalSource> read_eval_source(FileSystem& fs, const EvalRequest& request, const std::string& haystack,
                                    const std::string& questions);

using EvalRecords = std::map<EvalKey, EvalRecord>;

class Evaluation {
 public:
  // Errors: those of Haystack::create(), hidden_cases() and question_cases().
  static Result<Evaluation> create(const EvalRequest& request, const EvalSource& source,
                                   std::shared_ptr<const text::Tokenizer> tokenizer, const PromptLayout& layout);

  const EvalRequest& request() const { return request_; }
  // All cases, in the order in which they run.
  std::vector<EvalKey> keys(const std::string& attention) const;
  // Tokens that the cases which are not in `done` have to read.
  int64_t tokens_to_read(const std::string& attention, const EvalRecords& done) const;

  // Runs the cases that are not in `done`. Sessions are opened only for those. Progress counts tokens_to_read().
  Status run(const std::string& attention, const EvalRecords& done, const SessionOpener& open, const EvalSink& sink,
             const ProgressCallback& progress = {}) const;

 private:
  Status run_batches(const std::string& attention, const EvalRecords& done, const SessionOpener& open,
                     const EvalSink& sink, const ProgressCallback& progress) const;
  Status run_seeds(const std::string& attention, const EvalRecords& done, const SessionOpener& open,
                   const EvalSink& sink, const ProgressCallback& progress) const;
  bool is_seed_done(const std::string& attention, int64_t seed, const EvalRecords& done) const;
  std::vector<EvalCase> cases_left(const EvalBatch& batch, const std::string& attention, const EvalRecords& done) const;

  EvalRequest request_;
  std::shared_ptr<const text::Tokenizer> tokenizer_;
  std::optional<PromptLayout> layout_;  // for drivers
  std::vector<EvalBatch> batches_;      // kHidden, kQuestions
  std::optional<Haystack> haystack_;    // kLikelihood
};

}  // namespace lcrun::runtime
