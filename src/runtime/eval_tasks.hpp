// The tasks of `lcrun eval`, as a table: what is hidden in a long text, what is asked, and how answers are scored.
//
// passkey, needle, multikey, multivalue, vartrack (two hops): after the passkey task of Mohtashami and Jaggi (Landmark
// Attention, 2023) and RULER (Hsieh et al., 2024), in sentences of our own. count and words need the whole text, which
// methods that select should fail. qa and ppl bring or need no hidden sentences.
// Thread rule: the table is constant; functions are pure.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "src/runtime/eval_random.hpp"

namespace lcrun::runtime {

enum class EvalKind : uint8_t {
  kHidden,     // sentences hidden in a haystack
  kQuestions,  // texts and questions from a file
  kLikelihood  // nothing is asked
};

// One thing to find.
struct EvalItem {
  std::vector<std::string> sentences;  // what is hidden; the first one lies at the depth, the others anywhere
  std::string question;
  std::string answer_prefix;  // the reply begins with it; ends in a blank
  std::vector<std::string> answers;
};

struct EvalScore {
  std::string_view name;
  double value = 0;  // 0..1, but for nll
};

// The first score is the one that counts.
using EvalScores = std::vector<EvalScore>;

struct EvalTask {
  std::string_view name;
  EvalKind kind;
  std::string_view summary;
  bool has_depth;
  int64_t n_predict;
  EvalItem (*make)(EvalRandom& random);
  EvalScores (*score)(std::string_view reply, std::span<const std::string> answers);
};

std::span<const EvalTask> eval_tasks();
// Null when unknown.
const EvalTask* find_eval_task(std::string_view name);
// "passkey, needle, ...".
std::string eval_task_names();
// Said before the text of a kHidden task. Longer than 64 tokens: a method that always reads the first block must not
// find a sentence at depth 0 there.
extern const std::string_view kEvalIntroduction;

}  // namespace lcrun::runtime
