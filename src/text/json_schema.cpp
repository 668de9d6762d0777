// Schema to GBNF: one rule per subschema that needs one, primitives shared. References become rule references, so
// recursive schemas are recursive grammars. Order of properties is the schema's.
#include "src/text/json_schema.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "src/text/grammar_rules.hpp"

namespace lcrun::text::grammar {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kMaxSchemaNesting = 100;
constexpr size_t kMaxSchemaBytes = size_t{1} << 20;

constexpr const char* kPrimitives =
    "ws ::= (\" \" | \"\\n\" [ \\t]{0,20})?\n"
    "hex ::= [0-9a-fA-F]\n"
    "char ::= [^\"\\\\\\x00-\\x1F\\x7F] | \"\\\\\" ([\"\\\\/bfnrt] | \"u\" ([0-9a-cefA-CEF] hex{3} | [dD] [0-7] "
    "hex{2}))\n"
    "string ::= \"\\\"\" char* \"\\\"\"\n"
    "integer ::= \"-\"? (\"0\" | [1-9] [0-9]{0,15})\n"
    "number ::= integer (\".\" [0-9]{1,15})? ([eE] [-+]? [0-9]{1,2})?\n"
    "boolean ::= \"true\" | \"false\"\n"
    "null ::= \"null\"\n"
    "object ::= \"{\" ws (string ws \":\" ws value (ws \",\" ws string ws \":\" ws value)*)? ws \"}\"\n"
    "array ::= \"[\" ws (value (ws \",\" ws value)*)? ws \"]\"\n"
    "value ::= object | array | string | number | boolean | null\n";

// Say nothing about which values are valid.
bool is_annotation(const std::string& key) {
  static const std::set<std::string> kKeys = {"$schema",  "$id",         "$comment", "$defs",    "definitions",
                                              "title",    "description", "default",  "examples", "deprecated",
                                              "readOnly", "writeOnly",   "$anchor"};
  return kKeys.count(key) > 0;
}

class Converter {
 public:
  explicit Converter(Json root) : root_(std::move(root)) {}

  std::string run() {
    const std::string body = visit(root_, "#", 0);
    std::string out = "root ::= ws " + body + " ws\n";
    for (const auto& rule : rules_) out += rule + "\n";
    return out + kPrimitives;
  }

 private:
  [[noreturn]] static void bad(const std::string& where, const std::string& what) {
    fail("JSON schema: {}: {}", where, what);
  }

  std::string add_rule(const std::string& body) {
    if (rules_.size() + 64 > kMaxRules) fail("JSON schema: it needs more than {} rules", kMaxRules);
    std::string name = format("r{}", rules_.size());
    rules_.push_back(name + " ::= " + body);
    return name;
  }

  // A GBNF expression (a name or something in parentheses) for the values of `schema`.
  std::string visit(const Json& schema, const std::string& where, int nesting) {
    if (nesting > kMaxSchemaNesting) bad(where, format("nested deeper than {} levels", kMaxSchemaNesting));
    if (schema.is_boolean()) {
      if (!schema.get<bool>()) bad(where, "'false' allows no value");
      return "value";
    }
    if (!schema.is_object()) bad(where, "a schema must be an object or a boolean");
    if (schema.contains("$ref")) return visit_reference(schema, where);
    if (schema.contains("allOf")) return visit(merge_all(schema, where, nesting), where + "/allOf", nesting + 1);
    for (const char* key : {"anyOf", "oneOf"}) {
      if (schema.contains(key)) return visit_choice(schema, key, where, nesting);
    }
    if (schema.contains("const") || schema.contains("enum")) return visit_values(schema, where);
    return visit_types(schema, where, nesting);
  }

  // Refuses keys that are neither annotations nor among `known`.
  static void check_keys(const Json& schema, const std::vector<std::string>& known, const std::string& where) {
    for (const auto& [key, value] : schema.items()) {
      if (is_annotation(key)) continue;
      if (std::find(known.begin(), known.end(), key) == known.end()) {
        bad(where, format("the keyword '{}' is not supported here", key));
      }
    }
  }

