// The syntax tree of a chat template. Built once by the parser, then read-only and shared by all renderings.
//
// Depth is bounded by kMaxNesting: `depth` is the height of the subtree, so that recursion over the tree (evaluation,
// destruction) is bounded too.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "src/text/jinja_value.hpp"

namespace lcrun::text::jinja {

constexpr int kMaxNesting = 256;

enum class Op : uint8_t {
  kConst,   // value
  kName,    // name
  kList,    // kids
  kTuple,   // kids
  kDict,    // kids: key, value, key, value ...
  kAttr,    // kids[0].name
  kItem,    // kids[0][kids[1]]
  kSlice,   // kids: start, stop, step; each may be null. Only as kids[1] of kItem
  kCall,    // kids[0](kids[1..], named)
  kFilter,  // kids[0] | name(kids[1..], named); kids[0] null = the text of a block
  kTest,    // kids[0] is name(kids[1..], named)
  kNot,     // kids[0]
  kNegate,  // -kids[0]
  kPlus,    // +kids[0]
  kAnd,     // kids[0] and kids[1]
  kOr,
  kCond,     // kids[0] if kids[1] else kids[2]; kids[2] may be null
  kCompare,  // kids[0] names[0] kids[1] names[1] kids[2] ...
  kConcat,   // kids joined by ~
  kBinary,   // kids[0] name kids[1], name one of + - * / // % **
};

struct Expr;
using ExprPtr = std::unique_ptr<const Expr>;

struct Expr {
  Op op = Op::kConst;
  size_t offset = 0;
  int depth = 1;
  std::string name;
  Value value;
  std::vector<ExprPtr> kids;
  std::vector<std::pair<std::string, ExprPtr>> named;
  std::vector<std::string> names;
};

enum class StmtKind : uint8_t {
  kText,      // text
  kPrint,     // expr
  kIf,        // branches
  kFor,       // target in expr if cond: body, otherwise
  kSet,       // target = expr
  kSetBlock,  // target = body, through filter `expr` if not null
  kMacro,     // name(params): body
  kCall,      // expr is the call; params and body make its caller()
  kFilter,    // body through filter chain `expr`
  kWith,      // names (params) set for body
  kGroup,     // body, without a scope of its own ({% generation %})
  kBreak,
  kContinue,
};

struct Stmt;
using Block = std::vector<Stmt>;

struct Param {
  std::string name;
  ExprPtr value;  // default; null = none
};

struct Branch;

struct Stmt {
  StmtKind kind = StmtKind::kText;
  size_t offset = 0;
  TextPtr text;
  std::string name;
  ExprPtr target;
  ExprPtr expr;
  ExprPtr cond;
  std::vector<Param> params;
  bool uses_varargs = false;
  bool uses_kwargs = false;
  Block body;
  Block otherwise;
  std::vector<Branch> branches;
};

struct Branch {
  ExprPtr cond;  // null = else
  Block body;
};

}  // namespace lcrun::text::jinja
