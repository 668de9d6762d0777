// Value: what a template expression can be, with Python's semantics of equality, truth, order and printing.
//
// Integers are 64 bits (overflow is an error), strings are marked Text, dicts keep their order. Lists and dicts are
// immutable once built, hence free of cycles, and at most kMaxValueDepth deep, so recursion over them is bounded;
// only namespaces change, and the Interpreter owns them all. Errors are thrown as TemplateError and caught in
// chat_template.cpp, the only way into this interpreter: no exception leaves src/text.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "src/base/format.hpp"
#include "src/base/result.hpp"
#include "src/text/jinja_text.hpp"

namespace lcrun::text::jinja {

constexpr int kMaxValueDepth = 256;

constexpr size_t kNoOffset = ~size_t{0};

// Internal to the interpreter. `offset`: byte in the template, where known.
struct TemplateError {
  Code code = Code::kInvalidArgument;
  std::string message;
  size_t offset = kNoOffset;
};

template <class... Args>
[[noreturn]] void fail(std::string_view text, const Args&... args) {
  throw TemplateError{Code::kInvalidArgument, format(text, args...), kNoOffset};
}

struct List;
struct Dict;
struct Namespace;
struct Loop;
struct Callable;
using ListPtr = std::shared_ptr<const List>;
using DictPtr = std::shared_ptr<const Dict>;
using NamespacePtr = std::shared_ptr<Namespace>;
using LoopPtr = std::shared_ptr<const Loop>;
using CallablePtr = std::shared_ptr<const Callable>;

struct Undefined {
  std::shared_ptr<const std::string> name;  // null = anonymous; for messages
};
struct None {};

class Value {
 public:
  using Variant = std::variant<Undefined, None, bool, int64_t, double, TextPtr, ListPtr, DictPtr, NamespacePtr, LoopPtr,
                               CallablePtr>;
  Value() = default;
  template <class T, class = std::enable_if_t<std::is_constructible_v<Variant, std::in_place_type_t<T>, T>>>
  Value(T value) : data_(std::in_place_type<T>, std::move(value)) {}          // NOLINT: implicit by intent
  Value(Text text) : data_(std::make_shared<const Text>(std::move(text))) {}  // NOLINT

  static Value undefined(std::string_view name);

  template <class T>
  const T* as() const {
    return std::get_if<T>(&data_);
  }
  template <class T>
  bool is() const {
    return std::holds_alternative<T>(data_);
  }

  bool is_undefined() const { return is<Undefined>(); }
  bool is_none() const { return is<None>(); }
  bool is_string() const { return is<TextPtr>(); }
  bool is_number() const { return is<bool>() || is<int64_t>() || is<double>(); }
  // Requires is_string().
  const Text& text() const { return **as<TextPtr>(); }

 private:
  Variant data_;
};

struct List {
  std::vector<Value> items;
  bool is_tuple = false;
  int depth = 1;
};

// Insertion-ordered; a repeated key replaces the value and keeps the first place.
struct Dict {
  std::vector<std::pair<Value, Value>> entries;
  std::unordered_map<std::string, size_t> index;  // by hash_key
  int depth = 1;

  void set(const Value& key, Value value);
  const Value* find(const Value& key) const;
  const Value* find(std::string_view key) const;
};

struct Namespace {
  Dict fields;
};

// The `loop` variable of one iteration.
struct Loop {
  std::shared_ptr<const std::vector<Value>> items;
  size_t index0 = 0;
  std::shared_ptr<std::vector<Value>> last_changed;  // state of loop.changed
  int depth = 1;                                     // as a value, not in loops
};

Value make_list(std::vector<Value> items, bool is_tuple = false);
Value make_dict(Dict dict);
Value make_text(std::string_view bytes, bool trusted);
int depth_of(const Value& value);

bool truthy(const Value& value);
bool equal(const Value& a, const Value& b);
// Python's <, for numbers, strings, lists; other pairs fail.
bool less(const Value& a, const Value& b);
// A text that is equal exactly for equal keys; fails for lists and dicts.
std::string hash_key(const Value& value);
// "str", "int", ... as Python calls it.
std::string_view type_name(const Value& value);

// str(value) and repr(value).
Text to_text(const Value& value);
void append_repr(const Value& value, Text& out);
std::string float_repr(double value);

// Elements for iteration: list items, dict keys, code points of a string; nothing for undefined; others fail.
std::vector<Value> iterate(const Value& value);

struct JsonStyle {
  bool ensure_ascii = false;
  bool sort_keys = false;
  int indent = -1;  // spaces for each level, -1 = one line
  std::string item_separator = ", ";
  std::string key_separator = ": ";
};
Text to_json(const Value& value, const JsonStyle& style);
// Every string in it is marked `trusted`. Fails on text that is not JSON.
Value from_json(std::string_view json, bool trusted);

}  // namespace lcrun::text::jinja
