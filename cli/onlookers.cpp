#include "cli/onlookers.hpp"

#include <algorithm>

namespace lcrun::cli {
namespace {

constexpr int64_t kSpacing = 4;                  // tokens from one sample to the next
constexpr int64_t kMostSamples = 4;              // of a reply
constexpr int64_t kMostKeys = int64_t{1} << 20;  // that they may meet in a layer

}  // namespace

Result<std::unique_ptr<Onlookers>> Onlookers::attach(const Context& context, runtime::Session& session) {
  auto made = std::unique_ptr<Onlookers>(new Onlookers(session));
  std::vector<attention::PlanObserver*> observers;
  if (context.options().stats && session.attention() != nullptr) {
    made->meter_.emplace(session.model().config().n_ctx_train);
    observers.push_back(&*made->meter_);
  }
  const std::string& path = context.options().dump_plan;
  if (!path.empty()) {
    LCRUN_ASSIGN(made->file_, posix_file_system().open(path, OpenMode::kReplaceShared));
    made->plans_.emplace([self = made.get()](std::string_view lines) -> Status {
      LCRUN_TRY(self->file_->write_at(self->written_, std::as_bytes(std::span(lines))));
      self->written_ += lines.size();
      return {};
    });
    observers.push_back(&*made->plans_);
  }
  session.show_plans_to(observers);
  return made;
}

void Onlookers::expect_answer(int64_t pos) {
  if (!meter_.has_value()) return;
  *meter_ = attention::RecallMeter(session_.model().config().n_ctx_train);
  meter_->sample(pos, kSpacing, std::clamp<int64_t>(kMostKeys / (pos + 1), 1, kMostSamples));
}

}  // namespace lcrun::cli
