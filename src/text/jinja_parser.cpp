// The statement half of the parser: {% ... %} tags and what stands between them.
#include "src/text/jinja_parser.hpp"

#include <algorithm>

#include "src/text/jinja_expr_parser.hpp"

namespace lcrun::text::jinja {
namespace {

class Parser : public ExprParser {
 public:
  using ExprParser::ExprParser;

  Block run() {
    Block block = parse_block({});
    if (current().type != TokenType::kEnd) unexpected("the end of the template");
    return block;
  }

 private:
  // Statements up to one of the tags `ends` (left unread, behind its "{%"); with no ends, to the template's end.
  Block parse_block(std::initializer_list<std::string_view> ends) {
    const Nest nest(*this);
    Block block;
    while (current().type != TokenType::kEnd) {
      const Token& token = next();
      if (token.type == TokenType::kText) {
        Stmt stmt = make_stmt(StmtKind::kText, token.offset);
        stmt.text = std::make_shared<const Text>(token.value, true);
        block.push_back(std::move(stmt));
      } else if (token.type == TokenType::kPrintBegin) {
        Stmt stmt = make_stmt(StmtKind::kPrint, token.offset);
        stmt.expr = parse_tuple();
        if (current().type != TokenType::kPrintEnd) unexpected("'}}'");
        next();
        block.push_back(std::move(stmt));
      } else {
        if (std::any_of(ends.begin(), ends.end(), [&](std::string_view end) { return at_name(end); })) return block;
        block.push_back(parse_statement());
      }
    }
    if (ends.size() > 0) unexpected(format("{% {} %}", *ends.begin()));
    return block;
  }

  static Stmt make_stmt(StmtKind kind, size_t offset) {
    Stmt stmt;
    stmt.kind = kind;
    stmt.offset = offset;
    return stmt;
  }

  void end_tag() {
    if (current().type != TokenType::kBlockEnd) unexpected("'%}'");
    next();
  }

  // The body of `stmt` and its closing tag.
  void parse_body(Stmt& stmt, std::string_view end) {
    end_tag();
    stmt.body = parse_block({end});
    next();
    end_tag();
  }

  Stmt parse_statement() {
    const size_t offset = current().offset;
    const std::string name = expect_name();
    if (name == "if") return parse_if(offset);
    if (name == "for") return parse_for(offset);
    if (name == "set") return parse_set(offset);
    if (name == "macro") return parse_macro(offset);
    if (name == "call") return parse_call_block(offset);
    if (name == "filter") return parse_filter_block(offset);
    if (name == "with") return parse_with(offset);
    if (name == "generation") {
      Stmt stmt = make_stmt(StmtKind::kGroup, offset);
      parse_body(stmt, "endgeneration");
      return stmt;
    }
    if (name == "break" || name == "continue") {
      if (loops_ == 0) bad(offset, format("{} outside of a loop", name));
      end_tag();
      return make_stmt(name == "break" ? StmtKind::kBreak : StmtKind::kContinue, offset);
    }
    throw TemplateError{Code::kUnsupported, format("the statement '{}' is not supported here", name), offset};
  }

  Stmt parse_if(size_t offset) {
    Stmt stmt = make_stmt(StmtKind::kIf, offset);
    while (true) {
      Branch branch;
      branch.cond = parse_tuple();
      end_tag();
      branch.body = parse_block({"endif", "elif", "else"});
      stmt.branches.push_back(std::move(branch));
      if (!skip_name("elif")) break;
    }
    if (skip_name("else")) {
      Branch branch;
      end_tag();
      branch.body = parse_block({"endif"});
      stmt.branches.push_back(std::move(branch));
    }
    next();
    end_tag();
    return stmt;
  }

  Stmt parse_for(size_t offset) {
    Stmt stmt = make_stmt(StmtKind::kFor, offset);
    stmt.target = parse_target(false);
    if (!skip_name("in")) unexpected("'in'");
    stmt.expr = parse_tuple(false);
    if (skip_name("if")) stmt.cond = parse_expression();
    if (at_name("recursive")) {
      throw TemplateError{Code::kUnsupported, "recursive loops are not supported", current().offset};
    }
    end_tag();
    ++loops_;
    stmt.body = parse_block({"endfor", "else"});
    --loops_;
    if (skip_name("else")) {
      end_tag();
      stmt.otherwise = parse_block({"endfor"});
    }
    next();
    end_tag();
    return stmt;
  }

  Stmt parse_set(size_t offset) {
    Stmt stmt = make_stmt(StmtKind::kSet, offset);
    stmt.target = parse_target(true);
    if (skip_op("=")) {
      stmt.expr = parse_tuple();
      end_tag();
      return stmt;
    }
    stmt.kind = StmtKind::kSetBlock;
    if (at_op("|")) stmt.expr = parse_filters(nullptr, false);
    parse_body(stmt, "endset");
    return stmt;
  }

  void parse_params(Stmt& stmt) {
    expect_op("(");
    while (!at_op(")")) {
      Param param;
      param.name = expect_name();
      if (skip_op("=")) {
        param.value = parse_expression();
      } else if (!stmt.params.empty() && stmt.params.back().value != nullptr) {
        unexpected("'=' (parameters with defaults come last)");
      }
      stmt.params.push_back(std::move(param));
      if (!at_op(")")) expect_op(",");
    }
    expect_op(")");
  }

  // Body of a macro or call block; notes which undeclared arguments it can take.
  void parse_macro_body(Stmt& stmt, std::string_view end) {
    const bool outer_varargs = std::exchange(saw_varargs_, false);
    const bool outer_kwargs = std::exchange(saw_kwargs_, false);
    const int outer_loops = std::exchange(loops_, 0);
    parse_body(stmt, end);
    stmt.uses_varargs = std::exchange(saw_varargs_, outer_varargs);
    stmt.uses_kwargs = std::exchange(saw_kwargs_, outer_kwargs);
    loops_ = outer_loops;
  }

  Stmt parse_macro(size_t offset) {
    Stmt stmt = make_stmt(StmtKind::kMacro, offset);
    stmt.name = expect_name();
    parse_params(stmt);
    parse_macro_body(stmt, "endmacro");
    return stmt;
  }

  Stmt parse_call_block(size_t offset) {
    Stmt stmt = make_stmt(StmtKind::kCall, offset);
    stmt.name = "caller";
    if (at_op("(")) parse_params(stmt);
    stmt.expr = parse_expression();
    if (stmt.expr->op != Op::kCall) bad(stmt.expr->offset, "a call block needs a call");
    parse_macro_body(stmt, "endcall");
    return stmt;
  }

  Stmt parse_filter_block(size_t offset) {
    Stmt stmt = make_stmt(StmtKind::kFilter, offset);
    stmt.expr = parse_filters(nullptr, true);
    parse_body(stmt, "endfilter");
    return stmt;
  }

  Stmt parse_with(size_t offset) {
    Stmt stmt = make_stmt(StmtKind::kWith, offset);
    while (!at_end_of_tag()) {
      Param param;
      param.name = expect_name();
      expect_op("=");
      param.value = parse_expression();
      stmt.params.push_back(std::move(param));
      if (!at_end_of_tag()) expect_op(",");
    }
    parse_body(stmt, "endwith");
    return stmt;
  }

  int loops_ = 0;
};

}  // namespace

Block parse(std::string_view source) { return Parser(lex(source)).run(); }

}  // namespace lcrun::text::jinja
