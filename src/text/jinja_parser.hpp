// Tokens to the syntax tree (jinja_ast.hpp), by recursive descent. Nesting is limited to kMaxNesting.
#pragma once

#include <string_view>

#include "src/text/jinja_ast.hpp"

namespace lcrun::text::jinja {

// Throws TemplateError: kBadModel for a syntax error, kUnsupported for statements outside the subset.
Block parse(std::string_view source);

}  // namespace lcrun::text::jinja
