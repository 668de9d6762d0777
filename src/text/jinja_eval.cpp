// Evaluation of expressions; arithmetic and slicing are in jinja_operators.cpp.
#include <algorithm>

#include "src/text/jinja_interpreter.hpp"

namespace lcrun::text::jinja {

Value Interpreter::eval(const Expr& expr) {
  const DepthGuard guard(*this, expr.offset);
  switch (expr.op) {
    case Op::kConst:
      return expr.value;
    case Op::kName:
      return eval_name(expr);
    case Op::kList:
    case Op::kTuple:
      return eval_sequence(expr);
    case Op::kDict:
      return eval_dict(expr);
    case Op::kAttr: {
      const Value object = eval(*expr.kids[0]);
      here_ = expr.offset;
      return attribute(object, expr.name);
    }
    case Op::kItem:
      return eval_item(expr);
    case Op::kSlice:
      fail("a slice stands only in [ ]");
    case Op::kCall:
      return eval_call(expr);
    case Op::kFilter:
      return eval_filter(expr);
    case Op::kTest: {
      const Value value = eval(*expr.kids[0]);
      return apply_test(expr.name, value, eval_args(expr));
    }
    case Op::kNot:
      return !truthy(eval(*expr.kids[0]));
    case Op::kNegate:
    case Op::kPlus:
      return eval_sign(expr);
    case Op::kAnd:
    case Op::kOr:
      return eval_logic(expr);
    case Op::kCond:
      return eval_cond(expr);
    case Op::kCompare:
      return eval_compare(expr);
    case Op::kConcat:
      return eval_concat(expr);
    case Op::kBinary: {
      const Value left = eval(*expr.kids[0]);
      const Value right = eval(*expr.kids[1]);
      here_ = expr.offset;
      return arithmetic(*this, expr.name, left, right);
    }
  }
  return {};
}

Value Interpreter::eval_name(const Expr& expr) const {
  for (const Scope* scope = scope_.get(); scope != nullptr; scope = scope->parent.get()) {
    const auto it = scope->vars.find(expr.name);
    if (it != scope->vars.end()) return it->second;
  }
  if (const Native native = find_global(expr.name)) {
    auto function = std::make_shared<Callable>();
    function->name = expr.name;
    function->native = native;
    return CallablePtr(std::move(function));
  }
  return Value::undefined(expr.name);
}

Value Interpreter::eval_sequence(const Expr& expr) {
  std::vector<Value> items;
  for (const ExprPtr& kid : expr.kids) items.push_back(eval(*kid));
  return make_list(std::move(items), expr.op == Op::kTuple);
}

Value Interpreter::eval_dict(const Expr& expr) {
  Dict dict;
  for (size_t i = 0; i + 1 < expr.kids.size(); i += 2) {
    const Value key = eval(*expr.kids[i]);
    dict.set(key, eval(*expr.kids[i + 1]));
  }
  return make_dict(std::move(dict));
}

Value Interpreter::eval_item(const Expr& expr) {
  const Value object = eval(*expr.kids[0]);
  if (expr.kids[1]->op == Op::kSlice) return slice(object, *expr.kids[1]);
  const Value key = eval(*expr.kids[1]);
  here_ = expr.offset;
  return item(object, key);
}

Value Interpreter::slice(const Value& object, const Expr& range) {
  const auto bound = [&](size_t i) { return range.kids[i] == nullptr ? Value(None{}) : eval(*range.kids[i]); };
  const Value start = bound(0);
  const Value stop = bound(1);
  const Value step = bound(2);
  here_ = range.offset;
  if (const auto* list = object.as<ListPtr>()) {
    std::vector<Value> items;
    for (const size_t i : slice_positions((*list)->items.size(), start, stop, step)) {
      items.push_back((*list)->items[i]);
    }
    return built(std::move(items), (*list)->is_tuple);
  }
  if (!object.is_string()) fail("a '{}' cannot be sliced", type_name(object));
  const Text& text = object.text();
  std::vector<size_t> starts;  // byte offset of each code point
  for (size_t i = 0; i < text.size(); i += cp_size(text.bytes(), i)) starts.push_back(i);
  charge(starts.size() / 32);
  Text out;
  for (const size_t i : slice_positions(starts.size(), start, stop, step)) {
    out.append(text, starts[i], cp_size(text.bytes(), starts[i]));
  }
  return built(std::move(out));
}

Args Interpreter::eval_args(const Expr& call) {
  Args args;
  for (size_t i = 1; i < call.kids.size(); ++i) args.positional.push_back(eval(*call.kids[i]));
  for (const auto& [name, value] : call.named) args.named.emplace_back(name, eval(*value));
  return args;
}

Value Interpreter::eval_call(const Expr& expr) {
  const Value callee = eval(*expr.kids[0]);
  const Args args = eval_args(expr);
  here_ = expr.offset;
  if (callee.is_undefined() && expr.kids[0]->op == Op::kAttr) {
    fail("there is no method '{}' here", expr.kids[0]->name);
  }
  return call(callee, args);
}

Value Interpreter::eval_filter(const Expr& expr) {
  if (expr.kids[0] == nullptr) fail("a filter needs a value");
  const Value value = eval(*expr.kids[0]);
  const Args args = eval_args(expr);
  here_ = expr.offset;
  return apply_filter(expr.name, value, args);
}

Value Interpreter::eval_sign(const Expr& expr) {
  const Value value = eval(*expr.kids[0]);
  return arithmetic(*this, expr.op == Op::kNegate ? "-" : "+", int64_t{0}, value);
}

Value Interpreter::eval_logic(const Expr& expr) {
  const Value left = eval(*expr.kids[0]);
  if (truthy(left) == (expr.op == Op::kOr)) return left;
  return eval(*expr.kids[1]);
}

Value Interpreter::eval_cond(const Expr& expr) {
  if (truthy(eval(*expr.kids[1]))) return eval(*expr.kids[0]);
  return expr.kids[2] == nullptr ? Value() : eval(*expr.kids[2]);
}

Value Interpreter::eval_compare(const Expr& expr) {
  Value left = eval(*expr.kids[0]);
  for (size_t i = 0; i < expr.names.size(); ++i) {
    Value right = eval(*expr.kids[i + 1]);
    const std::string& op = expr.names[i];
    here_ = expr.offset;
    bool holds = false;
    if (op == "==") holds = equal(left, right);
    if (op == "!=") holds = !equal(left, right);
    if (op == "<") holds = less(left, right);
    if (op == ">") holds = less(right, left);
    if (op == "<=") holds = less(left, right) || equal(left, right);
    if (op == ">=") holds = less(right, left) || equal(left, right);
    if (op == "in" || op == "not in") {
      if (const auto* list = right.as<ListPtr>()) charge((*list)->items.size());
      holds = contains(right, left) == (op == "in");
    }
    if (!holds) return false;
    left = std::move(right);
  }
  return true;
}

Value Interpreter::eval_concat(const Expr& expr) {
  Text out;
  for (const ExprPtr& kid : expr.kids) {
    out.append(to_text(eval(*kid)));
    if (out.size() > kMaxOutputBytes) break;  // built() says so
  }
  return built(std::move(out));
}

Value Interpreter::apply_filter(std::string_view name, const Value& value, const Args& args) {
  const Native filter = find_filter(name);
  if (filter == nullptr) {
    throw TemplateError{Code::kUnsupported, format("there is no filter '{}'", name), kNoOffset};
  }
  charge(1);
  return filter(*this, value, args);
}

bool Interpreter::apply_test(std::string_view name, const Value& value, const Args& args) {
  const Native test = find_test(name);
  if (test == nullptr) throw TemplateError{Code::kUnsupported, format("there is no test '{}'", name), kNoOffset};
  charge(1);
  return truthy(test(*this, value, args));
}

namespace {
Value loop_attribute(const Loop& loop, std::string_view name) {
  const auto& items = *loop.items;
  const auto index0 = static_cast<int64_t>(loop.index0);
  const auto length = static_cast<int64_t>(items.size());
  if (name == "index0") return index0;
  if (name == "index") return index0 + 1;
  if (name == "revindex") return length - index0;
  if (name == "revindex0") return length - index0 - 1;
  if (name == "length") return length;
  if (name == "first") return index0 == 0;
  if (name == "last") return index0 + 1 == length;
  if (name == "depth") return int64_t{1};  // grows in recursive loops only, which we do not have
  if (name == "depth0") return int64_t{0};
  if (name == "previtem" && index0 > 0) return items[loop.index0 - 1];
  if (name == "nextitem" && index0 + 1 < length) return items[loop.index0 + 1];
  return Value::undefined(name);
}
}  // namespace

Value Interpreter::attribute(const Value& object, std::string_view name) const {
  if (const auto* undefined = object.as<Undefined>()) {
    fail("'{}' is undefined: it has no attribute '{}'", undefined->name == nullptr ? "value" : *undefined->name, name);
  }
  if (const Native method = find_method(object, name)) {
    auto bound = std::make_shared<Callable>();
    bound->name = name;
    bound->native = method;
    bound->self = object;
    bound->depth = 1 + depth_of(object);
    if (bound->depth > kMaxValueDepth) fail("a value is nested deeper than {} levels", kMaxValueDepth);
    return CallablePtr(std::move(bound));
  }
  const Value* found = nullptr;
  if (const auto* dict = object.as<DictPtr>()) found = (*dict)->find(name);
  if (const auto* space = object.as<NamespacePtr>()) found = (*space)->fields.find(name);
  if (const auto* loop = object.as<LoopPtr>()) return loop_attribute(**loop, name);
  return found == nullptr ? Value::undefined(name) : *found;
}

Value Interpreter::item(const Value& object, const Value& key) const {
  if (const auto* undefined = object.as<Undefined>()) {
    fail("'{}' is undefined: it has no items", undefined->name == nullptr ? "value" : *undefined->name);
  }
  if (const auto* dict = object.as<DictPtr>()) {
    const bool hashable = key.is_string() || key.is_number() || key.is_none();
    const Value* found = hashable ? (*dict)->find(key) : nullptr;
    if (found != nullptr) return *found;
  }
  if (key.is_string()) return attribute(object, key.text().bytes());
  if (!key.is<int64_t>()) return Value();
  int64_t index = *key.as<int64_t>();
  if (const auto* list = object.as<ListPtr>()) {
    const auto size = static_cast<int64_t>((*list)->items.size());
    if (index < 0) index += size;
    return index < 0 || index >= size ? Value() : (*list)->items[static_cast<size_t>(index)];
  }
  if (!object.is_string()) return Value();
  const Text& text = object.text();
  if (index < 0) index += static_cast<int64_t>(cp_count(text.bytes()));
  size_t position = 0;
  for (; index > 0 && position < text.size(); --index) position += cp_size(text.bytes(), position);
  if (index < 0 || position >= text.size()) return Value();
  return text.sub(position, cp_size(text.bytes(), position));
}

}  // namespace lcrun::text::jinja
