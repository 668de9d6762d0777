// Expressions by recursive descent; see jinja_expr_parser.hpp.
#include "src/text/jinja_expr_parser.hpp"

#include <algorithm>
#include <charconv>
#include <cstdlib>

namespace lcrun::text::jinja {

ExprParser::Nest::Nest(ExprParser& p) : parser(p) {
  if (++parser.nesting_ > kMaxNesting) {
    --parser.nesting_;
    parser.bad(parser.current().offset, format("nested deeper than {} levels", kMaxNesting));
  }
}

void ExprParser::bad(size_t offset, std::string message) const {
  throw TemplateError{Code::kBadModel, std::move(message), offset};
}

void ExprParser::unexpected(std::string_view wanted) const {
  std::string found = "'" + current().value + "'";
  if (current().type == TokenType::kEnd) found = "the end of the template";
  if (current().type == TokenType::kBlockEnd) found = "'%}'";
  if (current().type == TokenType::kPrintEnd) found = "'}}'";
  bad(current().offset, format("found {}, wanted {}", found, wanted));
}

bool ExprParser::skip_op(std::string_view op) {
  if (!at_op(op)) return false;
  next();
  return true;
}

bool ExprParser::skip_name(std::string_view name) {
  if (!at_name(name)) return false;
  next();
  return true;
}

void ExprParser::expect_op(std::string_view op) {
  if (!skip_op(op)) unexpected(format("'{}'", op));
}

std::string ExprParser::expect_name() {
  if (current().type != TokenType::kName) unexpected("a name");
  return next().value;
}

ExprParser::Builder ExprParser::make(Op op, size_t offset) const {
  auto node = std::make_unique<Expr>();
  node->op = op;
  node->offset = offset;
  return node;
}

void ExprParser::adopt(Expr& parent, ExprPtr kid) const {
  if (kid != nullptr) {
    parent.depth = std::max(parent.depth, kid->depth + 1);
    if (parent.depth > kMaxNesting) bad(kid->offset, format("nested deeper than {} levels", kMaxNesting));
  }
  parent.kids.push_back(std::move(kid));
}

ExprPtr ExprParser::binary(Op op, std::string name, ExprPtr left, ExprPtr right) const {
  Builder node = make(op, left->offset);
  node->name = std::move(name);
  adopt(*node, std::move(left));
  adopt(*node, std::move(right));
  return node;
}

ExprPtr ExprParser::parse_tuple(bool with_condition) {
  const size_t offset = current().offset;
  const auto element = [&] { return with_condition ? parse_expression() : parse_or(); };
  ExprPtr first = element();
  if (!at_op(",")) return first;
  Builder tuple = make(Op::kTuple, offset);
  adopt(*tuple, std::move(first));
  while (skip_op(",")) {
    if (at_end_of_tag() || at_op(")") || at_op("=")) break;
    adopt(*tuple, element());
  }
  return tuple;
}

ExprPtr ExprParser::parse_target(bool allow_attribute) {
  const Nest nest(*this);
  const size_t offset = current().offset;
  std::vector<ExprPtr> parts;
  bool is_tuple = false;
  do {
    if (at_op("=") || at_name("in")) break;
    if (skip_op("(")) {
      parts.push_back(parse_target(false));
      expect_op(")");
    } else {
      Builder name = make(Op::kName, current().offset);
      name->name = expect_name();
      parts.push_back(std::move(name));
    }
    is_tuple = is_tuple || at_op(",");
  } while (skip_op(","));
  if (parts.empty()) unexpected("a name");
  if (is_tuple) {
    Builder tuple = make(Op::kTuple, offset);
    for (ExprPtr& part : parts) adopt(*tuple, std::move(part));
    return tuple;
  }
  if (!allow_attribute || !skip_op(".")) return std::move(parts[0]);
  Builder attribute = make(Op::kAttr, offset);
  attribute->name = expect_name();
  adopt(*attribute, std::move(parts[0]));
  return attribute;
}

ExprPtr ExprParser::parse_conditional() {
  ExprPtr value = parse_or();
  while (skip_name("if")) {
    const Nest nest(*this);
    Builder node = make(Op::kCond, value->offset);
    ExprPtr test = parse_or();
    ExprPtr otherwise = skip_name("else") ? parse_conditional() : nullptr;
    adopt(*node, std::move(value));
    adopt(*node, std::move(test));
    adopt(*node, std::move(otherwise));
    value = std::move(node);
  }
  return value;
}

ExprPtr ExprParser::parse_or() {
  ExprPtr left = parse_and();
  while (skip_name("or")) left = binary(Op::kOr, "or", std::move(left), parse_and());
  return left;
}

ExprPtr ExprParser::parse_and() {
  ExprPtr left = parse_not();
  while (skip_name("and")) left = binary(Op::kAnd, "and", std::move(left), parse_not());
  return left;
}

ExprPtr ExprParser::parse_not() {
  if (!at_name("not")) return parse_compare();
  const Nest nest(*this);
  Builder node = make(Op::kNot, next().offset);
  adopt(*node, parse_not());
  return node;
}

ExprPtr ExprParser::parse_compare() {
  ExprPtr first = parse_sum();
  Builder node;
  while (true) {
    std::string op;
    if (current().type == TokenType::kOp) {
      static constexpr std::string_view kOps[] = {"==", "!=", "<", "<=", ">", ">="};
      if (std::find(std::begin(kOps), std::end(kOps), current().value) != std::end(kOps)) op = current().value;
    } else if (at_name("in")) {
      op = "in";
    } else if (at_name("not") && look().type == TokenType::kName && look().value == "in") {
      next();
      op = "not in";
    }
    if (op.empty()) break;
    next();
    if (node == nullptr) {
      node = make(Op::kCompare, first->offset);
      adopt(*node, std::move(first));
    }
    node->names.push_back(op);
    adopt(*node, parse_sum());
  }
  return node == nullptr ? std::move(first) : ExprPtr(std::move(node));
}

ExprPtr ExprParser::parse_sum() {
  ExprPtr left = parse_concat();
  while (at_op("+") || at_op("-")) {
    std::string op = next().value;
    left = binary(Op::kBinary, std::move(op), std::move(left), parse_concat());
  }
  return left;
}

ExprPtr ExprParser::parse_concat() {
  ExprPtr first = parse_product();
  if (!at_op("~")) return first;
  Builder node = make(Op::kConcat, first->offset);
  adopt(*node, std::move(first));
  while (skip_op("~")) adopt(*node, parse_product());
  return node;
}

ExprPtr ExprParser::parse_product() {
  ExprPtr left = parse_power();
  while (at_op("*") || at_op("/") || at_op("//") || at_op("%")) {
    std::string op = next().value;
    left = binary(Op::kBinary, std::move(op), std::move(left), parse_power());
  }
  return left;
}

ExprPtr ExprParser::parse_power() {
  ExprPtr left = parse_unary(true);
  while (skip_op("**")) left = binary(Op::kBinary, "**", std::move(left), parse_unary(true));
  return left;
}

ExprPtr ExprParser::parse_unary(bool with_filter) {
  const Nest nest(*this);
  ExprPtr node;
  if (at_op("-") || at_op("+")) {
    const Token& sign = next();
    Builder unary = make(sign.value == "-" ? Op::kNegate : Op::kPlus, sign.offset);
    adopt(*unary, parse_unary(false));
    node = std::move(unary);
  } else {
    node = parse_primary();
  }
  node = parse_postfix(std::move(node));
  return with_filter ? parse_filter_expr(std::move(node)) : std::move(node);
}

ExprPtr ExprParser::parse_postfix(ExprPtr base) {
  while (true) {
    if (at_op(".") || at_op("[")) {
      base = parse_subscript(std::move(base));
    } else if (at_op("(")) {
      base = parse_call(std::move(base));
    } else {
      return base;
    }
  }
}

ExprPtr ExprParser::parse_filter_expr(ExprPtr base) {
  while (true) {
    if (at_op("|")) {
      base = parse_filters(std::move(base), false);
    } else if (at_name("is")) {
      base = parse_test(std::move(base));
    } else if (at_op("(")) {
      base = parse_call(std::move(base));
    } else {
      return base;
    }
  }
}

ExprPtr ExprParser::parse_filters(ExprPtr base, bool without_pipe) {
  while (without_pipe || skip_op("|")) {
    without_pipe = false;
    Builder filter = make(Op::kFilter, current().offset);
    filter->name = expect_name();
    adopt(*filter, std::move(base));
    if (at_op("(")) parse_arguments(*filter);
    base = std::move(filter);
  }
  return base;
}

ExprPtr ExprParser::parse_test(ExprPtr base) {
  next();
  const size_t offset = current().offset;
  const bool negated = skip_name("not");
  Builder test = make(Op::kTest, current().offset);
  test->name = expect_name();
  adopt(*test, std::move(base));
  const TokenType type = current().type;
  const bool has_operand = type == TokenType::kString || type == TokenType::kInt || type == TokenType::kFloat ||
                           at_op("[") || at_op("{") ||
                           (type == TokenType::kName && !at_name("else") && !at_name("or") && !at_name("and") &&
                            !at_name("if") && !at_name("is"));
  if (at_op("(")) {
    parse_arguments(*test);
  } else if (has_operand) {
    adopt(*test, parse_postfix(parse_primary()));
  }
  if (!negated) return test;
  Builder node = make(Op::kNot, offset);
  adopt(*node, std::move(test));
  return node;
}

ExprPtr ExprParser::parse_subscript(ExprPtr base) {
  const Token& bracket = next();
  const size_t offset = bracket.offset;
  if (bracket.value == ".") {
    const bool is_index = current().type == TokenType::kInt;
    Builder node = make(is_index ? Op::kItem : Op::kAttr, offset);
    adopt(*node, std::move(base));
    if (is_index) {
      adopt(*node, parse_number());
    } else {
      node->name = expect_name();
    }
    return node;
  }
  Builder node = make(Op::kItem, offset);
  adopt(*node, std::move(base));
  adopt(*node, parse_slice_or_index());
  expect_op("]");
  return node;
}

ExprPtr ExprParser::parse_slice_or_index() {
  const size_t offset = current().offset;
  ExprPtr start;
  if (!at_op(":")) {
    start = parse_tuple();
    if (!at_op(":")) return start;
  }
  expect_op(":");
  ExprPtr stop = at_slice_end() ? nullptr : parse_expression();
  ExprPtr step;
  if (skip_op(":") && !at_slice_end()) step = parse_expression();
  Builder slice = make(Op::kSlice, offset);
  adopt(*slice, std::move(start));
  adopt(*slice, std::move(stop));
  adopt(*slice, std::move(step));
  return slice;
}

ExprPtr ExprParser::parse_call(ExprPtr callee) {
  Builder call = make(Op::kCall, callee->offset);
  adopt(*call, std::move(callee));
  parse_arguments(*call);
  return call;
}

void ExprParser::parse_arguments(Expr& call) {
  expect_op("(");
  while (!at_op(")")) {
    if (at_op("*") || at_op("**")) {
      throw TemplateError{Code::kUnsupported, "* and ** arguments are not supported", current().offset};
    }
    if (current().type == TokenType::kName && look().type == TokenType::kOp && look().value == "=") {
      std::string name = expect_name();
      next();
      ExprPtr value = parse_expression();
      call.depth = std::max(call.depth, value->depth + 1);
      if (call.depth > kMaxNesting) bad(value->offset, format("nested deeper than {} levels", kMaxNesting));
      call.named.emplace_back(std::move(name), std::move(value));
    } else {
      if (!call.named.empty()) unexpected("a named argument");
      adopt(call, parse_expression());
    }
    if (!at_op(")")) expect_op(",");
  }
  expect_op(")");
}

ExprPtr ExprParser::parse_primary() {
  switch (current().type) {
    case TokenType::kName:
      return parse_name();
    case TokenType::kString:
      return parse_string();
    case TokenType::kInt:
    case TokenType::kFloat:
      return parse_number();
    default:
      break;
  }
  if (at_op("[")) return parse_list();
  if (at_op("{")) return parse_dict();
  if (!at_op("(")) unexpected("an expression");
  const size_t offset = next().offset;
  if (skip_op(")")) return make(Op::kTuple, offset);
  ExprPtr inner = parse_tuple();
  expect_op(")");
  return inner;
}

ExprPtr ExprParser::parse_name() {
  const Token& token = next();
  Builder node = make(Op::kConst, token.offset);
  if (token.value == "true" || token.value == "True") {
    node->value = true;
  } else if (token.value == "false" || token.value == "False") {
    node->value = false;
  } else if (token.value == "none" || token.value == "None") {
    node->value = None{};
  } else {
    node->op = Op::kName;
    node->name = token.value;
    saw_varargs_ = saw_varargs_ || token.value == "varargs";
    saw_kwargs_ = saw_kwargs_ || token.value == "kwargs";
  }
  return node;
}

ExprPtr ExprParser::parse_string() {
  Builder node = make(Op::kConst, current().offset);
  std::string value;
  while (current().type == TokenType::kString) value += next().value;
  node->value = make_text(value, true);
  return node;
}

ExprPtr ExprParser::parse_number() {
  const Token& token = next();
  Builder node = make(Op::kConst, token.offset);
  if (token.type == TokenType::kFloat) {
    node->value = std::strtod(token.value.c_str(), nullptr);
    return node;
  }
  const bool is_hex = token.value.size() > 2 && (token.value[1] | 0x20) == 'x';
  const char* first = token.value.data() + (is_hex ? 2 : 0);
  const char* last = token.value.data() + token.value.size();
  int64_t number = 0;
  const auto result = std::from_chars(first, last, number, is_hex ? 16 : 10);
  if (result.ec != std::errc() || result.ptr != last) bad(token.offset, "not a 64-bit integer");
  node->value = number;
  return node;
}

ExprPtr ExprParser::parse_list() {
  Builder list = make(Op::kList, next().offset);
  while (!at_op("]")) {
    adopt(*list, parse_expression());
    if (!at_op("]")) expect_op(",");
  }
  expect_op("]");
  return list;
}

ExprPtr ExprParser::parse_dict() {
  Builder dict = make(Op::kDict, next().offset);
  while (!at_op("}")) {
    adopt(*dict, parse_expression());
    expect_op(":");
    adopt(*dict, parse_expression());
    if (!at_op("}")) expect_op(",");
  }
  expect_op("}");
  return dict;
}

}  // namespace lcrun::text::jinja
