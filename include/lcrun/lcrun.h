/* lcrun: run a language model inside your program, in plain C.
 *
 * A model is loaded once and shared; a session is one timeline of tokens over it. Everything returns a status: 0, or
 * one of LCRUN_E_*, with the reason in lcrun_last_error() of the calling thread. Nothing aborts, prints or exits.
 *
 *   lcrun_model_params mp = LCRUN_MODEL_PARAMS_INIT;
 *   lcrun_model *model;
 *   if (lcrun_model_load("model.gguf", &mp, &model) != LCRUN_OK) puts(lcrun_last_error());
 *
 * Structs begin with struct_size and grow at their end; fill them with the *_INIT macros, so that a program built
 * against an older header keeps working. Sizes and counts are 64-bit.
 *
 * Threads: any number of threads may use one model; a session belongs to one thread at a time, but lcrun_cancel may
 * be called from any thread, or from a signal handler.
 */
#ifndef LCRUN_H
#define LCRUN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define LCRUN_API __attribute__((visibility("default")))
#else
#define LCRUN_API
#endif

typedef struct lcrun_model lcrun_model;
typedef struct lcrun_session lcrun_session;
typedef int32_t lcrun_token;

/* Statuses: never renumbered. */
typedef int32_t lcrun_status;
#define LCRUN_OK 0
#define LCRUN_E_INVALID_ARGUMENT 1
#define LCRUN_E_BAD_MODEL 2
#define LCRUN_E_BAD_SESSION 3
#define LCRUN_E_UNSUPPORTED 4
#define LCRUN_E_IO 5
#define LCRUN_E_NO_SPACE 6
#define LCRUN_E_NO_MEMORY 7
#define LCRUN_E_CANCELLED 8
#define LCRUN_E_NOT_FOUND 9
#define LCRUN_E_INTERNAL 10
#define LCRUN_E_BUFFER_TOO_SMALL 11 /* the wanted size is in *written */

/* Return 0 to cancel. `done` of `total`: thousandths while loading, tokens while reading a prompt. */
typedef int32_t (*lcrun_progress_fn)(void* context, int64_t done, int64_t total);

typedef struct lcrun_model_params {
  size_t struct_size;
  int32_t n_threads;          /* for packing weights; 0 = what the process may use */
  int32_t copy_weights;       /* not 0: read the file instead of mapping it */
  lcrun_progress_fn progress; /* may be null */
  void* progress_context;
} lcrun_model_params;
#define LCRUN_MODEL_PARAMS_INIT \
  { sizeof(lcrun_model_params), 0, 0, NULL, NULL }

typedef struct lcrun_session_params {
  size_t struct_size;
  int64_t n_ctx;            /* most tokens; 0 = what the model was trained on */
  int64_t n_batch;          /* most prompt tokens computed at once; 0 = 512 */
  int32_t n_threads;        /* 0 = what the process may use */
  int32_t reserved;         /* 0 */
  const char* cache_type_k; /* "f32" "f16" "bf16" "q8_0" "q4_0"; null = "f16" */
  const char* cache_type_v;
  uint64_t max_cache_bytes;   /* 0 = no cap */
  lcrun_progress_fn progress; /* while a prompt is read; may be null */
  void* progress_context;
} lcrun_session_params;
#define LCRUN_SESSION_PARAMS_INIT \
  { sizeof(lcrun_session_params), 0, 0, 0, 0, NULL, NULL, 0, NULL, NULL }

typedef struct lcrun_sample_params {
  size_t struct_size;
  float temp;    /* 0 = the likeliest token */
  int32_t top_k; /* 0 = all */
  float top_p;
  float min_p;
  float repeat_penalty;
  int32_t repeat_last_n; /* tokens that the three penalties look back at; -1 = all */
  uint64_t seed;
  float typical_p; /* 1 = off */
  float presence_penalty;
  float frequency_penalty;
  int32_t min_keep; /* top_p, min_p and typical_p leave at least so many tokens */
} lcrun_sample_params;
#define LCRUN_SAMPLE_PARAMS_INIT \
  { sizeof(lcrun_sample_params), 0.8f, 40, 0.95f, 0.05f, 1.0f, 64, 0, 1.0f, 0.0f, 0.0f, 1 }

