#include "src/runtime/eval_cases.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "src/base/format.hpp"

namespace lcrun::runtime {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kMaxQuestionBytes = uint64_t{1} << 30;
constexpr uint64_t kMaxTextBytes = uint64_t{4} << 30;
constexpr const char* kPlainPrefix = "Answer:";  // of questions without one of their own

// The answer's prefix as this tokenizer wants it: its last blank stays where digits and words follow a blank as tokens
// of their own, and goes where a token begins with its blank.
struct Prefix {
  std::string text;
  bool adds_blank = false;
};

Prefix prefix_for(const text::Tokenizer& tokenizer, const std::string& prefix, const std::string& answer) {
  if (prefix.empty() || prefix.back() != ' ') return {prefix, false};
  const auto tokens = [&](const std::string& text) {
    const text::Span span{text, false};
    return tokenizer.encode_continuation({&span, 1});
  };
  const auto apart = tokens(prefix);
  const auto together = tokens(prefix + answer);
  const bool stays = together.size() > apart.size() && std::equal(apart.begin(), apart.end(), together.begin());
  if (stays) return {prefix, false};
  return {prefix.substr(0, prefix.size() - 1), true};
}

uint64_t number_of(std::string_view name) {
  uint64_t number = 1469598103934665603ULL;  // FNV-1a
  for (const char c : name) number = (number ^ static_cast<uint8_t>(c)) * 1099511628211ULL;
  return number;
}

Status finish_case(const EvalRequest& request, const text::Tokenizer& tokenizer, const PromptLayout& layout,
                   const EvalItem& item, EvalCase& made) {
  std::string wanted = request.answer_prefix.value_or(item.answer_prefix);
  // Without a template, layout is all that tells a question from its answer.
  const bool is_plain = !layout.is_chat();
  if (is_plain && wanted.empty()) wanted = kPlainPrefix;
  const Prefix prefix = prefix_for(tokenizer, wanted, item.answers.front());
  made.adds_blank = prefix.adds_blank;
  made.answers = item.answers;
  made.asked = item.question;
  const std::string question = is_plain ? item.question + "\n" : item.question;
  LCRUN_ASSIGN(made.question, layout.question_part(question, request.system, prefix.text));
  return {};
}

Result<EvalQuestion> question_of(FileSystem& fs, const std::string& folder, const std::string& line) {
  const Json json = Json::parse(line, nullptr, false);
  if (!json.is_object()) return make_error(Code::kInvalidArgument, "wanted a JSON object");
  const auto has_text = [&](const char* key) { return json.contains(key) && json.at(key).is_string(); };
  if (!has_text("question") || (!has_text("file") && !has_text("text"))) {
    return make_error(Code::kInvalidArgument, "wanted \"question\" and \"file\" or \"text\"");
  }
  const bool has_answers = json.contains("answers") && json.at("answers").is_array() && !json.at("answers").empty();
  EvalQuestion made;
  for (const Json& answer : has_answers ? json.at("answers") : Json::array()) {
    if (answer.is_string() && !answer.get<std::string>().empty()) made.answers.push_back(answer.get<std::string>());
  }
  if (!has_answers || made.answers.size() != json.at("answers").size()) {
    return make_error(Code::kInvalidArgument, "wanted \"answers\", a list of texts that is not empty");
  }
  made.question = json.at("question").get<std::string>();
  if (has_text("answer_prefix")) made.answer_prefix = json.at("answer_prefix").get<std::string>();
  if (has_text("text")) {
    made.text = json.at("text").get<std::string>();
  } else {
    const std::string file = json.at("file").get<std::string>();
    LCRUN_ASSIGN(made.text, read_text_file(fs, file.empty() || file[0] == '/' ? file : folder + file, kMaxTextBytes));
  }
  if (made.text.empty()) return make_error(Code::kInvalidArgument, "the text is empty");
  return made;
}

Result<std::vector<Token>> text_tokens(const PromptLayout& layout, const std::string& text, const std::string& system) {
  LCRUN_ASSIGN(auto tokens, layout.text_part({text, "", "", system}));
  if (tokens.empty()) {
    return make_error(Code::kUnsupported,
                      "the chat template rewrites the text, which must lie in the prompt as it is; "
                      "supported: -no-cnv, or another --chat-template");
  }
  return tokens;
}

// Cases that hide sentences in one haystack.
struct HiddenMaker {
  const EvalRequest& request;
  const text::Tokenizer& tokenizer;
  const PromptLayout& layout;
  const Haystack& haystack;
  std::shared_ptr<const std::vector<Token>> base;  // what precedes the haystack, and the haystack
  int64_t n_before = 0;                            // tokens of the former

  Result<EvalCase> make(const EvalKey& key) const {
    EvalRandom random = EvalRandom::of({number_of(request.task->name), static_cast<uint64_t>(key.length),
                                        static_cast<uint64_t>(key.depth + 1), static_cast<uint64_t>(key.seed)});
    const EvalItem item = request.task->make(random);
    EvalCase made;
    made.key = key;
    made.base = base;
    LCRUN_TRY(finish_case(request, tokenizer, layout, item, made));
    made.n_text = key.length - static_cast<int64_t>(made.question.size());
    std::vector<HiddenSentence> sentences;
    for (const std::string& sentence : item.sentences) sentences.emplace_back(tokenizer, sentence);
    const double depth = static_cast<double>(key.depth) / 100;
    auto places = place_sentences(haystack, made.n_text - n_before, sentences, depth, random);
    if (!places.has_value()) {
      return make_error(places.error().code, "--lengths {}: {}", key.length, places.error().message);
    }
    made.hidden = std::move(places).value();
    for (Replacement& replacement : made.hidden) replacement.at += n_before;
    return made;
  }
};

}  // namespace

