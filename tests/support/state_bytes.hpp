// All that a sequence keeps, as bytes: for tests that ask whether two states are the same.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <utility>
#include <vector>

#include "src/base/bytes.hpp"
#include "storage/region.hpp"

namespace lcrun::testing {

// Blocks that the next token may read (older marks are left out), fixed states and the number of tokens.
inline std::vector<std::byte> state_bytes(storage::SequenceState& state) {
  ByteWriter out;
  const int64_t tokens = state.tokens();
  out.write(tokens);
  for (int64_t i = 0; i < state.n_layers(); ++i) {
    for (auto& region : state.layer(i).regions) {
      if (!region.spec().has_blocks()) {
        auto fixed = std::as_const(region).fixed();
        const auto chunk = static_cast<uint64_t>(region.spec().window);
        if (region.spec().kind == storage::RegionKind::kPending) {
          fixed = fixed.first(static_cast<uint64_t>(tokens) % chunk * (fixed.size() / chunk));
        }
        out.append(fixed.data(), fixed.size());
        continue;
      }
      const int64_t window = region.spec().kind == storage::RegionKind::kRing ? region.spec().window : tokens;
      for (const int64_t block : region.held_blocks()) {
        if ((block + 1) * storage::kBlockTokens <= tokens - window) continue;
        const auto data = region.read_block(block);
        if (!data.has_value()) throw std::runtime_error(data.error().message);
        out.write(block);
        out.append(data->data(), data->size());
      }
    }
  }
  return out.take();
}

}  // namespace lcrun::testing
