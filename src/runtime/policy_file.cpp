#include "src/runtime/policy_file.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "src/base/format.hpp"
#include "src/base/log.hpp"
#include "src/runtime/engine.hpp"
#include "src/runtime/session_file.hpp"
#include "storage/snapshot_format.hpp"

namespace lcrun::runtime {
namespace {

using attention::LayerRoles;
using attention::PlanSharing;
using attention::Policy;
using attention::PolicyRows;
using attention::Reading;
using attention::Role;
using attention::Scope;
using Json = nlohmann::ordered_json;

constexpr int kFormat = 1;
constexpr uint64_t kMaxFileBytes = uint64_t{1} << 20;
constexpr int kMaxDepth = 16;
constexpr size_t kMaxRows = 64;
constexpr size_t kMaxName = 40;
constexpr size_t kMaxText = 400;
constexpr int64_t kMaxTokens = int64_t{1} << 24;
constexpr int64_t kMaxBlocks = 4096;
constexpr int64_t kMaxShortlist = 1 << 18;
constexpr int64_t kMaxLayer = 4096;
constexpr size_t kMaxSharings = 256;
constexpr const char* kSource = "a policy file";  // where a row does not say

std::string in_quotes(std::string_view text) { return format("\"{}\"", text); }

// What was found, on one line; never what is nested.
std::string shown(const Json& json) {
  if (!json.is_primitive()) return json.is_array() ? "a list" : "an object";
  std::string text = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > 60) text = text.substr(0, 60) + "...";
  return text;
}

// Fields of one object, and where it is: "FILE: rows[0].ask".
class Fields {
 public:
  Fields(const Json& object, std::string where) : object_(object), where_(std::move(where)) {}

  Error refused(std::string_view key, const std::string& found, std::string_view wanted) const {
    return make_error(Code::kInvalidArgument, "{}{}: found {}, wanted {}", where_, key, found, wanted);
  }
  Status check(std::initializer_list<std::string_view> known) const {
    for (const auto& [key, value] : object_.items()) {
      if (std::find(known.begin(), known.end(), key) != known.end()) continue;
      std::string names;
      for (const auto name : known) names += (names.empty() ? "" : ", ") + std::string(name);
      return refused(key.substr(0, kMaxName), "a field of this name", "one of " + names);
    }
    return {};
  }
  const Json* find(std::string_view key) const {
    const auto at = object_.find(key);
    return at == object_.end() ? nullptr : &*at;
  }
  // Keeps `value` where the field is missing.
  Status text(std::string_view key, std::string& value, size_t most = kMaxText) const {
    const Json* found = find(key);
    if (found == nullptr) return {};
    if (!found->is_string()) return refused(key, shown(*found), "a text");
    const std::string& given = found->get_ref<const std::string&>();
    const auto is_control = [](char c) { return static_cast<uint8_t>(c) < 32 || c == 127; };
    if (given.size() > most || std::any_of(given.begin(), given.end(), is_control)) {
      return refused(key, shown(*found), format("at most {} bytes on one line", most));
    }
    value = given;
    return {};
  }
  Status number(std::string_view key, int64_t& value, int64_t most, int64_t unit) const {
    const Json* found = find(key);
    if (found == nullptr) return {};
    const std::string wanted =
        unit == 1 ? format("a number from 0 to {}", most) : format("a multiple of {} from 0 to {}", unit, most);
    const bool fits = found->is_number_unsigned() && found->get<uint64_t>() <= static_cast<uint64_t>(most);
    if (!fits || found->get<int64_t>() % unit != 0) return refused(key, shown(*found), wanted);
    value = found->get<int64_t>();
    return {};
  }
  Status share(std::string_view key, double& value) const {
    const Json* found = find(key);
    if (found == nullptr) return {};
    if (!found->is_number() || !(found->get<double>() >= 0 && found->get<double>() <= 1)) {
      return refused(key, shown(*found), "a number from 0 to 1");
    }
    value = found->get<double>();
    return {};
  }
  // One of some names: the place in the list.
  template <typename Enum>
  Status choice(std::string_view key, Enum last, Enum& value) const {
    std::string found;
    if (find(key) == nullptr) return {};
    LCRUN_TRY(text(key, found));
    std::string wanted;
    for (int i = 0; i <= static_cast<int>(last); ++i) {
      const std::string name = name_of(static_cast<Enum>(i));
      if (found == name) {
        value = static_cast<Enum>(i);
        return {};
      }
      wanted += (wanted.empty() ? "" : ", ") + name;
    }
    return refused(key, in_quotes(found), "one of " + wanted);
  }
  // The fields of a field; nothing where it is missing.
  Result<std::optional<Fields>> object(std::string_view key) const {
    const Json* found = find(key);
    if (found == nullptr) return std::optional<Fields>();
    if (!found->is_object()) return refused(key, shown(*found), "an object");
    return std::optional<Fields>(Fields(*found, format("{}{}.", where_, key)));
  }
  Result<std::vector<Fields>> objects(std::string_view key, size_t most) const {
    std::vector<Fields> all;
    const Json* found = find(key);
    if (found == nullptr) return all;
    if (!found->is_array() || found->size() > most) {
      return refused(key, shown(*found), format("a list of at most {} objects", most));
    }
    for (const Json& one : *found) {
      const std::string name = format("{}[{}]", key, all.size());
      if (!one.is_object()) return refused(name, shown(one), "an object");
      all.emplace_back(one, format("{}{}.", where_, name));
    }
    return all;
  }

