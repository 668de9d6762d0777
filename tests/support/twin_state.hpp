// A sequence whose every byte follows from its tokens: blocks that grow, a ring, fixed states, an index and an open
// chunk, and a check that a state is the one of a prefix of given tokens. For tests of saving and restoring.
//
// Rows hold their token and position, the fixed state a hash of all tokens before; so a row from another timeline, an
// older fixed state or a hole shows.
#pragma once

#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "src/base/format.hpp"
#include "storage/region.hpp"

namespace lcrun::test {

constexpr uint64_t kTwinRowBytes = 16;
constexpr int64_t kTwinWindow = 70;
constexpr int64_t kTwinRowTokens = 16;  // of a row of the index
constexpr int64_t kTwinChunk = 50;

// Without the index and the chunk: as the golden files of format 2 have it.
inline std::vector<std::vector<storage::RegionSpec>> twin_specs(bool with_later_kinds = true) {
  using storage::RegionKind;
  const uint64_t block = kTwinRowBytes * storage::kBlockTokens;
  std::vector<std::vector<storage::RegionSpec>> specs = {
      {{RegionKind::kAppend, "kv", block, 0}},
      {{RegionKind::kRing, "kv", block, kTwinWindow}, {RegionKind::kFixed, "ssm", 100, 0}},
      {{RegionKind::kPending, "open", kTwinChunk * kTwinRowBytes, kTwinChunk},
       {RegionKind::kFixed, "memory", 8, kTwinChunk}},
      {{RegionKind::kAppend, "kv", 2 * block, 0}, {RegionKind::kIndex, "index", block, kTwinRowTokens}}};
  if (!with_later_kinds) {
    specs.back().pop_back();
    specs.erase(specs.begin() + 2);
  }
  return specs;
}

inline storage::SequenceState twin_state(bool with_later_kinds = true) {
  auto state = storage::SequenceState::create(twin_specs(with_later_kinds)).value();
  state.keep_marks(uint64_t{1} << 20);
  return state;
}

inline uint64_t twin_hash(const std::vector<int32_t>& tokens, int64_t n) {
  uint64_t hash = 1469598103934665603ULL;
  for (int64_t i = 0; i < n; ++i) {
    hash = (hash ^ static_cast<uint64_t>(tokens[static_cast<size_t>(i)])) * 1099511628211ULL;
  }
  return hash;
}

// An index row speaks of the last of its tokens.
inline uint64_t twin_row(const storage::RegionSpec& spec, const std::vector<int32_t>& tokens, int64_t row) {
  if (spec.kind == storage::RegionKind::kIndex) row = (row + 1) * kTwinRowTokens - 1;
  return static_cast<uint64_t>(row) << 32 | static_cast<uint32_t>(tokens[static_cast<size_t>(row)]);
}

// A fixed state is a hash of all tokens, or of those of whole chunks.
inline uint64_t twin_fixed(const storage::RegionSpec& spec, const std::vector<int32_t>& tokens, int64_t n) {
  return twin_hash(tokens, spec.window > 0 ? n / spec.window * spec.window : n);
}

// The tokens of the chunk that is open after n.
inline void write_open_chunk(storage::Region& region, const std::vector<int32_t>& tokens, int64_t n) {
  for (int64_t i = n / kTwinChunk * kTwinChunk; i < n; ++i) {
    const uint64_t value = twin_row(region.spec(), tokens, i);
    std::memcpy(region.fixed().data() + static_cast<uint64_t>(i % kTwinChunk) * kTwinRowBytes, &value, sizeof(value));
  }
}

inline bool has_open_chunk(const storage::Region& region, const std::vector<int32_t>& tokens, int64_t n) {
  for (int64_t i = n / kTwinChunk * kTwinChunk; i < n; ++i) {
    const uint64_t value = twin_row(region.spec(), tokens, i);
    const std::byte* found = region.fixed().data() + static_cast<uint64_t>(i % kTwinChunk) * kTwinRowBytes;
    if (std::memcmp(found, &value, sizeof(value)) != 0) return false;
  }
  return true;
}

// Makes the state that of `tokens`, one step of at most `step` tokens after another; those it has must be a prefix.
inline void twin_extend(storage::SequenceState& state, const std::vector<int32_t>& tokens, int64_t step = 64) {
  while (state.tokens() < static_cast<int64_t>(tokens.size())) {
    // Marks lie between steps.
    const int64_t to_mark = storage::kMarkSpacing - state.tokens() % storage::kMarkSpacing;
    const int64_t n = std::min({step, to_mark, static_cast<int64_t>(tokens.size()) - state.tokens()});
    for (int64_t i = 0; i < state.n_layers(); ++i) {
      for (auto& region : state.layer(i).regions) {
        if (region.spec().kind == storage::RegionKind::kPending) {
          write_open_chunk(region, tokens, state.tokens() + n);
          continue;
        }
        if (region.spec().kind == storage::RegionKind::kFixed) {
          const uint64_t hash = twin_fixed(region.spec(), tokens, state.tokens() + n);
          std::memcpy(region.fixed().data(), &hash, sizeof(hash));
          continue;
        }
        const int64_t end = region.spec().rows_of(state.tokens() + n);
        if (!region.reserve_rows(end - region.rows()).has_value()) return;
        const auto stride = static_cast<int64_t>(region.spec().block_bytes) / storage::kBlockTokens;
        for (int64_t row = region.rows(); row < end; ++row) {
          const uint64_t value = twin_row(region.spec(), tokens, row);
          std::memcpy(region.block(row / storage::kBlockTokens) + row % storage::kBlockTokens * stride, &value,
                      sizeof(value));
        }
      }
    }
    state.commit(n);
  }
}

// "" if the state is that of its first tokens() of `tokens`; otherwise what is wrong. Marks too: the state can go back
// to what it says it can.
inline std::string twin_difference(storage::SequenceState& state, const std::vector<int32_t>& tokens) {
  const int64_t n = state.tokens();
  if (n > static_cast<int64_t>(tokens.size())) return format("{} tokens of {}", n, tokens.size());
  for (int64_t i = 0; i < state.n_layers(); ++i) {
    for (auto& region : state.layer(i).regions) {
      const int64_t rows = region.spec().rows_of(n);
      if (region.rows() != rows) return format("layer {}: {} rows, wanted {}", i, region.rows(), rows);
      if (region.spec().kind == storage::RegionKind::kPending) {
        if (!has_open_chunk(std::as_const(region), tokens, n)) return format("layer {}: another open chunk", i);
        continue;
      }
      if (region.spec().kind == storage::RegionKind::kFixed) {
        uint64_t found = 0;
        std::memcpy(&found, std::as_const(region).fixed().data(), sizeof(found));
        if (n >= std::max<int64_t>(1, region.spec().window) && found != twin_fixed(region.spec(), tokens, n))
          return format("layer {}: another fixed state", i);
        for (const auto& mark : region.fixed_marks()) {
          std::memcpy(&found, mark.bytes->data(), sizeof(found));
          if (found != twin_fixed(region.spec(), tokens, mark.rows))
            return format("layer {}: another mark at {}", i, mark.rows);
        }
        continue;
      }
      const auto stride = static_cast<int64_t>(region.spec().block_bytes) / storage::kBlockTokens;
      int64_t found_rows = 0;
      for (const int64_t b : region.held_blocks()) {
        const auto data = region.read_block(b);
        if (!data.has_value()) return data.error().message;
        for (int64_t row = b * storage::kBlockTokens; row < std::min(rows, (b + 1) * storage::kBlockTokens); ++row) {
          uint64_t value = 0;
          std::memcpy(&value, data->data() + row % storage::kBlockTokens * stride, sizeof(value));
          if (value != twin_row(region.spec(), tokens, row)) return format("layer {}: another row {}", i, row);
          ++found_rows;
        }
      }
      const bool is_ring = region.spec().kind == storage::RegionKind::kRing;
      if (found_rows < (is_ring ? std::min(n, kTwinWindow) : rows)) return format("layer {}: {} rows", i, found_rows);
    }
  }
  return "";
}

}  // namespace lcrun::test
