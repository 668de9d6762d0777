#include "cli/policies.hpp"

#include <vector>

#include "src/base/format.hpp"
#include "src/runtime/policy_file.hpp"

namespace lcrun::cli {
namespace {

using attention::Reading;
using attention::Role;

// What 0 stands for in `select`: the model's heads decide.
std::string number(int64_t n) { return n == 0 ? "auto" : format("{}", n); }

std::string text_of(const Reading& reading) {
  const std::string positions = format("{} positions", name_of(reading.positions.kind));
  if (reading.role == Role::kDense) return reading.positions.moves() ? format("dense, {}", positions) : "dense";
  std::string text = format("{}({} + {}", name_of(reading.role), reading.sinks, number(reading.window));
  if (reading.role == Role::kSelect) {
    const std::string most = reading.mass > 0 ? format("{} % of the attention, at most ", reading.mass * 100) : "";
    const std::string index = reading.index.empty() ? "auto" : std::string(reading.index);
    text += format(" + {}{} blocks by {}, a {}", most, number(reading.blocks),
                   reading.needs_index() ? index : format("keys, {}", name_of(reading.choice)), name_of(reading.scope));
    if (reading.has_levels()) text += format(", among {} by {}", reading.shortlist, reading.coarse);
    if (reading.cadence > 1) text += format(" every {}", reading.cadence);
    if (reading.is_by_tile()) text += " and 64 tokens";
    if (reading.choice == attention::Choice::kExact) text += ", exactly";
    if (reading.choice == attention::Choice::kStrips) text += format(", among {} by channels", reading.most_listed());
    if (reading.remainder == attention::Remainder::kBlocks) text += ", the others by their means";
    if (reading.remainder == attention::Remainder::kMean) text += ", the others by one mean";
  }
  return text + (reading.positions.kind == attention::Positions::kRelay ? ")" : format(", {})", positions));
}

// Of the table, and of a file.
std::vector<attention::Policy> all_rows(const attention::PolicyRows* more) {
  const auto table = attention::policies();
  std::vector<attention::Policy> rows(table.begin(), table.end());
  if (more != nullptr) rows.insert(rows.end(), more->rows.begin(), more->rows.end());
  return rows;
}

std::string layers_text(const attention::LayerRoles& layers) {
  std::string text;
  if (layers.look_back != "all") text = format("  layers  {} look back\n", layers.look_back);
  for (const auto& sharing : layers.plan_from) {
    text += format("  layers  {} take over the blocks of {}\n", sharing.layers, sharing.anchor);
  }
  return text;
}

}  // namespace

std::string policies_table(const attention::PolicyRows* more) {
  const std::string own = more != nullptr && !more->auto_name.empty() ? more->auto_name : "select";
  std::string text = format("--attention auto: dense within the trained context, {} past it\n\n", own);
  for (const auto& policy : all_rows(more)) {
    text += format("{}\n  {}\n  source  {}\n  text    {}\n  asked   {}\n{}\n", policy.name, policy.about, policy.source,
                   text_of(policy.read), text_of(policy.ask), layers_text(policy.layers));
  }
  text += "indexes\n";
  for (const auto& kind : attention::index_kinds()) text += format("  {}: {}\n", kind.name, kind.about);
  return text;
}

std::string policies_json(const attention::PolicyRows* more) { return runtime::rows_text(all_rows(more)); }

}  // namespace lcrun::cli
