#include "src/runtime/eval_tasks.hpp"

#include <algorithm>
#include <array>

#include "src/base/format.hpp"
#include "src/runtime/eval_score.hpp"

namespace lcrun::runtime {
namespace {

constexpr std::string_view kCities[] = {"Lisbon", "Vienna", "Cairo", "Oslo",   "Madrid", "Quebec",
                                        "Lima",   "Dublin", "Tokyo", "Warsaw", "Athens", "Delhi"};
constexpr std::string_view kWordsOfTheDay[] = {"lantern", "pepper", "violin", "anchor",
                                               "saddle",  "marble", "walnut", "ribbon"};

std::string five_digits(EvalRandom& random) { return std::to_string(random.between(10000, 99999)); }

// Numbers that differ from one another.
std::vector<std::string> numbers(EvalRandom& random, size_t n) {
  std::vector<std::string> made;
  while (made.size() < n) {
    std::string number = five_digits(random);
    if (std::find(made.begin(), made.end(), number) == made.end()) made.push_back(std::move(number));
  }
  return made;
}

// `n` different entries, in an order of chance.
template <size_t N>
std::vector<std::string> some_of(EvalRandom& random, const std::string_view (&words)[N], size_t n) {
  std::vector<std::string> all(std::begin(words), std::end(words));
  for (size_t i = 0; i < n; ++i) {
    std::swap(all[i], all[i + static_cast<size_t>(random.below(static_cast<int64_t>(N - i)))]);
  }
  all.resize(n);
  return all;
}

EvalItem make_passkey(EvalRandom& random) {
  const std::string key = five_digits(random);
  return {{format("The pass key is {}. Remember it. {} is the pass key.", key, key)},
          "What is the pass key?",
          "The pass key is ",
          {key}};
}

EvalItem make_needle(EvalRandom& random) {
  const std::string key = five_digits(random);
  return {{format("The gate of the north tower opens with {}.", key)},
          "Which number opens the north tower's gate?",
          "The number is ",
          {key}};
}

EvalItem make_multikey(EvalRandom& random) {
  constexpr size_t kKeys = 4;
  const auto cities = some_of(random, kCities, kKeys);
  const auto keys = numbers(random, kKeys);
  EvalItem item;
  for (size_t i = 0; i < kKeys; ++i) {
    item.sentences.push_back(format("The pass key of {} is {}. Remember it. {} is the pass key of {}.", cities[i],
                                    keys[i], keys[i], cities[i]));
  }
  item.question = format("What is the pass key of {}?", cities[0]);
  item.answer_prefix = format("The pass key of {} is ", cities[0]);
  item.answers = {keys[0]};
  return item;
}

EvalItem make_multivalue(EvalRandom& random) {
  EvalItem item;
  item.answers = numbers(random, 3);
  for (const std::string& key : item.answers) {
    item.sentences.push_back(format("One of the three pass keys is {}.", key));
  }
  item.question = "What are the three pass keys?";
  item.answer_prefix = "The three pass keys are ";
  return item;
}

EvalItem make_vartrack(EvalRandom& random) {
  constexpr std::string_view kNames[] = {"A", "B", "C", "D", "E", "F", "G", "H", "K", "M", "P", "R", "S", "T"};
  const auto names = some_of(random, kNames, 4);
  const auto values = numbers(random, 2);
  EvalItem item;
  // The first hop lies at the depth; the other chain is there to be confused with.
  for (size_t chain = 0; chain < 2; ++chain) {
    item.sentences.push_back(format("The value of {} is {}.", names[2 * chain], values[chain]));
    item.sentences.push_back(
        format("The value of {} is the same as the value of {}.", names[2 * chain + 1], names[2 * chain]));
  }
  item.question = format("What is the value of {}?", names[1]);
  item.answer_prefix = format("The value of {} is ", names[1]);
  item.answers = {values[0]};
  return item;
}

EvalItem make_count(EvalRandom& random) {
  const int64_t times = random.between(3, 9);
  EvalItem item;
  item.sentences.assign(static_cast<size_t>(times), "The watchman struck the great bell.");
  item.question = "How many times does the text say that the watchman struck the great bell? Answer with a number.";
  item.answer_prefix = "The number of times is ";
  item.answers = {std::to_string(times)};
  return item;
}

EvalItem make_words(EvalRandom& random) {
  constexpr size_t kWords = 4;
  constexpr size_t kTimesOfTheMostCommon = 5;
  const auto words = some_of(random, kWordsOfTheDay, kWords);
  EvalItem item;
  for (size_t i = 0; i < kWords; ++i) {
    const size_t times = i == 0 ? kTimesOfTheMostCommon : 2;
    for (size_t j = 0; j < times; ++j) item.sentences.push_back(format("The word of the day was {}.", words[i]));
  }
  item.question = "Which word was the word of the day most often?";
  item.answer_prefix = "The word is ";
  item.answers = {words[0]};
  return item;
}

constexpr EvalTask kTasks[] = {
    {"passkey", EvalKind::kHidden, "a number in one sentence, asked in its own words", true, 16, make_passkey,
     score_number},
    {"needle", EvalKind::kHidden, "a number in one sentence, asked in other words", true, 16, make_needle,
     score_number},
    {"multikey", EvalKind::kHidden, "four near duplicates, one of them asked", true, 16, make_multikey, score_number},
    {"multivalue", EvalKind::kHidden, "three numbers in three places, all asked", true, 32, make_multivalue,
     score_numbers},
    {"vartrack", EvalKind::kHidden, "two hops, beside a second chain", true, 16, make_vartrack, score_number},
    {"count", EvalKind::kHidden, "how often a sentence occurs (3 to 9)", false, 8, make_count, score_number},
    {"words", EvalKind::kHidden, "which of four words occurs most often", false, 8, make_words, score_word},
    {"qa", EvalKind::kQuestions, "questions of a file about texts", false, 32, nullptr, score_text},
    {"ppl", EvalKind::kLikelihood, "likelihood of the text before each length", false, 0, nullptr, nullptr},
};

}  // namespace

const std::string_view kEvalIntroduction =
    "Read the following long text. A few facts are hidden in it; keep them in mind, because a question about them "
    "follows at the end. The rest of the text has nothing to do with these facts and does not matter for the question. "
    "Do not sum it up and do not comment on it: read all of it, from the first line to the last, and then answer the "
    "question in a few words, with what the text says and nothing else.";

std::span<const EvalTask> eval_tasks() { return kTasks; }

const EvalTask* find_eval_task(std::string_view name) {
  for (const EvalTask& task : kTasks) {
    if (task.name == name) return &task;
  }
  return nullptr;
}

std::string eval_task_names() {
  std::string names;
  for (const EvalTask& task : kTasks) names += format("{}{}", names.empty() ? "" : ", ", task.name);
  return names;
}

}  // namespace lcrun::runtime
