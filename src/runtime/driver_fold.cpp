// fold: the text condensed window by window into notes, and notes into notes, until few enough are left (recursive
// summarising, Wu et al., arXiv 2109.10862, section 2).
//
// A baseline: what a note leaves out is lost, and a small model leaves out much. Notes of notes wait level by level, so
// that memory grows with the logarithm of the text.
#include <algorithm>

#include "src/base/format.hpp"
#include "src/runtime/driver.hpp"
#include "src/runtime/generate.hpp"

namespace lcrun::runtime {
namespace {

constexpr int64_t kNoteTokens = 96;  // of a note, at most
constexpr int64_t kKeep = 512;       // tokens of notes, at most
constexpr int64_t kLeastWindow = 4 * kNoteTokens;

int64_t tokens_of(std::span<const Passage> passages) {
  int64_t n = 0;
  for (const Passage& passage : passages) n += static_cast<int64_t>(passage.tokens.size());
  return n;
}

class Folding {
 public:
  Folding(const DriverInput& input, Session& session, std::vector<Token> task)
      : input_(input), session_(session), task_(std::move(task)) {}

  static int64_t window_of(const DriverSettings& settings) { return std::max(settings.window, kLeastWindow); }
  static int64_t keep_of(const DriverSettings& settings) { return settings.keep > 0 ? settings.keep : kKeep; }
  // What is asked of each window.
  static std::string task_of(const std::string& question) {
    return question.empty()
               ? "Sum up this text in a few short sentences. Keep names and numbers."
               : format("Sum up this text in a few short sentences. Keep what helps to answer: {}", question);
  }

  Result<DriverReading> run() {
    int64_t read = 0;
    Passage passage;
    while (true) {
      LCRUN_ASSIGN(const bool more, input_.text.next(passage));
      if (!more) break;
      read += static_cast<int64_t>(passage.tokens.size());
      LCRUN_TRY(add(0, std::move(passage)));
      passage = {};
      if (input_.progress && !input_.progress(read, 0)) return make_error(Code::kCancelled, "reading was stopped");
    }
    std::vector<Passage> left;  // the higher the level, the earlier in the text
    for (auto level = levels_.rbegin(); level != levels_.rend(); ++level) {
      std::move(level->begin(), level->end(), std::back_inserter(left));
    }
    while (tokens_of(left) > keep_of(input_.settings) && left.size() > 1) LCRUN_TRY(shorten(left));
    LCRUN_ASSIGN(auto reading, lay_out(input_, left));
    reading.text_tokens = read;
    return reading;
  }

 private:
  Status add(size_t level, Passage passage) {
    if (levels_.size() <= level) levels_.resize(level + 1);
    const int64_t n = tokens_of(levels_[level]) + static_cast<int64_t>(passage.tokens.size());
    if (n > window_of(input_.settings) && !levels_[level].empty()) {
      const std::vector<Passage> full = std::exchange(levels_[level], {});
      LCRUN_ASSIGN(Passage note, note_of(full));
      LCRUN_TRY(add(level + 1, std::move(note)));
    }
    levels_[level].push_back(std::move(passage));
    return {};
  }

  // Each window of the passages becomes a note; there are fewer of them afterwards.
  Status shorten(std::vector<Passage>& passages) {
    std::vector<Passage> notes;
    for (size_t first = 0; first < passages.size();) {
      size_t end = std::min(first + 2, passages.size());
      while (end < passages.size() &&
             tokens_of(std::span(passages).subspan(first, end + 1 - first)) <= window_of(input_.settings)) {
        ++end;
      }
      LCRUN_ASSIGN(Passage note, note_of(std::span(passages).subspan(first, end - first)));
      notes.push_back(std::move(note));
      first = end;
    }
    passages = std::move(notes);
    return {};
  }

  // A note stands where what it sums up stood.
  Result<Passage> note_of(std::span<const Passage> passages) {
    DriverInput asked = input_;
    asked.question_part = task_;
    LCRUN_ASSIGN(const auto laid, lay_out(asked, passages));
    GenerateOptions options;
    options.n_predict = kNoteTokens - 1;  // and a line's end
    options.sampling.temp = 0;
    LCRUN_ASSIGN(const auto made, generate(session_, input_.tokenizer, laid.prompt, options, {}));
    const std::string line = made.text + "\n";
    const text::Span span{line, false};
    Passage note;
    note.tokens = input_.tokenizer.encode_continuation({&span, 1});
    if (static_cast<int64_t>(note.tokens.size()) > kNoteTokens) note.tokens.resize(kNoteTokens);
    note.place = passages.front().place;
    note.place.end_byte = passages.back().place.end_byte;
    note.place.last_line = passages.back().place.last_line;
    return note;
  }

  const DriverInput& input_;
  Session& session_;
  const std::vector<Token> task_;
  std::vector<std::vector<Passage>> levels_;
};

}  // namespace

Result<DriverReading> read_fold(const DriverInput& input, DriverState& state) {
  const DriverSettings& settings = input.settings;
  LCRUN_ASSIGN(const auto frame, input.layout.frame(settings.system));
  LCRUN_ASSIGN(auto task, input.layout.question_part(Folding::task_of(input.question), settings.system, ""));
  // A window and one passage or note more, which is what is too much for it.
  const int64_t text =
      std::max(Folding::window_of(settings), Folding::keep_of(settings)) + 2 * PassageSplitter::kMostTokens;
  const auto around = static_cast<int64_t>(frame.size() + std::max(task.size(), input.question_part.size()));
  const int64_t answer = std::max(kNoteTokens, settings.n_predict >= 0 ? settings.n_predict : int64_t{512});
  LCRUN_ASSIGN(Session* const session, session_for(input, state, around + text + answer));
  return Folding(input, *session, std::move(task)).run();
}

}  // namespace lcrun::runtime
