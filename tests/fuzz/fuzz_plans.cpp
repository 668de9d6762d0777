// Fuzz target: bytes -> a plan file.
//
// Laws: no crash; what is refused is refused with a message that names the file; plans that are taken can be written
// again and are the same then.
#include <cstddef>
#include <cstdint>
#include <string>

#include "src/base/check.hpp"
#include "src/runtime/plan_file.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using namespace lcrun;
using namespace lcrun::runtime;

void check_log(const PlanLog& log) {
  std::string text;
  PlanWriter writer([&](std::string_view lines) -> Status {
    text += lines;
    return {};
  });
  storage::Region none({storage::RegionKind::kAppend, "kv", 64, 0});
  for (const LoggedPlan& plan : log.plans) {
    const LoggedLayer& layer = log.layers[plan.layer];
    attention::AttnParams params;
    params.layout = layer.layout;
    params.n_heads = layer.n_heads;
    params.scale = static_cast<float>(layer.scale);
    std::vector<attention::PlanTile> tiles;
    for (const LoggedTile& tile : plan.tiles) tiles.push_back({tile.first, tile.count, tile.kv_head, tile.segments});
    const MatView q{nullptr, plan.n, 0, 0};
    LCRUN_CHECK(writer.observe({layer.layer, true, true, false, params, none, {tiles}, plan.pos, q}).has_value());
  }
  if (log.plans.empty()) return;
  const auto again = parse_plans(text, "again");
  LCRUN_CHECK(again.has_value() && again->plans.size() == log.plans.size());
  for (size_t i = 0; i < log.plans.size(); ++i) {
    const LoggedPlan &a = log.plans[i], &b = again->plans[i];
    LCRUN_CHECK(a.pos == b.pos && a.n == b.n && a.tiles.size() == b.tiles.size());
    for (size_t t = 0; t < a.tiles.size(); ++t) LCRUN_CHECK(a.tiles[t].segments.size() == b.tiles[t].segments.size());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto log = parse_plans(text, "input");
  if (log.has_value()) {
    check_log(*log);
  } else {
    LCRUN_CHECK(log.error().message.find("input") == 0);
  }
  return 0;
}