 private:
  const Json& object_;
  std::string where_;
};

// --- reading ---------------------------------------------------------------------------------------------------------

// The name of a kind of index, or `other` for none.
Status read_index(const Fields& fields, std::string_view key, const char* other, std::string_view& name) {
  std::string found(name);
  LCRUN_TRY(fields.text(key, found));
  const attention::IndexKind* kind = attention::find_index_kind(found);
  if (kind == nullptr && !found.empty() && found != other) {
    std::string known = other;
    for (const auto& one : attention::index_kinds()) known += std::string(", ") + one.name;
    return fields.refused(key, in_quotes(found), "one of " + known);
  }
  name = kind == nullptr ? std::string_view() : std::string_view(kind->name);
  return {};
}

Status read_reading(const Fields& fields, Reading& reading) {
  LCRUN_TRY(fields.check({"role", "sinks", "window", "positions", "index", "blocks", "mass", "scope", "choice",
                          "cadence", "remainder", "coarse", "shortlist"}));
  auto positions = reading.positions.kind;
  LCRUN_TRY(fields.choice("role", Role::kSelect, reading.role));
  LCRUN_TRY(fields.choice("positions", attention::Positions::kChunk, positions));
  LCRUN_TRY(fields.choice("scope", Scope::kLayer, reading.scope));
  LCRUN_TRY(fields.choice("choice", attention::Choice::kDivergence, reading.choice));
  LCRUN_TRY(fields.choice("remainder", attention::Remainder::kMean, reading.remainder));
  reading.positions = {positions};
  LCRUN_TRY(fields.number("sinks", reading.sinks, kMaxTokens, storage::kBlockTokens));
  LCRUN_TRY(fields.number("window", reading.window, kMaxTokens, storage::kBlockTokens));
  LCRUN_TRY(fields.number("blocks", reading.blocks, kMaxBlocks, 1));
  LCRUN_TRY(fields.share("mass", reading.mass));
  LCRUN_TRY(fields.number("cadence", reading.cadence, storage::kBlockTokens, 1));
  if (reading.cadence < 1 || storage::kBlockTokens % reading.cadence != 0) {
    return fields.refused("cadence", format("{}", reading.cadence), format("a divisor of {}", storage::kBlockTokens));
  }
  LCRUN_TRY(read_index(fields, "index", "auto", reading.index));
  LCRUN_TRY(read_index(fields, "coarse", "none", reading.coarse));
  LCRUN_TRY(fields.number("shortlist", reading.shortlist, kMaxShortlist, 1));
  if (reading.has_levels() && reading.shortlist < std::max<int64_t>(1, reading.blocks)) {
    return fields.refused("shortlist", format("{}", reading.shortlist), "at least as many as there are \"blocks\"");
  }
  if (!reading.is_by_keys()) return {};
  for (const auto& [key, name] : {std::pair{"index", &reading.index}, std::pair{"coarse", &reading.coarse}}) {
    if (!name->empty() && fields.find(key) != nullptr) {
      return fields.refused(key, in_quotes(*name),
                            format("none: the choice \"{}\" reads the keys themselves", name_of(reading.choice)));
    }
    *name = {};
  }
  return {};
}

Status read_layers(const Fields& fields, LayerRoles& layers) {
  LCRUN_TRY(fields.check({"look_back", "plan_from"}));
  LCRUN_TRY(fields.text("look_back", layers.look_back));
  LCRUN_ASSIGN(const auto sharings, fields.objects("plan_from", kMaxSharings));
  if (!sharings.empty()) layers.plan_from.clear();
  for (const Fields& one : sharings) {
    LCRUN_TRY(one.check({"layers", "anchor"}));
    PlanSharing sharing;
    LCRUN_TRY(one.text("layers", sharing.layers));
    LCRUN_TRY(one.number("anchor", sharing.anchor, kMaxLayer, 1));
    if (one.find("layers") == nullptr) return one.refused("layers", "nothing", "a list of layers");
    if (one.find("anchor") == nullptr) return one.refused("anchor", "nothing", "the number of a layer");
    layers.plan_from.push_back(sharing);
  }
  // What a list says can be told without a model; which layers there are is told with it.
  const auto listed = [](const std::string& list) { return attention::parse_layers("", list, kMaxLayer).has_value(); };
  if (!listed(layers.look_back)) return fields.refused("look_back", in_quotes(layers.look_back), "all, or 5,11,17-20");
  for (const PlanSharing& sharing : layers.plan_from) {
    if (listed(sharing.layers) && sharing.layers != "all") continue;
    return fields.refused("plan_from.layers", in_quotes(sharing.layers), "layers as in 5,11,17-20");
  }
  return {};
}

const Policy* find_row(std::string_view name, const PolicyRows& rows) {
  for (const std::span<const Policy> some : {std::span<const Policy>(rows.rows), attention::policies()}) {
    for (const Policy& policy : some) {
      if (policy.name == name) return &policy;
    }
  }
  return nullptr;
}

Status read_row(const Fields& fields, PolicyRows& rows) {
  LCRUN_TRY(fields.check({"name", "like", "source", "about", "read", "ask", "layers"}));
  std::string name, like;
  LCRUN_TRY(fields.text("name", name, kMaxName));
  const bool is_plain = std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
  });
  if (name.empty() || !is_plain) {
    return fields.refused("name", in_quotes(name), format("1 to {} of a-z, 0-9, - _ .", kMaxName));
  }
  if (attention::is_policy_name(name) || find_row(name, rows) != nullptr) {
    return fields.refused("name", in_quotes(name), "a name that no other row has");
  }
  Policy policy;
  LCRUN_TRY(fields.text("like", like));
  if (!like.empty()) {
    const Policy* row = find_row(like, rows);
    if (row == nullptr) return fields.refused("like", in_quotes(like), "a row of the table, or one before this");
    policy = *row;
    policy.source = kSource;
  } else if (fields.find("read") == nullptr || fields.find("ask") == nullptr) {
    return fields.refused("like", "nothing", "a row that it is like, or both \"read\" and \"ask\"");
  }
  policy.name = name;
  if (policy.source.empty()) policy.source = kSource;
  LCRUN_TRY(fields.text("source", policy.source));
  LCRUN_TRY(fields.text("about", policy.about));
  LCRUN_ASSIGN(const auto read, fields.object("read"));
  if (read.has_value()) LCRUN_TRY(read_reading(*read, policy.read));
  LCRUN_ASSIGN(const auto ask, fields.object("ask"));
  if (ask.has_value()) LCRUN_TRY(read_reading(*ask, policy.ask));
  if (policy.read.cadence != 1)
    return fields.refused("read.cadence", format("{}", policy.read.cadence), "1: only questions follow a leader");
  if (policy.ask.is_by_tile()) {
    return fields.refused("ask.choice", in_quotes(attention::name_of(policy.ask.choice)),
                          "\"query\", \"exact\" or \"strips\": questions are asked token by token");
  }
  LCRUN_ASSIGN(const auto layers, fields.object("layers"));
  if (layers.has_value()) LCRUN_TRY(read_layers(*layers, policy.layers));
  const bool both = policy.read.needs_index() && policy.ask.needs_index();
  if (both && policy.read.index != policy.ask.index) {
    return fields.refused("read.index", in_quotes(policy.read.index), "that of \"ask\": a layer keeps one index");
  }
  const bool both_coarse = policy.read.has_levels() && policy.ask.has_levels();
  if (both_coarse && policy.read.coarse != policy.ask.coarse) {
    return fields.refused("read.coarse", in_quotes(policy.read.coarse), "that of \"ask\": a layer keeps one");
  }
  rows.rows.push_back(std::move(policy));
  return {};
}

