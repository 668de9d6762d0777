#include "src/runtime/eval_sharing.hpp"

#include <algorithm>

#include "src/base/check.hpp"

namespace lcrun::runtime {
namespace {

// Forks are not made nearer to one another than this, or than this part of the text: a case reads so much more at most.
constexpr int64_t kForkSpacing = 4096;
constexpr int64_t kForkParts = 64;

std::vector<const Replacement*> in_text_order(const EvalCase& made) {
  std::vector<const Replacement*> hidden;
  for (const Replacement& one : made.hidden) hidden.push_back(&one);
  std::sort(hidden.begin(), hidden.end(), [](const Replacement* a, const Replacement* b) { return a->at < b->at; });
  return hidden;
}

// What a fork keeps of its own: the rows that window layers see.
uint64_t bytes_of_fork(const Session& session) {
  const auto bytes = [](DType type) { return type == DType::kF32 ? uint64_t{4} : uint64_t{2}; };
  const model::CacheOptions& cache = session.options().cache;
  uint64_t total = 0;
  for (const model::LayerConfig& layer : session.model().config().layers) {
    if (layer.window == 0) continue;
    const auto rows = static_cast<uint64_t>(storage::ring_blocks(layer.window) * storage::kBlockTokens);
    const auto k = static_cast<uint64_t>(layer.n_kv_heads * layer.k_dim);
    const auto v = static_cast<uint64_t>(layer.n_kv_heads * layer.v_dim);
    total += rows * (k * bytes(cache.type_k) + v * bytes(cache.type_v));
  }
  return total;
}

}  // namespace

SharedReading::SharedReading(Session& session, std::span<const EvalCase> cases) : session_(session) {
  if (cases.size() < 2) return;
  base_ = cases.front().base;
  for (const EvalCase& made : cases) {
    if (made.base != base_ || made.hidden.empty()) return;
    n_late_ = std::max(n_late_, made.n_text);
  }
  choose_forks(cases, most_forks());
  int64_t shared = n_late_;
  int64_t most = 0;
  int64_t questions = 0;
  for (const EvalCase& made : cases) {
    shared += tokens(made);
    most = std::max(most, tokens(made));
    questions += static_cast<int64_t>(made.question.size());
  }
  worth_it_ = shared + questions < tokens_to_read(cases) && has_room(most);
}

size_t SharedReading::most_forks() const {
  const uint64_t cap = session_.options().max_state_bytes;
  uint64_t room = cap == 0 ? kMostForkBytes : std::min(kMostForkBytes, cap / 8);
  // The other half of what is spare is for the index of what is read again.
  if (session_.page_store() != nullptr) room = std::min(kMostForkBytes, session_.spare_bytes() / 2);
  const uint64_t each = std::max<uint64_t>(bytes_of_fork(session_), kMostForkBytes / 1024);
  return std::max<size_t>(1, room / each);
}

bool SharedReading::has_room(int64_t most_read) const {
  const uint64_t cap = session_.options().max_state_bytes;
  if (cap == 0) return true;
  const model::CacheOptions& cache = session_.options().cache;
  const uint64_t forks = (forks_.size() + 1) * bytes_of_fork(session_);
  if (session_.page_store() == nullptr) {
    return session_.model().state_bytes(cache, n_late_ + most_read) + forks <= cap;
  }
  // Frames of a page store are what they are, and what does not fit goes to the disk; but not the index.
  const model::CacheOptions without_index{cache.type_k, cache.type_v};
  const uint64_t index =
      session_.model().state_bytes(cache, most_read) - session_.model().state_bytes(without_index, most_read);
  return forks + index <= session_.spare_bytes();
}

void SharedReading::choose_forks(std::span<const EvalCase> cases, size_t most) {
  std::vector<int64_t> places;
  for (const EvalCase& made : cases) {
    for (const Replacement& one : made.hidden) places.push_back(one.at);
  }
  std::sort(places.begin(), places.end());
  for (int64_t spacing = std::clamp<int64_t>(n_late_ / kForkParts, 1, kForkSpacing);; spacing *= 2) {
    forks_.clear();
    for (const int64_t place : places) {
      if (place > 0 && (forks_.empty() || place >= forks_.back() + spacing)) forks_.push_back(place);
    }
    if (forks_.size() <= most) return;
  }
}

int64_t SharedReading::fork_between(int64_t first, int64_t last) const {
  const auto after = std::upper_bound(forks_.begin(), forks_.end(), last);
  if (after == forks_.begin() || *std::prev(after) < first) return -1;
  return *std::prev(after);
}

std::vector<SharedReading::Part> SharedReading::parts_of(const EvalCase& made) const {
  const int64_t joint = session_.joint_tokens();
  std::vector<Part> parts;
  for (const Replacement* one : in_text_order(made)) {
    const int64_t reached = session_.affected_until(one->at, one->end());
    const int64_t until =
        reached >= made.n_text ? made.n_text : std::min(made.n_text, (reached + joint - 1) / joint * joint);
    const int64_t fork = fork_between(parts.empty() ? 0 : parts.back().until, one->at);
    if (parts.empty()) {
      parts.push_back({std::max<int64_t>(fork, 0), until});
    } else if (fork < 0 || parts.back().until == made.n_text) {
      parts.back().until = std::max(parts.back().until, until);  // no fork in between: read on
    } else {
      parts.push_back({fork, until});
    }
  }
  return parts;
}

int64_t SharedReading::tokens(const EvalCase& made) const {
  int64_t sum = 0;
  for (const Part& part : parts_of(made)) sum += part.until - part.fork;
  return sum;
}

const storage::SequenceState& SharedReading::state_of(int64_t tokens) const {
  const auto at = std::lower_bound(forks_.begin(), forks_.end(), tokens);
  LCRUN_CHECK(at != forks_.end() && *at == tokens);
  return states_[static_cast<size_t>(at - forks_.begin())];
}

Status SharedReading::read(const ProgressCallback& progress) {
  states_.clear();
  // Forks are what cases go back to, and need the memory.
  if (session_.options().max_state_bytes != 0) session_.forget_marks();
  std::vector<int64_t> stops = forks_;
  stops.push_back(n_late_);
  for (const int64_t stop : stops) {
    const auto part = std::span(*base_).first(static_cast<size_t>(stop));
    const auto part_progress = [&](int64_t done, int64_t) { return !progress || progress(done, n_late_); };
    LCRUN_TRY(session_.sync(part, part_progress, INT64_MAX));
    LCRUN_ASSIGN(auto state, session_.fork());
    states_.push_back(std::move(state));
  }
  return {};
}

Status SharedReading::go_to(const EvalCase& made, const ProgressCallback& progress) {
  const int64_t total = tokens(made);
  const auto changed = made.prompt();
  const auto text = std::span(changed).first(static_cast<size_t>(made.n_text));
  const auto unchanged = std::span(*base_).first(static_cast<size_t>(n_late_));
  const auto take_on = [&](const storage::SequenceState& state) {
    const size_t here = session_.tokens().size();
    return session_.continue_as(state, unchanged.subspan(here, static_cast<size_t>(state.tokens()) - here));
  };
  int64_t before = 0;
  bool is_first = true;
  for (const Part& part : parts_of(made)) {
    if (!is_first) {
      LCRUN_TRY(take_on(state_of(part.fork)));
    } else if (part.fork == 0) {
      session_.clear();
    } else {
      LCRUN_TRY(session_.continue_from(state_of(part.fork), unchanged.first(static_cast<size_t>(part.fork))));
    }
    is_first = false;
    const auto part_progress = [&](int64_t done, int64_t) {
      return !progress || progress(before + done - part.fork, total);
    };
    LCRUN_TRY(session_.sync(text.first(static_cast<size_t>(part.until)), part_progress, INT64_MAX));
    before += part.until - part.fork;
  }
  if (static_cast<int64_t>(session_.tokens().size()) < made.n_text) return take_on(states_.back());
  return {};
}

}  // namespace lcrun::runtime