/* Why the last call of this thread failed, "" if it did not; valid until the thread's next call. */
LCRUN_API const char* lcrun_last_error(void);
/* "0.1.0" */
LCRUN_API const char* lcrun_version(void);

/* Optional, once for the process: a model file or a sealed session that is cut short, or whose disk fails, while it is
 * mapped then ends a call with LCRUN_E_BAD_MODEL or LCRUN_E_BAD_SESSION, and not the process with SIGBUS. Installs a
 * handler for that signal; faults elsewhere go to the one that was there before. */
LCRUN_API lcrun_status lcrun_guard_mappings(void);

/* *model is null after a failure. */
LCRUN_API lcrun_status lcrun_model_load(const char* path, const lcrun_model_params* params, lcrun_model** model);
/* Null is allowed. Sessions keep what they need of the model: the order of freeing does not matter. */
LCRUN_API void lcrun_model_free(lcrun_model* model);
LCRUN_API int64_t lcrun_model_vocab_size(const lcrun_model* model);

/* Token ids of `text` (`text_bytes` bytes, UTF-8). add_special: BOS and EOS as the model wants them. parse_special:
 * "<|im_end|>" and the like become their ids: never for text that you do not trust.
 * *written is the number of ids, also when `capacity` is too small (LCRUN_E_BUFFER_TOO_SMALL; tokens untouched). */
LCRUN_API lcrun_status lcrun_tokenize(const lcrun_model* model, const char* text, size_t text_bytes,
                                      int32_t add_special, int32_t parse_special, lcrun_token* tokens, size_t capacity,
                                      size_t* written);
/* Bytes of one token (not NUL-terminated, perhaps part of a code point); as above for sizes. */
LCRUN_API lcrun_status lcrun_token_piece(const lcrun_model* model, lcrun_token token, char* piece, size_t capacity,
                                         size_t* written);
/* Not 0 for tokens that end a reply. */
LCRUN_API int32_t lcrun_token_is_end(const lcrun_model* model, lcrun_token token);

LCRUN_API lcrun_status lcrun_session_open(const lcrun_model* model, const lcrun_session_params* params,
                                          lcrun_session** session);
LCRUN_API void lcrun_session_close(lcrun_session* session);
/* Makes the session's tokens equal to these: what is already there is kept, the rest is read. */
LCRUN_API lcrun_status lcrun_prefill(lcrun_session* session, const lcrun_token* tokens, size_t count);
/* Appends one token. */
LCRUN_API lcrun_status lcrun_decode(lcrun_session* session, lcrun_token token);
/* Picks the next token from the logits of the last lcrun_prefill or lcrun_decode; does not append it. The draw
 * depends on the seed and on how many tokens the session holds. */
LCRUN_API lcrun_status lcrun_sample(lcrun_session* session, const lcrun_sample_params* params, lcrun_token* token);
/* Those logits, [lcrun_model_vocab_size]; null before the first prefill; valid until the session's next call. */
LCRUN_API const float* lcrun_logits(const lcrun_session* session);
/* Tokens that the session holds. */
LCRUN_API int64_t lcrun_session_tokens(const lcrun_session* session);
/* Ends what the session is doing (LCRUN_E_CANCELLED); holds until the next call of lcrun_prefill or lcrun_decode. */
LCRUN_API void lcrun_cancel(lcrun_session* session);

/* A session file. Saving to the same file again adds what is new; it is on the disk when the call returns, and after
 * any failure the file holds what it held. Restoring gives exactly what was saved, computing again what is damaged in
 * the file, or an error and no effect. */
LCRUN_API lcrun_status lcrun_session_save(lcrun_session* session, const char* path);
LCRUN_API lcrun_status lcrun_session_restore(lcrun_session* session, const char* path);

#ifdef __cplusplus
}
#endif

#endif /* LCRUN_H */
