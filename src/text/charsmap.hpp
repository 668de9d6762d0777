// SentencePiece's compiled normalisation rules: longest matching prefix -> replacement.
//
// Layout: u32 bytes of the trie, the trie (u32 units of a double array, Kanda et al. 2018: bits 10-30 offset to the
// children, bit 9 "offset is shifted by 8", bit 8 "has a value", bits 0-7 label, bit 31 "is a value"), then
// replacement texts, each ended by NUL. Every index read from the trie is checked: a damaged map replaces less than
// it should, it never reads outside itself. Thread rule: immutable after parse().
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ggufish/model_file.hpp"
#include "src/base/result.hpp"

namespace lcrun::text {

class Charsmap {
 public:
  // tokenizer.ggml.precompiled_charsmap; absent: a map without rules.
  static Result<Charsmap> load(const ggufish::Metadata& meta);

  struct Match {
    size_t size = 0;  // bytes of text replaced; 0 = no rule applies
    std::string_view replacement;
  };
  Match longest_match(std::string_view text) const;

 private:
  std::vector<uint32_t> units_;
  std::string replacements_;
};

}  // namespace lcrun::text
