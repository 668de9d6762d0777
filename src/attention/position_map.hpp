// PositionMap: where cached keys count as standing, for queries past the context that a model was trained on.
//
// Maps are rigid: all keys of a block of 64 move by one shift, which queries are turned by (turn.hpp); the cache is
// never touched. The papers' maps that move each key apart are given in that form: it errs by less than a block.
//   true   where they are
//   relay  chosen blocks one behind the other, as if nothing lay between them: the choice decides, not the map
//          (StreamingLLM, arXiv 2309.17453, section 3.2; LongHeads, arXiv 2402.10685, section 3)
//   clip   no farther than `near` (InfLLM, Xiao et al., arXiv 2402.04617, section 3.2)
//   group  distances beyond `near` are divided by `group` (Self-Extend, Jin et al., arXiv 2401.01325, section 3)
//   chunk  dual chunk attention: keys stand at their place in a chunk, queries near the end of it, or farther back in
//          their own chunk (An et al., arXiv 2402.17463, section 3)
#pragma once

#include <cstdint>

#include "src/base/result.hpp"

namespace lcrun::attention {

enum class Positions : uint8_t { kTrue, kRelay, kClip, kGroup, kChunk };

const char* name_of(Positions kind);  // "true", "relay", ...

struct PositionMap {
  Positions kind = Positions::kTrue;
  int64_t near = 0;   // clip, group: distances up to it are true
  int64_t group = 1;  // group
  int64_t chunk = 0;  // chunk: tokens of one, a multiple of 64
  int64_t limit = 0;  // chunk: the largest distance

  bool moves() const { return kind == Positions::kClip || kind == Positions::kGroup || kind == Positions::kChunk; }
  // Positions later than its own at which the block of keys that begins at `row` counts as standing, for queries of the
  // block that begins at `query_block`; multiples of 64 both. 0 for true positions and relay.
  int64_t shift(int64_t query_block, int64_t row) const;
};

// The map of a kind for contexts of n_ctx tokens of a model that was trained on n_ctx_train, with the parameters of its
// paper: chunks of 5/8 and distances of at most 3/4 of the trained context; groups as large as keep half of it.
// window > 0: what lies in it stands where it is. kInvalidArgument: the trained context is unknown, or too short.
Result<PositionMap> make_positions(Positions kind, int64_t n_ctx, int64_t n_ctx_train, int64_t window);

}  // namespace lcrun::attention
