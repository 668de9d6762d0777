// The expression half of the parser: precedence as in Jinja (filters and tests bind tighter than arithmetic).
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "src/text/jinja_ast.hpp"
#include "src/text/jinja_lexer.hpp"

namespace lcrun::text::jinja {

class ExprParser {
 public:
  explicit ExprParser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

 protected:
  const Token& current() const { return tokens_[at_]; }
  const Token& next() { return tokens_[at_ + 1 < tokens_.size() ? at_++ : at_]; }
  const Token& look() const { return tokens_[at_ + 1 < tokens_.size() ? at_ + 1 : at_]; }
  bool at_op(std::string_view op) const { return current().type == TokenType::kOp && current().value == op; }
  bool at_name(std::string_view name) const { return current().type == TokenType::kName && current().value == name; }
  bool at_end_of_tag() const {
    return current().type == TokenType::kBlockEnd || current().type == TokenType::kPrintEnd;
  }
  bool skip_op(std::string_view op);
  bool skip_name(std::string_view name);
  void expect_op(std::string_view op);
  std::string expect_name();
  [[noreturn]] void bad(size_t offset, std::string message) const;
  [[noreturn]] void unexpected(std::string_view wanted) const;

  ExprPtr parse_expression() { return parse_conditional(); }
  // Without parentheses: "a, b" is a tuple.
  ExprPtr parse_tuple(bool with_condition = true);
  // `a`, `a, b`, `(a, b)`, and ns.a where allowed.
  ExprPtr parse_target(bool allow_attribute);
  // "| a | b(...)" applied to `base` (null = the text of a block).
  ExprPtr parse_filters(ExprPtr base, bool without_pipe);
  ExprPtr parse_call(ExprPtr callee);
  ExprPtr parse_postfix(ExprPtr base);
  ExprPtr parse_primary();

  // Counts nesting. Every expression within another passes through parse_unary, which holds one.
  struct Nest {
    explicit Nest(ExprParser& parser);
    ~Nest() { --parser.nesting_; }
    Nest(const Nest&) = delete;
    Nest& operator=(const Nest&) = delete;
    ExprParser& parser;
  };

  // Names that give a macro access to arguments it did not declare.
  bool saw_varargs_ = false;
  bool saw_kwargs_ = false;

 private:
  using Builder = std::unique_ptr<Expr>;
  Builder make(Op op, size_t offset) const;
  void adopt(Expr& parent, ExprPtr kid) const;
  ExprPtr binary(Op op, std::string name, ExprPtr left, ExprPtr right) const;

  ExprPtr parse_conditional();
  ExprPtr parse_or();
  ExprPtr parse_and();
  ExprPtr parse_not();
  ExprPtr parse_compare();
  ExprPtr parse_sum();
  ExprPtr parse_concat();
  ExprPtr parse_product();
  ExprPtr parse_power();
  ExprPtr parse_unary(bool with_filter);
  ExprPtr parse_filter_expr(ExprPtr base);
  ExprPtr parse_test(ExprPtr base);
  ExprPtr parse_subscript(ExprPtr base);
  ExprPtr parse_slice_or_index();
  void parse_arguments(Expr& call);
  ExprPtr parse_number();
  ExprPtr parse_string();
  ExprPtr parse_list();
  ExprPtr parse_dict();
  ExprPtr parse_name();
  bool at_slice_end() const { return at_op("]") || at_op(",") || at_op(":"); }

  std::vector<Token> tokens_;
  size_t at_ = 0;
  int nesting_ = 0;
};

}  // namespace lcrun::text::jinja
