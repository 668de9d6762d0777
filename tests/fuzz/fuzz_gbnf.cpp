// Grammars: any text, taken as GBNF and as a JSON schema, must be refused or give a grammar whose mask agrees with
// what it accepts.
#include <array>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "src/text/grammar.hpp"

namespace {
const std::vector<std::string>& pieces() {
  static const std::vector<std::string> all = [] {
    std::vector<std::string> out;
    for (int byte = 0; byte < 256; ++byte) out.emplace_back(1, static_cast<char>(byte));
    for (const char* more : {"", "ab", "abc", "\xC3\xA9", "\xE6\x97", "\xA5", "{\"", "\": ", "true", "00", "\n  "}) {
      out.emplace_back(more);
    }
    return out;
  }();
  return all;
}

// Some steps, each the first allowed token at or after a wandering one.
void walk(const lcrun::text::Grammar& grammar) {
  const auto state = grammar.start(pieces());
  std::vector<bool> allowed;
  size_t wanted = 97;
  for (int step = 0; step < 12; ++step) {
    state->allowed_tokens(allowed);
    if (allowed.size() != pieces().size()) std::abort();
    size_t found = allowed.size();
    for (size_t i = 0; i < allowed.size() && found == allowed.size(); ++i) {
      const size_t id = (wanted + i) % allowed.size();
      if (allowed[id]) found = id;
    }
    const size_t refused = (wanted * 7) % allowed.size();
    if (!pieces()[refused].empty() && state->clone()->accept(pieces()[refused]) != allowed[refused]) std::abort();
    if (found == allowed.size()) return;
    if (!state->accept(pieces()[found])) std::abort();
    wanted = (wanted * 31 + 17) % allowed.size();
  }
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using lcrun::text::Grammar;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto grammar = Grammar::parse_gbnf(text)) walk(**grammar);
  // What the converter writes must be GBNF, or be refused for its size or for matching nothing; never crash.
  if (const auto grammar = Grammar::from_json_schema(text)) walk(**grammar);
  return 0;
}
