// Who looks on while replies are made: the meter of recall that --stats reads, the file of --dump-plan.
//
// Thread rule: the main thread.
#pragma once

#include <memory>
#include <optional>

#include "cli/command.hpp"
#include "src/attention/recall.hpp"
#include "src/base/file.hpp"
#include "src/runtime/plan_file.hpp"
#include "src/runtime/session.hpp"

namespace lcrun::cli {

class Onlookers {
 public:
  // As the options ask for; the session shows them its plans from now on. Errors of opening the file.
  static Result<std::unique_ptr<Onlookers>> attach(const Context& context, runtime::Session& session);
  ~Onlookers() { session_.show_plans_to({}); }
  Onlookers(const Onlookers&) = delete;
  Onlookers& operator=(const Onlookers&) = delete;

  // A question of which the last token stands at `pos` is about to be answered: recall is measured there and in the
  // answer, at fewer places the more there is to read.
  void expect_answer(int64_t pos);
  // Null where nothing was measured.
  const attention::RecallMeter* recall() const {
    return meter_.has_value() && !meter_->layers().empty() ? &*meter_ : nullptr;
  }

 private:
  explicit Onlookers(runtime::Session& session) : session_(session) {}

  runtime::Session& session_;
  std::optional<attention::RecallMeter> meter_;
  std::unique_ptr<File> file_;
  uint64_t written_ = 0;
  std::optional<runtime::PlanWriter> plans_;
};

}  // namespace lcrun::cli