  const Json& resolve(const std::string& pointer, const std::string& where) const {
    if (pointer == "#") return root_;
    if (pointer.rfind("#/", 0) != 0) bad(where, format("the reference '{}' is not local ('#/...')", pointer));
    const Json* at = &root_;
    for (size_t start = 2; start <= pointer.size();) {
      const size_t end = std::min(pointer.find('/', start), pointer.size());
      std::string part = pointer.substr(start, end - start);
      for (const auto& [from, to] : {std::pair{"~1", "/"}, std::pair{"~0", "~"}}) {
        for (size_t i = part.find(from); i != std::string::npos; i = part.find(from, i + 1)) part.replace(i, 2, to);
      }
      const bool is_index = at->is_array() && !part.empty() && part.size() < 7 &&
                            part.find_first_not_of("0123456789") == std::string::npos;
      if (at->is_object() && at->contains(part)) {
        at = &(*at)[part];
      } else if (is_index && std::stoul(part) < at->size()) {
        at = &(*at)[std::stoul(part)];
      } else {
        bad(where, format("the reference '{}' leads nowhere", pointer));
      }
      start = end + 1;
    }
    return *at;
  }

  std::string visit_reference(const Json& schema, const std::string& where) {
    check_keys(schema, {"$ref"}, where);
    if (!schema["$ref"].is_string()) bad(where, "'$ref' must be a string");
    const auto pointer = schema["$ref"].get<std::string>();
    const auto known = references_.find(pointer);
    if (known != references_.end()) return known->second;
    if (references_.size() >= kMaxRules) bad(where, "too many references");
    if (++open_references_ > kMaxSchemaNesting) bad(where, "references are nested too deep");
    const std::string name = format("ref{}", references_.size());
    references_[pointer] = name;
    const std::string body = visit(resolve(pointer, where), pointer, 0);
    rules_.push_back(name + " ::= " + body);
    --open_references_;
    return name;
  }

  std::string visit_choice(const Json& schema, const char* key, const std::string& where, int nesting) {
    const Json& choices = schema[key];
    if (!choices.is_array() || choices.empty()) bad(where, format("'{}' must be a list that is not empty", key));
    Json base = schema;
    base.erase(key);
    const bool is_plain = std::all_of(base.items().begin(), base.items().end(),
                                      [](const auto& item) { return is_annotation(item.key()); });
    std::string out;
    for (size_t i = 0; i < choices.size(); ++i) {
      const std::string place = format("{}/{}/{}", where, key, i);
      const Json choice = is_plain ? choices[i] : merge(base, choices[i], place);
      out += (i > 0 ? " | " : "") + visit(choice, place, nesting + 1);
    }
    return "(" + out + ")";
  }

  Json merge_all(const Json& schema, const std::string& where, int nesting) {
    if (!schema["allOf"].is_array() || schema["allOf"].empty()) bad(where, "'allOf' must be a list that is not empty");
    if (nesting > kMaxSchemaNesting) bad(where, format("nested deeper than {} levels", kMaxSchemaNesting));
    Json out = schema;
    out.erase("allOf");
    for (const Json& part : schema["allOf"]) {
      const Json* other = &part;
      for (int hops = 0; other->is_object() && other->contains("$ref"); ++hops) {
        check_keys(*other, {"$ref"}, where + "/allOf");
        if (hops > kMaxSchemaNesting || !(*other)["$ref"].is_string()) bad(where, "'$ref' in allOf leads nowhere");
        other = &resolve((*other)["$ref"].get<std::string>(), where);
      }
      if (other->is_object() && other->contains("allOf")) {
        out = merge(out, merge_all(*other, where, nesting + 1), where);
      } else {
        out = merge(out, *other, where);
      }
    }
    return out;
  }

  // A schema for what both allow; refuses pairs that it cannot join.
  static Json merge(const Json& a, const Json& b, const std::string& where) {
    if (b.is_boolean() && b.get<bool>()) return a;
    if (!a.is_object() || !b.is_object()) bad(where, "schemas that are not objects cannot be merged");
    const auto closes = [](const Json& schema) {
      return schema.contains("additionalProperties") && schema["additionalProperties"] != Json(true);
    };
    if ((closes(a) && b.contains("properties")) || (closes(b) && a.contains("properties"))) {
      bad(where, "'additionalProperties' cannot be merged with further properties");
    }
    Json out = a;
    for (const auto& [key, value] : b.items()) {
      if (is_annotation(key)) continue;
      if (!out.contains(key) || out[key] == value) {
        out[key] = value;
      } else if (key == "properties" && value.is_object() && out[key].is_object()) {
        for (const auto& [name, property] : value.items()) {
          if (out[key].contains(name) && out[key][name] != property) {
            bad(where, format("the property '{}' is constrained twice", name));
          }
          out[key][name] = property;
        }
      } else if (key == "required" && value.is_array() && out[key].is_array()) {
        for (const Json& name : value) out[key].push_back(name);
      } else {
        bad(where, format("the keyword '{}' cannot be merged", key));
      }
    }
    return out;
  }

