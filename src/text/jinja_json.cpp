// JSON in and out of template values: tools and other variables come in, tojson goes out as Python's json.dumps
// (ensure_ascii off by default, as chat templates expect).
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "src/text/jinja_value.hpp"

namespace lcrun::text::jinja {
namespace {

using Json = nlohmann::ordered_json;

Value convert(const Json& json, bool trusted) {
  switch (json.type()) {
    case Json::value_t::boolean:
      return json.get<bool>();
    case Json::value_t::number_integer:
      return json.get<int64_t>();
    case Json::value_t::number_unsigned: {
      const auto number = json.get<uint64_t>();
      if (number > static_cast<uint64_t>(INT64_MAX)) return static_cast<double>(number);
      return static_cast<int64_t>(number);
    }
    case Json::value_t::number_float:
      return json.get<double>();
    case Json::value_t::string:
      return make_text(json.get_ref<const std::string&>(), trusted);
    case Json::value_t::array: {
      std::vector<Value> items;
      for (const Json& item : json) items.push_back(convert(item, trusted));
      return make_list(std::move(items));
    }
    case Json::value_t::object: {
      Dict dict;
      for (const auto& [key, item] : json.items()) dict.set(make_text(key, trusted), convert(item, trusted));
      return make_dict(std::move(dict));
    }
    default:
      return None{};
  }
}

class JsonWriter {
 public:
  explicit JsonWriter(const JsonStyle& style) : style_(style) {}
  Text take() { return std::move(out_); }

  void write(const Value& value, int level) {
    if (value.is_string()) return write_string(value.text());
    if (const auto* list = value.as<ListPtr>()) return write_list((*list)->items, level);
    if (const auto* dict = value.as<DictPtr>()) return write_dict(**dict, level);
    if (value.is_none()) return out_.append("null", true);
    if (const auto* b = value.as<bool>()) return out_.append(*b ? "true" : "false", true);
    if (value.is<int64_t>()) return out_.append(to_text(value));
    if (const auto* d = value.as<double>()) return out_.append(number(*d), true);
    fail("a '{}' cannot be written as JSON", type_name(value));
  }

 private:
  static std::string number(double value) {
    if (std::isnan(value)) return "NaN";
    if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
    return float_repr(value);
  }

  void new_line(int level) {
    if (style_.indent < 0) return;
    out_.append("\n", true);
    out_.append(std::string(static_cast<size_t>(style_.indent) * static_cast<size_t>(level), ' '), true);
  }

  void separate(bool first, int level) {
    if (!first) out_.append(style_.item_separator, true);
    new_line(level);
  }

  void write_list(const std::vector<Value>& items, int level) {
    if (items.empty()) return out_.append("[]", true);
    out_.append("[", true);
    for (size_t i = 0; i < items.size(); ++i) {
      separate(i == 0, level + 1);
      write(items[i], level + 1);
    }
    new_line(level);
    out_.append("]", true);
  }

  void write_dict(const Dict& dict, int level) {
    if (dict.entries.empty()) return out_.append("{}", true);
    auto entries = dict.entries;
    if (style_.sort_keys) {
      std::stable_sort(entries.begin(), entries.end(),
                       [](const auto& a, const auto& b) { return less(a.first, b.first); });
    }
    out_.append("{", true);
    for (size_t i = 0; i < entries.size(); ++i) {
      separate(i == 0, level + 1);
      write_key(entries[i].first);
      out_.append(style_.key_separator, true);
      write(entries[i].second, level + 1);
    }
    new_line(level);
    out_.append("}", true);
  }

  void write_key(const Value& key) {
    if (key.is_string()) return write_string(key.text());
    if (key.is<ListPtr>()) fail("a JSON key must be a string, a number, a bool or none");
    JsonWriter plain(style_);
    plain.write(key, 0);
    write_string(plain.take());
  }

  void write_string(const Text& text) {
    const std::string& bytes = text.bytes();
    out_.append("\"", true);
    size_t plain = 0;  // start of the stretch that needs no escape
    for (size_t i = 0; i < bytes.size();) {
      const size_t size = cp_size(bytes, i);
      const std::string escape = escaped(bytes, i, size);
      if (!escape.empty()) {
        out_.append(text, plain, i - plain);
        out_.append(escape, text.trusted_at(i));
        plain = i + size;
      }
      i += size;
    }
    out_.append(text, plain, bytes.size() - plain);
    out_.append("\"", true);
  }

  // "" where the code point stands for itself.
  std::string escaped(const std::string& bytes, size_t position, size_t size) const {
    switch (bytes[position]) {
      case '"':
        return "\\\"";
      case '\\':
        return "\\\\";
      case '\n':
        return "\\n";
      case '\r':
        return "\\r";
      case '\t':
        return "\\t";
      case '\b':
        return "\\b";
      case '\f':
        return "\\f";
      default:
        break;
    }
    const char32_t cp = cp_at(bytes, position);
    if (cp >= 0x20 && (size == 1 || !style_.ensure_ascii) && cp != 0x7F) return {};
    if (cp == 0x7F) return {};
    if (cp <= 0xFFFF) return hex(cp);
    return hex(0xD800 + ((cp - 0x10000) >> 10)) + hex(0xDC00 + ((cp - 0x10000) & 0x3FF));
  }

  static std::string hex(char32_t unit) {
    static constexpr char kHex[] = "0123456789abcdef";
    std::string out = "\\u";
    for (int shift = 12; shift >= 0; shift -= 4) out += kHex[(unit >> shift) & 15];
    return out;
  }

  const JsonStyle& style_;
  Text out_;
};

}  // namespace

Text to_json(const Value& value, const JsonStyle& style) {
  JsonWriter writer(style);
  writer.write(value, 0);
  return writer.take();
}

Value from_json(std::string_view json, bool trusted) {
  int depth = 0;  // checked first: the conversion recurses
  bool in_string = false;
  for (size_t i = 0; i < json.size(); ++i) {
    if (in_string && json[i] == '\\')
      ++i;
    else if (json[i] == '"')
      in_string = !in_string;
    else if (!in_string && (json[i] == '[' || json[i] == '{'))
      ++depth;
    else if (!in_string && (json[i] == ']' || json[i] == '}'))
      --depth;
    if (depth >= kMaxValueDepth) fail("JSON is nested deeper than {} levels", kMaxValueDepth);
  }
  const Json parsed = Json::parse(json.begin(), json.end(), nullptr, false);
  if (parsed.is_discarded()) fail("not valid JSON");
  return convert(parsed, trusted);
}

}  // namespace lcrun::text::jinja
