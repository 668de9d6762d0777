// Statements, scopes and macros; expressions are in jinja_eval.cpp.
#include "src/text/jinja_interpreter.hpp"

#include <algorithm>

namespace lcrun::text::jinja {

const Value* Args::find(size_t index, std::string_view name) const {
  if (index < positional.size()) return &positional[index];
  for (const auto& [key, value] : named) {
    if (key == name) return &value;
  }
  return nullptr;
}

Value Args::get(size_t index, std::string_view name, Value fallback) const {
  const Value* value = find(index, name);
  return value == nullptr ? std::move(fallback) : *value;
}

bool Args::flag(size_t index, std::string_view name, bool fallback) const {
  const Value* value = find(index, name);
  return value == nullptr ? fallback : truthy(*value);
}

int64_t Args::integer(size_t index, std::string_view name, int64_t fallback) const {
  const Value* value = find(index, name);
  if (value == nullptr || value->is_none()) return fallback;
  if (const auto* b = value->as<bool>()) return *b ? 1 : 0;
  if (!value->is<int64_t>()) fail("argument '{}' must be an integer, not '{}'", name, type_name(*value));
  return *value->as<int64_t>();
}

const Text& Args::text(size_t index, std::string_view name) const {
  const Value* value = find(index, name);
  if (value == nullptr || !value->is_string()) fail("argument '{}' must be a string", name);
  return value->text();
}

Args Args::behind(size_t count) const {
  Args rest;
  for (size_t i = count; i < positional.size(); ++i) rest.positional.push_back(positional[i]);
  rest.named = named;
  return rest;
}

Interpreter::Interpreter(std::unordered_map<std::string, Value> variables, int64_t now_unix_seconds)
    : root_(std::make_shared<Scope>()), scope_(root_), now_(now_unix_seconds) {
  root_->vars = std::move(variables);
}

Interpreter::~Interpreter() {
  for (const NamespacePtr& space : namespaces_) space->fields = Dict();
  for (const ScopePtr& scope : captured_) scope->vars.clear();
}

Text Interpreter::render(const Block& block) {
  Text out;
  out_ = &out;
  run(block);
  return out;
}

void Interpreter::charge(uint64_t steps) {
  steps_ += steps;
  if (steps_ > kMaxSteps) fail("the template ran for more than {} steps", kMaxSteps);
}

Value Interpreter::built(Text text) {
  if (text.size() > kMaxOutputBytes) fail("a string grew beyond {} bytes", kMaxOutputBytes);
  charge(text.size() / 32 + text.runs().size());
  return text;
}

Value Interpreter::built(std::vector<Value> items, bool is_tuple) {
  charge(items.size());
  return make_list(std::move(items), is_tuple);
}

Interpreter::DepthGuard::DepthGuard(Interpreter& interpreter, size_t offset) : owner(interpreter) {
  owner.here_ = offset;
  owner.charge(1);
  if (owner.depth_ >= kMaxEvalDepth) fail("evaluation nested deeper than {} levels", kMaxEvalDepth);
  ++owner.depth_;
}

Interpreter::ScopeGuard::ScopeGuard(Interpreter& interpreter, ScopePtr parent)
    : owner(interpreter), saved(interpreter.scope_) {
  auto scope = std::make_shared<Scope>();
  scope->parent = std::move(parent);
  owner.scope_ = std::move(scope);
}

void Interpreter::emit(const Text& text) {
  if (out_->size() + text.size() > kMaxOutputBytes) fail("the output grew beyond {} bytes", kMaxOutputBytes);
  charge(text.size() / 32);
  out_->append(text);
}

Value Interpreter::capture(const Block& block) {
  Text text;
  Text* const saved = std::exchange(out_, &text);
  try {
    const ScopeGuard guard(*this, scope_);
    run(block);
  } catch (...) {
    out_ = saved;
    throw;
  }
  out_ = saved;
  return text;
}

Interpreter::Flow Interpreter::run(const Block& block) {
  for (const Stmt& stmt : block) {
    const Flow flow = run(stmt);
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::run(const Stmt& stmt) {
  const DepthGuard guard(*this, stmt.offset);
  switch (stmt.kind) {
    case StmtKind::kText:
      emit(*stmt.text);
      break;
    case StmtKind::kPrint: {
      const Value value = eval(*stmt.expr);
      emit(value.is_string() ? value.text() : to_text(value));
      break;
    }
    case StmtKind::kIf:
      return run_if(stmt);
    case StmtKind::kFor:
      return run_for(stmt);
    case StmtKind::kSet:
      assign(*stmt.target, eval(*stmt.expr));
      break;
    case StmtKind::kSetBlock: {
      const Value text = capture(stmt.body);
      assign(*stmt.target, stmt.expr == nullptr ? text : filter_chain(*stmt.expr, text));
      break;
    }
    case StmtKind::kMacro:
      define_macro(stmt);
      break;
    case StmtKind::kCall:
      run_call(stmt);
      break;
    case StmtKind::kFilter:
      emit(to_text(filter_chain(*stmt.expr, capture(stmt.body))));
      break;
    case StmtKind::kWith:
      run_with(stmt);
      break;
    case StmtKind::kGroup:
      return run(stmt.body);
    case StmtKind::kBreak:
      return Flow::kBreak;
    case StmtKind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::run_if(const Stmt& stmt) {
  for (const Branch& branch : stmt.branches) {
    if (branch.cond == nullptr || truthy(eval(*branch.cond))) return run(branch.body);
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::run_for(const Stmt& stmt) {
  const Value sequence = eval(*stmt.expr);
  auto items = std::make_shared<std::vector<Value>>(iterate(sequence));
  charge(items->size());
  if (stmt.cond != nullptr) {
    std::vector<Value> kept;
    for (const Value& item : *items) {
      const ScopeGuard guard(*this, scope_);
      assign(*stmt.target, item);
      if (truthy(eval(*stmt.cond))) kept.push_back(item);
    }
    *items = std::move(kept);
  }
  if (items->empty()) {
    const ScopeGuard guard(*this, scope_);
    return run(stmt.otherwise);  // a break in it belongs to the loop outside
  }
  auto changed = std::make_shared<std::vector<Value>>();
  int depth = 1;
  for (const Value& item : *items) depth = std::max(depth, 1 + depth_of(item));
  for (size_t i = 0; i < items->size(); ++i) {
    const ScopeGuard guard(*this, scope_);
    assign(*stmt.target, (*items)[i]);
    scope_->vars["loop"] = LoopPtr(std::make_shared<const Loop>(Loop{items, i, changed, depth}));
    if (run(stmt.body) == Flow::kBreak) break;
  }
  return Flow::kNext;
}

void Interpreter::run_with(const Stmt& stmt) {
  std::vector<Value> values;
  for (const Param& param : stmt.params) values.push_back(eval(*param.value));
  const ScopeGuard guard(*this, scope_);
  for (size_t i = 0; i < values.size(); ++i) scope_->vars[stmt.params[i].name] = values[i];
  run(stmt.body);
}

Value Interpreter::make_macro(const Stmt& stmt) {
  auto macro = std::make_shared<Callable>();
  macro->name = stmt.name;
  macro->macro = &stmt;
  macro->scope = scope_;
  if (captured_.empty() || captured_.back() != scope_) captured_.push_back(scope_);
  return CallablePtr(std::move(macro));
}

void Interpreter::define_macro(const Stmt& stmt) { scope_->vars[stmt.name] = make_macro(stmt); }

void Interpreter::run_call(const Stmt& stmt) {
  const Value callee = eval(*stmt.expr->kids[0]);
  Args args = eval_args(*stmt.expr);
  args.named.emplace_back("caller", make_macro(stmt));
  emit(to_text(call(callee, args)));
}

void Interpreter::assign(const Expr& target, const Value& value) {
  if (target.op == Op::kName) {
    scope_->vars[target.name] = value;
  } else if (target.op == Op::kAttr) {
    const Value object = eval(*target.kids[0]);
    const auto* space = object.as<NamespacePtr>();
    if (space == nullptr) fail("only attributes of a namespace can be set, not of '{}'", type_name(object));
    (*space)->fields.set(make_text(target.name, true), value);
    (*space)->fields.depth = 1;  // a namespace may hold anything: it is never recursed into
  } else {
    const std::vector<Value> parts = iterate(value);
    if (parts.size() != target.kids.size()) {
      fail("cannot unpack {} values into {} names", parts.size(), target.kids.size());
    }
    for (size_t i = 0; i < parts.size(); ++i) assign(*target.kids[i], parts[i]);
  }
}

Value Interpreter::filter_chain(const Expr& filter, const Value& base) {
  const Value inner = filter.kids[0] == nullptr ? base : filter_chain(*filter.kids[0], base);
  return apply_filter(filter.name, inner, eval_args(filter));
}

Value Interpreter::call(const Value& callee, const Args& args) {
  if (const auto* name = callee.as<Undefined>()) {
    fail("'{}' is undefined and cannot be called", name->name == nullptr ? "value" : *name->name);
  }
  const auto* callable = callee.as<CallablePtr>();
  if (callable == nullptr) fail("a '{}' cannot be called", type_name(callee));
  const CallablePtr keep = *callable;
  if (keep->native == nullptr) return call_macro(*keep, args);
  return keep->native(*this, keep->counter == nullptr ? keep->self : callee, args);
}

Value Interpreter::call_macro(const Callable& macro, const Args& args) {
  const DepthGuard depth(*this, here_);
  const ScopeGuard guard(*this, macro.scope);
  bind_params(macro, args);
  return capture(macro.macro->body);
}

void Interpreter::bind_params(const Callable& macro, const Args& args) {
  const Stmt& stmt = *macro.macro;
  Args rest = args.behind(stmt.params.size());
  if (!rest.positional.empty() && !stmt.uses_varargs) {
    fail("macro '{}' takes {} arguments", macro.name, stmt.params.size());
  }
  scope_->vars["varargs"] = make_list(rest.positional, true);
  Dict extra;
  scope_->vars["caller"] = Value::undefined("caller");
  for (const auto& [name, value] : args.named) {
    const bool known = std::any_of(stmt.params.begin(), stmt.params.end(),
                                   [&key = name](const Param& param) { return param.name == key; });
    if (known) continue;
    if (name == "caller") {
      scope_->vars["caller"] = value;
    } else {
      if (!stmt.uses_kwargs) fail("macro '{}' has no argument '{}'", macro.name, name);
      extra.set(make_text(name, true), value);
    }
  }
  scope_->vars["kwargs"] = make_dict(std::move(extra));
  for (size_t i = 0; i < stmt.params.size(); ++i) {
    const Param& param = stmt.params[i];
    const Value* given = args.find(i, param.name);
    Value value = Value::undefined(param.name);
    if (given != nullptr) {
      value = *given;
    } else if (param.value != nullptr) {
      value = eval(*param.value);
    }
    scope_->vars[param.name] = std::move(value);
  }
}

Value Interpreter::make_namespace(Dict fields) {
  auto space = std::make_shared<Namespace>();
  space->fields = std::move(fields);
  namespaces_.push_back(space);
  return NamespacePtr(std::move(space));
}

}  // namespace lcrun::text::jinja
