// lcrun.h for C++: handles that close themselves, std::string and std::span instead of pointers, and failures as
// exceptions of type lcrun::Failure. Header only; adds nothing else. Thread rules: those of lcrun.h.
#ifndef LCRUN_HPP
#define LCRUN_HPP

#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "lcrun/lcrun.h"

namespace lcrun {

class Failure : public std::runtime_error {
 public:
  explicit Failure(lcrun_status status) : std::runtime_error(lcrun_last_error()), status_(status) {}
  lcrun_status status() const noexcept { return status_; }

 private:
  lcrun_status status_;
};

inline void check(lcrun_status status) {
  if (status != LCRUN_OK) throw Failure(status);
}

using Token = lcrun_token;

class Model {
 public:
  explicit Model(const std::string& path, const lcrun_model_params& params = LCRUN_MODEL_PARAMS_INIT) {
    lcrun_model* model = nullptr;
    check(lcrun_model_load(path.c_str(), &params, &model));
    handle_.reset(model);
  }

  const lcrun_model* get() const noexcept { return handle_.get(); }
  int64_t vocab_size() const noexcept { return lcrun_model_vocab_size(get()); }
  bool is_end(Token token) const noexcept { return lcrun_token_is_end(get(), token) != 0; }

  std::vector<Token> tokenize(std::string_view text, bool add_special = true, bool parse_special = false) const {
    std::vector<Token> tokens(text.size() + 8);
    size_t count = 0;
    const auto call = [&] {
      return lcrun_tokenize(get(), text.data(), text.size(), add_special ? 1 : 0, parse_special ? 1 : 0, tokens.data(),
                            tokens.size(), &count);
    };
    lcrun_status status = call();
    if (status == LCRUN_E_BUFFER_TOO_SMALL) {
      tokens.resize(count);
      status = call();
    }
    check(status);
    tokens.resize(count);
    return tokens;
  }

  std::string piece(Token token) const {
    std::string text(32, '\0');
    size_t count = 0;
    lcrun_status status = lcrun_token_piece(get(), token, text.data(), text.size(), &count);
    if (status == LCRUN_E_BUFFER_TOO_SMALL) {
      text.resize(count);
      status = lcrun_token_piece(get(), token, text.data(), text.size(), &count);
    }
    check(status);
    text.resize(count);
    return text;
  }

 private:
  struct Free {
    void operator()(lcrun_model* model) const noexcept { lcrun_model_free(model); }
  };
  std::unique_ptr<lcrun_model, Free> handle_;
};

class Session {
 public:
  explicit Session(const Model& model, const lcrun_session_params& params = LCRUN_SESSION_PARAMS_INIT) {
    lcrun_session* session = nullptr;
    check(lcrun_session_open(model.get(), &params, &session));
    handle_.reset(session);
  }

  lcrun_session* get() const noexcept { return handle_.get(); }
  void prefill(std::span<const Token> tokens) { check(lcrun_prefill(get(), tokens.data(), tokens.size())); }
  void decode(Token token) { check(lcrun_decode(get(), token)); }
  Token sample(const lcrun_sample_params& params = LCRUN_SAMPLE_PARAMS_INIT) {
    Token token = 0;
    check(lcrun_sample(get(), &params, &token));
    return token;
  }
  const float* logits() const noexcept { return lcrun_logits(get()); }
  int64_t tokens() const noexcept { return lcrun_session_tokens(get()); }
  void cancel() noexcept { lcrun_cancel(get()); }
  void save(const std::string& path) { check(lcrun_session_save(get(), path.c_str())); }
  void restore(const std::string& path) { check(lcrun_session_restore(get(), path.c_str())); }

 private:
  struct Close {
    void operator()(lcrun_session* session) const noexcept { lcrun_session_close(session); }
  };
  std::unique_ptr<lcrun_session, Close> handle_;
};

}  // namespace lcrun

#endif  // LCRUN_HPP
