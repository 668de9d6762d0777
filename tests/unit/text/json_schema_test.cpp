// JSON schema to grammar: accepted and refused texts, schemas that must be refused, and a walk that checks random
// sentences of integer ranges against the bounds.
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <random>
#include <string>

#include "src/base/format.hpp"
#include "src/text/grammar.hpp"

using namespace lcrun;
using namespace lcrun::text;

namespace {
std::vector<std::string> bytes() {
  std::vector<std::string> out;
  for (int byte = 0; byte < 256; ++byte) out.emplace_back(1, static_cast<char>(byte));
  return out;
}

bool matches(const std::string& schema, const std::string& text) {
  static const std::vector<std::string> pieces = bytes();
  const auto grammar = Grammar::from_json_schema(schema);
  if (!grammar) FAIL(grammar.error().message);
  const auto state = (*grammar)->start(pieces);
  return state->accept(text) && state->can_end();
}
}  // namespace

TEST_CASE("schemas accept valid texts and refuse others", "[text]") {
  struct Row {
    const char* schema;
    std::vector<std::string> good;
    std::vector<std::string> bad;
  };
  const Row kRows[] = {
      {"{}", {"1", "\"a\"", "{\"a\": [null, true]}", "[]", "-0.5e3"}, {"", "01", "{a: 1}", "[1,]", "nul"}},
      {R"({"type": "boolean"})", {"true", "false"}, {"1", "null"}},
      {R"({"type": ["string", "null"]})",
       {"null", "\"x\"", R"("é\n\u00e9")"},
       {"1", "\"\n\"", R"("\x")", R"("\ud800")"}},
      {R"({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}}, "required": ["a"]})",
       {"{\"a\": 1}", "{\"a\":1,\"b\":\"\"}"},
       {"{}", "{\"b\": \"\"}", "{\"a\": 1, \"c\": 2}", "{\"a\": 1.5}"}},
      {R"({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "null"}}})",
       {"{}", "{\"a\": 1}", "{\"b\": null}", "{\"a\": 1, \"b\": null}"},
       {"{,}", "{\"a\": 1,}"}},
      {R"({"type": "object", "properties": {"ab": {"type": "integer"}}, "additionalProperties": {"type": "boolean"}})",
       {"{}", "{\"ab\": 1}", "{\"a\": true}", "{\"abc\": true, \"b\": false}", "{\"ab\": 1, \"\": true}"},
       {"{\"ab\": true}", "{\"x\": 1}", "{\"x\": true, \"ab\": false}", R"({"\u0061b": true})"}},
      {R"({"type": "object", "additionalProperties": false})", {"{}", "{ }"}, {"{\"a\": 1}"}},
      {R"({"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 3})",
       {"[1]", "[1, 2, 3]"},
       {"[]", "[1, 2, 3, 4]", "[true]"}},
      {R"({"type": "array", "maxItems": 0})", {"[]"}, {"[1]"}},
      {R"({"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "items": {"type": "null"}})",
       {"[]", "[\"a\"]", "[\"a\", 1]", "[\"a\", 1, null, null]"},
       {"[1]", "[\"a\", \"b\"]", "[\"a\", 1, 2]"}},
      {R"({"enum": ["a", 1, null, {"x": [1]}]})", {"\"a\"", "1", "null", "{\"x\":[1]}"}, {"2", "\"b\""}},
      {R"({"const": "a\"b"})", {R"("a\"b")"}, {"\"ab\""}},
      {R"({"anyOf": [{"type": "integer"}, {"const": "x"}]})", {"5", "\"x\""}, {"\"y\""}},
      {R"({"allOf": [{"properties": {"a": {"type": "null"}}, "required": ["a"]},)"
       R"({"properties": {"b": {"type": "null"}}}]})",
       {"{\"a\": null}", "{\"a\": null, \"b\": null}"},
       {"{}", "{\"b\": null}"}},
      {R"({"$defs": {"n": {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#/$defs/n"},)"
       R"({"type": "null"}]}}, "required": ["next"]}}, "$ref": "#/$defs/n"})",
       {"{\"next\": null}", "{\"next\": {\"next\": null}}"},
       {"{}", "{\"next\": {}}", "null"}},
      {R"({"type": "string", "minLength": 2, "maxLength": 3})",
       {"\"ab\"", "\"日本語\"", R"("a\n\t")"},
       {"\"a\"", "\"abcd\""}},
      {R"re({"type": "string", "pattern": "^[a-c]+(x|\\d{2})?$"})re",
       {"\"abc\"", "\"ax\"", "\"a12\""},
       {"\"\"", "\"ax1\"", "\"d\""}},
      {R"({"type": "string", "pattern": "b+"})", {"\"b\"", "\"abbc\""}, {"\"\"", "\"ac\""}},
      {R"({"type": "string", "pattern": "^\"\\\\.$"})", {R"("\"\\x")"}, {R"("\"x")"}},
      {R"({"type": "string", "format": "date"})",
       {"\"2024-02-28\"", "\"1999-12-31\""},
       {"\"2024-02-30\"", "\"2024-13-01\"", "\"24-01-01\""}},
      {R"({"type": "string", "format": "date-time"})",
       {"\"2024-02-28T23:59:59Z\"", "\"2024-02-28T00:00:00.5+01:30\""},
       {"\"2024-02-28\""}},
      {R"({"type": "string", "format": "uuid"})", {"\"123e4567-e89b-12d3-a456-426614174000\""}, {"\"123e4567\""}},
      {R"({"type": "integer", "minimum": -3, "maximum": 12})", {"-3", "0", "9", "12"}, {"-4", "13", "-0", "05", "1.0"}},
      {R"({"type": "number", "minimum": -1, "maximum": 1})", {"-1", "0.25", "1", "-0.5"}, {"1.5", "-1.5", "2", "1e5"}},
      {R"({"type": "number", "exclusiveMinimum": 0})", {"1", "2.5"}, {"0", "-1"}},
      {R"({"title": "x", "description": "y", "default": 1, "type": "null"})", {"null"}, {"1"}},
  };
  for (const Row& row : kRows) {
    for (const std::string& text : row.good) {
      INFO(row.schema << " <- " << text);
      CHECK(matches(row.schema, text));
    }
    for (const std::string& text : row.bad) {
      INFO(row.schema << " <- " << text);
      CHECK_FALSE(matches(row.schema, text));
    }
  }
}

