// Evaluations over tiny models: exact prompts, and results that depend on nothing but the case.
#include "src/runtime/evaluation.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <set>

#include "src/kernels/ops.hpp"
#include "src/runtime/eval_sharing.hpp"
#include "storage/sim_device.hpp"
#include "tests/support/memory_files.hpp"
#include "tests/support/tiny_session.hpp"

using namespace lcrun;
using namespace lcrun::runtime;
using namespace lcrun::testing;
using lcrun::test::MemoryFiles;

namespace {

struct Tiny {
  std::shared_ptr<const model::Model> model;
  std::shared_ptr<const text::Tokenizer> tokenizer;
  MemoryFiles files;

  explicit Tiny(const std::string& arch = "llama") : model(load_tiny(arch)) {
    auto loaded = text::Tokenizer::load(model->file());
    REQUIRE(loaded.has_value());
    tokenizer = std::move(loaded).value();
  }

  PromptLayout layout(bool chat = false) const {
    auto made = PromptLayout::create(tokenizer, chat, "");
    REQUIRE(made.has_value());
    return std::move(made).value();
  }

  Result<Evaluation> evaluation(const EvalRequest& request, bool chat = false, const std::string& haystack = "prose") {
    LCRUN_ASSIGN(const auto source, read_eval_source(files, request, haystack, "qa.jsonl"));
    return Evaluation::create(request, source, tokenizer, layout(chat));
  }

  SessionOpener opener(int64_t* opened = nullptr) const {
    return [this, opened](int64_t n_ctx) {
      if (opened != nullptr) ++*opened;
      auto options = tiny_session_options();
      options.n_ctx = n_ctx;
      return Session::open(model, options);
    };
  }

  void put(const std::string& path, const std::string& text) {
    const auto bytes = std::as_bytes(std::span(text));
    files.put(path, {bytes.begin(), bytes.end()});
  }
};

EvalRequest request_for(const char* task) {
  EvalRequest request;
  request.task = find_eval_task(task);
  request.lengths = {800, 1200};
  request.depths = {0, 50, 100};
  request.seeds = 2;
  return request;
}

std::vector<EvalCase> all_cases(const std::vector<EvalBatch>& batches) {
  std::vector<EvalCase> all;
  for (const EvalBatch& batch : batches) all.insert(all.end(), batch.cases.begin(), batch.cases.end());
  return all;
}

EvalRecords run_all(const Evaluation& evaluation, const SessionOpener& open, const EvalRecords& done = {}) {
  EvalRecords records = done;
  const auto keep = [&](const EvalRecord& record) -> Status {
    CHECK(records.insert({record.key, record}).second);
    return {};
  };
  const Status run = evaluation.run("dense", done, open, keep);
  INFO((run.has_value() ? std::string() : run.error().message));
  REQUIRE(run.has_value());
  return records;
}

void check_same_answers(const EvalRecords& a, const EvalRecords& b) {
  REQUIRE(a.size() == b.size());
  for (const auto& [key, record] : a) {
    REQUIRE(b.count(key) == 1);
    CHECK(b.at(key).reply == record.reply);
    CHECK(b.at(key).scores == record.scores);
    CHECK(b.at(key).answers == record.answers);
  }
}

}  // namespace

TEST_CASE("prompts are as long as they should be and hold what they hide", "[runtime][eval]") {
  const Tiny tiny;
  for (const EvalTask& task : eval_tasks()) {
    if (task.kind != EvalKind::kHidden) continue;
    for (const bool chat : {false, true}) {
      EvalRequest request = request_for(task.name.data());
      request.lengths = {3000};
      const auto haystack = Haystack::create(*tiny.tokenizer, std::string(20000, 'x'), "text", 3000);
      REQUIRE(haystack.has_value());
      const auto batches = hidden_cases(request, *tiny.tokenizer, tiny.layout(chat), *haystack);
      INFO(task.name << (batches.has_value() ? "" : batches.error().message));
      REQUIRE(batches.has_value());
      const auto cases = all_cases(*batches);
      CHECK(cases.size() == (task.has_depth ? 6U : 2U));
      for (const EvalCase& made : cases) {
        const std::vector<Token> prompt = made.prompt();
        CHECK(static_cast<int64_t>(prompt.size()) == 3000);
        CHECK(made.prompt_tokens() == 3000);
        const std::string text = tiny.tokenizer->decode(prompt, true);
        CHECK(text.find(kEvalIntroduction) != std::string::npos);
        CHECK(text.find("\n\n") != std::string::npos);
        for (const std::string& answer : made.answers) {
          if (task.name != "count") CHECK(text.find(answer) != std::string::npos);
        }
        CHECK(std::equal(prompt.begin(), prompt.begin() + made.first_changed(), made.base->begin()));
      }
    }
  }
}

