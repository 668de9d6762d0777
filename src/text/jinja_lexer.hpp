// Template text to tokens, with the white space rules that chat templates assume: trim_blocks and lstrip_blocks on,
// one final newline dropped, "-" and "+" at the tags' edges, raw blocks. Linear time.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "src/text/jinja_value.hpp"

namespace lcrun::text::jinja {

enum class TokenType : uint8_t {
  kText,
  kPrintBegin,
  kPrintEnd,
  kBlockBegin,
  kBlockEnd,
  kName,
  kString,  // value: unescaped
  kInt,
  kFloat,
  kOp,
  kEnd,
};

struct Token {
  TokenType type = TokenType::kEnd;
  std::string value;
  size_t offset = 0;
};

// `source` with "\n" line ends. Throws TemplateError (kBadModel). The last token is kEnd.
std::vector<Token> lex(std::string_view source);

}  // namespace lcrun::text::jinja