TEST_CASE("what a schema asks for and we cannot do is an error, never ignored", "[text]") {
  const std::string kBad[] = {
      "",
      "{",
      "3",
      "[]",
      "false",
      R"({"type": "strin"})",
      R"({"type": []})",
      R"({"not": {}})",
      R"({"if": {}})",
      R"({"unknown": 1})",
      R"({"type": "object", "patternProperties": {}})",
      R"({"type": "object", "minProperties": 1})",
      R"({"type": "array", "uniqueItems": true})",
      R"({"type": "array", "contains": {}})",
      R"({"type": "number", "multipleOf": 2})",
      R"({"type": "string", "format": "email"})",
      R"re({"type": "string", "pattern": "(?=a)"})re",
      R"re({"type": "string", "pattern": "(?<=a)b"})re",
      R"({"type": "string", "pattern": "*a"})",
      R"({"type": "string", "pattern": "a**"})",
      R"({"type": "string", "pattern": "\\1"})",
      R"({"type": "string", "pattern": "\\bx"})",
      R"({"type": "string", "pattern": "^a|b$"})",
      R"({"type": "string", "pattern": "a{99999}"})",
      R"({"type": "string", "pattern": "a$b"})",
      R"({"type": "string", "pattern": "[b-a]"})",
      format("{}\"type\": \"string\", \"pattern\": \"{}\"{}", "{", std::string(5000, '('), "}"),
      R"({"type": "string", "pattern": "a", "minLength": 1})",
      R"({"type": "string", "maxLength": 99999999})",
      R"({"type": "string", "minLength": 3, "maxLength": 2})",
      R"({"type": "integer", "minimum": 3, "maximum": 2})",
      R"({"$ref": "#"})",
      R"({"$ref": "#/nope"})",
      R"({"$ref": "http://example.com/x"})",
      R"({"enum": []})",
      R"({"anyOf": []})",
      R"({"allOf": [{"type": "integer"}, {"type": "string"}]})",
      R"({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]})",
      R"({"type": "object", "properties": {}, "additionalProperties": false, "required": ["x"]})",
      R"({"type": "integer", "enum": ["a"]})",
  };
  for (const std::string& schema : kBad) {
    INFO(schema.substr(0, 100));
    const auto grammar = Grammar::from_json_schema(schema);
    REQUIRE_FALSE(grammar.has_value());
    CHECK(grammar.error().code == Code::kInvalidArgument);
    CHECK_FALSE(grammar.error().message.empty());
  }
}

TEST_CASE("deeply nested schemas and references are refused without a crash", "[text]") {
  std::string deep;
  for (int i = 0; i < 100'000; ++i) deep += "{\"items\":";
  CHECK_FALSE(Grammar::from_json_schema(deep).has_value());
  std::string nested = "true";
  for (int i = 0; i < 150; ++i) nested = format("{}\"items\":{}{}", "{", nested, "}");
  CHECK_FALSE(Grammar::from_json_schema(nested).has_value());
  nlohmann::json chain;
  for (int i = 0; i < 5000; ++i) {
    chain["$defs"][format("d{}", i)] = {{"items", {{"$ref", format("#/$defs/d{}", i + 1)}}}};
  }
  chain["$defs"]["d5000"] = true;
  chain["$ref"] = "#/$defs/d0";
  CHECK_FALSE(Grammar::from_json_schema(chain.dump()).has_value());
}

TEST_CASE("integer ranges hold exactly the integers between their bounds", "[text]") {
  std::mt19937 random(3);
  for (int round = 0; round < 40; ++round) {
    const int span = round % 2 == 0 ? 150 : 12'000;
    int low = static_cast<int>(random() % static_cast<uint32_t>(span)) - span / 2;
    int high = static_cast<int>(random() % static_cast<uint32_t>(span)) - span / 2;
    if (low > high) std::swap(low, high);
    const auto schema = nlohmann::json{{"type", "integer"}, {"minimum", low}, {"maximum", high}}.dump();
    const auto grammar = Grammar::from_json_schema(schema);
    REQUIRE(grammar.has_value());
    const std::vector<std::string> pieces = bytes();
    for (int i = 0; i < 60; ++i) {
      int value = static_cast<int>(random() % static_cast<uint32_t>(span)) - span / 2;
      if (i < 6) value = (i < 3 ? low : high) + i % 3 - 1;
      INFO(schema << " <- " << value);
      const auto state = (*grammar)->start(pieces);
      const bool taken = state->accept(std::to_string(value)) && state->can_end();
      REQUIRE(taken == (value >= low && value <= high));
    }
  }
}

TEST_CASE("the GBNF of a schema can be read", "[text]") {
  const auto text = Grammar::json_schema_to_gbnf(R"({"type": "boolean"})");
  REQUIRE(text.has_value());
  CHECK(text->rfind("root ::= ws boolean ws\n", 0) == 0);
}
