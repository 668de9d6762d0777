// Methods of strings, dicts, lists and the loop variable. Those that would change a list or dict do not exist here,
// as in the immutable sandbox that chat templates are written for.
#include <algorithm>

#include "src/text/jinja_interpreter.hpp"

namespace lcrun::text::jinja {
namespace {

Value strip_with(Interpreter& interpreter, const Value& self, const Args& args, bool left, bool right) {
  const Value* chars = args.find(0, "chars");
  const bool given = chars != nullptr && !chars->is_none();
  const Text& text = self.text();
  const std::string* set = given ? &args.text(0, "chars").bytes() : nullptr;
  if (set != nullptr) interpreter.charge(set->size() / 8 * (text.size() / 8));  // worst case of the search
  const Extent extent = strip_extent(text.bytes(), set, left, right);
  return interpreter.built(text.sub(extent.first, extent.last - extent.first));
}
Value strip(Interpreter& i, const Value& self, const Args& args) { return strip_with(i, self, args, true, true); }
Value lstrip(Interpreter& i, const Value& self, const Args& args) { return strip_with(i, self, args, true, false); }
Value rstrip(Interpreter& i, const Value& self, const Args& args) { return strip_with(i, self, args, false, true); }

Value upper(Interpreter& i, const Value& self, const Args&) { return i.built(map_text(self.text(), to_upper)); }
Value lower(Interpreter& i, const Value& self, const Args&) { return i.built(map_text(self.text(), to_lower)); }
Value capitalize_method(Interpreter& i, const Value& self, const Args&) { return i.built(capitalize(self.text())); }

// str.title: a letter after a non-letter is upper case, the others lower case.
Value title(Interpreter& interpreter, const Value& self, const Args&) {
  const Text& text = self.text();
  Text out;
  bool in_word = false;
  for (size_t i = 0; i < text.size();) {
    const size_t size = cp_size(text.bytes(), i);
    const Text one = text.sub(i, size);
    out.append(map_text(one, in_word ? to_lower : to_upper));
    in_word = is_alpha(cp_at(text.bytes(), i));
    i += size;
  }
  return interpreter.built(std::move(out));
}

// Any of a string or a tuple of strings.
template <class Matches>
Value any_affix(const Args& args, Matches matches) {
  const Value affix = args.get(0, "affix", Value());
  if (affix.is_string()) return matches(affix.text().bytes());
  const auto* list = affix.as<ListPtr>();
  if (list == nullptr) fail("startswith and endswith need a string, not '{}'", type_name(affix));
  return std::any_of((*list)->items.begin(), (*list)->items.end(),
                     [&](const Value& one) { return one.is_string() && matches(one.text().bytes()); });
}
Value startswith(Interpreter&, const Value& self, const Args& args) {
  const std::string& text = self.text().bytes();
  return any_affix(args, [&](const std::string& affix) { return text.compare(0, affix.size(), affix) == 0; });
}
Value endswith(Interpreter&, const Value& self, const Args& args) {
  const std::string& text = self.text().bytes();
  return any_affix(args, [&](const std::string& affix) {
    return text.size() >= affix.size() && text.compare(text.size() - affix.size(), affix.size(), affix) == 0;
  });
}

Value replace(Interpreter& interpreter, const Value& self, const Args& args) {
  const Text& text = self.text();
  const std::string& from = args.text(0, "old").bytes();
  const Text& to = args.text(1, "new");
  int64_t left = args.integer(2, "count", -1);
  Text out;
  size_t position = 0;
  while (left != 0 && out.size() <= kMaxOutputBytes) {
    const bool at_end = position >= text.size();
    const size_t found = from.empty() ? position : text.bytes().find(from, position);
    if (found == std::string::npos) break;
    out.append(text, position, found - position);
    out.append(to);
    interpreter.charge(1);
    position = found + from.size();
    if (from.empty()) {  // between all code points, and at both ends
      if (at_end) break;
      const size_t size = cp_size(text.bytes(), position);
      out.append(text, position, size);
      position += size;
    }
    --left;
  }
  out.append(text, position, std::string::npos);
  return interpreter.built(std::move(out));
}

std::vector<Value> split_on_space(const Text& text, int64_t most) {
  std::vector<Value> parts;
  size_t position = strip_extent(text.bytes(), nullptr, true, false).first;
  while (position < text.size()) {
    size_t end = position;
    if (most == 0) {
      const std::string_view rest = std::string_view(text.bytes()).substr(position);
      end = position + strip_extent(rest, nullptr, false, true).last;
    } else {
      while (end < text.size() && !is_space(cp_at(text.bytes(), end))) end += cp_size(text.bytes(), end);
    }
    parts.emplace_back(text.sub(position, end - position));
    if (most == 0) break;
    --most;
    while (end < text.size() && is_space(cp_at(text.bytes(), end))) end += cp_size(text.bytes(), end);
    position = end;
  }
  return parts;
}

Value split(Interpreter& interpreter, const Value& self, const Args& args) {
  const Text& text = self.text();
  int64_t left = args.integer(1, "maxsplit", -1);
  const Value separator = args.get(0, "sep", None{});
  if (separator.is_none()) return interpreter.built(split_on_space(text, left));
  const std::string& sep = args.text(0, "sep").bytes();
  if (sep.empty()) fail("split needs a separator that is not empty");
  std::vector<Value> parts;
  size_t position = 0;
  for (; left != 0; --left) {
    const size_t found = text.bytes().find(sep, position);
    if (found == std::string::npos) break;
    interpreter.charge(1);
    parts.emplace_back(text.sub(position, found - position));
    position = found + sep.size();
  }
  parts.emplace_back(text.sub(position));
  return interpreter.built(std::move(parts));
}

Value rsplit(Interpreter& interpreter, const Value& self, const Args& args) {
  const Text& text = self.text();
  int64_t left = args.integer(1, "maxsplit", -1);
  if (left < 0 || args.get(0, "sep", None{}).is_none()) {
    if (left >= 0) fail("rsplit with maxsplit needs a separator");
    return split(interpreter, self, args);
  }
  const std::string& sep = args.text(0, "sep").bytes();
  if (sep.empty()) fail("rsplit needs a separator that is not empty");
  std::vector<Value> parts;
  size_t end = text.size();
  for (; left > 0 && end >= sep.size(); --left) {
    const size_t found = text.bytes().rfind(sep, end - sep.size());
    if (found == std::string::npos) break;
    interpreter.charge(1);
    parts.emplace_back(text.sub(found + sep.size(), end - found - sep.size()));
    end = found;
  }
  parts.emplace_back(text.sub(0, end));
  std::reverse(parts.begin(), parts.end());
  return interpreter.built(std::move(parts));
}

Value splitlines(Interpreter& interpreter, const Value& self, const Args& args) {
  const Text& text = self.text();
  const bool keep = args.flag(0, "keepends", false);
  std::vector<Value> lines;
  for (size_t start = 0; start < text.size();) {
    const size_t end = std::min(text.bytes().find_first_of("\r\n", start), text.size());
    size_t next = std::min(end + 1, text.size());
    if (end + 1 < text.size() && text.bytes()[end] == '\r' && text.bytes()[end + 1] == '\n') ++next;
    lines.emplace_back(text.sub(start, (keep ? next : end) - start));
    interpreter.charge(1);
    start = next;
  }
  return interpreter.built(std::move(lines));
}

Value partition(Interpreter& interpreter, const Value& self, const Args& args) {
  const Text& text = self.text();
  const std::string& sep = args.text(0, "sep").bytes();
  if (sep.empty()) fail("partition needs a separator that is not empty");
  const size_t found = text.bytes().find(sep);
  if (found == std::string::npos) return make_list({self, Text(), Text()}, true);
  interpreter.charge(text.size() / 32);
  return make_list({text.sub(0, found), text.sub(found, sep.size()), text.sub(found + sep.size())}, true);
}

// Code points before the byte `offset`; -1 for npos.
int64_t cp_index(const Text& text, size_t offset) {
  if (offset == std::string::npos) return -1;
  return static_cast<int64_t>(cp_count(std::string_view(text.bytes()).substr(0, offset)));
}
Value find(Interpreter& interpreter, const Value& self, const Args& args) {
  interpreter.charge(self.text().size() / 32);
  return cp_index(self.text(), self.text().bytes().find(args.text(0, "sub").bytes()));
}
Value rfind(Interpreter& interpreter, const Value& self, const Args& args) {
  interpreter.charge(self.text().size() / 32);
  return cp_index(self.text(), self.text().bytes().rfind(args.text(0, "sub").bytes()));
}
Value string_index(Interpreter& interpreter, const Value& self, const Args& args) {
  Value found = find(interpreter, self, args);
  if (*found.as<int64_t>() < 0) fail("substring not found");
  return found;
}
Value string_count(Interpreter& interpreter, const Value& self, const Args& args) {
  const std::string& text = self.text().bytes();
  const std::string& part = args.text(0, "sub").bytes();
  interpreter.charge(text.size() / 32);
  if (part.empty()) return static_cast<int64_t>(cp_count(text)) + 1;
  int64_t count = 0;
  for (size_t i = text.find(part); i != std::string::npos; i = text.find(part, i + part.size())) ++count;
  return count;
}

Value join(Interpreter& interpreter, const Value& self, const Args& args) {
  Text out;
  bool first = true;
  for (const Value& item : iterate(args.get(0, "iterable", Value()))) {
    if (!item.is_string()) fail("join needs strings, not '{}'", type_name(item));
    if (!first) out.append(self.text());
    first = false;
    out.append(item.text());
    if (out.size() > kMaxOutputBytes) break;
  }
  return interpreter.built(std::move(out));
}

// str.format with {}, {0} and {name}; format specifications are not supported.
Value format_method(Interpreter& interpreter, const Value& self, const Args& args) {
  const Text& text = self.text();
  const std::string& bytes = text.bytes();
  Text out;
  size_t automatic = 0;
  for (size_t i = 0; i < bytes.size();) {
    const size_t brace = std::min(bytes.find_first_of("{}", i), bytes.size());
    out.append(text, i, brace - i);
    if (brace == bytes.size()) break;
    if (brace + 1 < bytes.size() && bytes[brace + 1] == bytes[brace]) {
      out.append(text, brace, 1);
      i = brace + 2;
      continue;
    }
    const size_t end = bytes.find('}', brace);
    if (bytes[brace] == '}' || end == std::string::npos) fail("single brace in a format");
    const std::string field = bytes.substr(brace + 1, end - brace - 1);
    if (field.find_first_of(":!.[{") != std::string::npos) fail("the format field '{}' is not supported", field);
    const bool is_number = field.empty() || field.find_first_not_of("0123456789") == std::string::npos;
    if (field.size() > 4 && is_number) fail("the format field '{}' is out of range", field);
    const size_t index = field.empty() ? automatic++ : is_number ? std::stoul(field) : std::string::npos;
    const Value* value = args.find(index, field);
    if (value == nullptr) fail("the format field '{}' has no argument", field);
    out.append(to_text(*value));
    if (out.size() > kMaxOutputBytes) break;
    i = end + 1;
  }
  return interpreter.built(std::move(out));
}

template <bool (*test)(char32_t)>
Value all_chars(Interpreter& interpreter, const Value& self, const Args&) {
  const std::string& bytes = self.text().bytes();
  interpreter.charge(bytes.size() / 32);
  for (size_t i = 0; i < bytes.size(); i += cp_size(bytes, i)) {
    if (!test(cp_at(bytes, i))) return false;
  }
  return !bytes.empty();
}
bool is_alnum(char32_t cp) { return is_alpha(cp) || is_digit(cp); }

// Case tests: at least one cased code point, and none of the other case.
template <char32_t (*same)(char32_t), char32_t (*other)(char32_t)>
Value case_test(Interpreter& interpreter, const Value& self, const Args&) {
  const std::string& bytes = self.text().bytes();
  interpreter.charge(bytes.size() / 32);
  bool cased = false;
  for (size_t i = 0; i < bytes.size(); i += cp_size(bytes, i)) {
    const char32_t cp = cp_at(bytes, i);
    if (same(cp) != cp) return false;
    cased = cased || other(cp) != cp;
  }
  return cased;
}

Value removeprefix(Interpreter& i, const Value& self, const Args& args) {
  const bool has = truthy(startswith(i, self, args));
  return has ? i.built(self.text().sub(args.text(0, "prefix").size())) : self;
}
Value removesuffix(Interpreter& i, const Value& self, const Args& args) {
  const bool has = truthy(endswith(i, self, args)) && !args.text(0, "suffix").empty();
  return has ? i.built(self.text().sub(0, self.text().size() - args.text(0, "suffix").size())) : self;
}

template <int side>  // -1 text left, 1 text right
Value justify(Interpreter& interpreter, const Value& self, const Args& args) {
  const int64_t width = args.integer(0, "width", 0);
  const Value filler = args.get(1, "fillchar", make_text(" ", true));
  const auto have = static_cast<int64_t>(cp_count(self.text().bytes()));
  const Value padding = arithmetic(interpreter, "*", filler, std::max<int64_t>(0, width - have));
  return side < 0 ? arithmetic(interpreter, "+", self, padding) : arithmetic(interpreter, "+", padding, self);
}

constexpr NativeRow kStringMethods[] = {
    {"strip", strip},
    {"lstrip", lstrip},
    {"rstrip", rstrip},
    {"upper", upper},
    {"lower", lower},
    {"title", title},
    {"capitalize", capitalize_method},
    {"startswith", startswith},
    {"endswith", endswith},
    {"replace", replace},
    {"split", split},
    {"rsplit", rsplit},
    {"splitlines", splitlines},
    {"partition", partition},
    {"find", find},
    {"rfind", rfind},
    {"index", string_index},
    {"count", string_count},
    {"join", join},
    {"format", format_method},
    {"isspace", all_chars<is_space>},
    {"isdigit", all_chars<is_digit>},
    {"isalpha", all_chars<is_alpha>},
    {"isalnum", all_chars<is_alnum>},
    {"isnumeric", all_chars<is_digit>},
    {"isdecimal", all_chars<is_digit>},
    {"isupper", case_test<to_upper, to_lower>},
    {"islower", case_test<to_lower, to_upper>},
    {"removeprefix", removeprefix},
    {"removesuffix", removesuffix},
    {"ljust", justify<-1>},
    {"rjust", justify<1>},
};

Value dict_get(Interpreter&, const Value& self, const Args& args) {
  const Value* found = (*self.as<DictPtr>())->find(args.get(0, "key", None{}));
  return found != nullptr ? *found : args.get(1, "default", None{});
}
Value dict_items(Interpreter& interpreter, const Value& self, const Args&) {
  std::vector<Value> items;
  for (const auto& [key, value] : (*self.as<DictPtr>())->entries) items.push_back(make_list({key, value}, true));
  return interpreter.built(std::move(items));
}
Value dict_keys(Interpreter& interpreter, const Value& self, const Args&) { return interpreter.built(iterate(self)); }
Value dict_values(Interpreter& interpreter, const Value& self, const Args&) {
  std::vector<Value> values;
  for (const auto& entry : (*self.as<DictPtr>())->entries) values.push_back(entry.second);
  return interpreter.built(std::move(values));
}
Value copy(Interpreter&, const Value& self, const Args&) { return self; }
Value immutable(Interpreter&, const Value& self, const Args&) {
  fail("a '{}' cannot be changed in a template", type_name(self));
}

constexpr NativeRow kDictMethods[] = {
    {"get", dict_get}, {"items", dict_items}, {"keys", dict_keys}, {"values", dict_values}, {"copy", copy},
};
constexpr NativeRow kUnsafeDictMethods[] = {
    {"pop", immutable}, {"update", immutable}, {"clear", immutable}, {"setdefault", immutable}, {"popitem", immutable},
};

Value list_index(Interpreter& interpreter, const Value& self, const Args& args) {
  const auto& items = (*self.as<ListPtr>())->items;
  const Value wanted = args.get(0, "value", Value());
  interpreter.charge(items.size());
  const auto it = std::find_if(items.begin(), items.end(), [&](const Value& item) { return equal(item, wanted); });
  if (it == items.end()) fail("the value is not in the list");
  return static_cast<int64_t>(it - items.begin());
}
Value list_count(Interpreter& interpreter, const Value& self, const Args& args) {
  const auto& items = (*self.as<ListPtr>())->items;
  const Value wanted = args.get(0, "value", Value());
  interpreter.charge(items.size());
  return static_cast<int64_t>(
      std::count_if(items.begin(), items.end(), [&](const Value& item) { return equal(item, wanted); }));
}

constexpr NativeRow kListMethods[] = {
    {"index", list_index}, {"count", list_count}, {"copy", copy},         {"append", immutable},
    {"extend", immutable}, {"insert", immutable}, {"pop", immutable},     {"remove", immutable},
    {"clear", immutable},  {"sort", immutable},   {"reverse", immutable},
};

Value loop_cycle(Interpreter&, const Value& self, const Args& args) {
  if (args.positional.empty()) fail("loop.cycle needs arguments");
  return args.positional[(*self.as<LoopPtr>())->index0 % args.positional.size()];
}
Value loop_changed(Interpreter&, const Value& self, const Args& args) {
  std::vector<Value>& last = *(*self.as<LoopPtr>())->last_changed;
  const bool same = std::equal(last.begin(), last.end(), args.positional.begin(), args.positional.end(), equal);
  for (const Value& value : args.positional) {
    if (depth_of(value) > 0) fail("loop.changed compares plain values only");
  }
  const bool changed = !same || last.empty();
  last = args.positional;
  return changed;
}
constexpr NativeRow kLoopMethods[] = {{"cycle", loop_cycle}, {"changed", loop_changed}};

}  // namespace

Native find_method(const Value& self, std::string_view name) {
  if (self.is_string()) return find_row(kStringMethods, name);
  if (self.is<ListPtr>()) return find_row(kListMethods, name);
  if (self.is<LoopPtr>()) return find_row(kLoopMethods, name);
  const auto* dict = self.as<DictPtr>();
  if (dict == nullptr) return nullptr;
  if (const Native method = find_row(kDictMethods, name)) return method;
  // A key wins over a method that could not be used anyway.
  return (*dict)->find(name) != nullptr ? nullptr : find_row(kUnsafeDictMethods, name);
}

}  // namespace lcrun::text::jinja
