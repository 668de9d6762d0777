// Filters over sequences: selecting, mapping, sorting, grouping. Lazy ones of Jinja give lists here.
#include <algorithm>
#include <cmath>

#include "src/text/jinja_interpreter.hpp"

namespace lcrun::text::jinja {
namespace {

std::vector<Value> elements(Interpreter& interpreter, const Value& self) {
  std::vector<Value> items = iterate(self);
  interpreter.charge(items.size());
  return items;
}

// value.a.b.0 for the path "a.b.0"; an integer is an index.
Value follow(const Interpreter& interpreter, const Value& value, const Value& path) {
  if (!path.is_string()) return interpreter.item(value, path);
  Value current = value;
  const std::string& bytes = path.text().bytes();
  for (size_t start = 0; start <= bytes.size();) {
    const size_t end = std::min(bytes.find('.', start), bytes.size());
    const std::string part = bytes.substr(start, end - start);
    const bool is_index =
        !part.empty() && part.size() < 10 && part.find_first_not_of("0123456789") == std::string::npos;
    current = interpreter.item(current, is_index ? Value(int64_t{std::stol(part)}) : make_text(part, true));
    start = end + 1;
  }
  return current;
}

// The key that sort, unique, min and max compare by: strings without case unless asked.
Value order_key(const Interpreter& interpreter, const Value& item, const Value& attribute, bool case_sensitive) {
  const Value key = attribute.is_none() ? item : follow(interpreter, item, attribute);
  return key.is_string() && !case_sensitive ? Value(map_text(key.text(), to_lower)) : key;
}

Value length(Interpreter& interpreter, const Value& self, const Args&) {
  if (self.is_string()) {
    interpreter.charge(self.text().size() / 32);
    return static_cast<int64_t>(cp_count(self.text().bytes()));
  }
  if (const auto* list = self.as<ListPtr>()) return static_cast<int64_t>((*list)->items.size());
  if (const auto* dict = self.as<DictPtr>()) return static_cast<int64_t>((*dict)->entries.size());
  if (self.is_undefined()) return int64_t{0};
  fail("a '{}' has no length", type_name(self));
}

Value first(Interpreter& interpreter, const Value& self, const Args&) {
  if (const auto* list = self.as<ListPtr>()) return (*list)->items.empty() ? Value() : (*list)->items.front();
  if (self.is_string()) return interpreter.item(self, int64_t{0});
  const auto items = elements(interpreter, self);
  return items.empty() ? Value() : items.front();
}
Value last(Interpreter& interpreter, const Value& self, const Args&) {
  if (const auto* list = self.as<ListPtr>()) return (*list)->items.empty() ? Value() : (*list)->items.back();
  const auto items = elements(interpreter, self);
  return items.empty() ? Value() : items.back();
}
Value list(Interpreter& interpreter, const Value& self, const Args&) { return make_list(elements(interpreter, self)); }
Value reverse(Interpreter& interpreter, const Value& self, const Args&) {
  auto items = elements(interpreter, self);
  std::reverse(items.begin(), items.end());
  if (!self.is_string()) return make_list(std::move(items));
  Text out;
  for (const Value& item : items) out.append(item.text());
  return interpreter.built(std::move(out));
}

Value join(Interpreter& interpreter, const Value& self, const Args& args) {
  const Text separator = to_text(args.get(0, "d", make_text("", true)));
  const Value attribute = args.get(1, "attribute", None{});
  Text out;
  bool is_first = true;
  for (const Value& item : elements(interpreter, self)) {
    if (!is_first) out.append(separator);
    is_first = false;
    out.append(to_text(attribute.is_none() ? item : follow(interpreter, item, attribute)));
    if (out.size() > kMaxOutputBytes) break;
  }
  return interpreter.built(std::move(out));
}

Value map(Interpreter& interpreter, const Value& self, const Args& args) {
  std::vector<Value> out;
  const Value* attribute = args.positional.empty() ? args.find(0, "attribute") : nullptr;
  if (attribute == nullptr && args.positional.empty()) fail("map needs a filter or attribute=");
  const Value fallback = args.get(99, "default", Value());
  if (!truthy(self)) return make_list({});
  for (const Value& item : elements(interpreter, self)) {
    if (attribute == nullptr) {
      out.push_back(interpreter.apply_filter(args.text(0, "name").bytes(), item, args.behind(1)));
      continue;
    }
    Value value = follow(interpreter, item, *attribute);
    out.push_back(value.is_undefined() ? fallback : std::move(value));
  }
  return make_list(std::move(out));
}

template <bool keeps, bool by_attribute>
Value pick(Interpreter& interpreter, const Value& self, const Args& args) {
  constexpr size_t kSkip = by_attribute ? 1 : 0;
  if (args.positional.size() < kSkip) fail("an attribute name is missing");
  std::vector<Value> out;
  if (!truthy(self)) return make_list({});  // none too, as in Jinja
  for (const Value& item : elements(interpreter, self)) {
    const Value value = by_attribute ? follow(interpreter, item, args.positional[0]) : item;
    const bool holds = args.positional.size() == kSkip
                           ? truthy(value)
                           : interpreter.apply_test(args.text(kSkip, "test").bytes(), value, args.behind(kSkip + 1));
    if (holds == keeps) out.push_back(item);
  }
  return make_list(std::move(out));
}

// Stable; charges n log n comparisons ahead.
std::vector<Value> sorted(Interpreter& interpreter, std::vector<Value> items, bool reversed, bool case_sensitive,
                          const Value& attribute) {
  std::vector<std::pair<Value, Value>> keyed;
  for (Value& item : items) {
    Value key = order_key(interpreter, item, attribute, case_sensitive);
    keyed.emplace_back(std::move(key), std::move(item));
  }
  const double size = static_cast<double>(keyed.size());
  interpreter.charge(static_cast<uint64_t>(size * std::log2(size + 1)));
  std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& a, const auto& b) {
    return reversed ? less(b.first, a.first) : less(a.first, b.first);
  });
  items.clear();
  for (auto& entry : keyed) items.push_back(std::move(entry.second));
  return items;
}

