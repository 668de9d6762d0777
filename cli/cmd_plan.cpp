// lcrun plan: what a run would take, from the header of the model; and how fast it would be, from a short probe.
#include <cstdio>
#include <numeric>

#include "cli/command.hpp"
#include "cli/json_text.hpp"
#include "cli/setup.hpp"
#include "src/base/format.hpp"
#include "src/model/arch.hpp"
#include "src/runtime/budget.hpp"
#include "src/runtime/forecast.hpp"
#include "src/runtime/option_values.hpp"
#include "src/runtime/paging.hpp"
#include "src/runtime/policy_file.hpp"

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

// All that is known of a run before it.
struct RunPlan {
  std::string path;
  model::ModelConfig config;
  model::CacheOptions cache;
  MemoryPlan memory;
  uint64_t index_bytes = 0;  // of the cache
  Room room;
  std::optional<runtime::Forecast> speed;
  std::string why_no_speed;
};

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

std::string policy_text(const RunPlan& plan) {
  return plan.cache.attention == nullptr ? "attention dense: every token reads everything"
                                         : plan.cache.attention->describe();
}

Json speed_json(const RunPlan& plan) {
  if (!plan.speed.has_value()) return nullptr;
  const runtime::Forecast& speed = *plan.speed;
  return {{"is_estimate", true},
          {"stream_gbs", speed.stream_gbs},
          {"linear_gflops", speed.linear_gflops},
          {"disk_gbs", speed.disk_gbs},
          {"weight_bytes_per_token", speed.weight_bytes},
          {"kv_bytes_per_token", speed.cache_bytes},
          {"prefill_tps_begin", speed.prefill_tps_begin},
          {"prefill_tps_end", speed.prefill_tps_end},
          {"prefill_seconds", speed.prefill_seconds},
          {"decode_tps_begin", speed.decode_tps_begin},
          {"decode_tps_end", speed.decode_tps_end},
          {"probe_ms", speed.probe_ms}};
}

Json plan_json(const RunPlan& plan, const Context& context) {
  const auto& [path, config, cache, memory, index_bytes, room, speed, why_no_speed] = plan;
  Json json;
  json["model"] = path;
  json["arch"] = config.arch;
  json["n_ctx"] = memory.n_ctx;
  json["n_ctx_train"] = config.n_ctx_train;
  json["type_k"] = context.options().type_k;
  json["type_v"] = context.options().type_v;
  json["memory"] = {{"mapped_weights_bytes", memory.mapped_bytes}, {"packed_weights_bytes", memory.weight_bytes},
                    {"kv_ram_bytes", room.cache_memory},           {"index_bytes", index_bytes},
                    {"buffer_bytes", memory.buffer_bytes},         {"other_bytes", memory.other_bytes},
                    {"private_bytes", private_bytes(memory, room)}};
  json["kv_bytes"] = memory.cache_bytes - index_bytes;
  for (size_t i = 0; i < std::size(kCacheTypes); ++i) {
    if (!type_fits(config, kCacheTypes[i])) continue;
    json["kv_bytes_by_type"][kCacheNames[i]] =
        runtime::cache_bytes(config, {kCacheTypes[i], kCacheTypes[i]}, memory.n_ctx);
  }
  json["mark_bytes"] = memory.mark_bytes;  // where there is room besides
  json["tier"] = room.tier();
  json["kv_disk_bytes"] = room.cache_disk;
  json["kv_dir"] = room.directory;
  json["disk_free_bytes"] = room.disk_free;
  // What the machine has to give changes from moment to moment: only a cap that was asked for is part of the answer.
  json["memory_cap_bytes"] = room.is_given ? Json(room.cap) : Json(nullptr);
  json["fits"] = room.fits;
  json["n_ctx_that_fits"] = room.n_ctx_in_memory;  // without a disk
  const attention::Attention* attention = cache.attention.get();
  const attention::IndexKind* index = attention == nullptr ? nullptr : attention->index();
  const attention::IndexKind* coarse = attention == nullptr ? nullptr : attention->coarse_index();
  json["attention"] = {{"policy", attention == nullptr ? "dense" : attention->name},
                       {"prefill", attention == nullptr ? "dense" : attention->prefill},
                       {"index", index == nullptr ? Json(nullptr) : Json(index->name)},
                       {"coarse", coarse == nullptr ? Json(nullptr) : Json(coarse->name)},
                       {"dense_until", attention == nullptr ? memory.n_ctx : attention->dense_until}};
  json["speed"] = speed_json(plan);
  if (!speed.has_value()) json["speed_missing"] = why_no_speed;
  return json;
}

