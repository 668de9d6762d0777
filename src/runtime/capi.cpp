// lcrun.h over Engine, Session and Sampler. The one place that catches every exception: nothing crosses into C.
//
// Each call runs inside guarded(): it clears the thread's error text, maps a Status to lcrun_status and turns what
// is thrown (std::bad_alloc above all) into one. The error text lives in a fixed buffer, so that running out of
// memory can be reported.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <optional>

#include "include/lcrun/lcrun.h"
#include "src/base/format.hpp"
#include "src/base/mapping_guard.hpp"
#include "src/base/parallel.hpp"
#include "src/runtime/engine.hpp"
#include "src/runtime/sampler.hpp"
#include "src/runtime/session.hpp"
#include "version.gen.h"

struct lcrun_model {
  lcrun::runtime::Engine engine;
};

struct lcrun_session {
  lcrun::runtime::Engine engine;  // shares the model
  std::atomic<bool> cancel{false};
  std::optional<lcrun::runtime::Session> session;
  lcrun::runtime::ProgressCallback progress;
  std::optional<lcrun::runtime::Sampler> sampler;  // of sample_params
  lcrun_sample_params sample_params{};
  std::vector<float> logits;  // a copy for the sampler
};

namespace {

using lcrun::Code;
using lcrun::Error;
using lcrun::make_error;
using lcrun::Status;
namespace runtime = lcrun::runtime;

constexpr size_t kMaxStruct = 4096;  // no struct of ours will ever be larger
thread_local char last_error[1024] = "";

static_assert(static_cast<int>(Code::kInvalidArgument) == LCRUN_E_INVALID_ARGUMENT);
static_assert(static_cast<int>(Code::kBadModel) == LCRUN_E_BAD_MODEL);
static_assert(static_cast<int>(Code::kBadSession) == LCRUN_E_BAD_SESSION);
static_assert(static_cast<int>(Code::kUnsupported) == LCRUN_E_UNSUPPORTED);
static_assert(static_cast<int>(Code::kIo) == LCRUN_E_IO);
static_assert(static_cast<int>(Code::kNoSpace) == LCRUN_E_NO_SPACE);
static_assert(static_cast<int>(Code::kNoMemory) == LCRUN_E_NO_MEMORY);
static_assert(static_cast<int>(Code::kCancelled) == LCRUN_E_CANCELLED);
static_assert(static_cast<int>(Code::kNotFound) == LCRUN_E_NOT_FOUND);
static_assert(static_cast<int>(Code::kInternal) == LCRUN_E_INTERNAL);

lcrun_status fail(lcrun_status status, const char* text) noexcept {
  std::snprintf(last_error, sizeof(last_error), "%s", text);
  return status;
}

template <class Body>
lcrun_status guarded(Body&& body) noexcept {
  last_error[0] = '\0';
  try {
    const Status status = body();
    if (status.has_value()) return LCRUN_OK;
    return fail(static_cast<lcrun_status>(status.error().code), status.error().message.c_str());
  } catch (const std::bad_alloc&) {
    return fail(LCRUN_E_NO_MEMORY, "out of memory");
  } catch (const std::exception& error) {
    return fail(LCRUN_E_INTERNAL, error.what());
  } catch (...) {
    return fail(LCRUN_E_INTERNAL, "unknown exception");
  }
}

// The caller's struct over the defaults, as far as its header knew the fields.
template <class Params>
Status read_params(const Params* given, Params& params) {
  if (given == nullptr) return {};
  const size_t size = given->struct_size;
  if (size < sizeof(size_t) || size > kMaxStruct) {
    return make_error(Code::kInvalidArgument, "struct_size: found {}, wanted {} (use the _INIT macro)", size,
                      sizeof(Params));
  }
  std::memcpy(&params, given, std::min(size, sizeof(Params)));
  return {};
}

Error missing(const char* what) { return make_error(Code::kInvalidArgument, "{}: found null", what); }

int threads_or_default(int32_t n) { return n > 0 ? n : lcrun::default_thread_count(); }

lcrun::Result<lcrun::model::CacheOptions> cache_of(const lcrun_session_params& params) {
  runtime::Options options;
  if (params.cache_type_k != nullptr) options.type_k = params.cache_type_k;
  if (params.cache_type_v != nullptr) options.type_v = params.cache_type_v;
  return runtime::cache_options(options);
}

// Copies `n` elements out, or says how many there are.
template <class T>
lcrun_status copy_out(const T* from, size_t n, T* to, size_t capacity, size_t* written) {
  *written = n;
  if (n > capacity) return fail(LCRUN_E_BUFFER_TOO_SMALL, "the buffer is too small");
  if (n != 0) std::memcpy(to, from, n * sizeof(T));
  return LCRUN_OK;
}

Status open_session(const lcrun_model& model, const lcrun_session_params& params, lcrun_session& session) {
  runtime::SessionOptions options;
  LCRUN_ASSIGN(options.cache, cache_of(params));
  if (params.n_ctx < 0 || params.n_batch < 0 || params.n_batch > 65536) {
    return make_error(Code::kInvalidArgument, "n_ctx {}, n_batch {}: wanted 0 or more, and batches up to 65536",
                      params.n_ctx, params.n_batch);
  }
  options.n_ctx = params.n_ctx;
  if (params.n_batch != 0) options.batch = params.n_batch;
  options.n_threads = threads_or_default(params.n_threads);
  options.n_threads_batch = options.n_threads;
  options.max_state_bytes = params.max_cache_bytes;
  options.cancel = &session.cancel;
  session.engine = model.engine;
  if (params.progress != nullptr) {
    session.progress = [progress = params.progress, context = params.progress_context](int64_t done, int64_t total) {
      return progress(context, done, total) != 0;
    };
  }
  LCRUN_ASSIGN(session.session, runtime::Session::open(model.engine.model, options));
  return {};
}

Status prepare_sampler(lcrun_session& session, const lcrun_sample_params& params) {
  if (session.sampler.has_value() && std::memcmp(&session.sample_params, &params, sizeof(params)) == 0) return {};
  runtime::SamplerOptions options;
  options.temp = params.temp;
  options.top_k = params.top_k;
  options.top_p = params.top_p;
  options.min_p = params.min_p;
  options.repeat_penalty = params.repeat_penalty;
  options.repeat_last_n = params.repeat_last_n;
  options.seed = params.seed;
  options.typical_p = params.typical_p;
  options.presence_penalty = params.presence_penalty;
  options.frequency_penalty = params.frequency_penalty;
  options.min_keep = params.min_keep;
  LCRUN_ASSIGN(session.sampler, runtime::Sampler::create(options, session.engine.model->config().n_vocab));
  session.sample_params = params;
  return {};
}

}  // namespace

