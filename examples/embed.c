/* The library in plain C: load a model, read a prompt, write tokens as they come.
 *
 *   embed MODEL [PROMPT [TOKENS]]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lcrun/lcrun.h"

static int fail(const char* what) {
  fprintf(stderr, "%s: %s\n", what, lcrun_last_error());
  return EXIT_FAILURE;
}

int main(int argc, char** argv) {
  const char* prompt = argc > 2 ? argv[2] : "The first thing to know about the sea is";
  const long n_predict = argc > 3 ? strtol(argv[3], NULL, 10) : 32;
  lcrun_model_params model_params = LCRUN_MODEL_PARAMS_INIT;
  lcrun_session_params session_params = LCRUN_SESSION_PARAMS_INIT;
  lcrun_sample_params greedy = LCRUN_SAMPLE_PARAMS_INIT;
  lcrun_model* model = NULL;
  lcrun_session* session = NULL;
  lcrun_token* tokens;
  size_t count = 0;
  long i;

  if (argc < 2) {
    fprintf(stderr, "usage: %s MODEL [PROMPT [TOKENS]]\n", argv[0]);
    return EXIT_FAILURE;
  }
  if (lcrun_model_load(argv[1], &model_params, &model) != LCRUN_OK) return fail("load");
  session_params.n_ctx = 4096;
  if (lcrun_session_open(model, &session_params, &session) != LCRUN_OK) return fail("open");

  tokens = malloc((strlen(prompt) + 8) * sizeof(*tokens));
  if (tokens == NULL) return EXIT_FAILURE;
  if (lcrun_tokenize(model, prompt, strlen(prompt), 1, 0, tokens, strlen(prompt) + 8, &count) != LCRUN_OK) {
    return fail("tokenize");
  }
  if (lcrun_prefill(session, tokens, count) != LCRUN_OK) return fail("prefill");

  greedy.temp = 0.0f;
  for (i = 0; i < n_predict; ++i) {
    lcrun_token token;
    char piece[256];
    size_t piece_bytes = 0;
    if (lcrun_sample(session, &greedy, &token) != LCRUN_OK) return fail("sample");
    if (lcrun_token_is_end(model, token)) break;
    if (lcrun_token_piece(model, token, piece, sizeof(piece), &piece_bytes) != LCRUN_OK) return fail("piece");
    fwrite(piece, 1, piece_bytes, stdout);
    fflush(stdout);
    if (lcrun_decode(session, token) != LCRUN_OK) return fail("decode");
  }
  putchar('\n');

  free(tokens);
  lcrun_session_close(session);
  lcrun_model_free(model);
  return EXIT_SUCCESS;
}
