// Sessions over tiny models, for tests of the runtime. Errors throw (tests only).
#pragma once

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "src/runtime/session.hpp"
#include "tests/support/tiny_model.hpp"

namespace lcrun::testing {

inline std::shared_ptr<const model::Model> load_tiny(const std::string& arch, uint64_t seed = 1) {
  TinyOptions options;
  options.arch = arch;
  options.seed = seed;
  auto model = model::Model::load(open_tiny(tiny_recipe(options)), {});
  if (!model.has_value()) throw std::runtime_error(model.error().message);
  return *model;
}

inline runtime::SessionOptions tiny_session_options() {
  runtime::SessionOptions options;
  options.n_ctx = 512;
  options.batch = 32;
  options.policy.attention = "dense";  // also past what the tiny model was trained on
  return options;
}

inline runtime::Session open_tiny_session(std::shared_ptr<const model::Model> model,
                                          const runtime::SessionOptions& options = tiny_session_options()) {
  auto session = runtime::Session::open(std::move(model), options);
  if (!session.has_value()) throw std::runtime_error(session.error().message);
  return std::move(session).value();
}

inline std::vector<float> sync_copy(runtime::Session& session, std::span<const model::Token> tokens) {
  const auto logits = session.sync(tokens);
  if (!logits.has_value()) throw std::runtime_error(logits.error().message);
  return {logits->begin(), logits->end()};
}

inline std::vector<float> decode_copy(runtime::Session& session, model::Token token) {
  const auto logits = session.decode(token);
  if (!logits.has_value()) throw std::runtime_error(logits.error().message);
  return {logits->begin(), logits->end()};
}

}  // namespace lcrun::testing
