// The library in C++: two sessions of one model, one of them saved and continued.
//
//   embed_cpp MODEL SESSION_FILE
#include <cstdio>
#include <cstdlib>
#include <string>

#include "lcrun/lcrun.hpp"

namespace {

// Up to n greedy tokens as text.
std::string complete(const lcrun::Model& model, lcrun::Session& session, int n) {
  lcrun_sample_params greedy = LCRUN_SAMPLE_PARAMS_INIT;
  greedy.temp = 0;
  std::string text;
  for (int i = 0; i < n; ++i) {
    const lcrun::Token token = session.sample(greedy);
    if (model.is_end(token)) break;
    text += model.piece(token);
    session.decode(token);
  }
  return text;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: %s MODEL SESSION_FILE\n", argv[0]);
    return EXIT_FAILURE;
  }
  try {
    const lcrun::Model model(argv[1]);
    lcrun::Session first(model);
    first.prefill(model.tokenize("A short list of rivers: the Nile, the Danube,"));
    first.save(argv[2]);
    std::printf("first:  %s\n", complete(model, first, 16).c_str());

    lcrun::Session second(model);
    second.restore(argv[2]);
    std::printf("second: %s\n", complete(model, second, 16).c_str());
    return EXIT_SUCCESS;
  } catch (const lcrun::Failure& failure) {
    std::fprintf(stderr, "status %d: %s\n", static_cast<int>(failure.status()), failure.what());
    return EXIT_FAILURE;
  }
}