std::string row(std::string_view name, const std::string& value) {
  return format("{}{}{}{}\n", name, std::string(name.size() < 38 ? 38 - name.size() : 1, ' '),
                std::string(value.size() < 14 ? 14 - value.size() : 1, ' '), value);
}
std::string row(std::string_view name, uint64_t bytes) { return row(name, bytes_text(bytes)); }

std::string rate_text(double value, const char* unit) {
  char text[64];
  std::snprintf(text, sizeof(text), value < 10 ? "%.2f %s" : "%.0f %s", value, unit);
  return text;
}

std::string time_text(double seconds) {
  if (seconds < 120) return rate_text(seconds, "s");
  return seconds < 7200 ? rate_text(seconds / 60, "min") : rate_text(seconds / 3600, "h");
}

std::string speed_table(const RunPlan& plan) {
  if (!plan.speed.has_value()) return format("\nno estimate of the speed: {}\n", plan.why_no_speed);
  const runtime::Forecast& speed = *plan.speed;
  std::string text = "\nspeed, estimated from a probe of this machine as it is now:\n";
  text += row("reading the prompt, at its begin", rate_text(speed.prefill_tps_begin, "tokens/s"));
  text += row("reading the prompt, at the end", rate_text(speed.prefill_tps_end, "tokens/s"));
  text += row(format("reading all {} tokens", plan.memory.n_ctx), time_text(speed.prefill_seconds));
  text += row("answering, at the begin", rate_text(speed.decode_tps_begin, "tokens/s"));
  text += row("answering, at the end of the context", rate_text(speed.decode_tps_end, "tokens/s"));
  text += row("  weights read for a token", speed.weight_bytes);
  text += row("  cache read for a token, at the end", speed.cache_bytes);
  text += row("memory gives", rate_text(speed.stream_gbs, "GB/s"));
  text += row("products give", rate_text(speed.linear_gflops, "GFLOP/s"));
  if (speed.disk_gbs > 0) text += row("the disk gives", rate_text(speed.disk_gbs, "GB/s"));
  return text;
}

std::string plan_table(const RunPlan& plan) {
  const auto& [path, config, cache, memory, index_bytes, room, speed, why_no_speed] = plan;
  std::string text =
      format("{}: {}, {} layers, trained on {} tokens\n\n", path, config.arch, config.n_layers, config.n_ctx_train);
  text += row("weights, mapped (clean pages)", memory.mapped_bytes);
  text += row("weights, packed copies", memory.weight_bytes);
  text += row(format("cache of {} tokens, in memory", memory.n_ctx), room.cache_memory);
  if (index_bytes > 0) {
    const attention::IndexKind* coarse = cache.attention->coarse_index();
    const std::string before = coarse != nullptr ? format(", {}", coarse->name) : "";
    text += row(format("  of it, index of blocks: {}{}", cache.attention->index()->name, before), index_bytes);
  }
  text += row("buffers of a step", memory.buffer_bytes);
  text += row("vocabulary and program", memory.other_bytes);
  text += row("memory of its own, in all", private_bytes(memory, room));
  text += row("marks to go back to, if room", memory.mark_bytes);
  text += row("cache on disk", room.cache_disk);
  text += row(format("free in {}", room.directory), room.disk_free);
  text += row(room.is_given ? "cap (--mem-max)" : "memory available now", room.cap);
  if (room.fits) {
    text += format("\nfits{}\n", room.cache_disk > 0 ? ", with the disk" : "");
  } else {
    text += format("\ndoes not fit; {} tokens would in memory\n", room.n_ctx_in_memory);
  }
  text += policy_text(plan) + "\n";
  text += speed_table(plan);
  text += format("\ncache of {} tokens by type (-ctk, -ctv):\n", memory.n_ctx);
  for (size_t i = 0; i < std::size(kCacheTypes); ++i) {
    if (!type_fits(config, kCacheTypes[i])) continue;
    text += row(format("  {}", kCacheNames[i]),
                runtime::cache_bytes(config, {kCacheTypes[i], kCacheTypes[i], cache.attention}, memory.n_ctx));
  }
  return text;
}

