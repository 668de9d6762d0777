// GBNF: what is accepted, what is refused, masks against plain acceptance, and hostile grammars.
#include "src/text/grammar.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>

#include "src/base/format.hpp"

#define LLVMFuzzerTestOneInput fuzz_gbnf_entry
#include "tests/fuzz/fuzz_gbnf.cpp"
#undef LLVMFuzzerTestOneInput

using namespace lcrun;
using namespace lcrun::text;

namespace {
const std::vector<std::string>& byte_pieces() { return pieces(); }

std::shared_ptr<const Grammar> parsed(std::string_view source) {
  auto grammar = Grammar::parse_gbnf(source);
  if (!grammar) FAIL(grammar.error().message);
  return *grammar;
}

bool matches(std::string_view source, std::string_view text) {
  const auto state = parsed(source)->start(byte_pieces());
  return state->accept(text) && state->can_end();
}

std::string error_of(std::string_view source) {
  const auto grammar = Grammar::parse_gbnf(source);
  REQUIRE_FALSE(grammar.has_value());
  CHECK(grammar.error().code == Code::kInvalidArgument);
  return grammar.error().message;
}

std::string repeat(std::string_view text, int count) {
  std::string out;
  for (int i = 0; i < count; ++i) out += text;
  return out;
}

constexpr const char* kJson = R"(
root ::= value
value ::= object | array | string | number | "true" | "false" | "null"
object ::= "{" ws (string ":" ws value ("," ws string ":" ws value)*)? "}" ws
array ::= "[" ws (value ("," ws value)*)? "]" ws
string ::= "\"" ([^"\\\x7F\x00-\x1F] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4}))* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ws
ws ::= | " " | "\n" [ \t]{0,20}
)";
}  // namespace

TEST_CASE("GBNF constructs match what they say", "[text]") {
  struct Row {
    const char* source;
    std::vector<std::string> good;
    std::vector<std::string> bad;
  };
  const Row kRows[] = {
      {"root ::= \"ab\" | \"cd\"", {"ab", "cd"}, {"", "a", "abc", "ad"}},
      {"root ::= [a-cx]+", {"a", "abcx"}, {"", "d", "ad"}},
      {"root ::= [^a-c\\n]", {"d", "\xC3\xA9", "\xF0\x9F\x98\x80"}, {"a", "\n", "dd"}},
      {"root ::= . .", {"ab", "\xE6\x97\xA5x"}, {"a", "abc", "\xE6\x97\xA5"}},
      {"root ::= \"a\"* \"b\"? \"c\"+", {"c", "aabcc", "ac"}, {"", "ab", "abbc"}},
      {"root ::= \"ab\"{2}", {"abab"}, {"ab", "ababab", "abb"}},
      {"root ::= [0-9]{2,}", {"12", "12345"}, {"1", ""}},
      {"root ::= [0-9]{1,3} \"x\"{,2}", {"1", "123xx"}, {"", "1234", "1xxx"}},
      {"root ::= (\"a\" | \"b\" \"c\")+ # comment\n", {"a", "bca"}, {"b", ""}},
      {"root ::= x\n  | y\nx ::= \"1\"\ny ::=\n \"2\"", {"1", "2"}, {"3"}},
      {"root ::= \"\\x41\\u00e9\\U0001F600\\\"\\\\\\n\"", {"A\xC3\xA9\xF0\x9F\x98\x80\"\\\n"}, {"A"}},
      {"root ::= [\\]\\-\\^\\\\a]+", {"]-^\\a"}, {"b"}},
      {"root ::= ((\"a\"*)*)* \"b\"", {"b", "aaab"}, {"a", ""}},
      {"root ::= (\"a\"? \"b\"?)+", {"", "ab", "ba", "bbaa"}, {"c"}},
      {"root ::= \"(\" root \")\" | \"\"", {"", "()", "((()))"}, {"(", "(()"}},
      {"root ::= \"a\" root | \"a\"", {"a", "aaaa"}, {"", "b"}},
      {"root ::= a{3}\na ::= \"x\"{2}", {"xxxxxx"}, {"xxxxx", "xxxxxxx"}},
  };
  for (const Row& row : kRows) {
    for (const std::string& text : row.good) {
      INFO(row.source << " <- " << text);
      CHECK(matches(row.source, text));
    }
    for (const std::string& text : row.bad) {
      INFO(row.source << " <- " << text);
      CHECK_FALSE(matches(row.source, text));
    }
  }
}

TEST_CASE("errors of GBNF name line and column", "[text]") {
  CHECK(error_of("root ::= \"a\n") == "grammar, line 1, column 10: the literal is never closed");
  CHECK(error_of("root ::= x\ny ::= \"a\"") == "grammar, line 1, column 10: the rule 'x' is not defined");
  CHECK(error_of("a ::= \"x\"") == "grammar: there is no rule 'root'");
  CHECK(error_of("root ::= [z-a]").find("column 10: a range") != std::string::npos);
  CHECK(error_of("root ::= \"a\"\nroot ::= \"b\"").find("line 2, column 1: the rule 'root' is defined twice") !=
        std::string::npos);
  for (const char* source :
       {"", "root", "root ::", "root ::= (", "root ::= )", "root ::= (\"a\"", "root ::= [", "root ::= []", "root ::= *",
        "root ::= \"a\"{", "root ::= \"a\"{2,1}", "root ::= \"a\"{x}", "root ::= \"\\q\"", "root ::= \"\\x4\"",
        "root ::= \"\\UFFFFFFFF\"", "root ::= \"\xFF\"", "root ::= $", "root ::= [^\\x00-\\U0010FFFF]"}) {
    INFO(source);
    CHECK_FALSE(error_of(source).empty());
  }
}

TEST_CASE("left recursion and grammars that match nothing are refused", "[text]") {
  CHECK(error_of("root ::= root \"a\" | \"b\"").find("left recursion") != std::string::npos);
  CHECK(error_of("root ::= a \"x\"\na ::= b? root | \"y\"\nb ::= \"z\"").find("left recursion") != std::string::npos);
  CHECK(error_of("root ::= (root)* \"a\"").find("left recursion") != std::string::npos);
  CHECK(error_of("root ::= \"a\" root").find("match no text") != std::string::npos);
  CHECK(error_of("root ::= root").find("match no text") != std::string::npos);
}

TEST_CASE("hostile grammars are refused or cheap", "[text]") {
  const int deep = 60'000;
  CHECK(error_of("root ::= " + repeat("(", deep) + "\"a\"" + repeat(")", deep)).find("nested") != std::string::npos);
  CHECK(error_of("root ::= \"a\"{0,99999999}").find("repetition") != std::string::npos);
  CHECK(error_of("root ::= ((\"a\"{100}){100}){2}").find("repetition") != std::string::npos);
  CHECK_FALSE(error_of("root ::= " + repeat("\"a\"{0,9999} ", 200)).empty());
  std::string chain = "root ::= r1\n";
  for (int i = 1; i < 5000; ++i) chain += format("r{} ::= r{}\n", i, i + 1);
  CHECK(matches(chain + "r5000 ::= \"x\"", "x"));
  std::string many = "root ::= \"x\"\n";
  for (int i = 0; i < 10'000; ++i) many += format("r{} ::= \"y\"\n", i);
  CHECK(error_of(many).find("rules") != std::string::npos);
  CHECK(matches("root ::= \"a\"{0,10000}", repeat("a", 10'000)));
  CHECK_FALSE(matches("root ::= \"a\"{0,10000}", repeat("a", 10'001)));
  CHECK_FALSE(error_of("root ::= \"a\"" + repeat("*", 600'000) + "\n").empty());
}

TEST_CASE("an ambiguous grammar ends in a dead state instead of growing without bound", "[text]") {
  // Each "a" doubles the parses; equal stacks are one, so a linear number remains here.
  CHECK(matches("root ::= x x x x\nx ::= \"a\"*", repeat("a", 300)));
  std::string heads;
  std::string rules;
  for (int i = 0; i < 3000; ++i) {
    heads += format("{}\"a\" r{} ", i > 0 ? "| " : "", i);
    rules += format("\nr{} ::= \"b\" \"{}\"", i, i);
  }
  const std::string wide = format("root ::= {}{}", heads, rules);
  const auto state = parsed(wide)->start(byte_pieces());
  std::vector<bool> allowed;
  state->allowed_tokens(allowed);
  CHECK(std::count(allowed.begin(), allowed.end(), true) == 0);
  CHECK_FALSE(state->accept("a"));
  CHECK_FALSE(state->can_end());
}

TEST_CASE("deep nesting of the text needs no recursion", "[text]") {
  const int deep = 50'000;
  CHECK(matches(kJson, repeat("[", deep) + repeat("]", deep)));
  CHECK_FALSE(matches(kJson, repeat("[", deep) + repeat("]", deep - 1)));
}

TEST_CASE("a refused text leaves the state as it was", "[text]") {
  const auto state = parsed(kJson)->start(byte_pieces());
  REQUIRE(state->accept("[1, "));
  CHECK_FALSE(state->accept("2, x"));
  CHECK(state->accept("2]"));
  CHECK(state->can_end());
}

TEST_CASE("code points may be split over tokens, and bytes that cannot become one are refused", "[text]") {
  const auto grammar = parsed("root ::= [\\u3040-\\u309F]+");
  const auto state = grammar->start(byte_pieces());
  std::vector<bool> allowed;
  state->allowed_tokens(allowed);
  CHECK(allowed[0xE3]);
  CHECK_FALSE(allowed[0xE4]);
  CHECK_FALSE(allowed[0xC3]);
  REQUIRE(state->accept("\xE3"));
  CHECK_FALSE(state->can_end());
  state->allowed_tokens(allowed);
  CHECK(allowed[0x81]);
  CHECK(allowed[0x82]);
  CHECK_FALSE(allowed[0x83]);
  REQUIRE(state->accept("\x81"));
  REQUIRE(state->accept("\x82"));
  CHECK(state->can_end());
  const auto any = parsed("root ::= .*")->start(byte_pieces());
  for (const char* bad : {"\xFF", "\x80", "\xC0\x80", "\xC1", "\xE0\x80", "\xED\xA0", "\xF0\x80", "\xF4\x90", "\xF5"}) {
    CHECK_FALSE(any->accept(bad));
  }
  for (const char* good : {"\xE0\xA0", "\x80", "\xED\x9F\xBF", "\xF4\x8F\xBF\xBF"}) CHECK(any->accept(good));
}

TEST_CASE("the mask says of every token what accept says of it", "[text]") {
  std::mt19937 random(5);
  std::vector<std::string> vocabulary = byte_pieces();
  const std::string letters = "{}[]\",:0129-.etrufalsn\\ \n\xC3\xA9";
  for (int i = 0; i < 3000; ++i) {
    std::string piece;
    for (uint32_t k = 0; k <= random() % 6; ++k) piece += letters[random() % letters.size()];
    vocabulary.push_back(piece);
  }
  const auto state = parsed(kJson)->start(vocabulary);
  std::vector<bool> allowed;
  for (int step = 0; step < 120; ++step) {
    state->allowed_tokens(allowed);
    std::vector<size_t> choices;
    for (size_t id = 0; id < vocabulary.size(); ++id) {
      if (allowed[id]) choices.push_back(id);
      if (step % 10 != 0 || vocabulary[id].empty()) continue;
      INFO("step " << step << " piece " << vocabulary[id]);
      REQUIRE(state->clone()->accept(vocabulary[id]) == allowed[id]);
    }
    CHECK_FALSE(allowed[256]);  // the empty piece
    if (choices.empty()) break;
    REQUIRE(state->accept(vocabulary[choices[random() % choices.size()]]));
  }
}

TEST_CASE("bytes one by one and all at once lead to the same masks", "[text]") {
  const std::string text = "{\"k\": [1, -2.5, \"\xE6\x97\xA5\\n\"], \"x\": {";
  const auto whole = parsed(kJson)->start(byte_pieces());
  const auto split = parsed(kJson)->start(byte_pieces());
  REQUIRE(whole->accept(text));
  for (const char byte : text) REQUIRE(split->accept(std::string(1, byte)));
  std::vector<bool> a;
  std::vector<bool> b;
  whole->allowed_tokens(a);
  split->allowed_tokens(b);
  CHECK(a == b);
}

TEST_CASE("a clone goes its own way", "[text]") {
  const auto state = parsed("root ::= \"ab\" | \"ac\"")->start(byte_pieces());
  REQUIRE(state->accept("a"));
  const auto copy = state->clone();
  REQUIRE(copy->accept("b"));
  CHECK(copy->can_end());
  CHECK_FALSE(state->can_end());
  CHECK(state->accept("c"));
}

TEST_CASE("one grammar serves several vocabularies", "[text]") {
  const auto grammar = parsed("root ::= \"ab\"");
  const std::vector<std::string> first = {"a", "b"};
  const std::vector<std::string> second = {"b", "ab", "a"};
  std::vector<bool> allowed;
  grammar->start(first)->allowed_tokens(allowed);
  CHECK(allowed == std::vector<bool>{true, false});
  grammar->start(second)->allowed_tokens(allowed);
  CHECK(allowed == std::vector<bool>{false, true, true});
}

TEST_CASE("the seed corpus of fuzz_gbnf runs through", "[text]") {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(LCRUN_TEST_ROOT "/fuzz/corpus/gbnf")) {
    INFO(entry.path());
    std::ifstream file(entry.path(), std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    CHECK(fuzz_gbnf_entry(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()) == 0);
    ++count;
  }
  CHECK(count >= 10);
}