Status read_file(const Fields& fields, PolicyRows& rows) {
  LCRUN_TRY(fields.check({"lcrun_policies", "about", "model", "model_name", "auto", "rows", "measured"}));
  const Json* version = fields.find("lcrun_policies");
  if (version == nullptr || !version->is_number_integer() || *version != kFormat) {
    return fields.refused("lcrun_policies", version == nullptr ? "nothing" : shown(*version), format("{}", kFormat));
  }
  std::string unread;
  LCRUN_TRY(fields.text("about", unread));
  LCRUN_TRY(fields.text("model_name", unread));
  LCRUN_TRY(fields.text("model", rows.model));
  const bool is_hex = rows.model.find_first_not_of("0123456789abcdef") == std::string::npos;
  if (!rows.model.empty() && (rows.model.size() != 2 * sizeof(Fingerprint) || !is_hex)) {
    return fields.refused("model", in_quotes(rows.model), format("{} hex digits", 2 * sizeof(Fingerprint)));
  }
  LCRUN_ASSIGN(const auto measured, fields.object("measured"));
  static_cast<void>(measured);
  LCRUN_ASSIGN(const auto all, fields.objects("rows", kMaxRows));
  if (all.empty()) return fields.refused("rows", "none", "at least one row");
  for (const Fields& one : all) LCRUN_TRY(read_row(one, rows));
  LCRUN_TRY(fields.text("auto", rows.auto_name));
  if (!rows.auto_name.empty() && find_row(rows.auto_name, rows) == nullptr) {
    return fields.refused("auto", in_quotes(rows.auto_name), "the name of a row");
  }
  return {};
}