  static bool has_type(const Json& value, const std::string& type) {
    if (type == "string") return value.is_string();
    if (type == "integer") return value.is_number_integer();
    if (type == "number") return value.is_number();
    if (type == "boolean") return value.is_boolean();
    if (type == "null") return value.is_null();
    if (type == "object") return value.is_object();
    return type == "array" && value.is_array();
  }

  static std::vector<std::string> types_of(const Json& schema, const std::string& where) {
    static const std::set<std::string> kTypes = {"string", "integer", "number", "boolean", "null", "object", "array"};
    std::vector<std::string> types;
    if (!schema.contains("type")) return types;
    const Json list = schema["type"].is_array() ? schema["type"] : Json::array({schema["type"]});
    for (const Json& type : list) {
      if (!type.is_string() || kTypes.count(type.get<std::string>()) == 0) bad(where, "'type' is not known");
      types.push_back(type.get<std::string>());
    }
    if (types.empty()) bad(where, "'type' allows no value");
    return types;
  }

  std::string visit_values(const Json& schema, const std::string& where) {
    check_keys(schema, {"const", "enum", "type"}, where);
    Json values = Json::array();
    if (schema.contains("const")) values.push_back(schema["const"]);
    if (schema.contains("enum")) {
      if (!schema["enum"].is_array()) bad(where, "'enum' must be a list");
      const Json& allowed = schema["enum"];
      if (values.empty())
        values = allowed;
      else if (std::find(allowed.begin(), allowed.end(), values[0]) == allowed.end())
        values.clear();
    }
    const auto types = types_of(schema, where);
    std::string out;
    for (const Json& value : values) {
      const bool fits = types.empty() || std::any_of(types.begin(), types.end(),
                                                     [&](const std::string& type) { return has_type(value, type); });
      if (fits) out += (out.empty() ? "" : " | ") + literal(value.dump());
    }
    if (out.empty()) bad(where, "no value is allowed");
    return "(" + out + ")";
  }

  // Without "type": the type that the other keywords speak of.
  static std::vector<std::string> implied_types(const Json& schema) {
    static const std::map<std::string, std::string> kOwners = {{"properties", "object"},
                                                               {"required", "object"},
                                                               {"additionalProperties", "object"},
                                                               {"items", "array"},
                                                               {"prefixItems", "array"},
                                                               {"minItems", "array"},
                                                               {"maxItems", "array"},
                                                               {"uniqueItems", "array"},
                                                               {"minLength", "string"},
                                                               {"maxLength", "string"},
                                                               {"pattern", "string"},
                                                               {"format", "string"},
                                                               {"minimum", "number"},
                                                               {"maximum", "number"},
                                                               {"exclusiveMinimum", "number"},
                                                               {"exclusiveMaximum", "number"},
                                                               {"multipleOf", "number"}};
    std::set<std::string> types;
    for (const auto& [key, value] : schema.items()) {
      const auto owner = kOwners.find(key);
      if (owner != kOwners.end()) types.insert(owner->second);
    }
    return {types.begin(), types.end()};
  }

  std::string visit_types(const Json& schema, const std::string& where, int nesting) {
    check_keys(schema,
               {"type", "properties", "required", "additionalProperties", "items", "prefixItems", "minItems",
                "maxItems", "uniqueItems", "minLength", "maxLength", "pattern", "format", "minimum", "maximum",
                "exclusiveMinimum", "exclusiveMaximum", "multipleOf"},
               where);
    auto types = types_of(schema, where);
    if (types.empty()) types = implied_types(schema);
    if (types.empty()) return "value";
    std::string out;
    for (const std::string& type : types) {
      out += out.empty() ? "" : " | ";
      if (type == "object") out += visit_object(schema, where, nesting);
      if (type == "array") out += visit_array(schema, where, nesting);
      if (type == "string") out += visit_string(schema, where);
      if (type == "integer" || type == "number") out += visit_number(schema, where, type == "integer");
      if (type == "boolean" || type == "null") out += type;
    }
    return types.size() == 1 ? out : "(" + out + ")";
  }

