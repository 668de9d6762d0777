#include "src/runtime/driver.hpp"

namespace lcrun::runtime {
namespace {

constexpr Driver kDrivers[] = {
    {"retri", "InfiniRetri, arXiv 2502.12962, section 3",
     "reads windows and keeps the passages that the question attends to; any length in constant memory", read_retri},
    {"rag", "AttentionRAG, arXiv 2503.10720, section 3",
     "keeps the passages of each chunk that the answer's first token attends to; compresses", read_rag},
    {"jrt", "Just read twice, arXiv 2407.05483, section 3", "asks, reads the text, and reads it again", read_jrt},
    {"fold", "recursive summarising, arXiv 2109.10862, section 2",
     "sums up windows, and what comes of them again, until little is left; a baseline", read_fold},
};

void append(std::vector<Token>& to, const std::vector<Token>& tokens) {
  to.insert(to.end(), tokens.begin(), tokens.end());
}

}  // namespace

std::span<const Driver> drivers() { return kDrivers; }

const Driver* find_driver(std::string_view name) {
  for (const Driver& driver : kDrivers) {
    if (driver.name == name) return &driver;
  }
  return nullptr;
}

Result<Session*> session_for(const DriverInput& input, DriverState& state, int64_t n_ctx) {
  if (!state.session.has_value() || state.session->max_tokens() < n_ctx) {
    state.session.reset();  // its memory first
    LCRUN_ASSIGN(auto session, input.open(n_ctx));
    state.session.emplace(std::move(session));
  }
  return &*state.session;
}

Result<DriverReading> lay_out(const DriverInput& input, std::span<const Passage> passages) {
  DriverReading reading;
  LCRUN_ASSIGN(reading.prompt, input.layout.frame(input.settings.system));
  for (const Passage& passage : passages) {
    const auto begin = static_cast<int64_t>(reading.prompt.size());
    append(reading.prompt, passage.tokens);
    reading.passages.push_back({begin, static_cast<int64_t>(reading.prompt.size()), passage.place});
    reading.kept_tokens += static_cast<int64_t>(passage.tokens.size());
  }
  reading.text_end = static_cast<int64_t>(reading.prompt.size());
  append(reading.prompt, input.question_part);
  return reading;
}

}  // namespace lcrun::runtime
