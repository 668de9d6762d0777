// Equality, order, truth and printing of template values, as Python does them.
#include "src/text/jinja_value.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "src/text/jinja_call.hpp"

namespace lcrun::text::jinja {

namespace {
std::string tagged(char tag, std::string_view text) {
  std::string out(1, tag);
  out += text;
  return out;
}
}  // namespace

Value Value::undefined(std::string_view name) { return Undefined{std::make_shared<const std::string>(name)}; }

void Dict::set(const Value& key, Value value) {
  depth = std::max(depth, 1 + std::max(depth_of(key), depth_of(value)));
  if (depth > kMaxValueDepth) fail("a value is nested deeper than {} levels", kMaxValueDepth);
  const auto [it, is_new] = index.emplace(hash_key(key), entries.size());
  if (is_new) {
    entries.emplace_back(key, std::move(value));
  } else {
    entries[it->second].second = std::move(value);
  }
}

const Value* Dict::find(const Value& key) const {
  const auto it = index.find(hash_key(key));
  return it == index.end() ? nullptr : &entries[it->second].second;
}

const Value* Dict::find(std::string_view key) const {
  const auto it = index.find(tagged('s', key));
  return it == index.end() ? nullptr : &entries[it->second].second;
}

int depth_of(const Value& value) {
  if (const auto* list = value.as<ListPtr>()) return (*list)->depth;
  if (const auto* dict = value.as<DictPtr>()) return (*dict)->depth;
  if (const auto* loop = value.as<LoopPtr>()) return (*loop)->depth;
  if (const auto* callable = value.as<CallablePtr>()) return (*callable)->depth;
  return 0;
}

Value make_list(std::vector<Value> items, bool is_tuple) {
  auto list = std::make_shared<List>();
  for (const Value& item : items) list->depth = std::max(list->depth, 1 + depth_of(item));
  if (list->depth > kMaxValueDepth) fail("a value is nested deeper than {} levels", kMaxValueDepth);
  list->items = std::move(items);
  list->is_tuple = is_tuple;
  return ListPtr(std::move(list));
}

Value make_dict(Dict dict) { return DictPtr(std::make_shared<const Dict>(std::move(dict))); }

Value make_text(std::string_view bytes, bool trusted) { return Text(bytes, trusted); }

bool truthy(const Value& value) {
  if (value.is_undefined() || value.is_none()) return false;
  if (const auto* b = value.as<bool>()) return *b;
  if (const auto* i = value.as<int64_t>()) return *i != 0;
  if (const auto* d = value.as<double>()) return *d != 0;
  if (value.is_string()) return !value.text().empty();
  if (const auto* list = value.as<ListPtr>()) return !(*list)->items.empty();
  if (const auto* dict = value.as<DictPtr>()) return !(*dict)->entries.empty();
  return true;
}

namespace {
// Requires is_number().
double as_double(const Value& value) {
  if (const auto* b = value.as<bool>()) return *b ? 1.0 : 0.0;
  if (const auto* i = value.as<int64_t>()) return static_cast<double>(*i);
  return *value.as<double>();
}

bool lists_equal(const List& a, const List& b) {
  if (a.is_tuple != b.is_tuple) return false;
  return std::equal(a.items.begin(), a.items.end(), b.items.begin(), b.items.end(), equal);
}

bool dicts_equal(const Dict& a, const Dict& b) {
  if (a.entries.size() != b.entries.size()) return false;
  return std::all_of(a.entries.begin(), a.entries.end(), [&](const auto& entry) {
    const Value* other = b.find(entry.first);
    return other != nullptr && equal(entry.second, *other);
  });
}
}  // namespace

bool equal(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    if (!a.is<double>() && !b.is<double>()) {
      const auto whole = [](const Value& v) { return v.is<bool>() ? int64_t{*v.as<bool>()} : *v.as<int64_t>(); };
      return whole(a) == whole(b);
    }
    return as_double(a) == as_double(b);
  }
  if (a.is_undefined()) return b.is_undefined();
  if (a.is_none()) return b.is_none();
  if (a.is_string() && b.is_string()) return a.text().bytes() == b.text().bytes();
  if (a.is<ListPtr>() && b.is<ListPtr>()) return lists_equal(**a.as<ListPtr>(), **b.as<ListPtr>());
  if (a.is<DictPtr>() && b.is<DictPtr>()) return dicts_equal(**a.as<DictPtr>(), **b.as<DictPtr>());
  if (a.is<NamespacePtr>() && b.is<NamespacePtr>()) return *a.as<NamespacePtr>() == *b.as<NamespacePtr>();
  if (a.is<CallablePtr>() && b.is<CallablePtr>()) return *a.as<CallablePtr>() == *b.as<CallablePtr>();
  return false;
}

bool less(const Value& a, const Value& b) {
  if (a.is<int64_t>() && b.is<int64_t>()) return *a.as<int64_t>() < *b.as<int64_t>();
  if (a.is_number() && b.is_number()) return as_double(a) < as_double(b);
  // UTF-8 bytes sort as their code points do.
  if (a.is_string() && b.is_string()) return a.text().bytes() < b.text().bytes();
  if (a.is<ListPtr>() && b.is<ListPtr>()) {
    const auto& left = (*a.as<ListPtr>())->items;
    const auto& right = (*b.as<ListPtr>())->items;
    for (size_t i = 0; i < std::min(left.size(), right.size()); ++i) {
      if (!equal(left[i], right[i])) return less(left[i], right[i]);
    }
    return left.size() < right.size();
  }
  fail("'{}' and '{}' cannot be ordered", type_name(a), type_name(b));
}