  static int64_t count_of(const Json& schema, const char* key, int64_t fallback, const std::string& where) {
    if (!schema.contains(key)) return fallback;
    const Json& value = schema[key];
    if (!value.is_number_integer() || value.get<int64_t>() < 0) bad(where, format("'{}' must be a count", key));
    if (value.get<int64_t>() > kMaxRepetition) bad(where, format("'{}' is above {}", key, kMaxRepetition));
    return value.get<int64_t>();
  }

  std::string visit_string(const Json& schema, const std::string& where) {
    const bool has_length = schema.contains("minLength") || schema.contains("maxLength");
    if (schema.contains("format")) {
      if (has_length || schema.contains("pattern")) bad(where, "'format' beside length or pattern is not supported");
      return visit_format(schema["format"], where);
    }
    if (schema.contains("pattern")) {
      if (has_length) bad(where, "'pattern' beside 'minLength' or 'maxLength' is not supported");
      if (!schema["pattern"].is_string()) bad(where, "'pattern' must be a string");
      return add_rule(regex_to_gbnf(schema["pattern"].get<std::string>(), where));
    }
    if (!has_length) return "string";
    const int64_t least = count_of(schema, "minLength", 0, where);
    const int64_t most = count_of(schema, "maxLength", -1, where);
    if (most >= 0 && most < least) bad(where, "'maxLength' is below 'minLength'");
    const std::string range = format("{}{},{}{}", "{", least, most < 0 ? "" : std::to_string(most), "}");
    return add_rule("\"\\\"\" char" + range + " \"\\\"\"");
  }

  std::string visit_format(const Json& name, const std::string& where) {
    // Days that exist in every year; RFC 3339 times without leap seconds.
    static const std::string kDate =
        "[12] [0-9]{3} \"-\" ((\"0\" [13578] | \"1\" [02]) \"-\" (\"0\" [1-9] | [12] [0-9] | \"3\" [01]) | "
        "(\"0\" [469] | \"11\") \"-\" (\"0\" [1-9] | [12] [0-9] | \"30\") | "
        "\"02-\" (\"0\" [1-9] | \"1\" [0-9] | \"2\" [0-8]))";
    static const std::string kClock = "([01] [0-9] | \"2\" [0-3]) \":\" [0-5] [0-9]";
    static const std::string kTime = kClock + " \":\" [0-5] [0-9] (\".\" [0-9]{1,6})? (\"Z\" | [-+] " + kClock + ")";
    static const std::map<std::string, std::string> kFormats = {
        {"date", kDate},
        {"time", kTime},
        {"date-time", kDate + " \"T\" " + kTime},
        {"uuid", "hex{8} \"-\" hex{4} \"-\" hex{4} \"-\" hex{4} \"-\" hex{12}"},
    };
    const auto found = name.is_string() ? kFormats.find(name.get<std::string>()) : kFormats.end();
    if (found == kFormats.end()) bad(where, format("the format {} is not supported", name.dump()));
    return add_rule("\"\\\"\" " + found->second + " \"\\\"\"");
  }

  // A bound as an integer on its inner side: exact for integers, a little tighter for numbers with fractions.
  static std::optional<int64_t> bound(const Json& schema, const char* inclusive, const char* exclusive, bool is_low,
                                      const std::string& where) {
    std::optional<int64_t> out;
    for (const char* key : {inclusive, exclusive}) {
      if (!schema.contains(key)) continue;
      if (!schema[key].is_number()) bad(where, format("'{}' must be a number", key));
      const auto value = schema[key].get<double>();
      if (!(std::fabs(value) < 1e18)) bad(where, format("'{}' has more than 18 digits", key));
      const bool is_whole = schema[key].is_number_integer();
      int64_t whole =
          is_whole ? schema[key].get<int64_t>() : static_cast<int64_t>(is_low ? std::ceil(value) : std::floor(value));
      const bool hits = is_whole || static_cast<double>(whole) == value;
      if (key == exclusive && hits) whole += is_low ? 1 : -1;
      if (!out.has_value()) out = whole;
      out = is_low ? std::max(*out, whole) : std::min(*out, whole);
    }
    return out;
  }

  std::string visit_number(const Json& schema, const std::string& where, bool is_integer) {
    if (schema.contains("multipleOf") && !(is_integer && schema["multipleOf"] == Json(1))) {
      bad(where, "'multipleOf' is not supported");
    }
    const auto least = bound(schema, "minimum", "exclusiveMinimum", true, where);
    const auto most = bound(schema, "maximum", "exclusiveMaximum", false, where);
    if (!least.has_value() && !most.has_value()) return is_integer ? "integer" : "number";
    return add_rule(is_integer ? integer_range(least, most) : number_range(least, most));
  }

