// Tests ("is defined") and global functions (range, namespace, raise_exception, strftime_now ...).
#include <ctime>

#include "src/text/jinja_interpreter.hpp"

namespace lcrun::text::jinja {
namespace {

Value is_defined(Interpreter&, const Value& self, const Args&) { return !self.is_undefined(); }
Value is_undefined_test(Interpreter&, const Value& self, const Args&) { return self.is_undefined(); }
Value is_none_test(Interpreter&, const Value& self, const Args&) { return self.is_none(); }
Value is_boolean(Interpreter&, const Value& self, const Args&) { return self.is<bool>(); }
Value is_true(Interpreter&, const Value& self, const Args&) { return self.is<bool>() && *self.as<bool>(); }
Value is_false(Interpreter&, const Value& self, const Args&) { return self.is<bool>() && !*self.as<bool>(); }
Value is_integer(Interpreter&, const Value& self, const Args&) { return self.is<int64_t>(); }
Value is_float(Interpreter&, const Value& self, const Args&) { return self.is<double>(); }
Value is_number_test(Interpreter&, const Value& self, const Args&) { return self.is_number(); }
Value is_string_test(Interpreter&, const Value& self, const Args&) { return self.is_string(); }
Value is_mapping(Interpreter&, const Value& self, const Args&) { return self.is<DictPtr>(); }
Value is_callable(Interpreter&, const Value& self, const Args&) { return self.is<CallablePtr>(); }
Value is_sequence(Interpreter&, const Value& self, const Args&) {
  return self.is_string() || self.is<ListPtr>() || self.is<DictPtr>() || self.is_undefined();
}
Value is_odd(Interpreter& interpreter, const Value& self, const Args&) {
  return equal(arithmetic(interpreter, "%", self, int64_t{2}), int64_t{1});
}
Value is_even(Interpreter& interpreter, const Value& self, const Args&) {
  return equal(arithmetic(interpreter, "%", self, int64_t{2}), int64_t{0});
}
Value is_divisible(Interpreter& interpreter, const Value& self, const Args& args) {
  return equal(arithmetic(interpreter, "%", self, args.get(0, "num", Value())), int64_t{0});
}
Value is_lower(Interpreter& interpreter, const Value& self, const Args& args) {
  const Value text = to_text(self);
  return find_method(text, "islower")(interpreter, text, args);
}
Value is_upper(Interpreter& interpreter, const Value& self, const Args& args) {
  const Value text = to_text(self);
  return find_method(text, "isupper")(interpreter, text, args);
}
Value other(const Args& args) {
  if (args.positional.empty()) fail("the test needs an operand");
  return args.positional[0];
}
Value is_equal(Interpreter&, const Value& self, const Args& args) { return equal(self, other(args)); }
Value is_unequal(Interpreter&, const Value& self, const Args& args) { return !equal(self, other(args)); }
Value is_less(Interpreter&, const Value& self, const Args& args) { return less(self, other(args)); }
Value is_greater(Interpreter&, const Value& self, const Args& args) { return less(other(args), self); }
Value is_at_most(Interpreter&, const Value& self, const Args& args) {
  return less(self, other(args)) || equal(self, other(args));
}
Value is_at_least(Interpreter&, const Value& self, const Args& args) {
  return less(other(args), self) || equal(self, other(args));
}
Value is_in(Interpreter& interpreter, const Value& self, const Args& args) {
  const Value haystack = other(args);
  if (const auto* list = haystack.as<ListPtr>()) interpreter.charge((*list)->items.size());
  return contains(haystack, self);
}
Value is_same(Interpreter&, const Value& self, const Args& args) {
  const Value right = other(args);
  return type_name(self) == type_name(right) && equal(self, right);
}
Value is_filter(Interpreter&, const Value& self, const Args&) {
  return self.is_string() && find_filter(self.text().bytes()) != nullptr;
}
Value is_test(Interpreter&, const Value& self, const Args&) {
  return self.is_string() && find_test(self.text().bytes()) != nullptr;
}
Value is_escaped(Interpreter&, const Value&, const Args&) { return false; }

constexpr NativeRow kTests[] = {
    {"defined", is_defined},
    {"undefined", is_undefined_test},
    {"none", is_none_test},
    {"boolean", is_boolean},
    {"true", is_true},
    {"false", is_false},
    {"integer", is_integer},
    {"float", is_float},
    {"number", is_number_test},
    {"string", is_string_test},
    {"mapping", is_mapping},
    {"callable", is_callable},
    {"sequence", is_sequence},
    {"iterable", is_sequence},
    {"odd", is_odd},
    {"even", is_even},
    {"divisibleby", is_divisible},
    {"lower", is_lower},
    {"upper", is_upper},
    {"equalto", is_equal},
    {"eq", is_equal},
    {"==", is_equal},
    {"ne", is_unequal},
    {"!=", is_unequal},
    {"lt", is_less},
    {"<", is_less},
    {"lessthan", is_less},
    {"gt", is_greater},
    {">", is_greater},
    {"greaterthan", is_greater},
    {"le", is_at_most},
    {"<=", is_at_most},
    {"ge", is_at_least},
    {">=", is_at_least},
    {"in", is_in},
    {"sameas", is_same},
    {"filter", is_filter},
    {"test", is_test},
    {"escaped", is_escaped},
};

Value range(Interpreter& interpreter, const Value&, const Args& args) {
  if (args.positional.empty() || args.positional.size() > 3) fail("range takes 1 to 3 integers");
  const bool one = args.positional.size() == 1;
  const int64_t start = one ? 0 : args.integer(0, "start", 0);
  const int64_t stop = args.integer(one ? 0 : 1, "stop", 0);
  const int64_t step = args.integer(2, "step", 1);
  if (step == 0) fail("the step of range cannot be zero");
  std::vector<Value> items;
  for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
    if (static_cast<int64_t>(items.size()) == kMaxRange) fail("range: more than {} elements", kMaxRange);
    items.emplace_back(i);
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return interpreter.built(std::move(items));
}

Dict named_fields(const Args& args) {
  Dict fields;
  if (!args.positional.empty()) {
    const auto* base = args.positional[0].as<DictPtr>();
    if (base == nullptr) fail("a mapping was expected, not '{}'", type_name(args.positional[0]));
    fields = **base;
  }
  for (const auto& [name, value] : args.named) fields.set(make_text(name, true), value);
  return fields;
}
Value namespace_function(Interpreter& interpreter, const Value&, const Args& args) {
  return interpreter.make_namespace(named_fields(args));
}
Value dict(Interpreter&, const Value&, const Args& args) { return make_dict(named_fields(args)); }

Value raise_exception(Interpreter&, const Value&, const Args& args) {
  fail("{}", to_text(args.get(0, "message", make_text("the template raised an exception", true))).bytes());
}

Value strftime_now(Interpreter& interpreter, const Value&, const Args& args) {
  const std::string& pattern = args.text(0, "format").bytes();
  if (pattern.empty()) return make_text("", true);
  if (pattern.size() > 1000) fail("strftime_now: the format is too long");
  const std::time_t seconds = interpreter.now();
  std::tm utc{};
  if (gmtime_r(&seconds, &utc) == nullptr) fail("strftime_now: the time is out of range");
  char buffer[4096];
  const size_t size = std::strftime(buffer, sizeof(buffer), pattern.c_str(), &utc);
  if (size == 0) fail("strftime_now: the format '{}' gives no text", pattern);
  return make_text(std::string_view(buffer, size), true);
}

// The object that cycler(...) and joiner(...) give: a native with a counter. `self` is the callable itself.
Value counted(std::string_view name, Native native, Value state) {
  auto object = std::make_shared<Callable>();
  object->name = name;
  object->native = native;
  object->depth = 1 + depth_of(state);
  if (object->depth > kMaxValueDepth) fail("a value is nested deeper than {} levels", kMaxValueDepth);
  object->self = std::move(state);
  object->counter = std::make_shared<size_t>(0);
  return CallablePtr(std::move(object));
}
Value joiner_call(Interpreter&, const Value& self, const Args&) {
  const Callable& joiner = **self.as<CallablePtr>();
  return (*joiner.counter)++ == 0 ? make_text("", true) : joiner.self;
}
Value joiner(Interpreter&, const Value&, const Args& args) {
  return counted("joiner", joiner_call, args.get(0, "sep", make_text(", ", true)));
}

constexpr NativeRow kGlobals[] = {
    {"range", range},
    {"namespace", namespace_function},
    {"dict", dict},
    {"raise_exception", raise_exception},
    {"strftime_now", strftime_now},
    {"joiner", joiner},
};

}  // namespace

Native find_test(std::string_view name) { return find_row(kTests, name); }
Native find_global(std::string_view name) { return find_row(kGlobals, name); }

}  // namespace lcrun::text::jinja
