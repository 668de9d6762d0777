// Scores: what counts as an answer, and what does not.
#include "src/runtime/eval_score.hpp"

#include <catch2/catch.hpp>

using namespace lcrun::runtime;

namespace {

double score(const EvalScores& scores, std::string_view name) {
  for (const EvalScore& one : scores) {
    if (one.name == name) return one.value;
  }
  FAIL("no score " << name);
  return -1;
}

}  // namespace

TEST_CASE("strict wants the number first and whole, digits want it anywhere and whole", "[runtime][eval]") {
  const std::vector<std::string> key = {"12345"};
  struct Row {
    const char* reply;
    double strict, digits;
  };
  for (const Row& row : {Row{"12345", 1, 1}, Row{"12345. Remember it.", 1, 1}, Row{"123456", 0, 0}, Row{" 12345", 0, 1},
                         Row{"the 12345.", 0, 1}, Row{"912345", 0, 0}, Row{"1234", 0, 0}, Row{"", 0, 0},
                         Row{"123456 and 12345", 0, 1}, Row{"12 345", 0, 0}}) {
    INFO(row.reply);
    CHECK(score(score_number(row.reply, key), "strict") == row.strict);
    CHECK(score(score_number(row.reply, key), "digits") == row.digits);
  }
}

TEST_CASE("several numbers count one by one, and all only together", "[runtime][eval]") {
  const std::vector<std::string> keys = {"11111", "22222", "33333"};
  CHECK(score(score_numbers("33333, 11111 and 22222", keys), "all") == 1);
  CHECK(score(score_numbers("11111, 22222, 222223", keys), "all") == 0);
  CHECK(score(score_numbers("11111, 22222, 222223", keys), "share") == Approx(2.0 / 3));
  CHECK(score(score_numbers("", keys), "share") == 0);
}

TEST_CASE("words are compared without case and never in part", "[runtime][eval]") {
  const std::vector<std::string> word = {"anchor"};
  CHECK(score(score_word("Anchor.", word), "strict") == 1);
  CHECK(score(score_word("anchored", word), "strict") == 0);
  CHECK(score(score_word("the anchor", word), "found") == 1);
  CHECK(score(score_word("the anchored", word), "found") == 0);
}

TEST_CASE("texts are compared after articles, case and punctuation are gone", "[runtime][eval]") {
  CHECK(normalised_answer("  The  Quick, brown-fox! an A ") == "quick brown fox");
  CHECK(normalised_answer("Zürich") == "zürich");
  const std::vector<std::string> answers = {"the old lighthouse", "lighthouse keeper"};
  CHECK(score(score_text("It was an Old Lighthouse.", answers), "contains") == 1);
  CHECK(score(score_text("It was a lighthouse.", answers), "contains") == 0);
  // {it, was, lighthouse} and {old, lighthouse}: one word in common of 3 and 2.
  CHECK(score(score_text("It was a lighthouse.", answers), "f1") == Approx(2.0 / 5));
  CHECK(score(score_text("lighthouse keeper", answers), "f1") == 1);
  CHECK(score(score_text("lighthouse lighthouse", {answers.begin(), 1}), "f1") == Approx(2.0 / 4));
  CHECK(score(score_text("", answers), "f1") == 0);
}

TEST_CASE("the lower bound is Wilson's", "[runtime][eval]") {
  // Figures from the formula by hand: 22 of 22, 0 of 10, 11 of 22.
  CHECK(wilson_lower_bound(22, 22) == Approx(0.8513).margin(1e-4));
  CHECK(wilson_lower_bound(0, 10) == Approx(0).margin(1e-12));
  CHECK(wilson_lower_bound(11, 22) == Approx(0.3072).margin(1e-4));
  CHECK(wilson_lower_bound(0, 0) == 0);
}

TEST_CASE("each task makes items that its own score finds right", "[runtime][eval]") {
  for (const EvalTask& task : eval_tasks()) {
    if (task.make == nullptr) continue;
    INFO(task.name);
    EvalRandom random(7);
    for (int i = 0; i < 200; ++i) {
      const EvalItem item = task.make(random);
      REQUIRE_FALSE(item.sentences.empty());
      REQUIRE_FALSE(item.answers.empty());
      CHECK(item.answer_prefix.back() == ' ');
      std::string reply;
      for (const std::string& answer : item.answers) reply += (reply.empty() ? "" : ", ") + answer;
      CHECK(task.score(reply, item.answers).front().value == 1);
      CHECK(task.score("no idea", item.answers).front().value == 0);
    }
  }
}

TEST_CASE("what is asked can be read off the hidden sentences", "[runtime][eval]") {
  EvalRandom random(3);
  for (int i = 0; i < 100; ++i) {
    const EvalItem key = find_eval_task("multikey")->make(random);
    const std::string city = key.question.substr(key.question.rfind(' ') + 1);
    CHECK(key.sentences.front().find(city.substr(0, city.size() - 1)) != std::string::npos);
    CHECK(key.sentences.front().find(key.answers.front()) != std::string::npos);
    CHECK(key.sentences.size() == 4);

    const EvalItem hops = find_eval_task("vartrack")->make(random);
    CHECK(hops.sentences[0].find(hops.answers[0]) != std::string::npos);
    CHECK(hops.sentences[1].find("The value of " + hops.question.substr(21, 1) + " is the same") == 0);

    const EvalItem bell = find_eval_task("count")->make(random);
    CHECK(std::to_string(bell.sentences.size()) == bell.answers.front());
  }
}