TEST_CASE("cases differ by seed and depth, and repeat themselves", "[runtime][eval]") {
  Tiny tiny;
  const EvalRequest request = request_for("passkey");
  const auto haystack = Haystack::create(*tiny.tokenizer, std::string(9000, 'x'), "text", 1200);
  REQUIRE(haystack.has_value());
  const auto make = [&](const EvalRequest& one) {
    auto batches = hidden_cases(one, *tiny.tokenizer, tiny.layout(), *haystack);
    REQUIRE(batches.has_value());
    return all_cases(*batches);
  };
  const auto cases = make(request);
  REQUIRE(cases.size() == 12);
  std::set<std::string> keys;
  for (const EvalCase& one : cases) keys.insert(one.answers.front());
  CHECK(keys.size() == 12);
  for (const EvalCase& one : cases) {
    EvalRequest alone = request;
    alone.lengths = {one.key.length};
    alone.depths = {one.key.depth};
    alone.first_seed = one.key.seed;
    alone.seeds = 1;
    const auto again = make(alone);
    REQUIRE(again.size() == 1);
    CHECK(again[0].prompt() == one.prompt());
    CHECK(again[0].answers == one.answers);
  }
}

TEST_CASE("cases of a length read the text once, from the last change to the first", "[runtime][eval]") {
  Tiny tiny;
  const auto evaluation = tiny.evaluation(request_for("passkey"));
  REQUIRE(evaluation.has_value());
  int64_t opened = 0;
  int64_t last_read = 0;
  int64_t last_total = 0;
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;
  const auto keep = [&](const EvalRecord& record) -> Status {
    prompt_tokens += record.prompt_tokens;
    cached_tokens += record.cached_tokens;
    return {};
  };
  const auto progress = [&](int64_t read, int64_t total) {
    CHECK(read >= last_read);
    last_read = read;
    last_total = total;
    return true;
  };
  REQUIRE(evaluation->run("dense", {}, tiny.opener(&opened), keep, progress).has_value());
  CHECK(opened == 2);
  CHECK(last_total == evaluation->tokens_to_read("dense", {}));
  CHECK(last_read <= last_total);
  CHECK(prompt_tokens == 6 * 800 + 6 * 1200);
  // Neighbours may begin their sentences alike at the same place: a few tokens less.
  CHECK(prompt_tokens - cached_tokens <= last_total);
  CHECK(prompt_tokens - cached_tokens > last_total - 200);
  // Depths 0, 50 and 100 %, twice each: (1 + 0 + .5 + .5 + 1 + 1) readings, give or take what is moved by chance.
  CHECK(static_cast<double>(last_total) < 0.75 * static_cast<double>(prompt_tokens));
}

TEST_CASE("a case's result is its own, whatever ran before it", "[runtime][eval]") {
  // Cases of gemma3, whose tiny layers all have windows, share one reading; those of the others read on from prefixes.
  for (const char* arch : {"llama", "gemma2", "gemma3", "mamba2"}) {
    for (const char* task : {"passkey", "multikey"}) {
      CAPTURE(arch, task);
      Tiny tiny(arch);
      EvalRequest request = request_for(task);
      request.lengths = {2000};
      const auto evaluation = tiny.evaluation(request);
      REQUIRE(evaluation.has_value());
      const EvalRecords together = run_all(*evaluation, tiny.opener());
      EvalRecords alone;
      for (const EvalKey& key : evaluation->keys("dense")) {
        EvalRequest one = request;
        one.lengths = {key.length};
        one.depths = {key.depth};
        one.first_seed = key.seed;
        one.seeds = 1;
        const auto single = tiny.evaluation(one);
        REQUIRE(single.has_value());
        for (auto& [found, record] : run_all(*single, tiny.opener())) alone.insert({found, record});
      }
      check_same_answers(together, alone);
      int64_t read = 0;
      for (const auto& [key, record] : together) read += record.prompt_tokens - record.cached_tokens;
      const bool shares = std::string(arch) == "gemma3";
      CHECK((read < evaluation->tokens_to_read("dense", {}) / 2) == shares);
    }
  }
}

