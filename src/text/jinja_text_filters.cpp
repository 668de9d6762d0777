// Filters whose value is taken as text or as a number, and the registry of all filters.
#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <optional>

#include "src/text/jinja_interpreter.hpp"

namespace lcrun::text::jinja {
namespace {

Value method(Interpreter& interpreter, const Value& self, std::string_view name, const Args& args) {
  const Value text = to_text(self);
  return find_method(text, name)(interpreter, text, args);
}
Value trim(Interpreter& i, const Value& self, const Args& args) { return method(i, self, "strip", args); }
Value upper(Interpreter& i, const Value& self, const Args& args) { return method(i, self, "upper", args); }
Value lower(Interpreter& i, const Value& self, const Args& args) { return method(i, self, "lower", args); }
Value capitalize_filter(Interpreter& i, const Value& self, const Args&) { return i.built(capitalize(to_text(self))); }
Value replace(Interpreter& i, const Value& self, const Args& args) {
  Args texts;
  texts.positional = {to_text(args.get(0, "old", Value())), to_text(args.get(1, "new", Value()))};
  texts.positional.emplace_back(args.integer(2, "count", -1));
  return method(i, self, "replace", texts);
}
Value string(Interpreter& i, const Value& self, const Args&) {
  return self.is_string() ? self : i.built(to_text(self));
}

// Words begin after white space, brackets and hyphens.
Value title(Interpreter& interpreter, const Value& self, const Args&) {
  const Text text = to_text(self);
  Text out;
  bool in_word = false;
  for (size_t i = 0; i < text.size();) {
    const size_t size = cp_size(text.bytes(), i);
    out.append(map_text(text.sub(i, size), in_word ? to_lower : to_upper));
    const char32_t cp = cp_at(text.bytes(), i);
    in_word = !is_space(cp) && std::u32string_view(U"-({[<").find(cp) == std::u32string_view::npos;
    i += size;
  }
  return interpreter.built(std::move(out));
}

Value escape(Interpreter& interpreter, const Value& self, const Args&) {
  const Text text = to_text(self);
  Text out;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool trusted = text.trusted_at(i);
    switch (text.bytes()[i]) {
      case '&':
        out.append("&amp;", trusted);
        break;
      case '<':
        out.append("&lt;", trusted);
        break;
      case '>':
        out.append("&gt;", trusted);
        break;
      case '"':
        out.append("&#34;", trusted);
        break;
      case '\'':
        out.append("&#39;", trusted);
        break;
      default:
        out.append(text, i, 1);
    }
  }
  return interpreter.built(std::move(out));
}

Value indent(Interpreter& interpreter, const Value& self, const Args& args) {
  const Value width = args.get(0, "width", int64_t{4});
  const bool first = args.flag(1, "first", false);
  const bool blank = args.flag(2, "blank", false);
  const Text prefix =
      width.is_string()
          ? width.text()
          : Text(std::string(static_cast<size_t>(std::clamp<int64_t>(args.integer(0, "width", 4), 0, 1000)), ' '),
                 true);
  const Text text = to_text(self);
  Text out;
  for (size_t start = 0; start <= text.size() && out.size() <= kMaxOutputBytes;) {
    const size_t end = std::min(text.bytes().find('\n', start), text.size());
    if (start == 0 ? first : (blank || end > start)) out.append(prefix);
    out.append(text, start, std::min(end + 1, text.size()) - start);
    interpreter.charge(1);
    start = end + 1;
  }
  return interpreter.built(std::move(out));
}

Value tojson(Interpreter& interpreter, const Value& self, const Args& args) {
  JsonStyle style;
  style.ensure_ascii = args.flag(0, "ensure_ascii", false);
  const Value indent_arg = args.get(1, "indent", None{});
  if (!indent_arg.is_none()) {
    style.indent = static_cast<int>(std::clamp<int64_t>(args.integer(1, "indent", 0), 0, 100));
    style.item_separator.assign(1, ',');
  }
  style.sort_keys = args.flag(3, "sort_keys", false);
  const Value separators = args.get(2, "separators", None{});
  if (const auto* pair = separators.as<ListPtr>()) {
    if ((*pair)->items.size() != 2) fail("separators must be a pair of strings");
    style.item_separator = to_text((*pair)->items[0]).bytes();
    style.key_separator = to_text((*pair)->items[1]).bytes();
  }
  return interpreter.built(to_json(self, style));
}

Value format_filter(Interpreter& interpreter, const Value& self, const Args& args) {
  return percent_format(interpreter, to_text(self), args.positional);
}

Value wordcount(Interpreter& i, const Value& self, const Args&) {
  const Value words = method(i, self, "split", {});
  return static_cast<int64_t>((*words.as<ListPtr>())->items.size());
}

Value center(Interpreter& interpreter, const Value& self, const Args& args) {
  const Text text = to_text(self);
  const int64_t width = std::min<int64_t>(args.integer(0, "width", 80), (int64_t{1} << 24) + 1);
  const int64_t space = std::max<int64_t>(0, width - static_cast<int64_t>(cp_count(text.bytes())));
  const int64_t left = space / 2 + (space & width & 1);  // as str.center
  Text out(std::string(static_cast<size_t>(left), ' '), true);
  out.append(text);
  out.append(std::string(static_cast<size_t>(space - left), ' '), true);
  return interpreter.built(std::move(out));
}

std::optional<double> parse_number(const Value& self) {
  if (const auto* d = self.as<double>()) return *d;
  if (const auto* i = self.as<int64_t>()) return static_cast<double>(*i);
  if (const auto* b = self.as<bool>()) return *b ? 1.0 : 0.0;
  if (!self.is_string()) return std::nullopt;
  const std::string& bytes = self.text().bytes();
  const Extent extent = strip_extent(bytes, nullptr, true, true);
  const std::string trimmed = bytes.substr(extent.first, extent.last - extent.first);
  if (trimmed.find_first_not_of("0123456789+-.eE") != std::string::npos) return std::nullopt;
  char* end = nullptr;
  const double number = std::strtod(trimmed.c_str(), &end);
  if (trimmed.empty() || *end != '\0') return std::nullopt;
  return number;
}

Value int_filter(Interpreter&, const Value& self, const Args& args) {
  if (self.is<int64_t>()) return self;
  const Value fallback = args.get(0, "default", int64_t{0});
  const int64_t base = args.integer(1, "base", 10);
  if (self.is_string() && base >= 2 && base <= 36) {
    std::string digits = self.text().bytes();
    if (base == 16 && digits.rfind("0x", 0) == 0) digits = digits.substr(2);
    char* end = nullptr;
    errno = 0;
    const long long number = std::strtoll(digits.c_str(), &end, static_cast<int>(base));
    if (!digits.empty() && *end == '\0' && errno == 0) return int64_t{number};
  }
  const auto number = parse_number(self);
  if (!number.has_value() || !(std::fabs(*number) < 9.2e18)) return fallback;
  return static_cast<int64_t>(*number);
}

Value float_filter(Interpreter&, const Value& self, const Args& args) {
  const auto number = parse_number(self);
  return number.has_value() ? Value(*number) : args.get(0, "default", 0.0);
}

Value abs_filter(Interpreter& interpreter, const Value& self, const Args&) {
  if (const auto* d = self.as<double>()) return std::fabs(*d);
  if (!self.is_number()) fail("abs needs a number, not '{}'", type_name(self));
  return less(self, int64_t{0}) ? arithmetic(interpreter, "-", int64_t{0}, self) : self;
}

Value round_filter(Interpreter&, const Value& self, const Args& args) {
  const int64_t precision = std::clamp<int64_t>(args.integer(0, "precision", 0), -300, 300);
  const Value kind = args.get(1, "method", make_text("common", true));
  const std::string name = kind.is_string() ? kind.text().bytes() : "";
  if (!self.is_number()) fail("round needs a number, not '{}'", type_name(self));
  const double value = *parse_number(self);
  if (name == "ceil" || name == "floor") {
    const double scale = std::pow(10.0, static_cast<double>(precision));
    return (name == "ceil" ? std::ceil(value * scale) : std::floor(value * scale)) / scale;
  }
  if (name != "common") fail("round: method must be common, ceil or floor");
  if (self.is<int64_t>() && precision >= 0) return self;
  if (precision < 0) {
    const double scale = std::pow(10.0, static_cast<double>(-precision));
    return std::nearbyint(value / scale) * scale;
  }
  char buffer[700];  // the decimal digits of the double decide, as in Python
  const int size = std::snprintf(buffer, sizeof(buffer), "%.*f", static_cast<int>(precision), value);
  if (size < 0 || static_cast<size_t>(size) >= sizeof(buffer)) return value;
  return std::strtod(buffer, nullptr);
}

Value default_filter(Interpreter&, const Value& self, const Args& args) {
  const bool replaces = self.is_undefined() || (args.flag(1, "boolean", false) && !truthy(self));
  return replaces ? args.get(0, "default_value", make_text("", true)) : self;
}

Value same(Interpreter&, const Value& self, const Args&) { return self; }

Value attr(Interpreter& interpreter, const Value& self, const Args& args) {
  return interpreter.attribute(self, args.text(0, "name").bytes());
}

constexpr NativeRow kFilters[] = {
    {"trim", trim},
    {"upper", upper},
    {"lower", lower},
    {"capitalize", capitalize_filter},
    {"title", title},
    {"replace", replace},
    {"string", string},
    {"escape", escape},
    {"e", escape},
    {"forceescape", escape},
    {"safe", same},
    {"indent", indent},
    {"tojson", tojson},
    {"format", format_filter},
    {"wordcount", wordcount},
    {"center", center},
    {"int", int_filter},
    {"float", float_filter},
    {"abs", abs_filter},
    {"round", round_filter},
    {"default", default_filter},
    {"d", default_filter},
    {"attr", attr},
};

}  // namespace

Native find_text_filter(std::string_view name) { return find_row(kFilters, name); }

Native find_filter(std::string_view name) {
  const Native native = find_text_filter(name);
  return native != nullptr ? native : find_sequence_filter(name);
}

}  // namespace lcrun::text::jinja
