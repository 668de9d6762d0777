// One reading of a text for all cases that hide sentences in it.
//
// Where no layer sees everything while a text is read (windows; --prefill stream), a hidden sentence changes the state
// of the tokens in its reach only: the sum of the layers' windows. So the unchanged text is read once, with forks of
// the state on the way; a case continues from the fork before its sentence, reads what that reaches, and goes on as
// the unchanged text did. Exact, bit for bit (Session::affected_until); a million tokens and 55 cases cost about two
// readings in place of thirty.
//
//   unchanged  ──────fork──────────────────fork─────────────────────> late
//   case           └─> [sentence][reach] ──> as the fork did, [sentence][reach] ──> as late
//
// Memory: forks keep a window of each window layer, in all at most kMostForkBytes or an eighth of the cache's cap.
// Thread rule: that of the Session.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "src/base/result.hpp"
#include "src/runtime/eval_cases.hpp"
#include "src/runtime/session.hpp"

namespace lcrun::runtime {

constexpr uint64_t kMostForkBytes = uint64_t{128} << 20;

class SharedReading {
 public:
  // How these cases would share the session's reading.
  SharedReading(Session& session, std::span<const EvalCase> cases);
  // Does that save anything, and is there room for it? Otherwise the cases are read one after another.
  bool is_worth_it() const { return worth_it_; }
  // Tokens read before the first case, and for one, its question left out.
  int64_t tokens() const { return n_late_; }
  int64_t tokens(const EvalCase& made) const;

  // Reads the unchanged text. Errors of Session::sync().
  Status read(const ProgressCallback& progress);
  // After it the session holds the case's text (and perhaps some tokens more). Requires read().
  Status go_to(const EvalCase& made, const ProgressCallback& progress);

 private:
  // From a fork (tokens that it has; 0: nothing) tokens are read up to `until`.
  struct Part {
    int64_t fork = 0;
    int64_t until = 0;
  };
  std::vector<Part> parts_of(const EvalCase& made) const;
  void choose_forks(std::span<const EvalCase> cases, size_t most);
  // The last fork in [first, last] (its place in forks_), -1 if there is none.
  int64_t fork_between(int64_t first, int64_t last) const;
  const storage::SequenceState& state_of(int64_t tokens) const;
  bool has_room(int64_t most_read) const;
  size_t most_forks() const;

  Session& session_;
  std::shared_ptr<const std::vector<Token>> base_;
  std::vector<int64_t> forks_;                  // tokens before each, ascending
  std::vector<storage::SequenceState> states_;  // of forks_, and late
  int64_t n_late_ = 0;
  bool worth_it_ = false;
};

}  // namespace lcrun::runtime