TEST_CASE("under a cap a shared reading leaves memory for its forks", "[runtime][eval]") {
  Tiny tiny("gemma3");
  EvalRequest request = request_for("passkey");
  request.lengths = {2000};
  const auto haystack = Haystack::create(*tiny.tokenizer, std::string(15000, 'x'), "text", 2000);
  REQUIRE(haystack.has_value());
  const auto batches = hidden_cases(request, *tiny.tokenizer, tiny.layout(), *haystack);
  REQUIRE(batches.has_value());
  const std::vector<EvalCase> cases = all_cases(*batches);
  for (const uint64_t cap : {uint64_t{0}, uint64_t{1} << 30, uint64_t{1} << 16}) {
    CAPTURE(cap);
    auto session = tiny.opener()(3000);
    REQUIRE(session.has_value());
    REQUIRE(session->limit_state(cap).has_value());
    SharedReading sharing(*session, cases);
    CHECK(sharing.is_worth_it() == (cap != uint64_t{1} << 16));
    if (!sharing.is_worth_it()) continue;
    REQUIRE(sharing.read({}).has_value());
    CHECK((session->mark_bytes() == 0) == (cap != 0));
  }
}

TEST_CASE("cases share a reading that is paged if what they read again has room for its index", "[runtime][eval]") {
  Tiny tiny("gemma2");  // some layers see everything
  EvalRequest request = request_for("passkey");
  request.lengths = {6000};
  const auto haystack = Haystack::create(*tiny.tokenizer, std::string(60000, 'x'), "text", 6000);
  REQUIRE(haystack.has_value());
  const auto batches = hidden_cases(request, *tiny.tokenizer, tiny.layout(), *haystack);
  REQUIRE(batches.has_value());
  const std::vector<EvalCase> cases = all_cases(*batches);
  std::vector<bool> shares;
  for (const uint64_t wanted : {uint64_t{0}, uint64_t{192} << 20}) {
    CAPTURE(wanted);
    auto options = tiny_session_options();
    options.n_ctx = 1 << 18;  // far more than fits
    options.policy = {"select", "auto", 256};
    options.paging.spare_bytes = wanted;
    options.paging.open_device = []() -> Result<std::unique_ptr<storage::BlockDevice>> {
      storage::SimConfig config;
      config.capacity = uint64_t{64} << 20;
      return std::unique_ptr<storage::BlockDevice>(std::make_unique<storage::SimDevice>(config));
    };
    std::optional<Session> session;
    for (options.max_state_bytes = 65536; !session.has_value(); options.max_state_bytes += 16384) {
      auto made = Session::open(tiny.model, options);
      if (made.has_value() && made->page_store() != nullptr) session.emplace(std::move(made).value());
    }
    SharedReading sharing(*session, cases);
    shares.push_back(sharing.is_worth_it());
    if (!sharing.is_worth_it()) continue;
    REQUIRE(sharing.read({}).has_value());
    for (const EvalCase& made : cases) REQUIRE(sharing.go_to(made, {}).has_value());
    CHECK(session->state_bytes() <= session->options().max_state_bytes);
  }
  CHECK(shares == std::vector<bool>{false, true});
}

TEST_CASE("progress of cases that share a reading ends where it should", "[runtime][eval]") {
  Tiny tiny("gemma3");
  EvalRequest request = request_for("vartrack");
  request.lengths = {2500};
  request.depths = {0, 30, 70, 100};
  const auto evaluation = tiny.evaluation(request);
  REQUIRE(evaluation.has_value());
  auto cases = 0;
  int64_t last = 0;
  const auto progress = [&](int64_t read, int64_t total) {
    CHECK(read >= last);
    CHECK(read <= total);
    last = read;
    return true;
  };
  const auto count = [&](const EvalRecord& record) -> Status {
    ++cases;
    CHECK(record.prompt_tokens == 2500);
    CHECK(record.cached_tokens >= 0);
    CHECK(record.prefill_ms > 0);
    return {};
  };
  REQUIRE(evaluation->run("dense", {}, tiny.opener(), count, progress).has_value());
  CHECK(cases == 8);
  CHECK(last == evaluation->tokens_to_read("dense", {}));
}

