// Constrained output: GBNF grammars (and JSON schemas turned into them) as masks over the vocabulary.
//
// Limits: nesting 256, 10,000 rules, repetition product 10,000; anything beyond, and any grammar that cannot be
// parsed, is an error (kInvalidArgument with line and column): generation never goes on unconstrained.
// Thread rule: Grammar is immutable; one GrammarState per sequence.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/result.hpp"

namespace lcrun::text {

class GrammarState;

class Grammar {
 public:
  virtual ~Grammar() = default;
  static Result<std::shared_ptr<const Grammar>> parse_gbnf(std::string_view source);
  // JSON schema (draft 2020-12 subset: docs/formats.md) to a grammar. "{}" = any JSON value.
  static Result<std::shared_ptr<const Grammar>> from_json_schema(std::string_view schema_json);
  // GBNF text of a schema, for inspection and tests.
  static Result<std::string> json_schema_to_gbnf(std::string_view schema_json);
  // A state at the start. `pieces` are the vocabulary's token bytes (index = id; empty = never allowed);
  // they must outlive the state.
  virtual std::unique_ptr<GrammarState> start(std::span<const std::string> pieces) const = 0;
};

class GrammarState {
 public:
  virtual ~GrammarState() = default;
  // allowed[id] = may token id come next? (end-of-generation tokens: see can_end)
  virtual void allowed_tokens(std::vector<bool>& allowed) = 0;
  // Is the text so far a complete sentence of the grammar?
  virtual bool can_end() const = 0;
  // Advances; false when the bytes are not allowed (state unchanged).
  virtual bool accept(std::string_view bytes) = 0;
  virtual std::unique_ptr<GrammarState> clone() const = 0;
};

}  // namespace lcrun::text