Value sort(Interpreter& interpreter, const Value& self, const Args& args) {
  return make_list(sorted(interpreter, elements(interpreter, self), args.flag(0, "reverse", false),
                          args.flag(1, "case_sensitive", false), args.get(2, "attribute", None{})));
}

Value dict_items(Interpreter& interpreter, const Value& self, const Args& args) {
  if (self.is_undefined()) return make_list({});
  if (!self.is<DictPtr>()) fail("items needs a mapping, not '{}'", type_name(self));
  return find_method(self, "items")(interpreter, self, args);
}

Value dictsort(Interpreter& interpreter, const Value& self, const Args& args) {
  const Value by = args.get(1, "by", make_text("key", true));
  const int64_t index = by.is_string() && by.text().bytes() == "value" ? 1 : 0;
  const Value items = dict_items(interpreter, self, {});
  return make_list(sorted(interpreter, (*items.as<ListPtr>())->items, args.flag(2, "reverse", false),
                          args.flag(0, "case_sensitive", false), index));
}

template <bool wants_max>
Value extreme(Interpreter& interpreter, const Value& self, const Args& args) {
  const auto items = elements(interpreter, self);
  const bool case_sensitive = args.flag(0, "case_sensitive", false);
  const Value attribute = args.get(1, "attribute", None{});
  Value best;
  Value best_key;
  for (size_t i = 0; i < items.size(); ++i) {
    const Value key = order_key(interpreter, items[i], attribute, case_sensitive);
    if (i > 0 && !(wants_max ? less(best_key, key) : less(key, best_key))) continue;
    best = items[i];
    best_key = key;
  }
  return best;
}

Value unique(Interpreter& interpreter, const Value& self, const Args& args) {
  const bool case_sensitive = args.flag(0, "case_sensitive", false);
  const Value attribute = args.get(1, "attribute", None{});
  Dict seen;
  std::vector<Value> out;
  for (const Value& item : elements(interpreter, self)) {
    const Value key = order_key(interpreter, item, attribute, case_sensitive);
    if (seen.find(key) != nullptr) continue;
    seen.set(key, true);
    out.push_back(item);
  }
  return make_list(std::move(out));
}