TEST_CASE("a stopped evaluation goes on where it was", "[runtime][eval]") {
  Tiny tiny;
  for (const char* task : {"passkey", "words", "ppl"}) {
    INFO(task);
    const auto evaluation = tiny.evaluation(request_for(task));
    REQUIRE(evaluation.has_value());
    const EvalRecords whole = run_all(*evaluation, tiny.opener());
    CHECK(whole.size() == evaluation->keys("dense").size());
    for (size_t stop = 0; stop <= whole.size(); ++stop) {
      EvalRecords some;
      const auto keep = [&](const EvalRecord& record) -> Status {
        if (some.size() == stop) return make_error(Code::kCancelled, "stopped");
        some.insert({record.key, record});
        return {};
      };
      CHECK(evaluation->run("dense", {}, tiny.opener(), keep).has_value() == (stop == whole.size()));
      REQUIRE(some.size() == stop);
      int64_t opened = 0;
      check_same_answers(run_all(*evaluation, tiny.opener(&opened), some), whole);
      if (stop == whole.size()) CHECK(opened == 0);
    }
    CHECK(evaluation->tokens_to_read("dense", whole) == 0);
    CHECK(evaluation->tokens_to_read("stream", whole) > 0);
  }
}

TEST_CASE("progress can stop an evaluation", "[runtime][eval]") {
  Tiny tiny;
  for (const char* task : {"passkey", "ppl"}) {
    const auto evaluation = tiny.evaluation(request_for(task));
    REQUIRE(evaluation.has_value());
    const auto keep = [](const EvalRecord&) -> Status { return {}; };
    const Status run =
        evaluation->run("dense", {}, tiny.opener(), keep, [](int64_t read, int64_t) { return read < 900; });
    REQUIRE_FALSE(run.has_value());
    CHECK(run.error().code == Code::kCancelled);
  }
}

TEST_CASE("likelihood by position is the mean over the tokens before each length", "[runtime][eval]") {
  Tiny tiny;
  EvalRequest request = request_for("ppl");
  request.lengths = {200, 700, 2000};
  const auto evaluation = tiny.evaluation(request);
  REQUIRE(evaluation.has_value());
  const EvalRecords records = run_all(*evaluation, tiny.opener());
  REQUIRE(records.size() == 6);
  const auto source = read_eval_source(tiny.files, request, "prose", "");
  REQUIRE(source.has_value());
  const auto haystack =
      Haystack::create(*tiny.tokenizer, source->text, "prose", likelihood_tokens(2000, request.last_seed()));
  REQUIRE(haystack.has_value());
  for (const int64_t seed : {1, 2}) {
    const auto tokens = likelihood_text(*tiny.tokenizer, *haystack, 2000, seed);
    REQUIRE(tokens.size() == 2000);
    auto options = tiny_session_options();
    options.n_ctx = 2000;
    auto session = open_tiny_session(tiny.model, options);
    std::vector<double> nll;  // of token i + 1
    const auto sink = [&](int64_t pos, std::span<const float> logits) -> Status {
      if (pos + 1 == 2000) return {};
      const auto next = static_cast<size_t>(tokens[static_cast<size_t>(pos + 1)]);
      nll.push_back(kernels::log_sum_exp(logits.data(), static_cast<int64_t>(logits.size())) -
                    static_cast<double>(logits[next]));
      return {};
    };
    REQUIRE(session.score(tokens, 2000, sink).has_value());
    const auto mean = [&](size_t first, size_t last) {  // of tokens first .. last - 1
      double sum = 0;
      for (size_t i = first; i < last; ++i) sum += nll[i - 1];
      return sum / static_cast<double>(last - first);
    };
    const auto score = [&](int64_t length) { return records.at({"dense", length, -1, seed, -1}).scores; };
    CHECK(score(200)[0].second == Approx(mean(1, 200)).epsilon(1e-6));
    CHECK(score(700)[0].second == Approx(mean(201, 700)).epsilon(1e-6));
    CHECK(score(2000)[0].second == Approx(mean(977, 2000)).epsilon(1e-6));
    CHECK(score(2000)[1].second == Approx(std::exp(score(2000)[0].second)));
  }
  const auto one = likelihood_text(*tiny.tokenizer, *haystack, 500, 1);
  const auto other = likelihood_text(*tiny.tokenizer, *haystack, 500, 2);
  CHECK(one != other);
}

