// The cases of an evaluation: which prompts are read, in which order, by how many sessions.
//
// Cases of one length share one session, and come in descending order of the first token that is a case's own: then
// each reads again only what follows its hidden sentence, half of the text on average, and the cases at the end of the
// text next to nothing.
// Thread rule: values; a case refers to tokens that it shares with the others.
#pragma once

#include <compare>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "src/base/file.hpp"
#include "src/base/result.hpp"
#include "src/runtime/driver.hpp"
#include "src/runtime/eval_haystack.hpp"
#include "src/runtime/eval_tasks.hpp"
#include "src/runtime/prompt.hpp"

namespace lcrun::runtime {

// What tells a case from the others of its evaluation.
struct EvalKey {
  std::string attention;  // as named in the options
  int64_t length = 0;     // tokens of the prompt; 0 for qa, whose texts are as long as they are
  int64_t depth = -1;     // per cent; -1: the task has none
  int64_t seed = 0;
  int64_t item = -1;  // qa: line of the file, from 0; otherwise -1

  auto operator<=>(const EvalKey&) const = default;
};

struct EvalCase {
  EvalKey key;
  std::shared_ptr<const std::vector<Token>> base;  // what precedes the question, before replacements; may be longer
  int64_t n_text = 0;                              // tokens of it that are used
  std::vector<Replacement> hidden;                 // positions in base
  std::vector<Token> question;                     // the question, the end of the turn, the answer's prefix
  std::string asked;                               // the question in words
  std::vector<std::string> answers;
  bool adds_blank = false;  // the reply begins with the blank that the prefix would have ended in

  // Tokens that are those of any case with the same base.
  int64_t first_changed() const;
  int64_t prompt_tokens() const { return n_text + static_cast<int64_t>(question.size()); }
  std::vector<Token> prompt() const;
};

// Cases for one session.
struct EvalBatch {
  int64_t n_ctx = 0;
  std::vector<EvalCase> cases;
};

// One line of a qa file.
struct EvalQuestion {
  std::string text;
  std::string question;
  std::vector<std::string> answers;
  std::string answer_prefix;
};

// A qa file: one JSON object a line, {"file" or "text", "question", "answers": [...]}, "answer_prefix" if wanted; files
// are found from the folder of `path`. kInvalidArgument names the line that is not like this.
Result<std::vector<EvalQuestion>> read_questions(FileSystem& fs, const std::string& path);

struct EvalRequest {
  const EvalTask* task = nullptr;
  std::vector<int64_t> lengths;
  std::vector<int64_t> depths;  // per cent
  int64_t first_seed = 1;
  int64_t seeds = 1;
  std::string system;
  std::optional<std::string> answer_prefix;  // instead of the task's own
  const Driver* driver = nullptr;            // what arranges the texts; null: they are read as they are
  DriverSettings driver_settings;
  bool cites = false;   // also scores whether what was hidden is among the citations
  bool oracle = false;  // each case is answered once more, by oracle_of() its attention

  // Depths of this task: {-1} if it has none.
  std::vector<int64_t> task_depths() const;
  int64_t longest() const;
  int64_t last_seed() const { return first_seed + seeds - 1; }
};

// The name of an attention that reads the blocks of what was hidden, whatever else it chooses: what is missed then was
// misread.
inline std::string oracle_of(const std::string& attention) { return attention + "+oracle"; }

// One batch a length. kInvalidArgument: a length without room for its sentences.
Result<std::vector<EvalBatch>> hidden_cases(const EvalRequest& request, const text::Tokenizer& tokenizer,
                                            const PromptLayout& layout, const Haystack& haystack);

// One batch.
Result<std::vector<EvalBatch>> question_cases(const EvalRequest& request, const text::Tokenizer& tokenizer,
                                              const PromptLayout& layout, std::span<const EvalQuestion> questions);

// Tokens that a session has to read for the cases of a batch, one after another.
int64_t tokens_to_read(std::span<const EvalCase> cases);

}  // namespace lcrun::runtime