const char* lcrun_last_error(void) { return last_error; }
const char* lcrun_version(void) { return LCRUN_VERSION; }

lcrun_status lcrun_model_load(const char* path, const lcrun_model_params* given, lcrun_model** model) {
  return guarded([&]() -> Status {
    if (model == nullptr) return missing("model");
    *model = nullptr;
    if (path == nullptr) return missing("path");
    lcrun_model_params params = LCRUN_MODEL_PARAMS_INIT;
    LCRUN_TRY(read_params(given, params));
    runtime::EngineRequest request;
    request.path = path;
    request.n_threads = threads_or_default(params.n_threads);
    if (params.copy_weights != 0) request.load_mode = lcrun::ggufish::LoadMode::kRead;
    if (params.progress != nullptr) {
      request.progress = [&](double part) {
        return params.progress(params.progress_context, static_cast<int64_t>(part * 1000), 1000) != 0;
      };
    }
    auto made = std::make_unique<lcrun_model>();
    LCRUN_ASSIGN(made->engine, runtime::load_engine(request, lcrun::posix_file_system()));
    *model = made.release();
    return {};
  });
}

void lcrun_model_free(lcrun_model* model) { delete model; }

int64_t lcrun_model_vocab_size(const lcrun_model* model) {
  return model == nullptr ? 0 : model->engine.model->config().n_vocab;
}

lcrun_status lcrun_tokenize(const lcrun_model* model, const char* text, size_t text_bytes, int32_t add_special,
                            int32_t parse_special, lcrun_token* tokens, size_t capacity, size_t* written) {
  lcrun_status copied = LCRUN_OK;
  const lcrun_status status = guarded([&]() -> Status {
    if (model == nullptr || written == nullptr) return missing("model or written");
    if ((text == nullptr && text_bytes != 0) || (tokens == nullptr && capacity != 0)) return missing("text or tokens");
    const auto ids = model->engine.tokenizer->encode({text, text_bytes}, add_special != 0, parse_special != 0);
    copied = copy_out(ids.data(), ids.size(), tokens, capacity, written);
    return {};
  });
  return status != LCRUN_OK ? status : copied;
}

