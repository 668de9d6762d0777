// How replies are scored.
//
// strict: the reply begins with the answer, which is what a script that asked would read. digits, found, share: the
// answer is somewhere in the reply; the difference between the two is how the model words its replies, not what it has
// found. contains, f1: as for SQuAD (Rajpurkar et al., 2016), after lower case and without punctuation and articles.
// Thread rule: pure functions.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "src/runtime/eval_tasks.hpp"

namespace lcrun::runtime {

// {strict, digits}: answers[0] is a number.
EvalScores score_number(std::string_view reply, std::span<const std::string> answers);
// {all, share} of the numbers in `answers`.
EvalScores score_numbers(std::string_view reply, std::span<const std::string> answers);
// {strict, found}: answers[0] is a word.
EvalScores score_word(std::string_view reply, std::span<const std::string> answers);
// {contains, f1}: the best over `answers`.
EvalScores score_text(std::string_view reply, std::span<const std::string> answers);

// Is an answer, whole, somewhere in a text? As for `contains`.
bool holds_answer(std::string_view text, std::span<const std::string> answers);
// Lower case, punctuation and articles out, single blanks. ASCII; other bytes stay.
std::string normalised_answer(std::string_view text);

// Least success rate that this sum of successes in n trials leaves plausible: the lower end of Wilson's interval, 95 %.
double wilson_lower_bound(double successes, int64_t n);

}  // namespace lcrun::runtime