int64_t EvalCase::first_changed() const {
  int64_t first = n_text;
  for (const Replacement& replacement : hidden) first = std::min(first, replacement.at);
  return first;
}

std::vector<Token> EvalCase::prompt() const {
  std::vector<Token> tokens(base->begin(), base->begin() + n_text);
  for (const Replacement& replacement : hidden) {
    std::copy(replacement.tokens.begin(), replacement.tokens.end(), tokens.begin() + replacement.at);
  }
  tokens.insert(tokens.end(), question.begin(), question.end());
  return tokens;
}

std::vector<int64_t> EvalRequest::task_depths() const { return task->has_depth ? depths : std::vector<int64_t>{-1}; }

int64_t EvalRequest::longest() const { return *std::max_element(lengths.begin(), lengths.end()); }

Result<std::vector<EvalQuestion>> read_questions(FileSystem& fs, const std::string& path) {
  LCRUN_ASSIGN(const std::string all, read_text_file(fs, path, kMaxQuestionBytes));
  const size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "" : path.substr(0, slash + 1);
  std::vector<EvalQuestion> questions;
  int64_t number = 0;
  for (size_t at = 0; at < all.size();) {
    const size_t end = std::min(all.find('\n', at), all.size());
    const std::string line = all.substr(at, end - at);
    at = end + 1;
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    auto question = question_of(fs, folder, line);
    if (!question.has_value()) {
      return make_error(question.error().code, "{}, line {}: {}", path, number, question.error().message);
    }
    questions.push_back(std::move(question).value());
  }
  if (questions.empty()) return make_error(Code::kInvalidArgument, "{}: there are no questions", path);
  return questions;
}

Result<std::vector<EvalBatch>> hidden_cases(const EvalRequest& request, const text::Tokenizer& tokenizer,
                                            const PromptLayout& layout, const Haystack& haystack) {
  LCRUN_ASSIGN(auto before, text_tokens(layout, std::string(kEvalIntroduction), request.system));
  const text::Span blank_line{"\n\n", false};
  const auto blank_tokens = tokenizer.encode_continuation({&blank_line, 1});
  before.insert(before.end(), blank_tokens.begin(), blank_tokens.end());
  HiddenMaker maker{request, tokenizer, layout, haystack, nullptr, static_cast<int64_t>(before.size())};
  before.insert(before.end(), haystack.tokens().begin(), haystack.tokens().end());
  maker.base = std::make_shared<const std::vector<Token>>(std::move(before));

  std::vector<EvalBatch> batches;
  for (const int64_t length : request.lengths) {
    EvalBatch batch;
    batch.n_ctx = length + request.task->n_predict;
    for (const int64_t depth : request.task_depths()) {
      for (int64_t seed = request.first_seed; seed < request.first_seed + request.seeds; ++seed) {
        LCRUN_ASSIGN(auto made, maker.make({"", length, depth, seed, -1}));
        batch.cases.push_back(std::move(made));
      }
    }
    std::stable_sort(batch.cases.begin(), batch.cases.end(),
                     [](const EvalCase& a, const EvalCase& b) { return a.first_changed() > b.first_changed(); });
    batches.push_back(std::move(batch));
  }
  return batches;
}

Result<std::vector<EvalBatch>> question_cases(const EvalRequest& request, const text::Tokenizer& tokenizer,
                                              const PromptLayout& layout, std::span<const EvalQuestion> questions) {
  EvalBatch batch;
  for (size_t i = 0; i < questions.size(); ++i) {
    const EvalQuestion& question = questions[i];
    EvalCase made;
    made.key = {"", 0, -1, 0, static_cast<int64_t>(i)};
    const bool same_text = i > 0 && questions[i - 1].text == question.text;
    if (same_text) {
      made.base = batch.cases.back().base;
    } else {
      LCRUN_ASSIGN(auto tokens, text_tokens(layout, question.text, request.system));
      made.base = std::make_shared<const std::vector<Token>>(std::move(tokens));
    }
    made.n_text = static_cast<int64_t>(made.base->size());
    const EvalItem item{{}, question.question, question.answer_prefix, question.answers};
    LCRUN_TRY(finish_case(request, tokenizer, layout, item, made));
    batch.n_ctx = std::max(batch.n_ctx, made.prompt_tokens() + request.task->n_predict);
    batch.cases.push_back(std::move(made));
  }
  return std::vector<EvalBatch>{std::move(batch)};
}

int64_t tokens_to_read(std::span<const EvalCase> cases) {
  int64_t tokens = 0;
  for (size_t i = 0; i < cases.size(); ++i) {
    const EvalCase& made = cases[i];
    const bool shares = i > 0 && cases[i - 1].base == made.base;
    const int64_t kept = shares ? std::min(made.first_changed(), cases[i - 1].first_changed()) : 0;
    tokens += made.prompt_tokens() - kept;
  }
  return tokens;
}

}  // namespace lcrun::runtime
