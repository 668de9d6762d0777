// Plan files: what layers have read, plan by plan, as JSON lines; to look at, and to be timed without a model.
//
// The first line names the format, then a line for each layer when it is first met (its heads and the types of its
// cache), and a line for each plan. Grammar: docs/formats.md, "Plan files".
// Thread rule: a writer belongs to the thread that drives the step.
#pragma once

#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "src/attention/observer.hpp"
#include "src/base/result.hpp"

namespace lcrun::runtime {

class PlanWriter final : public attention::PlanObserver {
 public:
  // Takes whole lines; its errors end the step.
  using Sink = std::function<Status(std::string_view lines)>;
  explicit PlanWriter(Sink sink) : sink_(std::move(sink)) {}

  Status observe(const attention::PlanSeen& seen) override;
  int64_t plans() const { return plans_; }

 private:
  Sink sink_;
  std::set<int64_t> layers_;  // that were introduced
  int64_t plans_ = 0;
};

struct LoggedLayer {
  int64_t layer = 0;
  attention::KvLayout layout;
  int64_t n_heads = 0;
  double scale = 1;
};
struct LoggedTile {
  int64_t first = 0;
  int64_t count = 0;
  int64_t kv_head = -1;
  std::vector<attention::Segment> segments;
};
struct LoggedPlan {
  size_t layer = 0;  // its place in PlanLog::layers
  int64_t pos = 0;
  int64_t n = 0;  // queries
  std::vector<LoggedTile> tiles;
};
struct PlanLog {
  std::vector<LoggedLayer> layers;
  std::vector<LoggedPlan> plans;
};

// kInvalidArgument: what is not such a file, or plans that could not be executed; the message has `name` and the line.
Result<PlanLog> parse_plans(std::string_view text, const std::string& name);

}  // namespace lcrun::runtime
