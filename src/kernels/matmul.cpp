// Preparing weights, quantising activations, and splitting products into tasks. The arithmetic is in
// matmul_impl.hpp, the memory layout in matmul_layout.hpp.
//
// Every output belongs to exactly one task and every task computes its outputs in the same way, so that neither the
// number of threads nor the way of splitting shows in the result.
#include "src/kernels/matmul.hpp"

#include <algorithm>
#include <cstring>

#include "quant/format.hpp"
#include "src/base/check.hpp"
#include "src/base/format.hpp"
#include "src/base/parallel.hpp"
#include "src/kernels/kernels.hpp"

namespace lcrun::kernels {

// What the functions of this file see of the public classes.
struct WeightsAccess {
  static Weights make(const TensorView& source, int kind, int64_t panel_bytes, std::shared_ptr<std::byte> packed,
                      uint64_t packed_bytes) {
    Weights w;
    w.rows_ = source.rows();
    w.cols_ = source.cols();
    w.dtype_ = source.dtype;
    w.kind_ = kind;
    w.panel_bytes_ = panel_bytes;
    w.packed_ = std::move(packed);
    w.packed_bytes_ = packed_bytes;
    return w;
  }
  static int kind(const Weights& w) { return w.kind_; }
  static int64_t panel_bytes(const Weights& w) { return w.panel_bytes_; }
  static const uint8_t* panel(const Weights& w, int64_t p) {
    return reinterpret_cast<const uint8_t*>(w.packed_.get()) + p * w.panel_bytes_;
  }
  static std::byte* quantized(const Activations& x) { return const_cast<std::byte*>(x.quantized_.data()); }
  static uint32_t planes(const Activations& x) { return x.planes_; }
};

namespace {

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
// Kinds of plain weights follow those of packed ones.
constexpr int kFirstPlain = kPackedKinds;
constexpr bool is_plain(int kind) { return kind >= kFirstPlain; }

// Activations are rounded in blocks of the weights' own size, as every runtime of these formats does: with one scale
// for the 256 inputs of a super block, perplexities agree with the reference's to four digits.
constexpr int64_t kNotQuantized = 0;
constexpr int64_t kActivationBlocks[] = {kNotQuantized, kStep, kStep* kSuperSteps};

int64_t activation_block(const Weights& w) {
  const int kind = WeightsAccess::kind(w);
  return is_plain(kind) ? kNotQuantized : kStep * run_steps(kPackings[kind]);
}

// The kind that multiplies a format, or -1.
int kind_of(const quant::QuantOps& ops) {
  if (ops.dtype == DType::kF32) return kFirstPlain + kPlainF32;
  if (ops.dtype == DType::kF16) return kFirstPlain + kPlainF16;
  if (ops.dtype == DType::kBF16) return kFirstPlain + kPlainBF16;
  for (int kind = 0; kind < kPackedKinds; ++kind) {
    if (kPackings[kind] == ops.packing) return kind;
  }
  return -1;
}

// --- packing -----------------------------------------------------------------------------------------------------
struct Packer {
  const TensorView* source;
  const quant::QuantOps* ops;
  int64_t block_bytes;
  int block_size;
  std::byte* packed;
  int64_t panel_bytes;
};

// 16 rows of one native block; rows past the end are zeros (scale 0, so that they multiply to 0).
struct BlockColumn {
  quant::Unpacked rows[kPanelRows];
};

// The codes of step `step` of the block as 8 vectors of 16 words of 4 codes.
void gather_codes(const BlockColumn& block, int step, uint32_t (&words)[8][kPanelRows]) {
  for (int r = 0; r < kPanelRows; ++r) {
    uint32_t row[8];
    std::memcpy(row, block.rows[r].codes + step * kStep, sizeof(row));
    for (int v = 0; v < 8; ++v) words[v][r] = row[v];
  }
}

// `bits` bits of each code from bit `shift` on, in the plane form of matmul_layout.hpp.
void write_plane(const uint32_t (&words)[8][kPanelRows], int shift, int bits, std::byte* out) {
  const int vectors = bits;  // 8 vectors of 8 bits shrink to `bits` of them
  const uint32_t mask = 0x01010101u * ((1u << bits) - 1u);
  for (int p = 0; p < vectors; ++p) {
    uint32_t plane[kPanelRows] = {};
    for (int v = p, at = 0; v < 8; v += vectors, at += bits) {
      for (int r = 0; r < kPanelRows; ++r) plane[r] |= ((words[v][r] >> shift) & mask) << at;
    }
    std::memcpy(out + p * static_cast<int>(sizeof(plane)), plane, sizeof(plane));
  }
}

void write_halves(const BlockColumn& block, bool has_offset, std::byte* out) {
  uint16_t halves[2 * kPanelRows];
  for (int r = 0; r < kPanelRows; ++r) {
    halves[r] = block.rows[r].d;
    halves[kPanelRows + r] = block.rows[r].m;
  }
  std::memcpy(out, halves, sizeof(halves) / (has_offset ? 1 : 2));
}

void write_sub_scales(const Packing& packing, const BlockColumn& block, int step, std::byte* out) {
  const int subs = sub_blocks(packing);
  for (int s = 0; s < subs; ++s) {
    for (int r = 0; r < kPanelRows; ++r) {
      const quant::Unpacked& row = block.rows[r];
      out[s * kPanelRows + r] = static_cast<std::byte>(row.sub[step * subs + s]);
      if (packing.scale == ScaleForm::kSuperOffset) {
        out[(subs + s) * kPanelRows + r] = static_cast<std::byte>(row.sub_offset[step * subs + s]);
      }
    }
  }
}

void pack_panel(const Packer& packer, int64_t panel) {
  const Packing packing = packer.ops->packing;
  const int steps_per_block = packer.block_size / kStep;
  const int64_t n_blocks = packer.source->cols() / packer.block_size;
  std::byte* codes = packer.packed + panel * packer.panel_bytes;
  std::byte* scales = codes + n_blocks * steps_per_block * code_bytes(packing);
  BlockColumn block{};
  for (int64_t b = 0; b < n_blocks; ++b) {
    for (int r = 0; r < kPanelRows && panel * kPanelRows + r < packer.source->rows(); ++r) {
      const auto row = static_cast<uint64_t>(panel * kPanelRows + r);
      packer.ops->unpack(packer.source->data + row * packer.source->row_bytes + b * packer.block_bytes, block.rows[r]);
    }
    write_halves(block, packing.has_offset(), scales);
    scales += run_header_bytes(packing);
    for (int step = 0; step < steps_per_block; ++step) {
      uint32_t words[8][kPanelRows];
      gather_codes(block, step, words);
      write_plane(words, 0, packing.low_bits, codes);
      if (packing.high_bits > 0) {
        write_plane(words, packing.low_bits, packing.high_bits, codes + low_plane_bytes(packing));
      }
      codes += code_bytes(packing);
      if (packing.is_super()) write_sub_scales(packing, block, step, scales);
      scales += step_scale_bytes(packing);
    }
  }
}

void pack_plain_panel(const Packer& packer, int64_t panel) {
  const int64_t width = packer.block_bytes;
  std::byte* out = packer.packed + panel * packer.panel_bytes;
  for (int r = 0; r < kPanelRows && panel * kPanelRows + r < packer.source->rows(); ++r) {
    const auto row = static_cast<uint64_t>(panel * kPanelRows + r);
    const std::byte* in = packer.source->data + row * packer.source->row_bytes;
    for (int64_t c = 0; c < packer.source->cols(); ++c) {
      std::memcpy(out + (c * kPanelRows + r) * width, in + c * width, static_cast<size_t>(width));
    }
  }
}

Status check_source(const TensorView& source, const quant::TypeInfo& type) {
  const int64_t rows = source.rows();
  const int64_t cols = source.cols();
  // Bounded before they are multiplied: shapes come from files.
  constexpr int64_t kMostCols = int64_t{1} << 40;
  if (cols <= 0 || rows <= 0 || cols > kMostCols || cols % type.block_size != 0) {
    return make_error(Code::kInvalidArgument, "weights: found {} x {} values, wanted whole rows of {} for {}", rows,
                      cols, type.block_size, type.name);
  }
  const uint64_t row = quant::row_bytes(type, cols);
  if (source.data == nullptr || source.row_bytes < row ||
      source.size_bytes / source.row_bytes < static_cast<uint64_t>(rows)) {
    return make_error(Code::kInvalidArgument, "weights: found {} bytes in rows of {}, wanted {} rows of {}",
                      source.size_bytes, source.row_bytes, rows, row);
  }
  return {};
}

// --- activations -------------------------------------------------------------------------------------------------
// The group of rows [16 g, 16 g + width) inside the quantised buffer.
Group group_at(std::byte* base, int64_t g, int64_t n_rows, int64_t n_steps, uint32_t planes) {
  Group group{};
  group.width = std::min<int64_t>(kGroupRows, n_rows - g * kGroupRows);
  std::byte* at = base + g * kGroupRows * n_steps * kGroupBytesPerRowStep;
  const int64_t cells = group.width * n_steps;
  const auto take = [&](int64_t bytes) {
    std::byte* first = at;
    at += bytes;
    return first;
  };
  group.q = reinterpret_cast<int8_t*>(take(cells * kStep));
  group.d = reinterpret_cast<float*>(take(cells * 4));
  if ((planes & kSums32) != 0) group.sums32 = reinterpret_cast<float*>(take(cells * 4));
  if ((planes & kSums16) != 0) group.sums16 = reinterpret_cast<float*>(take(cells * 8));
  for (int i = 0; i < kStartPlaneCount; ++i) {
    if ((planes & start_bit(i)) == 0) continue;
    group.start[i] = reinterpret_cast<int32_t*>(take(cells * 4 * (kStep / kStartPlanes[i].sub_block)));
  }
  return group;
}

// --- tasks -------------------------------------------------------------------------------------------------------
// A task is up to `panels` panels of one job times up to `groups` groups of rows.
struct Split {
  int64_t panels;
  int64_t groups;
};

constexpr int64_t kMostGroups = 32;  // of a task: 512 rows

// Work is counted in multiply-adds: tasks below kLeastTask are not worth handing out, and some kTasksPerThread tasks a
// thread even out the load.
Split choose_split(std::span<const MatmulJob> jobs, int64_t n_rows, int64_t cols, int n_threads) {
  constexpr int64_t kLeastTask = int64_t{1} << 18;
  constexpr int64_t kTasksPerThread = 8;
  constexpr int64_t kMostPanels = 6;  // with many rows: what stays in the level 2 cache beside a group of rows
  const int64_t n_groups = ceil_div(n_rows, kGroupRows);
  int64_t cells = 0;
  for (const MatmulJob& job : jobs) cells += ceil_div(job.weights->rows(), kPanelRows) * n_groups;
  const int64_t cell_work = kPanelRows * cols * std::min<int64_t>(n_rows, kGroupRows);
  const int64_t least = std::max<int64_t>(1, kLeastTask / cell_work);
  const int64_t share = std::max(least, cells / (n_threads * kTasksPerThread));
  if (n_groups == 1) return {share, 1};
  const int64_t panels = std::min(share, kMostPanels);
  return {panels, std::clamp<int64_t>(share / panels, 1, std::min(n_groups, kMostGroups))};
}

struct Region {
  const MatmulJob* job;
  int64_t first_panel, last_panel;
  int64_t first_row, last_row;
};

void run_packed(const Region& region, const Activations& x, const Kernels& table) {
  const Weights& w = *region.job->weights;
  PackedTile tile{};
  tile.panels = WeightsAccess::panel(w, region.first_panel);
  tile.panel_bytes = WeightsAccess::panel_bytes(w);
  tile.n_panels = region.last_panel - region.first_panel;
  tile.n_steps = ceil_div(w.cols(), kStep);
  tile.y_stride = region.job->y.stride;
  tile.n_out = std::min(w.rows(), region.last_panel * kPanelRows) - region.first_panel * kPanelRows;
  tile.bias = region.job->bias != nullptr ? region.job->bias + region.first_panel * kPanelRows : nullptr;
  Group groups[kMostGroups];
  for (int64_t row = region.first_row; row < region.last_row; row += kGroupRows) {
    groups[tile.n_groups++] =
        group_at(WeightsAccess::quantized(x), row / kGroupRows, x.x().rows, tile.n_steps, WeightsAccess::planes(x));
  }
  tile.groups = groups;
  tile.y = region.job->y.row(region.first_row) + region.first_panel * kPanelRows;
  table.matmul.packed[WeightsAccess::kind(w)](tile);
}

void run_plain(const Region& region, const Activations& x, const Kernels& table) {
  const Weights& w = *region.job->weights;
  PlainTile tile{};
  tile.panels = WeightsAccess::panel(w, region.first_panel);
  tile.panel_bytes = WeightsAccess::panel_bytes(w);
  tile.n_panels = region.last_panel - region.first_panel;
  tile.x = x.x().row(region.first_row);
  tile.x_stride = x.x().stride;
  tile.n_rows = region.last_row - region.first_row;
  tile.cols = w.cols();
  tile.y = region.job->y.row(region.first_row) + region.first_panel * kPanelRows;
  tile.y_stride = region.job->y.stride;
  tile.n_out = std::min(w.rows(), region.last_panel * kPanelRows) - region.first_panel * kPanelRows;
  tile.bias = region.job->bias != nullptr ? region.job->bias + region.first_panel * kPanelRows : nullptr;
  table.matmul.plain[WeightsAccess::kind(w) - kFirstPlain](tile);
}

}  // namespace

namespace {

Result<std::shared_ptr<AlignedBuffer>> shared_buffer(uint64_t bytes) {
  LCRUN_ASSIGN(AlignedBuffer fresh, AlignedBuffer::allocate(static_cast<size_t>(bytes), kCacheLine, Arena::kWeights));
  return std::make_shared<AlignedBuffer>(std::move(fresh));
}

Result<std::shared_ptr<std::byte>> own_memory(uint64_t bytes) {
  LCRUN_ASSIGN(std::shared_ptr<AlignedBuffer> buffer, shared_buffer(bytes));
  std::byte* first = buffer->data();
  return std::shared_ptr<std::byte>(std::move(buffer), first);
}

}  // namespace

Result<std::shared_ptr<std::byte>> WeightArena::take(uint64_t bytes) {
  constexpr uint64_t kPieceBytes = uint64_t{64} << 20;
  const uint64_t rounded = (bytes + kCacheLine - 1) / kCacheLine * kCacheLine;
  // What would leave much of a piece unused gets one of its own.
  if (rounded > kPieceBytes / 8) return own_memory(rounded);
  if (piece_ == nullptr || piece_->size() - used_ < rounded) {
    LCRUN_ASSIGN(piece_, shared_buffer(kPieceBytes));
    used_ = 0;
  }
  std::byte* first = piece_->data() + used_;
  used_ += rounded;
  return std::shared_ptr<std::byte>(piece_, first);
}

namespace {

// Rows [first, end) of a matrix.
TensorView rows_of(const TensorView& source, int64_t first, int64_t end) {
  TensorView part = source;
  part.data += static_cast<uint64_t>(first) * source.row_bytes;
  part.ne = {source.cols(), end - first, 1, 1};
  part.size_bytes = static_cast<uint64_t>(end - first) * source.row_bytes;
  return part;
}

}  // namespace

Result<Weights> Weights::prepare(const TensorView& source, int n_threads, WeightArena* arena,
                                 const RowsPacked& packed_rows) {
  const quant::QuantOps* ops = quant::find_ops(source.dtype);
  const int kind = ops != nullptr ? kind_of(*ops) : -1;
  if (kind < 0) return quant::unsupported_type("weights", source.dtype);
  const quant::TypeInfo& type = *quant::find_type(source.dtype);
  LCRUN_TRY(check_source(source, type));

  Packer packer{&source, ops, type.block_bytes, type.block_size, nullptr, 0};
  packer.panel_bytes = is_plain(kind) ? ceil_div(source.cols() * kPanelRows * type.block_bytes, 64) * 64
                                      : packed_panel_bytes(ops->packing, source.cols() / kStep);
  const int64_t n_panels = ceil_div(source.rows(), kPanelRows);
  const auto bytes = static_cast<uint64_t>(n_panels * packer.panel_bytes);
  std::shared_ptr<std::byte> packed;
  if (arena != nullptr) {
    LCRUN_ASSIGN(packed, arena->take(bytes));
  } else {
    LCRUN_ASSIGN(packed, own_memory(bytes));
  }
  packer.packed = packed.get();
  constexpr int64_t kPanelsPerTask = 4;
  constexpr uint64_t kSliceBytes = uint64_t{16} << 20;
  const auto most = static_cast<int64_t>(kSliceBytes / (source.row_bytes * kPanelRows));
  const int64_t slice = std::max<int64_t>(most, kPanelsPerTask * n_threads);
  for (int64_t first = 0; first < n_panels; first += slice) {
    const int64_t end = std::min(n_panels, first + slice);
    parallel_for(n_threads, ceil_div(end - first, kPanelsPerTask), [&](int64_t task, int) {
      for (int64_t p = first + task * kPanelsPerTask; p < std::min(end, first + (task + 1) * kPanelsPerTask); ++p) {
        is_plain(kind) ? pack_plain_panel(packer, p) : pack_panel(packer, p);
      }
    });
    if (packed_rows) packed_rows(rows_of(source, first * kPanelRows, std::min(source.rows(), end * kPanelRows)));
  }
  return WeightsAccess::make(source, kind, packer.panel_bytes, std::move(packed), bytes);
}

Status Activations::reserve(int64_t max_rows, int64_t max_cols) {
  const int64_t bytes = max_rows * ceil_div(max_cols, kStep) * kGroupBytesPerRowStep;
  if (static_cast<size_t>(bytes) > quantized_.size()) {
    LCRUN_ASSIGN(quantized_, AlignedBuffer::allocate(static_cast<size_t>(bytes)));
  }
  max_rows_ = max_rows;
  max_cols_ = max_cols;
  return {};
}

void Activations::set(MatView x) {
  LCRUN_CHECK(x.rows <= max_rows_ && x.cols <= max_cols_);
  x_ = x;
  block_ = 0;
}

void Activations::quantize(int64_t block, uint32_t planes, int n_threads) {
  if (block == block_ && (planes & ~planes_) == 0) return;
  block_ = block;
  planes_ = planes;
  const Kernels& table = active();
  const int64_t n_steps = ceil_div(x_.cols, kStep);
  constexpr int64_t kValuesPerTask = 32768;  // some 10 us
  const int64_t rows_per_task = std::max<int64_t>(1, kValuesPerTask / std::max<int64_t>(1, x_.cols));
  parallel_for(n_threads, ceil_div(x_.rows, rows_per_task), [&](int64_t task, int) {
    for (int64_t r = task * rows_per_task; r < std::min(x_.rows, (task + 1) * rows_per_task); ++r) {
      const Group group = group_at(quantized_.data(), r / kGroupRows, x_.rows, n_steps, planes_);
      table.matmul.quantize(x_.row(r), x_.cols, block / kStep, r % kGroupRows, group);
    }
  });
}

namespace {

// The jobs whose weights want activations in blocks of `block`; all of them in one parallel region.
void multiply_jobs(std::span<const MatmulJob> jobs, int64_t block, const Activations& x, int n_threads) {
  const int64_t n_rows = x.x().rows;
  const Kernels& table = active();
  const Split split = choose_split(jobs, n_rows, x.x().cols, n_threads);
  const int64_t row_parts = ceil_div(ceil_div(n_rows, kGroupRows), split.groups);
  const auto parts = [&](const MatmulJob& job) {
    if (activation_block(*job.weights) != block) return int64_t{0};
    return ceil_div(ceil_div(job.weights->rows(), kPanelRows), split.panels) * row_parts;
  };
  int64_t n_tasks = 0;
  for (const MatmulJob& job : jobs) n_tasks += parts(job);
  parallel_for(n_threads, n_tasks, [&](int64_t task, int) {
    size_t j = 0;
    while (task >= parts(jobs[j])) task -= parts(jobs[j++]);
    const MatmulJob& job = jobs[j];
    Region region{};
    region.job = &job;
    region.first_panel = task / row_parts * split.panels;
    region.last_panel = std::min(ceil_div(job.weights->rows(), kPanelRows), region.first_panel + split.panels);
    region.first_row = task % row_parts * split.groups * kGroupRows;
    region.last_row = std::min(n_rows, region.first_row + split.groups * kGroupRows);
    block == kNotQuantized ? run_plain(region, x, table) : run_packed(region, x, table);
  });
}

}  // namespace

void matmul(std::span<const MatmulJob> jobs, Activations& x, int n_threads) {
  const int64_t n_rows = x.x().rows;
  if (n_rows == 0) return;
  bool wanted[std::size(kActivationBlocks)] = {};
  uint32_t planes[std::size(kActivationBlocks)] = {};
  for (const MatmulJob& job : jobs) {
    LCRUN_CHECK(job.weights->cols() == x.x().cols);
    LCRUN_CHECK(job.y.rows >= n_rows && (n_rows == 1 || job.y.stride >= job.weights->rows()));
    for (size_t i = 0; i < std::size(wanted); ++i) {
      if (activation_block(*job.weights) != kActivationBlocks[i]) continue;
      wanted[i] = true;
      if (kActivationBlocks[i] != kNotQuantized) planes[i] |= planes_of(kPackings[WeightsAccess::kind(*job.weights)]);
    }
  }
  for (size_t i = 0; i < std::size(wanted); ++i) {
    if (!wanted[i]) continue;
    const int64_t block = kActivationBlocks[i];
    if (block != kNotQuantized) x.quantize(block, planes[i], n_threads);
    multiply_jobs(jobs, block, x, n_threads);
  }
}

}  // namespace lcrun::kernels
