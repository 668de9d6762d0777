#include "src/runtime/paging.hpp"

#include <algorithm>

#include "src/base/format.hpp"
#include "src/runtime/option_values.hpp"
#include "storage/page_store.hpp"

namespace lcrun::runtime {
namespace {

constexpr uint64_t kUnit = 512;         // that most devices read in
constexpr uint32_t kFileUnit = 4096;    // of session files
constexpr uint64_t kRecordBytes = 160;  // of a page in the store's tables
constexpr int64_t kWaveUnit = 4;        // of blocks held, which are a quarter of the frames (paged_blocks.cpp)
constexpr uint64_t kSpareFrames = 4;

int64_t blocks_of(int64_t tokens) { return (tokens + storage::kBlockTokens - 1) / storage::kBlockTokens; }

}  // namespace

PagingPlan plan_paging(const std::vector<uint64_t>& layers, uint64_t memory_bytes, int64_t n_ctx, int64_t batch,
                       const PagingOptions& options) {
  PagingPlan plan;
  if (layers.empty()) return plan;
  const uint64_t largest = *std::max_element(layers.begin(), layers.end());
  plan.page_bytes =
      options.for_sealed ? storage::extent_bytes(largest, kFileUnit) : (largest + kUnit - 1) / kUnit * kUnit;
  const auto pages = [&](int64_t tokens) { return static_cast<uint64_t>(blocks_of(tokens)) * layers.size(); };
  plan.pages = pages(n_ctx);
  // The open block of each layer, what a step writes, and what it reads.
  const int64_t wave = (options.blocks_at_once + kWaveUnit - 1) / kWaveUnit * kWaveUnit;
  const auto held = static_cast<uint64_t>(wave > kWaveUnit ? 4 * wave : 3 * kWaveUnit);
  const uint64_t all = plan.pages + kSpareFrames;  // no step wants more than there is
  plan.frames_wanted = std::min(layers.size() + static_cast<uint64_t>(blocks_of(batch) + 1) + held + kSpareFrames, all);
  const uint64_t records = std::min<uint64_t>(plan.pages * kRecordBytes, memory_bytes / 4);
  plan.frames = std::min((memory_bytes - records) / plan.page_bytes, all);
  const uint64_t reserved = pages(std::min(options.reserve_tokens, n_ctx));
  // Pages are written when three quarters of the frames are full.
  plan.reserve_pages = reserved > plan.frames / 4 * 3 ? reserved : 0;
  return plan;
}

Status page_sequence(storage::SequenceState& state, const PagingPlan& plan, const PagingOptions& options) {
  if (!plan.is_enough()) {
    return make_error(Code::kNoMemory, "a cache on disk needs {} of memory for a step, {} are left under the cap",
                      bytes_text(plan.frames_wanted * plan.page_bytes), bytes_text(plan.frames * plan.page_bytes));
  }
  storage::PageStoreConfig config;
  config.page_bytes = state.append_bytes();
  config.frames = plan.frames;
  config.reserve_pages = plan.reserve_pages;
  config.frame_bytes = plan.page_bytes;
  config.n_threads = options.n_threads;
  config.write_when_free_below = plan.frames / 4;
  for (;;) {
    Result<std::unique_ptr<storage::BlockDevice>> device =
        options.open_device ? options.open_device() : storage::open_scratch(options.directory, options.device);
    if (!device.has_value()) return std::move(device).error();
    // A device that reads in larger units takes larger frames.
    const uint64_t unit = device.value()->alignment();
    const uint64_t frame = (plan.page_bytes + unit - 1) / unit * unit;
    config.frames = std::max(config.frames * plan.page_bytes / frame, plan.frames_wanted);
    auto store = storage::PageStore::create(config, std::move(device).value());
    if (store.has_value()) return state.use_store(std::shared_ptr<storage::PageStore>(std::move(store).value()));
    const bool may_try_less = store.error().code == Code::kNoMemory && config.frames / 2 >= plan.frames_wanted;
    if (!may_try_less) return std::move(store).error();
    config.frames /= 2;
    config.write_when_free_below /= 2;
  }
}

}  // namespace lcrun::runtime
