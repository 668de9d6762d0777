// Grammar and GrammarState: bytes to code points to machine states, and masks over a vocabulary.
//
// The vocabulary is sorted once; neighbours share prefixes, so one pass over it, reusing the states of the shared
// part, is a walk over its trie without building one. Masks of recent states are kept: inside a JSON string, say,
// the same state comes back token after token.
#include "src/text/grammar.hpp"

#include <algorithm>
#include <array>
#include <mutex>
#include <new>
#include <numeric>
#include <unordered_map>

#include "src/text/grammar_machine.hpp"
#include "src/text/json_schema.hpp"

namespace lcrun::text {
namespace {

using grammar::Machine;
using grammar::Rules;

// Where a text stands: machine state, and the bytes of a code point not yet complete.
struct Cursor {
  Machine::State state = Machine::kDead;
  char32_t partial = 0;  // value of the bytes so far
  uint8_t missing = 0;   // continuation bytes still to come
  uint8_t size = 0;      // bytes of the whole sequence
};

constexpr std::array<char32_t, 5> kLeastOfSize = {0, 0, 0x80, 0x800, 0x10000};

// Code points that the unfinished sequence can still become; empty (first > last) where it is not UTF-8.
grammar::CharRange completions(const Cursor& cursor) {
  const int bits = 6 * cursor.missing;
  char32_t first = cursor.partial << bits;
  char32_t last = first | ((char32_t{1} << bits) - 1);
  first = std::max(first, kLeastOfSize[cursor.size]);
  last = std::min(last, grammar::kLastCodePoint);
  if (first >= 0xD800 && last <= 0xDFFF) return {1, 0};
  return {first, last};
}

bool advance(Machine& machine, Cursor& cursor, uint8_t byte) {
  if (cursor.missing == 0) {
    if (byte < 0x80) {
      cursor.state = machine.step(cursor.state, byte);
      return cursor.state != Machine::kDead;
    }
    if (byte < 0xC2 || byte > 0xF4) return false;
    cursor.size = byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
    cursor.missing = static_cast<uint8_t>(cursor.size - 1);
    cursor.partial = byte & (0x7FU >> cursor.size);
    return true;
  }
  if ((byte & 0xC0) != 0x80) return false;
  cursor.partial = cursor.partial << 6 | (byte & 0x3FU);
  --cursor.missing;
  const grammar::CharRange range = completions(cursor);
  if (range.first > range.last) return false;
  if (cursor.missing > 0) return true;
  cursor.state = machine.step(cursor.state, cursor.partial);
  return cursor.state != Machine::kDead;
}

// May the text stop here, given that more will follow?
bool is_alive(Machine& machine, const Cursor& cursor) {
  if (cursor.missing == 0) return cursor.state != Machine::kDead;
  const grammar::CharRange range = completions(cursor);
  return range.first <= range.last && machine.can_step(cursor.state, range.first, range.last);
}

// Token ids in the order of their bytes, and how many leading bytes each shares with the one before.
struct PieceIndex {
  std::vector<int32_t> ids;
  std::vector<uint32_t> shared;
  size_t longest = 0;

  explicit PieceIndex(std::span<const std::string> pieces) {
    for (size_t i = 0; i < pieces.size(); ++i) {
      if (!pieces[i].empty()) ids.push_back(static_cast<int32_t>(i));
    }
    const auto piece = [&](int32_t id) -> const std::string& { return pieces[static_cast<size_t>(id)]; };
    std::sort(ids.begin(), ids.end(), [&](int32_t a, int32_t b) { return piece(a) < piece(b); });
    shared.resize(ids.size());
    for (size_t i = 0; i < ids.size(); ++i) {
      longest = std::max(longest, piece(ids[i]).size());
      if (i == 0) continue;
      const std::string& a = piece(ids[i - 1]);
      const std::string& b = piece(ids[i]);
      const auto differ = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
      shared[i] = static_cast<uint32_t>(differ.first - a.begin());
    }
  }
};

class State final : public GrammarState {
 public:
  State(std::shared_ptr<const Rules> rules, std::shared_ptr<const PieceIndex> index,
        std::span<const std::string> pieces)
      : machine_(std::move(rules)), index_(std::move(index)), pieces_(pieces) {
    cursor_.state = machine_.start();
  }

  void allowed_tokens(std::vector<bool>& allowed) override {
    const auto cached = masks_.find(cursor_.state);
    if (cursor_.missing == 0 && generation_ == machine_.generation() && cached != masks_.end()) {
      allowed = cached->second;
      return;
    }
    allowed.assign(pieces_.size(), false);
    mark_allowed(allowed);
    // The walk may have met so many states that they must be forgotten; only here do no cursors hang on to them.
    if (machine_.is_full()) cursor_.state = machine_.compact(cursor_.state);
    if (generation_ != machine_.generation() || masks_.size() >= kMaxMasks) masks_.clear();
    generation_ = machine_.generation();
    if (cursor_.missing == 0) masks_[cursor_.state] = allowed;
  }

