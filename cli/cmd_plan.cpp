// lcrun plan: what a run would take, from the header of the model alone.
#include <numeric>

#include "cli/command.hpp"
#include "cli/json_text.hpp"
#include "cli/setup.hpp"
#include "src/base/format.hpp"
#include "src/model/arch.hpp"
#include "src/runtime/budget.hpp"
#include "src/runtime/option_values.hpp"
#include "src/runtime/paging.hpp"

namespace lcrun::cli {
namespace {

using runtime::bytes_text;
using runtime::MemoryPlan;

constexpr DType kCacheTypes[] = {DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0, DType::kQ4_0};
constexpr const char* kCacheNames[] = {"f32", "f16", "bf16", "q8_0", "q4_0"};

// What the cache may take, and where the rest of it would go.
struct Room {
  uint64_t cap = 0;
  bool is_given = false;
  int64_t n_ctx_in_memory = 0;
  bool fits = false;
  uint64_t cache_memory = 0;  // bytes of the cache in memory
  uint64_t cache_disk = 0;    // and on the disk; 0: all of it is in memory
  std::string directory;
  uint64_t disk_free = 0;

  const char* tier() const { return cache_disk > 0 ? "disk" : "memory"; }
};

Room plan_room(const Context& context, const model::ModelConfig& config, const model::CacheOptions& cache,
               const MemoryPlan& plan, int64_t batch) {
  const auto& options = context.options();
  Room room;
  room.is_given = options.mem_max > 0;
  room.cap = room.is_given ? static_cast<uint64_t>(options.mem_max) : runtime::available_memory_bytes();
  const uint64_t fixed = plan.private_bytes() - plan.cache_bytes;
  const uint64_t left = room.cap > fixed ? room.cap - fixed : 0;
  room.n_ctx_in_memory = runtime::cache_tokens_that_fit(config, cache, left, plan.n_ctx);
  room.cache_memory = plan.cache_bytes;
  const runtime::PagingOptions paging = paging_options(options, plan.n_ctx);
  room.directory = paging.directory;
  const auto free = storage::free_space(paging.directory);
  room.disk_free = free.has_value() ? *free : 0;
  room.fits = plan.cache_bytes <= left;
  const auto layers = runtime::append_bytes(config, cache);
  if (room.fits || layers.empty()) return room;
  const auto blocks = static_cast<uint64_t>((plan.n_ctx + storage::kBlockTokens - 1) / storage::kBlockTokens);
  const uint64_t others = plan.cache_bytes - blocks * std::accumulate(layers.begin(), layers.end(), uint64_t{0});
  const auto paged = runtime::plan_paging(layers, left > others ? left - others : 0, plan.n_ctx, batch, paging);
  room.fits = paged.is_enough() && paged.pages * paged.page_bytes <= room.disk_free;
  if (!room.fits) return room;
  room.cache_memory = others + paged.frames * paged.page_bytes;
  room.cache_disk = paged.pages * paged.page_bytes;
  return room;
}

// Can heads of this model be cached in the type? (blocks of 32)
bool type_fits(const model::ModelConfig& config, DType type) {
  if (type != DType::kQ8_0 && type != DType::kQ4_0) return true;
  for (const auto& layer : config.layers) {
    if (layer.k_dim % 32 != 0 || layer.v_dim % 32 != 0) return false;
  }
  return true;
}

uint64_t private_bytes(const MemoryPlan& plan, const Room& room) {
  return plan.private_bytes() - plan.cache_bytes + room.cache_memory;
}

Json plan_json(const std::string& path, const model::ModelConfig& config, const MemoryPlan& plan, const Room& room,
               const Context& context) {
  Json json;
  json["model"] = path;
  json["arch"] = config.arch;
  json["n_ctx"] = plan.n_ctx;
  json["n_ctx_train"] = config.n_ctx_train;
  json["type_k"] = context.options().type_k;
  json["type_v"] = context.options().type_v;
  json["memory"] = {{"mapped_weights_bytes", plan.mapped_bytes}, {"packed_weights_bytes", plan.weight_bytes},
                    {"kv_ram_bytes", room.cache_memory},         {"buffer_bytes", plan.buffer_bytes},
                    {"other_bytes", plan.other_bytes},           {"private_bytes", private_bytes(plan, room)}};
  json["kv_bytes"] = plan.cache_bytes;
  for (size_t i = 0; i < std::size(kCacheTypes); ++i) {
    if (!type_fits(config, kCacheTypes[i])) continue;
    json["kv_bytes_by_type"][kCacheNames[i]] =
        runtime::cache_bytes(config, {kCacheTypes[i], kCacheTypes[i]}, plan.n_ctx);
  }
  json["mark_bytes"] = plan.mark_bytes;  // where there is room besides
  json["tier"] = room.tier();
  json["kv_disk_bytes"] = room.cache_disk;
  json["kv_dir"] = room.directory;
  json["disk_free_bytes"] = room.disk_free;
  // What the machine has to give changes from moment to moment: only a cap that was asked for is part of the answer.
  json["memory_cap_bytes"] = room.is_given ? Json(room.cap) : Json(nullptr);
  json["fits"] = room.fits;
  json["n_ctx_that_fits"] = room.n_ctx_in_memory;  // without a disk
  return json;
}

std::string plan_table(const std::string& path, const model::ModelConfig& config, const MemoryPlan& plan,
                       const Room& room) {
  const auto row = [](std::string_view name, uint64_t bytes) {
    const std::string size = bytes_text(bytes);
    return format("{}{}{}{}\n", name, std::string(34 - name.size(), ' '), std::string(12 - size.size(), ' '), size);
  };
  std::string text =
      format("{}: {}, {} layers, trained on {} tokens\n\n", path, config.arch, config.n_layers, config.n_ctx_train);
  text += row("weights, mapped (clean pages)", plan.mapped_bytes);
  text += row("weights, packed copies", plan.weight_bytes);
  text += row(format("cache of {} tokens, in memory", plan.n_ctx), room.cache_memory);
  text += row("buffers of a step", plan.buffer_bytes);
  text += row("vocabulary and program", plan.other_bytes);
  text += row("memory of its own, in all", private_bytes(plan, room));
  text += row("marks to go back to, if room", plan.mark_bytes);
  text += row("cache on disk", room.cache_disk);
  text += row(format("free in {}", room.directory), room.disk_free);
  text += row(room.is_given ? "cap (--mem-max)" : "memory available now", room.cap);
  if (room.fits) {
    text += format("\nfits{}\n", room.cache_disk > 0 ? ", with the disk" : "");
  } else {
    text += format("\ndoes not fit; {} tokens would in memory\n", room.n_ctx_in_memory);
  }
  text += format("\ncache of {} tokens by type (-ctk, -ctv):\n", plan.n_ctx);
  for (size_t i = 0; i < std::size(kCacheTypes); ++i) {
    if (!type_fits(config, kCacheTypes[i])) continue;
    text +=
        row(format("  {}", kCacheNames[i]), runtime::cache_bytes(config, {kCacheTypes[i], kCacheTypes[i]}, plan.n_ctx));
  }
  return text;
}

}  // namespace

Status plan_command(Context& context) {
  const auto& options = context.options();
  bool is_default = false;
  LCRUN_ASSIGN(const std::string path,
               runtime::model_path(options, environment_value, posix_file_system(), &is_default));
  LCRUN_ASSIGN(const auto file, ggufish::ModelFile::open(path, ggufish::LoadMode::kMmap, posix_file_system()));
  LCRUN_ASSIGN(const auto config, model::read_config(*file));
  LCRUN_ASSIGN(const auto cache, runtime::cache_options(options));
  if (!type_fits(config, cache.type_k) || !type_fits(config, cache.type_v)) {
    return make_error(Code::kInvalidArgument, "-ctk {} -ctv {}: the heads of {} are not whole blocks of 32",
                      options.type_k, options.type_v, path);
  }
  const int64_t n_ctx = options.n_ctx != 0 ? options.n_ctx : config.n_ctx_train;
  const int64_t batch = std::min(options.batch_size, options.ubatch_size);
  const MemoryPlan plan = runtime::plan_memory(*file, config, cache, n_ctx, batch);
  const Room room = plan_room(context, config, cache, plan, batch);
  if (options.json) return context.out.write(json_text(plan_json(path, config, plan, room, context), 2) + "\n");
  return context.out.write(plan_table(path, config, plan, room));
}

}  // namespace lcrun::cli
