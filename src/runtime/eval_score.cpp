#include "src/runtime/eval_score.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

namespace lcrun::runtime {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool is_word(char c) { return is_digit(c) || (lower(c) >= 'a' && lower(c) <= 'z') || (static_cast<uint8_t>(c) >= 128); }

std::string lower_text(std::string_view text) {
  std::string made(text);
  std::transform(made.begin(), made.end(), made.begin(), lower);
  return made;
}

// Is `part` in the text, with no character that satisfies `inside` on either side of it?
bool holds_whole(std::string_view text, std::string_view part, bool (*inside)(char)) {
  for (size_t at = text.find(part); at != std::string_view::npos; at = text.find(part, at + 1)) {
    const size_t end = at + part.size();
    if ((at == 0 || !inside(text[at - 1])) && (end == text.size() || !inside(text[end]))) return true;
  }
  return false;
}

bool begins_whole(std::string_view text, std::string_view part, bool (*inside)(char)) {
  return text.substr(0, part.size()) == part && (text.size() == part.size() || !inside(text[part.size()]));
}

double truth(bool value) { return value ? 1.0 : 0.0; }

std::vector<std::string_view> words_of(std::string_view text) {
  std::vector<std::string_view> words;
  while (!text.empty()) {
    const size_t end = std::min(text.find(' '), text.size());
    if (end > 0) words.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return words;
}

// Harmonic mean of precision and recall of words, each counted as often as it occurs.
double token_f1(std::string_view reply, std::string_view answer) {
  const auto found = words_of(reply);
  const auto wanted = words_of(answer);
  if (found.empty() || wanted.empty()) return truth(found.empty() && wanted.empty());
  std::map<std::string_view, int64_t> left;
  for (const auto word : wanted) ++left[word];
  int64_t common = 0;
  for (const auto word : found) {
    const auto at = left.find(word);
    if (at == left.end() || at->second == 0) continue;
    --at->second;
    ++common;
  }
  return 2.0 * static_cast<double>(common) / static_cast<double>(found.size() + wanted.size());
}

}  // namespace

EvalScores score_number(std::string_view reply, std::span<const std::string> answers) {
  return {{"strict", truth(begins_whole(reply, answers[0], is_digit))},
          {"digits", truth(holds_whole(reply, answers[0], is_digit))}};
}

EvalScores score_numbers(std::string_view reply, std::span<const std::string> answers) {
  double found = 0;
  for (const std::string& answer : answers) found += truth(holds_whole(reply, answer, is_digit));
  const double share = found / static_cast<double>(answers.size());
  return {{"all", truth(share == 1.0)}, {"share", share}};
}

EvalScores score_word(std::string_view reply, std::span<const std::string> answers) {
  const std::string text = lower_text(reply);
  const std::string word = lower_text(answers[0]);
  return {{"strict", truth(begins_whole(text, word, is_word))}, {"found", truth(holds_whole(text, word, is_word))}};
}

bool holds_answer(std::string_view text, std::span<const std::string> answers) {
  const std::string words = normalised_answer(text);
  return std::any_of(answers.begin(), answers.end(),
                     [&](const std::string& answer) { return holds_whole(words, normalised_answer(answer), is_word); });
}

EvalScores score_text(std::string_view reply, std::span<const std::string> answers) {
  const std::string text = normalised_answer(reply);
  bool contains = false;
  double f1 = 0;
  for (const std::string& answer : answers) {
    const std::string wanted = normalised_answer(answer);
    contains = contains || holds_whole(text, wanted, is_word);
    f1 = std::max(f1, token_f1(text, wanted));
  }
  return {{"contains", truth(contains)}, {"f1", f1}};
}

std::string normalised_answer(std::string_view text) {
  std::string spaced;
  for (const char c : text) spaced += is_word(c) ? lower(c) : ' ';
  std::string made;
  for (const auto word : words_of(spaced)) {
    if (word == "a" || word == "an" || word == "the") continue;
    if (!made.empty()) made += ' ';
    made += word;
  }
  return made;
}

double wilson_lower_bound(double successes, int64_t n) {
  if (n <= 0) return 0;
  constexpr double z = 1.959964;  // 95 %, two-sided
  const auto trials = static_cast<double>(n);
  const double rate = successes / trials;
  const double middle = rate + z * z / (2 * trials);
  const double spread = z * std::sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials));
  return std::max(0.0, (middle - spread) / (1 + z * z / trials));
}

}  // namespace lcrun::runtime