lcrun_status lcrun_token_piece(const lcrun_model* model, lcrun_token token, char* piece, size_t capacity,
                               size_t* written) {
  lcrun_status copied = LCRUN_OK;
  const lcrun_status status = guarded([&]() -> Status {
    if (model == nullptr || written == nullptr) return missing("model or written");
    if (piece == nullptr && capacity != 0) return missing("piece");
    const auto& tokenizer = *model->engine.tokenizer;
    if (token < 0 || token >= tokenizer.vocab_size()) {
      return make_error(Code::kInvalidArgument, "token: found {}, wanted 0 to {}", token, tokenizer.vocab_size() - 1);
    }
    const std::string bytes = tokenizer.piece(token, false);
    copied = copy_out(bytes.data(), bytes.size(), piece, capacity, written);
    return {};
  });
  return status != LCRUN_OK ? status : copied;
}

int32_t lcrun_token_is_end(const lcrun_model* model, lcrun_token token) {
  if (model == nullptr || token < 0 || token >= model->engine.tokenizer->vocab_size()) return 0;
  return model->engine.tokenizer->is_end_of_generation(token) ? 1 : 0;
}

lcrun_status lcrun_session_open(const lcrun_model* model, const lcrun_session_params* given, lcrun_session** session) {
  return guarded([&]() -> Status {
    if (session == nullptr) return missing("session");
    *session = nullptr;
    if (model == nullptr) return missing("model");
    lcrun_session_params params = LCRUN_SESSION_PARAMS_INIT;
    LCRUN_TRY(read_params(given, params));
    auto made = std::make_unique<lcrun_session>();
    LCRUN_TRY(open_session(*model, params, *made));
    *session = made.release();
    return {};
  });
}

void lcrun_session_close(lcrun_session* session) { delete session; }

lcrun_status lcrun_prefill(lcrun_session* session, const lcrun_token* tokens, size_t count) {
  return guarded([&]() -> Status {
    if (session == nullptr || (tokens == nullptr && count != 0)) return missing("session or tokens");
    session->cancel = false;
    LCRUN_TRY(session->session->sync({tokens, count}, session->progress));
    return {};
  });
}

lcrun_status lcrun_decode(lcrun_session* session, lcrun_token token) {
  return guarded([&]() -> Status {
    if (session == nullptr) return missing("session");
    session->cancel = false;
    LCRUN_TRY(session->session->decode(token));
    return {};
  });
}

lcrun_status lcrun_sample(lcrun_session* session, const lcrun_sample_params* given, lcrun_token* token) {
  return guarded([&]() -> Status {
    if (session == nullptr || token == nullptr) return missing("session or token");
    const auto logits = session->session->logits();
    if (logits.empty()) {
      return make_error(Code::kInvalidArgument, "there are no logits: call lcrun_prefill or lcrun_decode first");
    }
    lcrun_sample_params params = LCRUN_SAMPLE_PARAMS_INIT;
    LCRUN_TRY(read_params(given, params));
    LCRUN_TRY(prepare_sampler(*session, params));
    const auto tokens = session->session->tokens();
    session->logits.assign(logits.begin(), logits.end());
    session->sampler->set_state({params.seed, tokens.size()});
    *token = session->sampler->pick(session->logits, tokens);
    return {};
  });
}

const float* lcrun_logits(const lcrun_session* session) {
  if (session == nullptr || session->session->logits().empty()) return nullptr;
  return session->session->logits().data();
}

int64_t lcrun_session_tokens(const lcrun_session* session) {
  return session == nullptr ? 0 : static_cast<int64_t>(session->session->tokens().size());
}

void lcrun_cancel(lcrun_session* session) {
  if (session != nullptr) session->cancel = true;
}

lcrun_status lcrun_guard_mappings(void) {
  return guarded([]() -> Status { return lcrun::install_mapping_guard(); });
}

lcrun_status lcrun_session_save(lcrun_session* session, const char* path) {
  return guarded([&]() -> Status {
    if (session == nullptr || path == nullptr) return missing("session or path");
    LCRUN_TRY(session->session->save(lcrun::posix_file_system(), path, {.sync = lcrun::storage::SyncMode::kFull}));
    return {};
  });
}

lcrun_status lcrun_session_restore(lcrun_session* session, const char* path) {
  return guarded([&]() -> Status {
    if (session == nullptr || path == nullptr) return missing("session or path");
    session->cancel = false;
    LCRUN_ASSIGN(const auto restored, session->session->load(lcrun::posix_file_system(), path));
    // What was damaged is computed again.
    if (restored.damage.empty() || restored.tokens.empty()) return {};
    LCRUN_TRY(session->session->sync(restored.tokens, session->progress));
    return {};
  });
}