Value sum(Interpreter& interpreter, const Value& self, const Args& args) {
  const Value attribute = args.get(0, "attribute", None{});
  Value total = args.get(1, "start", int64_t{0});
  for (const Value& item : elements(interpreter, self)) {
    total = arithmetic(interpreter, "+", total, attribute.is_none() ? item : follow(interpreter, item, attribute));
  }
  return total;
}

Value batch(Interpreter& interpreter, const Value& self, const Args& args) {
  const int64_t size = args.integer(0, "linecount", 0);
  if (size < 1 || size > kMaxRange) fail("batch needs a size from 1 to {}", kMaxRange);
  std::vector<Value> rows;
  std::vector<Value> row;
  for (const Value& item : elements(interpreter, self)) {
    row.push_back(item);
    if (static_cast<int64_t>(row.size()) == size) rows.push_back(make_list(std::exchange(row, {})));
  }
  if (!row.empty()) {
    const Value fill = args.get(1, "fill_with", None{});
    if (!fill.is_none()) row.resize(static_cast<size_t>(size), fill);
    rows.push_back(make_list(std::move(row)));
  }
  return interpreter.built(std::move(rows));
}

Value slice_filter(Interpreter& interpreter, const Value& self, const Args& args) {
  const auto items = elements(interpreter, self);
  const int64_t count = args.integer(0, "slices", 0);
  if (count < 1 || count > kMaxRange) fail("slice needs a count from 1 to {}", kMaxRange);
  const auto slices = static_cast<size_t>(count);
  interpreter.charge(slices);
  const Value fill = args.get(1, "fill_with", None{});
  const size_t longer = items.size() % slices;  // the first ones hold one more
  std::vector<Value> out;
  size_t position = 0;
  for (size_t i = 0; i < slices; ++i) {
    const size_t size = items.size() / slices + (i < longer ? 1 : 0);
    const auto begin = items.begin() + static_cast<ptrdiff_t>(position);
    std::vector<Value> part(begin, begin + static_cast<ptrdiff_t>(size));
    if (!fill.is_none() && i >= longer) part.push_back(fill);
    out.push_back(make_list(std::move(part)));
    position += size;
  }
  return make_list(std::move(out));
}

Value groupby(Interpreter& interpreter, const Value& self, const Args& args) {
  const Value attribute = args.get(0, "attribute", None{});
  const bool case_sensitive = args.flag(2, "case_sensitive", false);
  const auto items = sorted(interpreter, elements(interpreter, self), false, case_sensitive, attribute);
  std::vector<Value> groups;
  std::vector<Value> group;
  for (size_t i = 0; i < items.size(); ++i) {
    group.push_back(items[i]);
    const Value key = order_key(interpreter, items[i], attribute, case_sensitive);
    const bool ends =
        i + 1 == items.size() || !equal(key, order_key(interpreter, items[i + 1], attribute, case_sensitive));
    if (!ends) continue;
    const Value name = follow(interpreter, group.front(), attribute);
    groups.push_back(make_list({name, make_list(std::exchange(group, {}))}, true));
  }
  return make_list(std::move(groups));
}

constexpr NativeRow kFilters[] = {
    {"length", length},
    {"count", length},
    {"first", first},
    {"last", last},
    {"list", list},
    {"reverse", reverse},
    {"join", join},
    {"map", map},
    {"select", pick<true, false>},
    {"reject", pick<false, false>},
    {"selectattr", pick<true, true>},
    {"rejectattr", pick<false, true>},
    {"sort", sort},
    {"items", dict_items},
    {"dictsort", dictsort},
    {"min", extreme<false>},
    {"max", extreme<true>},
    {"unique", unique},
    {"sum", sum},
    {"batch", batch},
    {"slice", slice_filter},
    {"groupby", groupby},
};

}  // namespace

Native find_sequence_filter(std::string_view name) { return find_row(kFilters, name); }

}  // namespace lcrun::text::jinja
