#include "cli/policies.hpp"

#include "cli/json_text.hpp"
#include "src/attention/policy.hpp"
#include "src/base/format.hpp"

namespace lcrun::cli {
namespace {

using attention::Reading;
using attention::Role;

const char* name_of(Role role) {
  switch (role) {
    case Role::kDense:
      return "dense";
    case Role::kStream:
      return "stream";
    case Role::kSelect:
      return "select";
  }
  return "";
}

Json json_of(const Reading& reading) {
  Json json = {{"role", name_of(reading.role)}};
  if (reading.role == Role::kDense) return json;
  json["sinks"] = reading.sinks;
  json["window"] = reading.window;
  json["positions"] = reading.relay ? "relay" : "true";
  if (reading.role != Role::kSelect) return json;
  json["index"] = reading.index;
  json["blocks"] = reading.blocks;
  json["scope"] = reading.scope == attention::Scope::kHead ? "head" : "layer";
  return json;
}

// What 0 stands for in `select`: the model's heads decide.
std::string number(int64_t n) { return n == 0 ? "auto" : format("{}", n); }

std::string text_of(const Reading& reading) {
  if (reading.role == Role::kDense) return "dense";
  std::string text = format("{}({} + {}", name_of(reading.role), reading.sinks, number(reading.window));
  if (reading.role == Role::kSelect) {
    text += format(" + {} blocks by {}, a {}", number(reading.blocks),
                   reading.index.empty() ? "auto" : std::string(reading.index),
                   reading.scope == attention::Scope::kHead ? "head" : "layer");
  }
  return text + (reading.relay ? ")" : ", true positions)");
}

}  // namespace

std::string policies_table() {
  std::string text = "--attention auto: dense within the trained context, select past it\n\n";
  for (const auto& policy : attention::policies()) {
    text += format("{}\n  {}\n  source  {}\n  text    {}\n  asked   {}\n\n", policy.name, policy.about, policy.source,
                   text_of(policy.read), text_of(policy.ask));
  }
  text += "indexes\n";
  for (const auto& kind : attention::index_kinds()) text += format("  {}: {}\n", kind.name, kind.about);
  return text;
}

std::string policies_json() {
  Json json = Json::array();
  for (const auto& policy : attention::policies()) {
    json.push_back({{"name", policy.name},
                    {"about", policy.about},
                    {"source", policy.source},
                    {"read", json_of(policy.read)},
                    {"ask", json_of(policy.ask)}});
  }
  return json_text(json, 2) + "\n";
}

}  // namespace lcrun::cli