  bool can_end() const override { return cursor_.missing == 0 && machine_.can_end(cursor_.state); }

  bool accept(std::string_view bytes) override {
    if (machine_.is_full()) cursor_.state = machine_.compact(cursor_.state);
    Cursor next = cursor_;
    for (const char byte : bytes) {
      if (!advance(machine_, next, static_cast<uint8_t>(byte))) return false;
    }
    if (!is_alive(machine_, next)) return false;
    cursor_ = next;
    return true;
  }

  std::unique_ptr<GrammarState> clone() const override { return std::make_unique<State>(*this); }

 private:
  static constexpr size_t kMaxMasks = 64;

  void mark_allowed(std::vector<bool>& allowed) {
    std::vector<Cursor> path(index_->longest + 1);  // [bytes read] -> where that leads
    path[0] = cursor_;
    size_t alive = 0;  // path[0..alive] are valid
    for (size_t i = 0; i < index_->ids.size(); ++i) {
      if (index_->shared[i] > alive) continue;  // its prefix was refused already
      const auto id = static_cast<size_t>(index_->ids[i]);
      const std::string& piece = pieces_[id];
      alive = index_->shared[i];
      while (alive < piece.size()) {
        path[alive + 1] = path[alive];
        if (!advance(machine_, path[alive + 1], static_cast<uint8_t>(piece[alive]))) break;
        ++alive;
      }
      allowed[id] = alive == piece.size() && is_alive(machine_, path[alive]);
    }
  }

  Machine machine_;
  std::shared_ptr<const PieceIndex> index_;
  std::span<const std::string> pieces_;
  Cursor cursor_;
  std::unordered_map<Machine::State, std::vector<bool>> masks_;
  uint64_t generation_ = 0;
};

uint64_t fingerprint(std::span<const std::string> pieces) {
  uint64_t hash = 0xCBF29CE484222325ULL;
  for (const std::string& piece : pieces) {
    hash = (hash ^ std::hash<std::string>{}(piece)) * 0x100000001B3ULL;
    hash ^= hash >> 31;
  }
  return hash;
}

class RulesGrammar final : public Grammar {
 public:
  explicit RulesGrammar(Rules rules) : rules_(std::make_shared<const Rules>(std::move(rules))) {}

  std::unique_ptr<GrammarState> start(std::span<const std::string> pieces) const override {
    return std::make_unique<State>(rules_, index_of(pieces), pieces);
  }

 private:
  // The sorted vocabulary, kept for the next sequence over the same one.
  std::shared_ptr<const PieceIndex> index_of(std::span<const std::string> pieces) const {
    const uint64_t key = fingerprint(pieces);
    const std::lock_guard<std::mutex> lock(mutex_);
    if (index_ == nullptr || key != index_key_ || pieces.size() != index_size_) {
      index_ = std::make_shared<const PieceIndex>(pieces);
      index_key_ = key;
      index_size_ = pieces.size();
    }
    return index_;
  }

  std::shared_ptr<const Rules> rules_;
  mutable std::mutex mutex_;
  mutable std::shared_ptr<const PieceIndex> index_;
  mutable uint64_t index_key_ = 0;
  mutable size_t index_size_ = 0;
};

}  // namespace

Result<std::shared_ptr<const Grammar>> Grammar::parse_gbnf(std::string_view source) {
  try {
    return std::shared_ptr<const Grammar>(std::make_shared<RulesGrammar>(grammar::parse_gbnf(source)));
  } catch (const grammar::GrammarError& error) {
    return Error{Code::kInvalidArgument, error.message};
  } catch (const std::bad_alloc&) {
    return make_error(Code::kNoMemory, "grammar: not enough memory to parse it");
  }
}

Result<std::string> Grammar::json_schema_to_gbnf(std::string_view schema_json) {
  try {
    return grammar::schema_to_gbnf(schema_json);
  } catch (const grammar::GrammarError& error) {
    return Error{Code::kInvalidArgument, error.message};
  } catch (const std::bad_alloc&) {
    return make_error(Code::kNoMemory, "JSON schema: not enough memory to convert it");
  }
}

Result<std::shared_ptr<const Grammar>> Grammar::from_json_schema(std::string_view schema_json) {
  LCRUN_ASSIGN(const std::string source, json_schema_to_gbnf(schema_json));
  return parse_gbnf(source);
}

}  // namespace lcrun::text
