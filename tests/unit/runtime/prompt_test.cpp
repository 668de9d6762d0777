// Prompt layout: the text's tokens never depend on the question, and people's words never become special tokens.
#include "src/runtime/prompt.hpp"

#include <catch2/catch.hpp>

#include "tests/support/tiny_model.hpp"

using namespace lcrun;
using namespace lcrun::runtime;
using namespace lcrun::testing;

namespace {

constexpr const char* kTemplate =
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
constexpr const char* kTrimmingTemplate =
    "{% for m in messages %}{{ '[' + m['role'] + ']' + m['content'] | trim + '[/]' }}{% endfor %}";

std::shared_ptr<const text::Tokenizer> tiny_tokenizer() {
  const auto file = open_tiny(tiny_recipe({}));
  auto tokenizer = text::Tokenizer::load(*file);
  REQUIRE(tokenizer.has_value());
  return std::move(tokenizer).value();
}

PromptLayout layout(bool chat, const char* source) {
  auto made = PromptLayout::create(tiny_tokenizer(), chat, source);
  INFO((made.has_value() ? std::string() : made.error().message));
  REQUIRE(made.has_value());
  return std::move(made).value();
}

bool starts_with(const std::vector<Token>& tokens, const std::vector<Token>& prefix) {
  return tokens.size() >= prefix.size() && std::equal(prefix.begin(), prefix.end(), tokens.begin());
}

const std::string kText = "In the beginning there was the text.\nIt had lines, and an end.\n\n";

}  // namespace

TEST_CASE("the tokens of the text are a prefix of every question's prompt", "[runtime][prompt]") {
  const char* questions[] = {"Why?", " ", "x", "what is the\nmeaning", "  leading blanks", "the the the", "\n\nwhy"};
  for (const bool chat : {true, false}) {
    for (const char* source : {kTemplate, kTrimmingTemplate}) {
      const PromptLayout lay = layout(chat, source);
      const auto text = lay.text_part({kText, "", "", ""});
      REQUIRE(text.has_value());
      REQUIRE_FALSE(text->empty());
      for (const char* question : questions) {
        if (chat && std::string(question) == " ") continue;  // no question at all
        INFO(question);
        const auto prompt = lay.single({kText, question, "", ""});
        REQUIRE(prompt.has_value());
        CHECK(starts_with(*prompt, *text));
        CHECK(prompt->size() > text->size());
      }
    }
  }
}

TEST_CASE("text, blank line, question is what the tokens say", "[runtime][prompt]") {
  const auto tokenizer = tiny_tokenizer();
  const auto plain = layout(false, "").single({kText, "Why?", "", ""});
  REQUIRE(plain.has_value());
  CHECK(tokenizer->decode(*plain, true) == "In the beginning there was the text.\nIt had lines, and an end.\n\nWhy?");
  const auto chat = layout(true, kTrimmingTemplate).single({kText, "Why?", "It is", "Be brief."});
  REQUIRE(chat.has_value());
  CHECK(tokenizer->decode(*chat, true) ==
        "[system]Be brief.[/][user]In the beginning there was the text.\nIt had lines, and an end.\n\nWhy?[/]It is");
}

TEST_CASE("a prompt without template and file is the text itself", "[runtime][prompt]") {
  const auto tokenizer = tiny_tokenizer();
  const auto prompt = layout(false, "").single({"", "the hat", "", ""});
  REQUIRE(prompt.has_value());
  CHECK(*prompt == tokenizer->encode("the hat", true, true));
}

TEST_CASE("nothing to read is an invalid argument", "[runtime][prompt]") {
  const auto prompt = layout(true, kTemplate).single({});
  REQUIRE_FALSE(prompt.has_value());
  CHECK(prompt.error().code == Code::kInvalidArgument);
}

TEST_CASE("a template that cannot be parsed says how to go without it", "[runtime][prompt]") {
  const auto made = PromptLayout::create(tiny_tokenizer(), true, "{% for %}");
  REQUIRE_FALSE(made.has_value());
  CHECK(made.error().message.find("-no-cnv") != std::string::npos);
}

TEST_CASE("the next turn adds only what is new", "[runtime][prompt]") {
  const auto tokenizer = tiny_tokenizer();
  const PromptLayout lay = layout(true, kTemplate);
  std::vector<text::ChatMessage> messages = {{"user", "hat"}};
  std::string rendered;
  const auto first = lay.next_turn(messages, rendered);
  REQUIRE(first.has_value());
  CHECK(first->from_start);
  CHECK(tokenizer->decode(first->tokens, true) == "<|im_start|>user\nhat<|im_end|>\n<|im_start|>assistant\n");
  rendered += "cat";
  messages.push_back({"assistant", "cat"});
  messages.push_back({"user", "why"});
  const auto second = lay.next_turn(messages, rendered);
  REQUIRE(second.has_value());
  CHECK_FALSE(second->from_start);
  CHECK(tokenizer->decode(second->tokens, true) ==
        "<|im_end|>\n<|im_start|>user\nwhy<|im_end|>\n<|im_start|>assistant\n");
  // A history that was changed is laid out anew.
  messages[0].content = "other";
  messages.push_back({"user", "again"});
  const auto third = lay.next_turn(messages, rendered);
  REQUIRE(third.has_value());
  CHECK(third->from_start);
}

TEST_CASE("escapes in -p become what they stand for", "[runtime][prompt]") {
  CHECK(process_escapes(R"(a\nb\t\"c\"\\d\q\)") == "a\nb\t\"c\"\\d\\q\\");
}
