#include "cli/setup.hpp"

#include <cstdlib>

#include "cli/signals.hpp"
#include "src/base/format.hpp"
#include "src/base/log.hpp"
#include "src/base/memory_budget.hpp"
#include "src/kernels/ops.hpp"
#include "src/runtime/budget.hpp"
#include "src/runtime/option_values.hpp"
#include "src/runtime/policy_file.hpp"

namespace lcrun::cli {
namespace {

constexpr uint64_t kMaxInputBytes = uint64_t{4} << 30;
// Kept free beside the cache for what a run still makes: token lists, text, copies of logits.
constexpr uint64_t kReserveBytes = uint64_t{8} << 20;

using runtime::bytes_text;
using runtime::Engine;
using runtime::Session;

// What would fit, said in options.
std::string advice(const Engine& engine, const model::CacheOptions& cache, uint64_t room, int64_t n_ctx) {
  std::string text = format("-c {} would fit", runtime::tokens_that_fit(*engine.model, cache, room, n_ctx));
  const model::CacheOptions small{DType::kQ8_0, DType::kQ8_0};
  if (cache.type_k != DType::kQ8_0 && cache.type_k != DType::kQ4_0 && engine.model->new_state(small).has_value()) {
    text += format(", -c {} with -ctk q8_0 -ctv q8_0", runtime::tokens_that_fit(*engine.model, small, room, n_ctx));
  }
  return text;
}

// Gives the cache what the cap leaves and a disk for the rest, and refuses now what could not be finished later.
Status apply_cap(const Context& context, const Engine& engine, const SessionNeeds& needs, Session& session) {
  const auto& options = context.options();
  const bool capped = options.mem_max > 0;
  const MemoryBudget& memory = MemoryBudget::process();
  const uint64_t held = memory.used() + kReserveBytes;
  const uint64_t available = runtime::private_memory_bytes() + runtime::available_memory_bytes();
  const uint64_t cap = std::min(memory.cap(), available);
  const uint64_t room = std::max<uint64_t>(cap > held ? cap - held : 0, 1);
  const int64_t n_ctx = session.options().n_ctx;
  int64_t wanted = std::min(std::max<int64_t>(needs.wanted_tokens, 1), n_ctx);
  if (capped && context.parsed.is_given("ctx-size")) wanted = n_ctx;
  const auto& cache = session.options().cache;
  auto paging = paging_options(options, wanted - std::min(needs.sealed_tokens, wanted));
  paging.spare_bytes = needs.spare_bytes;
  paging.for_sealed = needs.sealed_tokens > 0;
  const Status paged = session.limit_state(room, paging);
  if (paged.has_value() && wanted <= session.max_tokens()) return {};
  if (!paged.has_value() && paged.error().code != Code::kNoMemory && !options.kv_dir.empty()) return paged;
  // Without a disk: memory alone, where that is enough.
  LCRUN_TRY(session.limit_state(room));
  if (wanted <= session.max_tokens()) return {};
  return make_error(Code::kNoMemory,
                    "{} tokens of context take {} of cache beside {} for weights and buffers; {} is {}; {}{}", wanted,
                    bytes_text(engine.model->state_bytes(cache, wanted)), bytes_text(held),
                    capped ? "--mem-max" : "the memory there is", bytes_text(cap), advice(engine, cache, room, n_ctx),
                    paged.has_value() ? "" : format("; on disk: {}", paged.error().message));
}

// The finest index that there is memory for, if the choice is ours.
Result<Session> open_within_cap(const Context& context, const Engine& engine, runtime::SessionOptions wanted,
                                const SessionNeeds& needs) {
  Error first;
  for (const char* index : kIndexesToTry) {
    if (*index != '\0') wanted.policy.index = index;
    LCRUN_ASSIGN(auto session, Session::open(engine.model, wanted));
    const Status fits = apply_cap(context, engine, needs, session);
    if (fits.has_value()) return session;
    if (*index == '\0') first = fits.error();
    const attention::Attention* attention = session.attention();
    const bool is_ours =
        context.options().attn_index == "auto" && attention != nullptr && attention->index() != nullptr;
    if (fits.error().code != Code::kNoMemory) return fits.error();
    if (!is_ours) break;
  }
  return first;
}

}  // namespace

const char* environment_value(const char* name) { return std::getenv(name); }

runtime::PagingOptions paging_options(const runtime::Options& options, int64_t wanted_tokens) {
  runtime::PagingOptions paging;
  paging.directory = options.kv_dir;
  const char* temporary = environment_value("TMPDIR");
  if (paging.directory.empty() && temporary != nullptr) paging.directory = temporary;
  if (paging.directory.empty()) paging.directory = "/var/tmp";  // files there may be large, and are on a disk
  if (options.kv_io == "uring") paging.device.io = storage::IoChoice::kUring;
  if (options.kv_io == "threads") paging.device.io = storage::IoChoice::kThreads;
  if (options.kv_io != "auto") paging.sealed = runtime::SealedForm::kRead;
  if (options.kv_io == "mmap") paging.sealed = runtime::SealedForm::kMapped;
  paging.reserve_tokens = wanted_tokens;
  return paging;
}

Status check_policy_names(const Context& context) {
  const auto& options = context.options();
  const bool is_given = !options.policy_file.empty() || options.attention != "auto" || options.prefill != "auto";
  if (!is_given) return attention::check_policy(runtime::policy_choice(options));
  bool is_default = false;
  const auto path = runtime::model_path(options, environment_value, posix_file_system(), &is_default);
  LCRUN_ASSIGN(const auto choice,
               runtime::policy_choice(options, path.has_value() ? *path : std::string(), posix_file_system()));
  return attention::check_policy(choice);
}

Status apply_machine_options(const Context& context) {
  const auto& options = context.options();
  LCRUN_TRY(check_policy_names(context));
  if (options.isa != "auto") LCRUN_TRY(kernels::set_isa(options.isa));
  if (options.gpu_layers != "auto" && options.gpu_layers != "0") {
    log(LogLevel::kWarn, "--n-gpu-layers {}: no GPU plugin is loaded, the CPU runs all layers", options.gpu_layers);
  }
  if (context.parsed.is_given("flash-attn") && options.flash_attn == "off") {
    log(LogLevel::kWarn, "--flash-attn off: there is one attention path, and it never stores scores");
  }
  return {};
}

Result<Engine> open_engine(const Context& context, bool text_only) {
  LCRUN_TRY(apply_machine_options(context));
  const auto& options = context.options();
  const auto asked = static_cast<uint64_t>(options.mem_max);
  MemoryBudget::process().set_cap(effective_memory_cap(asked));
  runtime::EngineRequest request;
  bool is_default = false;
  LCRUN_ASSIGN(request.path, runtime::model_path(options, environment_value, posix_file_system(), &is_default));
  if (is_default) log(LogLevel::kInfo, "no -m given: using {}", request.path);
  LCRUN_ASSIGN(request.load_mode, runtime::load_mode(options));
  request.text_only = text_only;
  request.max_private_bytes = asked;
  request.n_threads = runtime::prompt_threads(options);
  ProgressLine line("Loading", "parts");
  request.progress = [&](double part) {
    line.update(static_cast<int64_t>(part * 1000), 1000);
    return !interrupted();
  };
  return runtime::load_engine(request, posix_file_system());
}

Result<Session> open_session(const Context& context, const Engine& engine, const SessionNeeds& needs) {
  const auto& options = context.options();
  runtime::SessionOptions wanted;
  LCRUN_ASSIGN(wanted.cache, runtime::cache_options(options));
  runtime::Options chosen = options;
  if (needs.measures && !context.parsed.is_given("attention")) chosen.attention = "dense";
  LCRUN_ASSIGN(wanted.policy, runtime::policy_choice_for(chosen, *engine.file, posix_file_system()));
  wanted.n_ctx = needs.n_ctx != 0 ? needs.n_ctx : options.n_ctx;
  wanted.batch = std::min(options.batch_size, options.ubatch_size);
  wanted.n_threads = runtime::decode_threads(options);
  wanted.n_threads_batch = runtime::prompt_threads(options);
  wanted.cancel = interrupt_flag();
  LCRUN_ASSIGN(auto session, open_within_cap(context, engine, wanted, needs));
  const int64_t trained = engine.model->config().n_ctx_train;
  if (const attention::Attention* attention = session.attention()) {
    log(LogLevel::kInfo, "{}", attention->describe());
    if (!attention::is_policy_name(attention->name))
      log(LogLevel::kInfo, "that is a row of {}", wanted.policy.rows->path);
  } else if (session.options().cache.yarn > 1) {
    log(LogLevel::kInfo, "positions: YaRN, {:.1f} times as far apart as the model was trained on",
        session.options().cache.yarn);
  } else if (options.n_ctx > trained && trained > 0) {
    log(LogLevel::kWarn, "-c {}: the model was trained on {} tokens; answers get worse beyond them", options.n_ctx,
        trained);
  }
  return session;
}

Result<std::string> read_input(const std::string& path) {
  auto text = read_text_file(posix_file_system(), path, kMaxInputBytes);
  if (!text.has_value() && interrupted()) return make_error(Code::kCancelled, "reading {} was stopped", path);
  return text;
}

}  // namespace lcrun::cli