// Memory and disk with the finest index that there is room for, if the choice is ours (as open_session() does).
Status plan_memory_of(const Context& context, const ggufish::ModelFile& file, int64_t n_ctx, int64_t batch,
                      RunPlan& plan) {
  const auto& options = context.options();
  LCRUN_ASSIGN(const auto policy, runtime::policy_choice_for(options, file, posix_file_system()));
  for (const char* index : kIndexesToTry) {
    attention::PolicyChoice choice = policy;
    if (*index != '\0') choice.index = index;
    model::CacheOptions cache = plan.cache;
    LCRUN_ASSIGN(cache.attention, model::attention_for(plan.config, choice, n_ctx));
    const MemoryPlan memory = runtime::plan_memory(file, plan.config, cache, n_ctx, batch);
    const Room room = plan_room(context, plan.config, cache, memory, batch);
    const bool is_first = *index == '\0';
    if (is_first || room.fits) {
      plan.cache = cache;
      plan.memory = memory;
      plan.room = room;
    }
    const bool is_ours =
        options.attn_index == "auto" && cache.attention != nullptr && cache.attention->index() != nullptr;
    if (room.fits || !is_ours) break;
  }
  const model::CacheOptions without{plan.cache.type_k, plan.cache.type_v};
  plan.index_bytes = plan.memory.cache_bytes - runtime::cache_bytes(plan.config, without, n_ctx);
  return {};
}

// A machine that cannot be probed is no reason to say nothing about memory.
void plan_speed(const Context& context, const std::shared_ptr<const ggufish::ModelFile>& file, int64_t batch,
                RunPlan& plan) {
  const auto& options = context.options();
  const uint64_t wanted = runtime::forecast_memory_bytes(*file, plan.config);
  if (wanted > plan.room.cap) {
    plan.why_no_speed = format("a probe takes {} of memory", bytes_text(wanted));
    return;
  }
  runtime::ForecastRequest request;
  request.file = file;
  request.cache = plan.cache;
  request.n_ctx = plan.memory.n_ctx;
  request.batch = std::min(batch, plan.memory.n_ctx);
  request.n_threads = runtime::decode_threads(options);
  request.n_threads_batch = runtime::prompt_threads(options);
  request.disk_bytes = plan.room.cache_disk;
  request.memory_bytes = plan.room.cache_memory;
  request.directory = plan.room.directory;
  auto speed = runtime::forecast(request, plan.config);
  if (speed.has_value()) {
    plan.speed = *speed;
  } else {
    plan.why_no_speed = speed.error().message;
  }
}

}  // namespace

Status plan_command(Context& context) {
  const auto& options = context.options();
  LCRUN_TRY(apply_machine_options(context));
  bool is_default = false;
  RunPlan plan;
  LCRUN_ASSIGN(plan.path, runtime::model_path(options, environment_value, posix_file_system(), &is_default));
  LCRUN_ASSIGN(const auto file, ggufish::ModelFile::open(plan.path, ggufish::LoadMode::kMmap, posix_file_system()));
  LCRUN_ASSIGN(plan.config, model::read_config(*file));
  LCRUN_ASSIGN(plan.cache, runtime::cache_options(options));
  if (!type_fits(plan.config, plan.cache.type_k) || !type_fits(plan.config, plan.cache.type_v)) {
    return make_error(Code::kInvalidArgument, "-ctk {} -ctv {}: the heads of {} are not whole blocks of 32",
                      options.type_k, options.type_v, plan.path);
  }
  const int64_t n_ctx = options.n_ctx != 0 ? options.n_ctx : plan.config.n_ctx_train;
  const int64_t batch = std::min(options.batch_size, options.ubatch_size);
  LCRUN_TRY(plan_memory_of(context, *file, n_ctx, batch, plan));
  plan_speed(context, file, batch, plan);
  if (options.json) return context.out.write(json_text(plan_json(plan, context), 2) + "\n");
  return context.out.write(plan_table(plan));
}

}  // namespace lcrun::cli
