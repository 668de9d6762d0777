// What can be called in a template: macros, and native functions (globals, methods, filters, tests alike).
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "src/text/jinja_value.hpp"

namespace lcrun::text::jinja {

class Interpreter;
struct Stmt;

struct Args {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;

  // The argument given at `index` or as `name`; null if it was not.
  const Value* find(size_t index, std::string_view name) const;
  Value get(size_t index, std::string_view name, Value fallback) const;
  bool flag(size_t index, std::string_view name, bool fallback) const;
  int64_t integer(size_t index, std::string_view name, int64_t fallback) const;
  // Fails where it is missing or no string.
  const Text& text(size_t index, std::string_view name) const;
  // The rest behind the first `count` positional ones.
  Args behind(size_t count) const;
};

// `self`: the object of a method, the value of a filter or test, undefined for a global function.
using Native = Value (*)(Interpreter&, const Value& self, const Args&);

struct Scope;
using ScopePtr = std::shared_ptr<Scope>;

struct Callable {
  std::string name;
  Native native = nullptr;          // null = a macro
  Value self;                       // bound object of a method; state of a cycler
  const Stmt* macro = nullptr;      // macro or call block; lives in the template
  ScopePtr scope;                   // where the macro was defined
  std::shared_ptr<size_t> counter;  // cycler and joiner: calls so far
  int depth = 1;
};

// Registries: null where there is no such name.
Native find_filter(std::string_view name);
Native find_test(std::string_view name);
Native find_global(std::string_view name);
Native find_method(const Value& self, std::string_view name);

// One row of a registry; rows are looked up linearly (some dozens, each lookup is one comparison of short names).
struct NativeRow {
  std::string_view name;
  Native native;
};
// The parts of the filter registry.
Native find_text_filter(std::string_view name);
Native find_sequence_filter(std::string_view name);

template <size_t n>
Native find_row(const NativeRow (&rows)[n], std::string_view name) {
  for (const NativeRow& row : rows) {
    if (row.name == name) return row.native;
  }
  return nullptr;
}

}  // namespace lcrun::text::jinja
