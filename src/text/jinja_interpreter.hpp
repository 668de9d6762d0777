// Walks the syntax tree and writes the marked output. One Interpreter renders one template once.
//
// Bounded in time and memory whatever the template does: every node visited, element built and 32 bytes of string
// built cost a step, of which there are kMaxSteps; evaluation nests at most kMaxEvalDepth nodes deep (macros calling
// themselves included); no string grows beyond kMaxOutputBytes. Thread rule: single thread.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "src/text/jinja_ast.hpp"
#include "src/text/jinja_call.hpp"

namespace lcrun::text::jinja {

constexpr uint64_t kMaxSteps = 10'000'000;
constexpr size_t kMaxOutputBytes = size_t{16} << 20;
constexpr int kMaxEvalDepth = 800;
constexpr int64_t kMaxRange = 100'000;

struct Scope {
  std::unordered_map<std::string, Value> vars;
  ScopePtr parent;
};

class Interpreter {
 public:
  Interpreter(std::unordered_map<std::string, Value> variables, int64_t now_unix_seconds);
  ~Interpreter();
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

  Text render(const Block& block);
  // Byte of the template that was being evaluated last: where an error happened.
  size_t here() const { return here_; }

  // For native functions.
  void charge(uint64_t steps);
  Value built(Text text);  // checks and charges a string that was just built
  Value built(std::vector<Value> items, bool is_tuple = false);
  Value call(const Value& callee, const Args& args);
  Value apply_filter(std::string_view name, const Value& value, const Args& args);
  bool apply_test(std::string_view name, const Value& value, const Args& args);
  Value make_namespace(Dict fields);
  Value attribute(const Value& object, std::string_view name) const;  // object.name
  Value item(const Value& object, const Value& key) const;            // object[key]
  int64_t now() const { return now_; }

 private:
  enum class Flow : uint8_t { kNext, kBreak, kContinue };
  struct DepthGuard {
    DepthGuard(Interpreter& interpreter, size_t offset);
    ~DepthGuard() { --owner.depth_; }
    DepthGuard(const DepthGuard&) = delete;
    DepthGuard& operator=(const DepthGuard&) = delete;
    Interpreter& owner;
  };
  struct ScopeGuard {  // enters a new scope below `parent`
    ScopeGuard(Interpreter& interpreter, ScopePtr parent);
    ~ScopeGuard() { owner.scope_ = std::move(saved); }
    ScopeGuard(const ScopeGuard&) = delete;
    ScopeGuard& operator=(const ScopeGuard&) = delete;
    Interpreter& owner;
    ScopePtr saved;
  };

  Flow run(const Block& block);
  Flow run(const Stmt& stmt);
  Flow run_if(const Stmt& stmt);
  Flow run_for(const Stmt& stmt);
  void run_with(const Stmt& stmt);
  void run_call(const Stmt& stmt);
  void define_macro(const Stmt& stmt);
  Value make_macro(const Stmt& stmt);
  // Output of `block` in a scope of its own.
  Value capture(const Block& block);
  void emit(const Text& text);
  void assign(const Expr& target, const Value& value);
  Value filter_chain(const Expr& filter, const Value& base);

  Value eval(const Expr& expr);
  Value eval_name(const Expr& expr) const;
  Value eval_sequence(const Expr& expr);
  Value eval_dict(const Expr& expr);
  Value eval_item(const Expr& expr);
  Value eval_call(const Expr& expr);
  Value eval_filter(const Expr& expr);
  Value eval_sign(const Expr& expr);
  Value eval_logic(const Expr& expr);
  Value eval_cond(const Expr& expr);
  Value eval_compare(const Expr& expr);
  Value eval_concat(const Expr& expr);
  Value slice(const Value& object, const Expr& range);
  Args eval_args(const Expr& call);
  Value call_macro(const Callable& macro, const Args& args);
  void bind_params(const Callable& macro, const Args& args);

  ScopePtr root_;
  ScopePtr scope_;
  Text* out_ = nullptr;
  // Everything that could form a reference cycle; emptied at the end.
  std::vector<NamespacePtr> namespaces_;
  std::vector<ScopePtr> captured_;
  uint64_t steps_ = 0;
  int depth_ = 0;
  mutable size_t here_ = 0;
  int64_t now_ = 0;
};

// object `op` object for + - * / // % **.
Value arithmetic(Interpreter& interpreter, std::string_view op, const Value& a, const Value& b);
// needle in haystack.
bool contains(const Value& haystack, const Value& needle);
// "%s and %d" % values.
Value percent_format(Interpreter& interpreter, const Text& pattern, const std::vector<Value>& values);
// Python's slice.indices: the element positions of [start:stop:step] over `size`.
std::vector<size_t> slice_positions(size_t size, const Value& start, const Value& stop, const Value& step);

}  // namespace lcrun::text::jinja
