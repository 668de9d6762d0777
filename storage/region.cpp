#include "storage/region.hpp"

#include <algorithm>
#include <cstring>

#include "src/base/check.hpp"
#include "src/base/format.hpp"

namespace lcrun::storage {
namespace {

int64_t blocks_for(int64_t rows) { return (rows + kBlockTokens - 1) / kBlockTokens; }

// Bounds on what a session file may claim, so that a damaged count cannot ask for the whole machine.
constexpr uint64_t kMaxRows = uint64_t{1} << 40;
// Handles of blocks made room for ahead of use (3 KiB a region), so that decoding does not call operator new.
constexpr int64_t kHandlesAhead = 64;

}  // namespace

Status Region::reserve_rows(int64_t n) {
  LCRUN_CHECK(spec_.kind != RegionKind::kFixed && n >= 0);
  const int64_t wanted = blocks_for(rows_ + n) - first_block_;
  if (static_cast<int64_t>(blocks_.capacity()) < wanted) {
    const auto room = static_cast<size_t>(2 * wanted + kHandlesAhead);
    blocks_.reserve(room);
    spare_.reserve(room);  // every block may be dropped
  }
  while (static_cast<int64_t>(blocks_.size()) < wanted) {
    if (!spare_.empty()) {
      std::memset(spare_.back().data(), 0, spare_.back().size());
      blocks_.push_back(std::move(spare_.back()));
      spare_.pop_back();
      continue;
    }
    LCRUN_ASSIGN(auto block, AlignedBuffer::allocate(spec_.block_bytes));
    blocks_.push_back(std::move(block));
  }
  return {};
}

void Region::commit_rows(int64_t n) {
  rows_ += n;
  uncommitted_ = false;
  if (spec_.kind == RegionKind::kFixed) return;
  LCRUN_DCHECK(blocks_for(rows_) - first_block_ <= static_cast<int64_t>(blocks_.size()));
  if (spec_.kind != RegionKind::kRing) return;
  const int64_t keep_from = std::max<int64_t>(0, rows_ - spec_.capacity) / kBlockTokens;
  const int64_t drop = keep_from - first_block_;
  if (drop <= 0) return;
  for (int64_t i = 0; i < drop; ++i) spare_.push_back(std::move(blocks_[static_cast<size_t>(i)]));
  blocks_.erase(blocks_.begin(), blocks_.begin() + drop);
  first_block_ = keep_from;
}

Status Region::prepare_fixed() {
  LCRUN_CHECK(spec_.kind == RegionKind::kFixed);
  if (fixed_.size() >= spec_.block_bytes) return {};
  LCRUN_ASSIGN(fixed_, AlignedBuffer::allocate(spec_.block_bytes));
  return {};
}

bool Region::can_truncate(int64_t n) const {
  if (n < 0 || n > rows_) return false;
  if (n == 0) return true;
  if (n == rows_) return !uncommitted_;
  if (spec_.kind == RegionKind::kFixed) return false;
  if (spec_.kind == RegionKind::kAppend) return true;
  // A ring must still hold every row that the tokens before n can see.
  return first_row() <= std::max<int64_t>(0, n - spec_.capacity);
}

void Region::truncate(int64_t n) {
  LCRUN_CHECK(can_truncate(n));
  if (n == rows_ && !uncommitted_) return;
  rows_ = n;
  uncommitted_ = false;
  if (spec_.kind == RegionKind::kFixed) {
    if (fixed_.size() != 0) std::memset(fixed_.data(), 0, fixed_.size());
    return;
  }
  if (n == 0) {
    for (auto& block : blocks_) spare_.push_back(std::move(block));
    blocks_.clear();
    first_block_ = 0;
    return;
  }
  const auto keep = static_cast<size_t>(blocks_for(n) - first_block_);
  while (blocks_.size() > keep) {
    spare_.push_back(std::move(blocks_.back()));
    blocks_.pop_back();
  }
  // Cells past the end stay as they are: attention never reads a row that was not written again first.
}

Status Region::copy_from(const Region& other) {
  LCRUN_CHECK(spec_.block_bytes == other.spec_.block_bytes && spec_.kind == other.spec_.kind);
  Region copy(spec_);
  copy.rows_ = other.rows_;
  copy.first_block_ = other.first_block_;
  copy.uncommitted_ = other.uncommitted_;
  for (const auto& block : other.blocks_) {
    LCRUN_ASSIGN(auto made, AlignedBuffer::allocate(spec_.block_bytes));
    std::memcpy(made.data(), block.data(), spec_.block_bytes);
    copy.blocks_.push_back(std::move(made));
  }
  if (other.fixed_.size() != 0) {
    LCRUN_TRY(copy.prepare_fixed());
    std::memcpy(copy.fixed_.data(), other.fixed_.data(), spec_.block_bytes);
  }
  *this = std::move(copy);
  return {};
}

uint64_t Region::memory_bytes() const {
  uint64_t total = fixed_.size();
  for (const auto& block : blocks_) total += block.size();
  for (const auto& block : spare_) total += block.size();
  return total;
}

void Region::save(ByteWriter& out) const {
  out.write<uint8_t>(static_cast<uint8_t>(spec_.kind));
  out.write<uint32_t>(static_cast<uint32_t>(spec_.name.size()));
  out.append(spec_.name.data(), spec_.name.size());
  out.write<uint64_t>(spec_.block_bytes);
  out.write<int64_t>(spec_.capacity);
  out.write<int64_t>(rows_);
  out.write<int64_t>(first_block_);
  if (spec_.kind == RegionKind::kFixed) {
    out.write<uint8_t>(fixed_.size() != 0 ? 1 : 0);
    if (fixed_.size() != 0) out.append(fixed_.data(), spec_.block_bytes);
    return;
  }
  const auto held = static_cast<size_t>(blocks_for(rows_) - first_block_);
  for (size_t i = 0; i < held; ++i) out.append(blocks_[i].data(), spec_.block_bytes);
}

Status Region::load(ByteReader& in) {
  LCRUN_ASSIGN(const auto kind, in.read<uint8_t>("region kind"));
  LCRUN_ASSIGN(const auto name_size, in.read<uint32_t>("region name length"));
  LCRUN_ASSIGN(const auto name, in.read_bytes("region name", name_size));
  LCRUN_ASSIGN(const auto bytes, in.read<uint64_t>("region block bytes"));
  LCRUN_ASSIGN(const auto capacity, in.read<int64_t>("region capacity"));
  LCRUN_ASSIGN(const auto rows, in.read<int64_t>("region rows"));
  LCRUN_ASSIGN(const auto first, in.read<int64_t>("region first block"));
  const std::string_view found_name(reinterpret_cast<const char*>(name.data()), name.size());
  if (kind != static_cast<uint8_t>(spec_.kind) || found_name != spec_.name || bytes != spec_.block_bytes ||
      capacity != spec_.capacity) {
    return in.fail(
        "region",
        format("kind {} \"{}\" of {} bytes, capacity {}", static_cast<int>(kind), found_name, bytes, capacity),
        format("kind {} \"{}\" of {} bytes, capacity {}", static_cast<int>(spec_.kind), spec_.name, spec_.block_bytes,
               spec_.capacity));
  }
  // Every row that the next token may read must be in the file.
  const int64_t first_needed = spec_.kind == RegionKind::kRing ? std::max<int64_t>(0, rows - spec_.capacity) : 0;
  const bool sane =
      rows >= 0 && static_cast<uint64_t>(rows) < kMaxRows && first >= 0 && first <= first_needed / kBlockTokens;
  if (!sane) return in.fail("region rows", format("{} rows from block {}", rows, first), "a held range");
  Region loaded(spec_);
  loaded.rows_ = rows;
  if (spec_.kind == RegionKind::kFixed) {
    LCRUN_ASSIGN(const auto present, in.read<uint8_t>("fixed state present"));
    if (present != 0) {
      LCRUN_ASSIGN(const auto data, in.read_bytes("fixed state", spec_.block_bytes));
      LCRUN_TRY(loaded.prepare_fixed());
      std::memcpy(loaded.fixed_.data(), data.data(), data.size());
    }
  } else {
    loaded.first_block_ = first;
    for (int64_t b = first; b < blocks_for(rows); ++b) {
      LCRUN_ASSIGN(const auto data, in.read_bytes("block", spec_.block_bytes));
      LCRUN_ASSIGN(auto block, AlignedBuffer::allocate(spec_.block_bytes));
      std::memcpy(block.data(), data.data(), data.size());
      loaded.blocks_.push_back(std::move(block));
    }
  }
  *this = std::move(loaded);
  return {};
}

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

bool SequenceState::can_truncate(int64_t n) const {
  if (n < 0 || n > tokens_) return false;
  for (const auto& layer : layers_) {
    for (const auto& region : layer.regions) {
      if (!region.can_truncate(n)) return false;
    }
  }
  return true;
}

void SequenceState::truncate(int64_t n) {
  for (auto& layer : layers_) {
    for (auto& region : layer.regions) region.truncate(n);
  }
  tokens_ = n;
}

void SequenceState::clear() { truncate(0); }

Result<SequenceState> SequenceState::clone() const {
  SequenceState copy;
  copy.tokens_ = tokens_;
  for (const auto& layer : layers_) {
    LayerState made;
    for (const auto& region : layer.regions) {
      made.regions.emplace_back(region.spec());
      LCRUN_TRY(made.regions.back().copy_from(region));
    }
    copy.layers_.push_back(std::move(made));
  }
  return copy;
}

uint64_t SequenceState::memory_bytes() const {
  uint64_t total = 0;
  for (const auto& layer : layers_) {
    for (const auto& region : layer.regions) total += region.memory_bytes();
  }
  return total;
}

void SequenceState::save(ByteWriter& out) const {
  out.write<uint32_t>(static_cast<uint32_t>(layers_.size()));
  out.write<int64_t>(tokens_);
  for (const auto& layer : layers_) {
    out.write<uint32_t>(static_cast<uint32_t>(layer.regions.size()));
    for (const auto& region : layer.regions) region.save(out);
  }
}

Status SequenceState::load(ByteReader& in) {
  LCRUN_ASSIGN(const auto n_layers, in.read<uint32_t>("layer count"));
  LCRUN_ASSIGN(const auto tokens, in.read<int64_t>("token count"));
  if (n_layers != layers_.size()) return in.fail("layer count", format("{}", n_layers), format("{}", layers_.size()));
  // Into a fresh state first: on error nothing of the present one has changed.
  SequenceState loaded;
  loaded.tokens_ = tokens;
  for (const auto& layer : layers_) {
    LCRUN_ASSIGN(const auto n_regions, in.read<uint32_t>("region count"));
    if (n_regions != layer.regions.size()) {
      return in.fail("region count", format("{}", n_regions), format("{}", layer.regions.size()));
    }
    LayerState made;
    for (const auto& region : layer.regions) {
      made.regions.emplace_back(region.spec());
      LCRUN_TRY(made.regions.back().load(in));
      if (made.regions.back().rows() != tokens) {
        return in.fail("region rows", format("{}", made.regions.back().rows()), format("{}", tokens));
      }
    }
    loaded.layers_.push_back(std::move(made));
  }
  *this = std::move(loaded);
  return {};
}

}  // namespace lcrun::storage