TEST_CASE("questions come from a file of lines, their texts from files beside it", "[runtime][eval]") {
  Tiny tiny;
  tiny.put("dir/a.txt", "The dog was brown. The cat was black.\n");
  tiny.put("dir/qa.jsonl",
           "{\"file\": \"a.txt\", \"question\": \"What was the dog?\", \"answers\": [\"brown\"]}\n\n"
           "{\"file\": \"a.txt\", \"question\": \"And the cat?\", \"answers\": [\"black\", \"dark\"]}\r\n"
           "{\"text\": \"No dog.\", \"question\": \"Dog?\", \"answers\": [\"no\"], \"answer_prefix\": \"It is \"}");
  const auto questions = read_questions(tiny.files, "dir/qa.jsonl");
  INFO((questions.has_value() ? std::string() : questions.error().message));
  REQUIRE(questions.has_value());
  REQUIRE(questions->size() == 3);
  CHECK((*questions)[1].text == (*questions)[0].text);
  CHECK((*questions)[1].answers.size() == 2);
  CHECK((*questions)[2].answer_prefix == "It is ");

  const EvalRequest request = request_for("qa");
  const auto batches = question_cases(request, *tiny.tokenizer, tiny.layout(), *questions);
  REQUIRE(batches.has_value());
  REQUIRE(batches->size() == 1);
  const auto& cases = batches->front().cases;
  CHECK(cases[0].base == cases[1].base);
  CHECK(cases[2].base != cases[1].base);
  for (const EvalCase& one : cases) CHECK(one.prompt_tokens() + request.task->n_predict <= batches->front().n_ctx);
  const std::string prompt = tiny.tokenizer->decode(cases[1].prompt(), true);
  CHECK(prompt.find("The cat was black.\n\nAnd the cat?\nAnswer:") != std::string::npos);
}

TEST_CASE("files of questions that are none are refused by line", "[runtime][eval]") {
  Tiny tiny;
  const std::string good = "{\"text\": \"x\", \"question\": \"y\", \"answers\": [\"z\"]}\n";
  struct Row {
    std::string contents;
    const char* message;
  };
  for (const Row& row : {
           Row{"", "no questions"},
           Row{"\n \n", "no questions"},
           Row{good + "not json\n", "line 2"},
           Row{good + "[1]\n", "line 2"},
           Row{good + "{\"text\": \"x\", \"answers\": [\"z\"]}", "line 2"},
           Row{good + "{\"question\": \"x\", \"answers\": [\"z\"]}", "line 2"},
           Row{good + "{\"text\": \"x\", \"question\": \"y\"}", "answers"},
           Row{good + "{\"text\": \"x\", \"question\": \"y\", \"answers\": []}", "answers"},
           Row{good + "{\"text\": \"x\", \"question\": \"y\", \"answers\": [1]}", "answers"},
           Row{good + "{\"text\": \"\", \"question\": \"y\", \"answers\": [\"z\"]}", "empty"},
           Row{good + "{\"file\": \"gone\", \"question\": \"y\", \"answers\": [\"z\"]}", "gone"},
       }) {
    tiny.put("qa.jsonl", row.contents);
    const auto questions = read_questions(tiny.files, "qa.jsonl");
    INFO(row.contents);
    REQUIRE_FALSE(questions.has_value());
    CHECK(questions.error().message.find(row.message) != std::string::npos);
  }
}

TEST_CASE("a haystack from a file must be long enough", "[runtime][eval]") {
  Tiny tiny;
  tiny.put("hay.txt", "A short text. It ends soon.\n");
  const auto evaluation = tiny.evaluation(request_for("needle"), false, "hay.txt");
  REQUIRE_FALSE(evaluation.has_value());
  CHECK(evaluation.error().code == Code::kInvalidArgument);
  CHECK(evaluation.error().message.find("hay.txt") != std::string::npos);
  CHECK_FALSE(tiny.evaluation(request_for("needle"), false, "gone.txt").has_value());
}

TEST_CASE("lengths without room for what is hidden are refused by name", "[runtime][eval]") {
  Tiny tiny;
  EvalRequest request = request_for("multikey");
  request.lengths = {200, 1200};
  const auto evaluation = tiny.evaluation(request);
  REQUIRE_FALSE(evaluation.has_value());
  CHECK(evaluation.error().message.find("--lengths 200") != std::string::npos);
}