  std::string visit_array(const Json& schema, const std::string& where, int nesting) {
    if (schema.contains("uniqueItems") && schema["uniqueItems"] != Json(false)) {
      bad(where, "'uniqueItems' is not supported");
    }
    const int64_t least = count_of(schema, "minItems", 0, where);
    const int64_t most = count_of(schema, "maxItems", -1, where);
    if (most >= 0 && most < least) bad(where, "'maxItems' is below 'minItems'");
    std::vector<std::string> prefix;
    if (schema.contains("prefixItems")) {
      if (!schema["prefixItems"].is_array()) bad(where, "'prefixItems' must be a list");
      for (const Json& item : schema["prefixItems"]) {
        prefix.push_back(visit(item, format("{}/prefixItems/{}", where, prefix.size()), nesting + 1));
      }
    }
    // Behind a prefix there is nothing more unless the schema says what.
    std::string item;
    const bool may_go_on = schema.contains("items") ? schema["items"] != Json(false) : prefix.empty();
    if (may_go_on) item = schema.contains("items") ? visit(schema["items"], where + "/items", nesting + 1) : "value";
    return add_rule("\"[\" ws " + items_from(prefix, item, least, most, where) + " ws \"]\"");
  }

  std::string items_from(std::vector<std::string> prefix, const std::string& item, int64_t least, int64_t most,
                         const std::string& where) {
    const auto n_prefix = static_cast<int64_t>(prefix.size());
    if (item.empty() && least > n_prefix) bad(where, "'minItems' asks for more items than are described");
    if (most >= 0 && most < n_prefix) prefix.resize(static_cast<size_t>(most));
    const auto n_fixed = static_cast<int64_t>(prefix.size());
    if (prefix.empty()) {
      if (item.empty() || most == 0) return "\"\"";
      const std::string more =
          format("(ws \",\" ws {}){}", item, range_text(std::max<int64_t>(least - 1, 0), most - 1));
      return least > 0 ? item + " " + more : "(" + item + " " + more + ")?";
    }
    std::string rest;
    if (!item.empty() && most != n_fixed) {
      const std::string range = range_text(std::max<int64_t>(least - n_fixed, 0), most < 0 ? -1 : most - n_fixed);
      rest = add_rule(format("(ws \",\" ws {}){}", item, range));
    }
    for (int64_t i = n_fixed; i-- > 0;) {  // from the back: each item and what follows it
      const std::string one = (i > 0 ? "ws \",\" ws " : "") + prefix[static_cast<size_t>(i)];
      rest = add_rule("(" + one + (rest.empty() ? "" : " " + rest) + ")" + (i < least ? "" : "?"));
    }
    return rest;
  }

  static std::string range_text(int64_t least, int64_t most) {
    return format("{}{},{}{}", "{", least, most < 0 ? "" : std::to_string(most), "}");
  }

  static std::set<std::string> required_of(const Json& schema, const std::string& where) {
    std::set<std::string> out;
    if (!schema.contains("required")) return out;
    if (!schema["required"].is_array()) bad(where, "'required' must be a list");
    for (const Json& name : schema["required"]) {
      if (!name.is_string()) bad(where, "'required' must hold strings");
      out.insert(name.get<std::string>());
    }
    return out;
  }

  std::string visit_object(const Json& schema, const std::string& where, int nesting) {
    auto required = required_of(schema, where);
    const bool has_properties = schema.contains("properties");
    if (has_properties && !schema["properties"].is_object()) bad(where, "'properties' must be an object");
    const Json extra = schema.contains("additionalProperties") ? schema["additionalProperties"] : Json(!has_properties);
    const std::string extra_value =
        extra == Json(false) ? "" : visit(extra, where + "/additionalProperties", nesting + 1);
    struct Member {
      std::string text;
      bool is_required = false;
    };
    std::vector<Member> members;
    std::vector<std::string> names;
    const auto add_member = [&](const std::string& name, const std::string& value, bool is_required) {
      members.push_back({literal(Json(name).dump()) + " ws \":\" ws " + value, is_required});
      names.push_back(name);
    };
    if (has_properties) {
      for (const auto& [name, property] : schema["properties"].items()) {
        const bool is_required = required.erase(name) > 0;
        // An optional property that allows nothing is one that is never there.
        if (property == Json(false) && !is_required) {
          names.push_back(name);
          continue;
        }
        add_member(name, visit(property, where + "/properties/" + name, nesting + 1), is_required);
      }
    }
    for (const std::string& name : required) {
      if (extra_value.empty()) bad(where, format("the property '{}' is required but not allowed", name));
      add_member(name, extra_value, true);
    }
    std::string started;  // what may follow once a member is written
    std::string fresh;    // what may come while none is
    if (!extra_value.empty()) {
      const std::string pair = add_rule(other_key(names) + " ws \":\" ws " + extra_value);
      started = add_rule(format("(ws \",\" ws {})*", pair));
      fresh = add_rule(format("({} {})?", pair, started));
    }
    for (size_t i = members.size(); i-- > 0;) {
      const std::string first = members[i].text + (started.empty() ? "" : " " + started);
      const bool is_required = members[i].is_required;
      std::string open = first;
      if (!is_required) open = fresh.empty() ? "(" + first + ")?" : first + " | " + fresh;
      const std::string next = "ws \",\" ws " + members[i].text;
      const std::string tail = started.empty() ? "" : " " + started;
      started = add_rule(is_required ? next + tail : "(" + next + ")?" + tail);
      fresh = add_rule(open);
    }
    return add_rule("\"{\" ws " + fresh + (fresh.empty() ? "" : " ws ") + "\"}\"");
  }

