#include "src/runtime/plan_file.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "quant/format.hpp"
#include "src/attention/policy.hpp"
#include "src/base/format.hpp"
#include "src/kernels/slots.hpp"

namespace lcrun::runtime {
namespace {

using attention::PlanTile;
using attention::Segment;
using Json = nlohmann::ordered_json;

constexpr int kFormat = 1;
constexpr int64_t kMaxHeads = 512;
constexpr int64_t kMaxQueries = 65536;

std::string line_of(const Json& json) { return json.dump() + "\n"; }

Json json_of(const PlanTile& tile) {
  Json segments = Json::array();
  for (const Segment& segment : tile.segments) {
    segments.push_back({segment.first_row, segment.end_row, segment.shift});
  }
  return {tile.first, tile.count, tile.kv_head, std::move(segments)};
}

// --- reading ---------------------------------------------------------------------------------------------------------

Error wanted(std::string_view what) { return make_error(Code::kInvalidArgument, "wanted {}", what); }

Status read(const Json& json, const char* key, int64_t least, int64_t most, int64_t& value) {
  const auto at = json.find(key);
  if (at == json.end() || !at->is_number_integer() || (at->is_number_unsigned() && at->get<uint64_t>() >> 62 != 0)) {
    return wanted(format("a number \"{}\" of {} to {}", key, least, most));
  }
  value = at->get<int64_t>();
  if (value >= least && value <= most) return {};
  return wanted(format("a number \"{}\" of {} to {}", key, least, most));
}

Status read_type(const Json& json, const char* key, DType& type) {
  const auto at = json.find(key);
  const quant::TypeInfo* found = nullptr;
  if (at != json.end() && at->is_string())
    found = quant::find_type(std::string_view(at->get_ref<const std::string&>()));
  if (found == nullptr) return wanted(format("a number format \"{}\"", key));
  type = found->dtype;
  return {};
}

// Whole numbers of a list that has no others; empty where it is none of so many.
std::vector<int64_t> numbers_of(const Json& json, size_t n) {
  std::vector<int64_t> numbers;
  if (!json.is_array() || json.size() < n) return numbers;
  for (size_t i = 0; i < n; ++i) {
    const bool is_large = json[i].is_number_unsigned() && json[i].get<uint64_t>() >> 62 != 0;
    if (!json[i].is_number_integer() || is_large) return {};
    numbers.push_back(json[i].get<int64_t>());
  }
  return numbers;
}

Result<LoggedLayer> layer_of(const Json& json) {
  LoggedLayer made;
  LCRUN_TRY(read(json, "layer", 0, kMaxHeads, made.layer));
  LCRUN_TRY(read(json, "n_heads", 1, kMaxHeads, made.n_heads));
  LCRUN_TRY(read(json, "n_kv_heads", 1, kMaxHeads, made.layout.n_kv_heads));
  LCRUN_TRY(read(json, "k_dim", 1, kernels::kMaxHeadDim, made.layout.k_dim));
  LCRUN_TRY(read(json, "v_dim", 1, kernels::kMaxHeadDim, made.layout.v_dim));
  LCRUN_TRY(read_type(json, "type_k", made.layout.k_type));
  LCRUN_TRY(read_type(json, "type_v", made.layout.v_type));
  if (made.n_heads % made.layout.n_kv_heads != 0) return wanted("as many heads for each KV head");
  LCRUN_TRY(made.layout.check());
  const auto scale = json.find("scale");
  if (scale == json.end() || !scale->is_number()) return wanted("a number \"scale\"");
  made.scale = scale->get<double>();
  return made;
}

Result<LoggedTile> tile_of(const Json& json, const LoggedLayer& layer, int64_t end_pos) {
  const auto head = numbers_of(json, 3);
  if (head.empty() || json.size() != 4 || !json[3].is_array()) return wanted("tiles [first, count, kv_head, segments]");
  LoggedTile tile{head[0], head[1], head[2], {}};
  if (tile.kv_head < -1 || tile.kv_head >= layer.layout.n_kv_heads) return wanted("a KV head that is there, or -1");
  int64_t last = 0;
  for (const Json& one : json[3]) {
    const auto rows = numbers_of(one, 3);
    if (rows.empty()) return wanted("segments [first_row, end_row, shift]");
    const bool is_apart = rows[0] >= last && rows[1] > rows[0] && rows[1] <= end_pos;
    const bool is_near = rows[2] >= -attention::kMostTokens && rows[2] <= attention::kMostTokens;
    if (!is_apart || !is_near) return wanted("segments that ascend, apart, of rows that are there");
    tile.segments.push_back({rows[0], rows[1], rows[2]});
    last = rows[1];
  }
  if (tile.segments.empty()) return wanted("at least one segment a tile");
  return tile;
}

// Each query of each head once, in order.
Status check_tiles(const LoggedPlan& plan, const LoggedLayer& layer) {
  std::vector<int64_t> next(static_cast<size_t>(layer.layout.n_kv_heads));
  int64_t last = 0;
  for (const LoggedTile& tile : plan.tiles) {
    const bool is_of_all = tile.kv_head < 0;
    const auto from = static_cast<size_t>(is_of_all ? 0 : tile.kv_head);
    const size_t until = is_of_all ? next.size() : from + 1;
    bool fits = tile.count > 0 && tile.first >= last && tile.count <= plan.n - tile.first;
    for (size_t head = from; head < until && fits; ++head) {
      fits = next[head] == tile.first;
      next[head] = tile.first + tile.count;
    }
    if (!fits) return wanted("tiles with each query of each head once, in order");
    last = tile.first;
  }
  if (std::any_of(next.begin(), next.end(), [&](int64_t n) { return n != plan.n; })) {
    return wanted("tiles with each query of each head once, in order");
  }
  return {};
}

Result<LoggedPlan> plan_of(const Json& json, const std::vector<LoggedLayer>& layers) {
  LoggedPlan plan;
  int64_t layer = 0;
  LCRUN_TRY(read(json, "plan", 0, kMaxHeads, layer));
  LCRUN_TRY(read(json, "pos", 0, attention::kMostTokens, plan.pos));
  LCRUN_TRY(read(json, "n", 1, kMaxQueries, plan.n));
  const auto at =
      std::find_if(layers.begin(), layers.end(), [&](const LoggedLayer& one) { return one.layer == layer; });
  if (at == layers.end()) return wanted("a layer that a line before has introduced");
  plan.layer = static_cast<size_t>(at - layers.begin());
  const auto tiles = json.find("tiles");
  if (tiles == json.end() || !tiles->is_array()) return wanted("a list \"tiles\"");
  for (const Json& one : *tiles) {
    LCRUN_ASSIGN(auto tile, tile_of(one, *at, plan.pos + plan.n));
    plan.tiles.push_back(std::move(tile));
  }
  LCRUN_TRY(check_tiles(plan, *at));
  return plan;
}

Status read_line(const Json& json, bool is_first, PlanLog& log) {
  if (!json.is_object()) return wanted("a JSON object");
  if (is_first) {
    int64_t version = 0;
    return read(json, "lcrun_plans", kFormat, kFormat, version);
  }
  if (json.contains("plan")) {
    LCRUN_ASSIGN(auto plan, plan_of(json, log.layers));
    log.plans.push_back(std::move(plan));
    return {};
  }
  LCRUN_ASSIGN(const auto layer, layer_of(json));
  const bool is_known = std::any_of(log.layers.begin(), log.layers.end(),
                                    [&](const LoggedLayer& one) { return one.layer == layer.layer; });
  if (is_known) return wanted("each layer introduced once");
  log.layers.push_back(layer);
  return {};
}

}  // namespace

Status PlanWriter::observe(const attention::PlanSeen& seen) {
  std::string lines;
  if (layers_.empty()) lines += line_of({{"lcrun_plans", kFormat}});
  if (layers_.insert(seen.layer).second) {
    const attention::KvLayout& layout = seen.params.layout;
    lines += line_of({{"layer", seen.layer},
                      {"n_heads", seen.params.n_heads},
                      {"n_kv_heads", layout.n_kv_heads},
                      {"k_dim", layout.k_dim},
                      {"v_dim", layout.v_dim},
                      {"type_k", quant::type_name(layout.k_type)},
                      {"type_v", quant::type_name(layout.v_type)},
                      {"scale", seen.params.scale}});
  }
  Json plan = {{"plan", seen.layer}, {"pos", seen.pos0}, {"n", seen.q.rows}, {"chosen", seen.is_chosen}};
  plan["tiles"] = Json::array();
  for (const PlanTile& tile : seen.plan.tiles) plan["tiles"].push_back(json_of(tile));
  ++plans_;
  return sink_(lines + line_of(plan));
}

Result<PlanLog> parse_plans(std::string_view text, const std::string& name) {
  PlanLog log;
  int64_t number = 0;
  bool is_first = true;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const Status taken = read_line(Json::parse(line, nullptr, false), is_first, log);
    if (!taken.has_value()) {
      return make_error(taken.error().code, "{}, line {}: {}", name, number, taken.error().message);
    }
    is_first = false;
  }
  if (is_first) return make_error(Code::kInvalidArgument, "{}: found no lines, wanted a plan file", name);
  return log;
}

}  // namespace lcrun::runtime