// Objects whose keys have been met, on the way through a file: none may come twice.
class KeyWatch {
 public:
  bool take(int depth, Json::parse_event_t event, const Json& value) {
    using Event = Json::parse_event_t;
    if (depth > kMaxDepth) is_deep_ = true;
    if (event == Event::object_start) keys_.emplace_back();
    if (event == Event::object_end && !keys_.empty()) keys_.pop_back();
    if (event == Event::key && !keys_.empty() && !keys_.back().insert(value.get<std::string>()).second) {
      if (twice_.empty()) twice_ = value.get<std::string>().substr(0, kMaxName);
    }
    return !is_deep_;
  }
  bool is_deep() const { return is_deep_; }
  const std::string& twice() const { return twice_; }

 private:
  std::vector<std::set<std::string>> keys_;
  bool is_deep_ = false;
  std::string twice_;
};

// --- writing ---------------------------------------------------------------------------------------------------------

Json json_of(const Reading& reading) {
  Json json = {{"role", name_of(reading.role)}};
  if (reading.role != Role::kDense || reading.positions.moves()) json["positions"] = name_of(reading.positions.kind);
  if (reading.role == Role::kDense) return json;
  json["sinks"] = reading.sinks;
  json["window"] = reading.window;
  if (reading.role != Role::kSelect) return json;
  if (reading.needs_index()) json["index"] = reading.index.empty() ? "auto" : std::string(reading.index);
  json["blocks"] = reading.blocks;
  if (reading.mass > 0) json["mass"] = reading.mass;
  json["scope"] = name_of(reading.scope);
  if (reading.choice != attention::Choice::kQuery) json["choice"] = attention::name_of(reading.choice);
  if (reading.cadence > 1) json["cadence"] = reading.cadence;
  if (reading.has_levels()) {
    json["coarse"] = std::string(reading.coarse);
    json["shortlist"] = reading.shortlist;
  }
  if (reading.has_remainder()) json["remainder"] = attention::name_of(reading.remainder);
  return json;
}

Json json_of(std::span<const Policy> rows) {
  Json all = Json::array();
  for (const Policy& policy : rows) {
    Json row = {{"name", policy.name},        {"source", policy.source},
                {"about", policy.about},      {"read", json_of(policy.read)},
                {"ask", json_of(policy.ask)}, {"layers", {{"look_back", policy.layers.look_back}}}};
    for (const PlanSharing& sharing : policy.layers.plan_from) {
      row["layers"]["plan_from"].push_back({{"layers", sharing.layers}, {"anchor", sharing.anchor}});
    }
    all.push_back(std::move(row));
  }
  return all;
}

