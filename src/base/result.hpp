// Result<T> and Status: how every operation that the world can make fail reports it.
//
// The interface copies std::expected (absent from g++ 12 in C++20 mode). Success never allocates.
// A message says what failed, in which file or key, what was found and what was wanted, then a hint.
// Codes map to the exit codes of the command line in one place (cli/exit_code.hpp).
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <variant>

namespace lcrun {

enum class Code : uint8_t {
  kInvalidArgument = 1,  // the caller asked for something that cannot be: bad option, bad value
  kBadModel = 2,         // a model file is missing, damaged or not what it says it is
  kBadSession = 3,       // a session file is missing, damaged or belongs to another model
  kUnsupported = 4,      // well formed, but an architecture, type or plugin we do not have
  kIo = 5,               // the operating system refused a read or a write
  kNoSpace = 6,          // the disk is full
  kNoMemory = 7,         // the memory cap, or the machine, has no room
  kCancelled = 8,        // the user or a callback stopped it
  kNotFound = 9,         // a lookup failed (a key, a name); callers usually translate it
  kInternal = 10,        // a bug of ours, reported instead of an abort
  kBelowThreshold = 11,  // a measurement is worse than what was asked for
};

// Stable lower-case name of a code, for logs and tests.
constexpr const char* code_name(Code code) {
  switch (code) {
    case Code::kInvalidArgument:
      return "invalid_argument";
    case Code::kBadModel:
      return "bad_model";
    case Code::kBadSession:
      return "bad_session";
    case Code::kUnsupported:
      return "unsupported";
    case Code::kIo:
      return "io";
    case Code::kNoSpace:
      return "no_space";
    case Code::kNoMemory:
      return "no_memory";
    case Code::kCancelled:
      return "cancelled";
    case Code::kNotFound:
      return "not_found";
    case Code::kInternal:
      return "internal";
    case Code::kBelowThreshold:
      return "below_threshold";
  }
  return "unknown";
}

struct Error {
  Code code = Code::kInternal;
  std::string message;
};

template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}      // NOLINT: implicit by intent
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT

  bool has_value() const noexcept { return state_.index() == 0; }
  explicit operator bool() const noexcept { return has_value(); }

  // Requires has_value().
  T& value() & { return *std::get_if<0>(&state_); }
  const T& value() const& { return *std::get_if<0>(&state_); }
  T&& value() && { return std::move(*std::get_if<0>(&state_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T* operator->() { return std::get_if<0>(&state_); }
  const T* operator->() const { return std::get_if<0>(&state_); }

  // Requires !has_value().
  const Error& error() const& { return *std::get_if<1>(&state_); }
  Error&& error() && { return std::move(*std::get_if<1>(&state_)); }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)), ok_(false) {}  // NOLINT: implicit by intent

  bool has_value() const noexcept { return ok_; }
  explicit operator bool() const noexcept { return ok_; }
  const Error& error() const& { return error_; }
  Error&& error() && { return std::move(error_); }

 private:
  Error error_;
  bool ok_ = true;
};

using Status = Result<void>;

}  // namespace lcrun

#define LCRUN_CONCAT_INNER(a, b) a##b
#define LCRUN_CONCAT(a, b) LCRUN_CONCAT_INNER(a, b)

// Returns the error of `expr` (a Status or Result) from the enclosing function, if it is one.
#define LCRUN_TRY(expr)                                      \
  do {                                                       \
    if (auto lcrun_try_ = (expr); !lcrun_try_.has_value()) { \
      return ::lcrun::Error(std::move(lcrun_try_).error());  \
    }                                                        \
  } while (0)

// LCRUN_ASSIGN(auto x, expr): x = value of `expr`, or returns its error.
#define LCRUN_ASSIGN(decl, expr) LCRUN_ASSIGN_INNER(LCRUN_CONCAT(lcrun_result_, __LINE__), decl, expr)
#define LCRUN_ASSIGN_INNER(tmp, decl, expr)        \
  auto tmp = (expr);                               \
  if (!tmp.has_value()) {                          \
    return ::lcrun::Error(std::move(tmp).error()); \
  }                                                \
  decl = std::move(tmp).value()
