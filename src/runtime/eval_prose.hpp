// Generated prose: a haystack that no model has seen, of any length, the same on every machine.
//
// Sentences come from a small grammar of clauses over fixed word lists, people and places from syllables. No digits, so
// that a number in an answer can only come from an inserted sentence. It reads like a dull chronicle: that is enough to
// keep a model in the statistics of text, which random words are not.
// Thread rule: pure functions.
#pragma once

#include <cstdint>
#include <string>

namespace lcrun::runtime {

// Paragraphs of whole sentences, at least `n_bytes` long; a longer text begins with the shorter one.
std::string generated_prose(uint64_t seed, size_t n_bytes);

}  // namespace lcrun::runtime