std::string text_of(const Json& json) { return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n"; }

}  // namespace

Result<PolicyRows> parse_policies(std::string_view text, const std::string& name) {
  PolicyRows rows;
  rows.path = name;
  if (text.size() > kMaxFileBytes) {
    return make_error(Code::kInvalidArgument, "{}: found {} bytes, wanted at most {}", name, text.size(),
                      kMaxFileBytes);
  }
  KeyWatch watch;
  const Json json = Json::parse(
      text, [&](int depth, Json::parse_event_t event, Json& value) { return watch.take(depth, event, value); }, false);
  if (watch.is_deep()) {
    return make_error(Code::kInvalidArgument, "{}: objects lie in one another, wanted at most {} deep", name,
                      kMaxDepth);
  }
  if (!json.is_object()) {
    return make_error(Code::kInvalidArgument, "{}: found {}, wanted a JSON object", name,
                      json.is_discarded() ? std::string("what is no JSON") : shown(json));
  }
  if (!watch.twice().empty()) {
    return make_error(Code::kInvalidArgument, "{}: {}: found twice in one object, wanted once", name, watch.twice());
  }
  LCRUN_TRY(read_file(Fields(json, name + ": "), rows));
  const auto digest = storage::digest_of(std::as_bytes(std::span(text)));
  rows.digest = storage::hex_text(digest);
  return rows;
}

std::string policies_text(const PolicyRows& rows, const std::string& measured) {
  Json json = {{"lcrun_policies", kFormat}};
  if (!rows.model.empty()) json["model"] = rows.model;
  if (!rows.auto_name.empty()) json["auto"] = rows.auto_name;
  json["rows"] = json_of(rows.rows);
  if (!measured.empty()) json["measured"] = Json::parse(measured, nullptr, false);
  return text_of(json);
}

std::string rows_text(std::span<const Policy> rows) { return text_of(json_of(rows)); }

std::string policy_path_of(const std::string& model_path) { return model_path + ".policy.json"; }

std::string fingerprint_text(const ggufish::ModelFile& file) { return storage::hex_text(model_fingerprint(file)); }

Result<attention::PolicyChoice> policy_choice(const Options& options, const std::string& model_path, FileSystem& fs) {
  attention::PolicyChoice choice = policy_choice(options);
  std::string path = options.policy_file;
  if (path == "none") return choice;
  if (path.empty()) {
    const bool needs_none = options.attention != "auto" && attention::is_policy_name(options.attention) &&
                            attention::is_policy_name(options.prefill);
    path = policy_path_of(model_path);
    if (needs_none || model_path.empty() || !fs.exists(path)) return choice;
  }
  LCRUN_ASSIGN(const std::string text, read_text_file(fs, path, kMaxFileBytes));
  LCRUN_ASSIGN(auto rows, parse_policies(text, path));
  choice.rows = std::make_shared<const PolicyRows>(std::move(rows));
  return choice;
}

Status check_model_of(const attention::PolicyChoice& choice, const ggufish::ModelFile& file) {
  if (choice.rows == nullptr || choice.rows->model.empty()) return {};
  const std::string found = fingerprint_text(file);
  if (found == choice.rows->model) return {};
  return make_error(
      Code::kInvalidArgument,
      "{}: model: found {}, wanted {}, the fingerprint of {}: it was made for another model. Make one with "
      "`lcrun calibrate`, or give --policy-file none",
      choice.rows->path, choice.rows->model, found, file.path());
}

Result<attention::PolicyChoice> policy_choice_for(const Options& options, const ggufish::ModelFile& file,
                                                  FileSystem& fs) {
  LCRUN_ASSIGN(auto choice, policy_choice(options, file.path(), fs));
  const Status is_of_model = check_model_of(choice, file);
  if (is_of_model.has_value()) return choice;
  if (!options.policy_file.empty()) return is_of_model.error();
  log(LogLevel::kWarn, "{}: it was made for another model and is left out; `lcrun calibrate` makes one for {}",
      choice.rows->path, file.path());
  choice.rows = nullptr;
  return choice;
}

}  // namespace lcrun::runtime
