// A sequence as a whole: its timeline, and the marks it can go back to.
//
// Marks get twice as far apart whenever they take more memory than they may; tokens() is complete in every region.
#include <algorithm>
#include <numeric>

#include "src/base/check.hpp"
#include "storage/region.hpp"

namespace lcrun::storage {

Result<SequenceState> SequenceState::create(const std::vector<std::vector<RegionSpec>>& layers) {
  SequenceState state;
  for (const auto& specs : layers) {
    LayerState layer;
    for (const auto& spec : specs) {
      layer.regions.emplace_back(spec);
      if (!spec.has_blocks()) LCRUN_TRY(layer.regions.back().prepare_fixed());
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

SequenceState::IndexSpecs SequenceState::index_specs() const {
  IndexSpecs specs(layers_.size());
  for (size_t i = 0; i < layers_.size(); ++i) {
    for (const auto& region : layers_[i].regions) {
      if (region.spec().kind == RegionKind::kIndex) specs[i].push_back(region.spec());
    }
  }
  return specs;
}

void SequenceState::replace_index(const IndexSpecs& specs) {
  LCRUN_CHECK(specs.size() == layers_.size());
  for (size_t i = 0; i < specs.size(); ++i) {
    auto& regions = layers_[i].regions;
    std::erase_if(regions, [](const Region& region) { return region.spec().kind == RegionKind::kIndex; });
    for (const RegionSpec& spec : specs[i]) regions.emplace_back(spec);
  }
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
  bool more_marks = false;
  for (auto& layer : layers_) {
    for (auto& region : layer.regions) {
      const int64_t rows = region.spec().rows_of(tokens_ + n) - region.spec().rows_of(tokens_);
      more_marks = region.commit_rows(rows, has_dropped() ? 0 : mark_spacing_) || more_marks;
    }
  }
  tokens_ += n;
  if (more_marks) thin_marks();
}

Status SequenceState::repeat(int64_t n) {
  LCRUN_CHECK(tokens_ > 0 && tokens_ % kBlockTokens == 0 && n % kBlockTokens == 0);
  const int64_t there = tokens_ / kBlockTokens;
  while (tokens_ < n) {
    for (auto& layer : layers_) {
      for (auto& region : layer.regions) {
        if (region.spec().kind == RegionKind::kAppend) LCRUN_TRY(region.repeat_block(tokens_ / kBlockTokens % there));
        if (region.spec().kind == RegionKind::kRing) LCRUN_TRY(region.repeat_block(tokens_ / kBlockTokens - 1));
        if (region.spec().kind != RegionKind::kIndex) continue;
        LCRUN_TRY(region.repeat_rows(region.spec().rows_of(kBlockTokens)));
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
    if (has_dropped() && n > dropped_first_ && n < dropped_at_) {
      settled = false;
      n = dropped_first_;
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
  inherited_tokens_ = std::min(inherited_tokens_, n);
  if (n <= dropped_first_) dropped_first_ = dropped_end_ = dropped_at_ = 0;
}

void SequenceState::drop_tokens(int64_t first, int64_t end) {
  LCRUN_CHECK(!has_dropped() || first == dropped_first_);
  if (end <= std::max(first, dropped_end_)) return;
  for (auto& layer : layers_) {
    for (auto& region : layer.regions) {
      region.drop_tokens(first, end, dropped_end_);
      // Nobody can go back to them any more.
      if (!has_dropped()) region.thin_marks(0);
    }
  }
  dropped_first_ = first;
  dropped_end_ = end;
  dropped_at_ = tokens_;
}

void SequenceState::clear() { truncate(0); }

Result<SequenceState> SequenceState::clone() const {
  SequenceState copy;
  copy.tokens_ = tokens_;
  copy.inherited_tokens_ = inherited_tokens_;
  copy.dropped_first_ = dropped_first_;
  copy.dropped_end_ = dropped_end_;
  copy.dropped_at_ = dropped_at_;
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

int64_t SequenceState::joint_tokens() const {
  int64_t tokens = kBlockTokens;
  for (const auto& layer : layers_) {
    for (const auto& region : layer.regions) tokens = std::lcm(tokens, region.joint_tokens());
  }
  return tokens;
}

Status SequenceState::go_on_as(const SequenceState& other) {
  LCRUN_CHECK(tokens_ % joint_tokens() == 0 && tokens_ <= other.tokens_ && layers_.size() == other.layers_.size());
  LCRUN_CHECK(!has_dropped() && !other.has_dropped());
  saved_tokens_ = std::min(saved_tokens_, tokens_);
  inherited_tokens_ = std::min(inherited_tokens_, tokens_);
  for (size_t i = 0; i < layers_.size(); ++i) {
    for (size_t r = 0; r < layers_[i].regions.size(); ++r) {
      const Status taken = layers_[i].regions[r].go_on_as(other.layers_[i].regions[r]);
      if (taken.has_value()) continue;
      clear();
      return taken;
    }
  }
  tokens_ = other.tokens_;
  return {};
}

uint64_t SequenceState::memory_bytes() const {
  uint64_t total = pages_ ? pages_->store().memory_bytes() : 0;
  for (const auto& layer : layers_) {
    for (const auto& region : layer.regions) total += region.memory_bytes();
  }
  return total;
}

int64_t SequenceState::finish_restore(int64_t tokens) {
  tokens_ = tokens;
  truncate(truncation_point(tokens));
  mark_saved();
  return tokens_;
}

}  // namespace lcrun::storage
