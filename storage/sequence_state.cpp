// A sequence as a whole: its timeline, the marks it can go back to, and its bytes in a session file.
//
// Marks get twice as far apart whenever they take more memory than they may; tokens() is complete in every region.
#include <algorithm>
#include <cstring>

#include "src/base/check.hpp"
#include "src/base/format.hpp"
#include "storage/region.hpp"

namespace lcrun::storage {
namespace {

// Bounds on what a session file may claim, so that a damaged count cannot ask for the whole machine.
constexpr uint64_t kMaxRows = uint64_t{1} << 40;

}  // namespace

Result<SequenceState> SequenceState::create(const std::vector<std::vector<RegionSpec>>& layers) {
  SequenceState state;
  for (const auto& specs : layers) {
    LayerState layer;
    for (const auto& spec : specs) {
      layer.regions.emplace_back(spec);
      if (spec.kind == RegionKind::kFixed) LCRUN_TRY(layer.regions.back().prepare_fixed());
    }
    state.layers_.push_back(std::move(layer));
  }
  return state;
}

std::vector<uint64_t> SequenceState::append_bytes() const {
  std::vector<uint64_t> bytes;
  for (const auto& layer : layers_) {
    for (const auto& region : layer.regions) {
      if (region.spec().kind == RegionKind::kAppend) bytes.push_back(region.spec().block_bytes);
    }
  }
  return bytes;
}

Status SequenceState::use_store(std::shared_ptr<PageStore> store) {
  LCRUN_CHECK(tokens_ == 0);
  LCRUN_ASSIGN(pages_, PagedSequence::create(std::move(store)));
  const auto n_paged = static_cast<uint32_t>(append_bytes().size());
  uint32_t paged = 0;
  for (auto& layer : layers_) {
    for (auto& region : layer.regions) {
      if (region.spec().kind == RegionKind::kAppend) region.use_pages({pages_, paged++, n_paged});
    }
  }
  return {};
}

Result<SequenceState> SequenceState::empty_copy() const {
  std::vector<std::vector<RegionSpec>> specs;
  for (const auto& layer : layers_) {
    specs.emplace_back();
    for (const auto& region : layer.regions) specs.back().push_back(region.spec());
  }
  LCRUN_ASSIGN(auto copy, create(specs));
  copy.mark_spacing_ = max_mark_bytes_ == 0 ? 0 : kMarkSpacing;
  copy.max_mark_bytes_ = max_mark_bytes_;
  if (pages_) LCRUN_TRY(copy.use_store(pages_->shared_store()));
  return copy;
}

std::optional<int64_t> SequenceState::lost_row() const {
  std::optional<int64_t> lost;
  for (const auto& layer : layers_) {
    for (const auto& region : layer.regions) {
      const auto row = region.lost_row();
      if (row.has_value()) lost = std::min(lost.value_or(*row), *row);
    }
  }
  return lost;
}

void SequenceState::commit(int64_t n) {
  for (auto& layer : layers_) {
    for (auto& region : layer.regions) region.commit_rows(n, mark_spacing_);
  }
  tokens_ += n;
  if (mark_spacing_ > 0) thin_marks();
}

Status SequenceState::repeat(int64_t n) {
  LCRUN_CHECK(tokens_ > 0 && tokens_ % kBlockTokens == 0 && n % kBlockTokens == 0);
  const int64_t there = tokens_ / kBlockTokens;
  while (tokens_ < n) {
    for (auto& layer : layers_) {
      for (auto& region : layer.regions) {
        if (region.spec().kind == RegionKind::kAppend) LCRUN_TRY(region.repeat_block(tokens_ / kBlockTokens % there));
        if (region.spec().kind == RegionKind::kRing) LCRUN_TRY(region.repeat_block(tokens_ / kBlockTokens - 1));
      }
    }
    commit(kBlockTokens);
  }
  return {};
}

void SequenceState::keep_marks(uint64_t max_bytes) {
  max_mark_bytes_ = max_bytes;
  mark_spacing_ = max_bytes == 0 ? 0 : kMarkSpacing;
  thin_marks();
}

uint64_t SequenceState::mark_bytes() const {
  uint64_t total = 0;
  for (const auto& layer : layers_) {
    for (const auto& region : layer.regions) total += region.mark_bytes();
  }
  return total;
}

void SequenceState::thin_marks() {
  for (uint64_t held = mark_bytes(); held > max_mark_bytes_; held = mark_bytes()) {
    // Past the last token there is no mark left, so this ends.
    mark_spacing_ = mark_spacing_ > tokens_ ? 0 : 2 * mark_spacing_;
    for (auto& layer : layers_) {
      for (auto& region : layer.regions) region.thin_marks(mark_spacing_);
    }
  }
}

int64_t SequenceState::truncation_point(int64_t n) const {
  n = std::min(n, tokens_);
  // Each region may have to go back further than the one before; then the others must be asked again.
  for (bool settled = false; !settled && n > 0;) {
    settled = true;
    for (const auto& layer : layers_) {
      for (const auto& region : layer.regions) {
        const int64_t point = region.truncation_point(n);
        settled = settled && point == n;
        n = point;
      }
    }
  }
  return std::max<int64_t>(0, n);
}

void SequenceState::truncate(int64_t n) {
  for (auto& layer : layers_) {
    for (auto& region : layer.regions) region.truncate(n);
  }
  tokens_ = n;
  saved_tokens_ = std::min(saved_tokens_, n);
}

void SequenceState::clear() { truncate(0); }

Result<SequenceState> SequenceState::clone() const {
  SequenceState copy;
  copy.tokens_ = tokens_;
  copy.mark_spacing_ = mark_spacing_;
  copy.max_mark_bytes_ = max_mark_bytes_;
  if (pages_) {
    LCRUN_ASSIGN(copy.pages_, pages_->fork());
  }
  for (const auto& layer : layers_) {
    LayerState made;
    for (const auto& region : layer.regions) {
      made.regions.emplace_back(region.spec());
      LCRUN_TRY(made.regions.back().share(region, copy.pages_));
    }
    copy.layers_.push_back(std::move(made));
  }
  return copy;
}

uint64_t SequenceState::memory_bytes() const {
  uint64_t total = pages_ ? pages_->store().memory_bytes() : 0;
  for (const auto& layer : layers_) {
    for (const auto& region : layer.regions) total += region.memory_bytes();
  }
  return total;
}

namespace {

void save_region(Region& region, ByteWriter& out) {
  const RegionSpec& spec = region.spec();
  out.write<uint8_t>(static_cast<uint8_t>(spec.kind));
  out.write<uint32_t>(static_cast<uint32_t>(spec.name.size()));
  out.append(spec.name.data(), spec.name.size());
  out.write<uint64_t>(spec.block_bytes);
  out.write<int64_t>(spec.window);
  out.write<int64_t>(region.rows());
  if (spec.kind == RegionKind::kFixed) {
    out.append(region.fixed().data(), spec.block_bytes);
    return;
  }
  out.write<int64_t>(region.first_row() / kBlockTokens);
  for (const int64_t b : region.held_blocks()) {
    if (b < region.first_row() / kBlockTokens) continue;
    out.append(region.read_block(b).value().data(), spec.block_bytes);
  }
}

Status check_spec(ByteReader& in, const RegionSpec& spec) {
  LCRUN_ASSIGN(const auto kind, in.read<uint8_t>("region kind"));
  LCRUN_ASSIGN(const auto name_size, in.read<uint32_t>("region name length"));
  LCRUN_ASSIGN(const auto name, in.read_bytes("region name", name_size));
  LCRUN_ASSIGN(const auto bytes, in.read<uint64_t>("region block bytes"));
  LCRUN_ASSIGN(const auto window, in.read<int64_t>("region window"));
  const std::string_view found_name(reinterpret_cast<const char*>(name.data()), name.size());
  if (kind == static_cast<uint8_t>(spec.kind) && found_name == spec.name && bytes == spec.block_bytes &&
      window == spec.window) {
    return {};
  }
  return in.fail("region",
                 format("kind {} \"{}\" of {} bytes, window {}", static_cast<int>(kind), found_name, bytes, window),
                 format("kind {} \"{}\" of {} bytes, window {}", static_cast<int>(spec.kind), spec.name,
                        spec.block_bytes, spec.window));
}

Status load_region(Region& region, ByteReader& in) {
  const RegionSpec& spec = region.spec();
  LCRUN_TRY(check_spec(in, spec));
  LCRUN_ASSIGN(const auto rows, in.read<int64_t>("region rows"));
  if (rows < 0 || static_cast<uint64_t>(rows) >= kMaxRows) {
    return in.fail("region rows", format("{}", rows), "0 to 2^40");
  }
  region.begin_restore();
  if (spec.kind == RegionKind::kFixed) {
    LCRUN_ASSIGN(const auto data, in.read_bytes("fixed state", spec.block_bytes));
    LCRUN_TRY(region.prepare_fixed());
    std::memcpy(region.fixed().data(), data.data(), data.size());
    return region.end_restore(rows);
  }
  LCRUN_ASSIGN(const auto first, in.read<int64_t>("region first block"));
  const int64_t end = (rows + kBlockTokens - 1) / kBlockTokens;
  if (first < 0 || first > end) return in.fail("region first block", format("{}", first), format("0 to {}", end));
  for (int64_t b = first; b < end; ++b) {
    LCRUN_ASSIGN(const auto data, in.read_bytes("block", spec.block_bytes));
    LCRUN_ASSIGN(const auto block, region.restore_block(b));
    std::memcpy(block.data(), data.data(), data.size());
  }
  return region.end_restore(rows);
}

}  // namespace

void SequenceState::save(ByteWriter& out) {
  out.write<uint32_t>(static_cast<uint32_t>(layers_.size()));
  out.write<int64_t>(tokens_);
  for (auto& layer : layers_) {
    out.write<uint32_t>(static_cast<uint32_t>(layer.regions.size()));
    for (auto& region : layer.regions) save_region(region, out);
  }
}

Status SequenceState::load(ByteReader& in) {
  LCRUN_ASSIGN(const auto n_layers, in.read<uint32_t>("layer count"));
  LCRUN_ASSIGN(const auto tokens, in.read<int64_t>("token count"));
  if (n_layers != layers_.size()) return in.fail("layer count", format("{}", n_layers), format("{}", layers_.size()));
  // Into a fresh state first: on error nothing of the present one has changed.
  LCRUN_ASSIGN(SequenceState loaded, empty_copy());
  loaded.tokens_ = tokens;
  for (auto& layer : loaded.layers_) {
    LCRUN_ASSIGN(const auto n_regions, in.read<uint32_t>("region count"));
    if (n_regions != layer.regions.size()) {
      return in.fail("region count", format("{}", n_regions), format("{}", layer.regions.size()));
    }
    for (auto& region : layer.regions) {
      LCRUN_TRY(load_region(region, in));
      if (region.rows() != tokens) return in.fail("region rows", format("{}", region.rows()), format("{}", tokens));
    }
  }
  *this = std::move(loaded);
  return {};
}

}  // namespace lcrun::storage
