// The session file: tokens and state of a sequence, tied to one model and one cache format.
//
//   "LCRUNSES"  u32 version = 1   u32 reserved = 0
//   u64 file_bytes                 of the whole file
//   u8[16] model fingerprint       XXH3-128 of metadata, tensor table and the ends of each tensor
//   u32 type_k  u32 type_v         GGUF type ids
//   u64 n_tokens   i32[n_tokens]
//   u64 n_logits   f32[n_logits]   after the last token; 0 or n_vocab
//   u64 n_note     u8[n_note]      whatever the program wants to keep (a chat's messages)
//   u64 n_state    u8[n_state]     storage/region.hpp
//   u8[16] XXH3-128 of all bytes before it
//
// Little endian. Read whole and checked before anything is built from it: a restore either gives exactly what was
// saved or an error (kBadSession) and no effect. The checksum finds damage, it is no defence against forgery; the
// parser behind it is bounds-checked all the same.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "ggufish/model_file.hpp"
#include "src/base/file.hpp"
#include "src/base/result.hpp"
#include "src/model/model.hpp"
#include "storage/region.hpp"

namespace lcrun::runtime {

using Fingerprint = std::array<std::byte, 16>;

// Identity of a model for sessions. Reads a few hundred bytes of each tensor.
Fingerprint model_fingerprint(const ggufish::ModelFile& file);

struct SessionView {
  const model::Model& model;
  model::CacheOptions cache;
  std::span<const model::Token> tokens;
  std::span<const float> logits;
  storage::SequenceState& state;
  std::string_view note;
};

struct LoadedSession {
  std::vector<model::Token> tokens;
  std::vector<float> logits;
  std::string note;
  storage::SequenceState state;
};

// Writes a temporary file beside `path` and renames it over: after any failure the old file is still there.
Status save_session_file(FileSystem& fs, const std::string& path, const SessionView& session);

// kBadSession: missing, damaged, another model, other cache types. kIo: the system refused to read it.
Result<LoadedSession> load_session_file(FileSystem& fs, const std::string& path, const model::Model& model,
                                        const model::CacheOptions& cache);

// The parser alone, for tests and fuzzing. `name` stands for the path in messages.
Result<LoadedSession> parse_session(std::span<const std::byte> bytes, const std::string& name,
                                    const model::Model& model, const model::CacheOptions& cache);

}  // namespace lcrun::runtime