  // A key, spelt without escapes, that is none of `names`: a walk down the tree of their letters.
  std::string other_key(const std::vector<std::string>& names) {
    if (names.empty()) return "string";
    constexpr const char* kPlain = "\\\"\\\\\\x00-\\x1F\\x7F";
    std::map<std::string, std::set<std::string>> children;  // prefix -> next code points
    std::set<std::string> whole(names.begin(), names.end());
    for (const std::string& name : whole) {
      for (size_t i = 0; i < name.size();) {
        size_t size = 1;
        while (i + size < name.size() && (static_cast<unsigned char>(name[i + size]) & 0xC0) == 0x80) ++size;
        children[name.substr(0, i)].insert(name.substr(i, size));
        i += size;
      }
    }
    std::map<std::string, std::string> rule_of;  // prefix -> rule of what may follow; longest prefixes first
    std::vector<std::string> prefixes;
    for (const auto& [prefix, next] : children) prefixes.push_back(prefix);
    for (const std::string& name : whole) prefixes.push_back(name);
    std::sort(prefixes.begin(), prefixes.end(),
              [](const auto& a, const auto& b) { return a.size() > b.size() || (a.size() == b.size() && a < b); });
    prefixes.erase(std::unique(prefixes.begin(), prefixes.end()), prefixes.end());
    for (const std::string& prefix : prefixes) {
      std::string excluded = kPlain;
      std::string body;
      for (const std::string& next : children[prefix]) {
        const auto byte = static_cast<unsigned char>(next[0]);
        if (byte < 0x20 || next == "\"" || next == "\\" || byte == 0x7F) continue;  // never spelt plainly
        excluded += next == "]" || next == "^" || next == "-" || next == "[" ? "\\" + next : next;
        body += literal(next) + " " + rule_of.at(prefix + next) + " | ";
      }
      body += format("[^{}] [^{}]*", excluded, kPlain);
      if (whole.count(prefix) == 0) body += " | \"\"";
      rule_of[prefix] = add_rule(body);
    }
    return "\"\\\"\" " + rule_of.at("") + " \"\\\"\"";
  }

  Json root_;
  std::vector<std::string> rules_;
  std::map<std::string, std::string> references_;  // pointer -> rule
  int open_references_ = 0;
};

void check_nesting(std::string_view json) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < json.size(); ++i) {
    const char c = json[i];
    if (in_string && c == '\\')
      ++i;
    else if (c == '"')
      in_string = !in_string;
    else if (!in_string && (c == '[' || c == '{'))
      ++depth;
    else if (!in_string && (c == ']' || c == '}'))
      --depth;
    if (depth > 4 * kMaxSchemaNesting) fail("JSON schema: nested deeper than {} levels", 4 * kMaxSchemaNesting);
  }
}

}  // namespace

std::string schema_to_gbnf(std::string_view schema_json) {
  if (schema_json.size() > kMaxSchemaBytes) fail("JSON schema: more than {} bytes", kMaxSchemaBytes);
  check_nesting(schema_json);
  Json schema = Json::parse(schema_json.begin(), schema_json.end(), nullptr, false);
  if (schema.is_discarded()) fail("JSON schema: not valid JSON");
  return Converter(std::move(schema)).run();
}

}  // namespace lcrun::text::grammar