std::string hash_key(const Value& value) {
  if (value.is_string()) return tagged('s', value.text().bytes());
  if (value.is_none()) return "none";
  if (value.is_number()) {
    const double number = as_double(value);
    const bool whole = !value.is<double>() || (number == std::floor(number) && std::fabs(number) < 9e18);
    if (!whole) return tagged('n', float_repr(number));
    return tagged('n', std::to_string(value.is<int64_t>() ? *value.as<int64_t>() : static_cast<int64_t>(number)));
  }
  const auto* list = value.as<ListPtr>();
  if (list == nullptr || !(*list)->is_tuple) fail("a '{}' cannot be a key", type_name(value));
  std::string key = "t";
  for (const Value& item : (*list)->items) {
    const std::string part = hash_key(item);
    key += std::to_string(part.size()) + ":" + part;
  }
  return key;
}

std::string_view type_name(const Value& value) {
  if (value.is_undefined()) return "Undefined";
  if (value.is_none()) return "NoneType";
  if (value.is<bool>()) return "bool";
  if (value.is<int64_t>()) return "int";
  if (value.is<double>()) return "float";
  if (value.is_string()) return "str";
  if (const auto* list = value.as<ListPtr>()) return (*list)->is_tuple ? "tuple" : "list";
  if (value.is<DictPtr>()) return "dict";
  if (value.is<NamespacePtr>()) return "Namespace";
  if (value.is<LoopPtr>()) return "LoopContext";
  return "function";
}

std::string float_repr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[64];
  const auto shortest = std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::scientific);
  const std::string text(buffer, shortest.ptr);
  const int exponent = std::stoi(text.substr(text.find('e') + 1));
  if (exponent < -4 || exponent >= 16) return text;
  const auto plain = std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::fixed);
  std::string out(buffer, plain.ptr);
  if (out.find('.') == std::string::npos) out += ".0";
  return out;
}

namespace {
void append_string_repr(const Text& text, Text& out) {
  const std::string& bytes = text.bytes();
  const bool double_quotes = bytes.find('\'') != std::string::npos && bytes.find('"') == std::string::npos;
  const char quote = double_quotes ? '"' : '\'';
  out.append(std::string_view(&quote, 1), true);
  for (size_t i = 0; i < bytes.size(); ++i) {
    const char c = bytes[i];
    const bool trusted = text.trusted_at(i);
    if (c == quote || c == '\\') out.append("\\", trusted);
    static constexpr char kHex[] = "0123456789abcdef";
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\n') {
      out.append("\\n", trusted);
    } else if (c == '\t') {
      out.append("\\t", trusted);
    } else if (c == '\r') {
      out.append("\\r", trusted);
    } else if (byte < 0x20 || byte == 0x7F) {
      const char escape[4] = {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
      out.append(std::string_view(escape, 4), trusted);
    } else {
      out.append(std::string_view(&c, 1), trusted);
    }
  }
  out.append(std::string_view(&quote, 1), true);
}

void append_list_repr(const List& list, Text& out) {
  out.append(list.is_tuple ? "(" : "[", true);
  for (size_t i = 0; i < list.items.size(); ++i) {
    if (i > 0) out.append(", ", true);
    append_repr(list.items[i], out);
  }
  if (list.is_tuple && list.items.size() == 1) out.append(",", true);
  out.append(list.is_tuple ? ")" : "]", true);
}

void append_dict_repr(const Dict& dict, Text& out) {
  out.append("{", true);
  for (size_t i = 0; i < dict.entries.size(); ++i) {
    if (i > 0) out.append(", ", true);
    append_repr(dict.entries[i].first, out);
    out.append(": ", true);
    append_repr(dict.entries[i].second, out);
  }
  out.append("}", true);
}
}  // namespace

void append_repr(const Value& value, Text& out) {
  if (value.is_string()) return append_string_repr(value.text(), out);
  if (const auto* list = value.as<ListPtr>()) return append_list_repr(**list, out);
  if (const auto* dict = value.as<DictPtr>()) return append_dict_repr(**dict, out);
  if (value.is_undefined()) return out.append("Undefined", true);
  out.append(to_text(value));
}

Text to_text(const Value& value) {
  if (value.is_string()) return value.text();
  if (value.is_undefined()) return {};
  if (value.is_none()) return Text("None", true);
  if (const auto* b = value.as<bool>()) return Text(*b ? "True" : "False", true);
  if (const auto* i = value.as<int64_t>()) return Text(std::to_string(*i), true);
  if (const auto* d = value.as<double>()) return Text(float_repr(*d), true);
  if (value.is<ListPtr>() || value.is<DictPtr>()) {
    Text out;
    append_repr(value, out);
    return out;
  }
  return Text(format("<{}>", type_name(value)), true);
}

std::vector<Value> iterate(const Value& value) {
  if (value.is_undefined()) return {};
  if (const auto* list = value.as<ListPtr>()) return (*list)->items;
  std::vector<Value> out;
  if (const auto* dict = value.as<DictPtr>()) {
    for (const auto& entry : (*dict)->entries) out.push_back(entry.first);
    return out;
  }
  if (!value.is_string()) fail("a '{}' cannot be iterated over", type_name(value));
  const Text& text = value.text();
  for (size_t i = 0; i < text.size();) {
    const size_t size = cp_size(text.bytes(), i);
    out.emplace_back(text.sub(i, size));
    i += size;
  }
  return out;
}

}  // namespace lcrun::text::jinja
