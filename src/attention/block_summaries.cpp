#include "src/attention/block_summaries.hpp"

namespace lcrun::attention {

BlockSummaries::BlockSummaries(const Attention* attention, int64_t layer, const KvLayout& layout, Rotary rotary) {
  if (attention == nullptr) return;
  if (attention->keeps_index(layer)) {
    index_.emplace(*attention->index(), layout, rotary);
    if (const IndexKind* coarse = attention->coarse_index()) coarse_.emplace(*coarse, layout, rotary);
  }
  if (attention->keeps_means(layer)) means_.emplace(layout, rotary);
}

std::vector<storage::RegionSpec> BlockSummaries::regions() const {
  std::vector<storage::RegionSpec> specs;
  if (index_) specs.push_back(index_->region());
  if (coarse_) {
    specs.push_back(coarse_->region());
    specs.back().name = std::string("coarse_") + coarse_->kind().name;
  }
  if (means_) specs.push_back(means_->region());
  return specs;
}

Status BlockSummaries::check() const {
  if (index_) LCRUN_TRY(index_->check());
  if (coarse_) LCRUN_TRY(coarse_->check());
  return means_ ? means_->check() : Status();
}

Status BlockSummaries::reserve(storage::LayerState& state, int64_t tokens) const {
  for (int64_t i = n_regions(); i > 0; --i) {
    storage::Region& region = from_end(state, i);
    LCRUN_TRY(region.reserve_rows(region.spec().rows_of(tokens) - region.rows()));
  }
  return {};
}

void BlockSummaries::make_rows(int64_t b, const std::byte* kv_block, storage::LayerState& state) const {
  if (index_) index_->make_rows(b, kv_block, index_rows(state));
  if (coarse_) coarse_->make_rows(b, kv_block, coarse_rows(state));
  if (means_) means_->make_rows(b, kv_block, mean_rows(state));
}

void BlockSummaries::commit(storage::LayerState& state, int64_t tokens) const {
  for (int64_t i = n_regions(); i > 0; --i) {
    storage::Region& region = from_end(state, i);
    region.commit_rows(region.spec().rows_of(tokens) - region.rows());
  }
}

}  // namespace lcrun::attention
