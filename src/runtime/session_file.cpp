#include "src/runtime/session_file.hpp"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cstring>

#include "quant/format.hpp"
#include "src/base/bytes.hpp"
#include "src/base/format.hpp"

namespace lcrun::runtime {
namespace {

constexpr char kMagic[] = "LCRUNSES";  // on disk: never change
constexpr size_t kMagicBytes = 8;
constexpr uint32_t kVersion = 1;
constexpr size_t kHashBytes = 16;
constexpr size_t kSampleBytes = 256;  // of each end of a tensor

Fingerprint canonical(XXH128_hash_t hash) {
  XXH128_canonical_t bytes;
  XXH128_canonicalFromHash(&bytes, hash);
  Fingerprint out;
  std::memcpy(out.data(), bytes.digest, out.size());
  return out;
}

Fingerprint hash_of(std::span<const std::byte> bytes) { return canonical(XXH3_128bits(bytes.data(), bytes.size())); }

std::string hex(const Fingerprint& bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const std::byte byte : bytes) {
    text += kDigits[std::to_integer<unsigned>(byte) >> 4];
    text += kDigits[std::to_integer<unsigned>(byte) & 15];
  }
  return text;
}

template <class T>
void write_array(ByteWriter& out, std::span<const T> values) {
  out.write<uint64_t>(values.size());
  out.append(values.data(), values.size_bytes());
}

// A counted array; the count is checked against the bytes that are left before anything is allocated.
template <class T>
Result<std::vector<T>> read_array(ByteReader& in, std::string_view field) {
  LCRUN_ASSIGN(const auto count, in.read<uint64_t>(field));
  if (count > in.remaining() / sizeof(T)) {
    return in.fail(field, format("{} elements", count), format("at most {}", in.remaining() / sizeof(T)));
  }
  LCRUN_ASSIGN(const auto bytes, in.read_bytes(field, count * sizeof(T)));
  std::vector<T> values(static_cast<size_t>(count));
  if (count != 0) std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

Status check_frame(ByteReader& in, std::span<const std::byte> bytes) {
  LCRUN_ASSIGN(const auto magic, in.read_bytes("magic", kMagicBytes));
  if (std::memcmp(magic.data(), kMagic, kMagicBytes) != 0) {
    return in.fail_at(0, "magic", "other bytes", "a session file of lcrun");
  }
  LCRUN_ASSIGN(const auto version, in.read<uint32_t>("version"));
  if (version != kVersion) return in.fail_at(kMagicBytes, "version", format("{}", version), format("{}", kVersion));
  LCRUN_ASSIGN(const auto reserved, in.read<uint32_t>("reserved"));
  if (reserved != 0) return in.fail("reserved", format("{}", reserved), "0");
  LCRUN_ASSIGN(const auto file_bytes, in.read<uint64_t>("file size"));
  if (file_bytes != bytes.size()) {
    return in.fail("file size", format("{} in a file of {} bytes", file_bytes, bytes.size()), "both the same");
  }
  if (bytes.size() < in.offset() + kHashBytes) return in.fail("checksum", "the end of the file", "16 bytes");
  const auto body = bytes.first(bytes.size() - kHashBytes);
  const Fingerprint wanted = hash_of(body);
  if (std::memcmp(wanted.data(), bytes.data() + body.size(), kHashBytes) != 0) {
    return in.fail_at(body.size(), "checksum", "other bytes", hex(wanted));
  }
  return {};
}

Status check_identity(ByteReader& in, const model::Model& model, const model::CacheOptions& cache) {
  LCRUN_ASSIGN(const auto found, in.read<Fingerprint>("model fingerprint"));
  const Fingerprint wanted = model_fingerprint(model.file());
  if (found != wanted) {
    return in.fail("model fingerprint", hex(found), format("{} of {}", hex(wanted), model.file().path()));
  }
  LCRUN_ASSIGN(const auto type_k, in.read<uint32_t>("type of keys"));
  LCRUN_ASSIGN(const auto type_v, in.read<uint32_t>("type of values"));
  if (type_k != static_cast<uint32_t>(cache.type_k) || type_v != static_cast<uint32_t>(cache.type_v)) {
    return in.fail(
        "cache types",
        format("{} and {}", quant::type_name(static_cast<DType>(type_k)), quant::type_name(static_cast<DType>(type_v))),
        format("{} and {} (-ctk, -ctv)", quant::type_name(cache.type_k), quant::type_name(cache.type_v)));
  }
  return {};
}

Status read_state(ByteReader& in, const model::Model& model, const model::CacheOptions& cache, LoadedSession& loaded) {
  LCRUN_ASSIGN(const auto state_bytes, in.read<uint64_t>("state size"));
  if (state_bytes != in.remaining()) {
    return in.fail("state size", format("{}", state_bytes), format("{}, what is left", in.remaining()));
  }
  LCRUN_ASSIGN(loaded.state, model.new_state(cache));
  LCRUN_TRY(loaded.state.load(in));
  if (in.remaining() != 0) return in.fail("state", format("{} bytes more", in.remaining()), "the end");
  if (loaded.state.tokens() != static_cast<int64_t>(loaded.tokens.size())) {
    return in.fail("state", format("{} tokens", loaded.state.tokens()), format("{}", loaded.tokens.size()));
  }
  return {};
}

}  // namespace

Fingerprint model_fingerprint(const ggufish::ModelFile& file) {
  ByteWriter out;
  const auto add_text = [&](std::string_view text) {
    write_array<char>(out, std::span<const char>(text.data(), text.size()));
  };
  for (const auto& entry : file.meta().entries()) {
    add_text(entry.key);
    out.write(static_cast<uint32_t>(entry.type));
    out.write(static_cast<uint32_t>(entry.element_type));
    out.write(entry.count);
    add_text(entry.text);
  }
  for (const auto& tensor : file.tensors()) {
    const TensorView& view = tensor.view;
    add_text(tensor.name);
    out.write(static_cast<uint32_t>(view.dtype));
    out.write(view.ne);
    out.write(view.size_bytes);
    const size_t sample = static_cast<size_t>(std::min<uint64_t>(kSampleBytes, view.size_bytes));
    out.append(view.data, sample);
    out.append(view.data + view.size_bytes - sample, sample);
  }
  return hash_of(out.bytes());
}

Status save_session_file(FileSystem& fs, const std::string& path, const SessionView& session) {
  ByteWriter out;
  out.append(kMagic, kMagicBytes);
  out.write(kVersion);
  out.write<uint32_t>(0);
  const size_t file_bytes_at = out.size();
  out.write<uint64_t>(0);
  out.write(model_fingerprint(session.model.file()));
  out.write(static_cast<uint32_t>(session.cache.type_k));
  out.write(static_cast<uint32_t>(session.cache.type_v));
  write_array(out, session.tokens);
  write_array(out, session.logits);
  write_array<char>(out, std::span<const char>(session.note.data(), session.note.size()));
  const size_t state_bytes_at = out.size();
  out.write<uint64_t>(0);
  session.state.save(out);
  // Sizes are known only now; the state can be gigabytes, so it is not written twice.
  std::vector<std::byte> bytes = out.take();
  const uint64_t state_bytes = bytes.size() - state_bytes_at - sizeof(uint64_t);
  const uint64_t file_bytes = bytes.size() + kHashBytes;
  std::memcpy(bytes.data() + state_bytes_at, &state_bytes, sizeof(state_bytes));
  std::memcpy(bytes.data() + file_bytes_at, &file_bytes, sizeof(file_bytes));
  const Fingerprint hash = hash_of(bytes);
  bytes.resize(static_cast<size_t>(file_bytes));
  std::memcpy(bytes.data() + bytes.size() - kHashBytes, hash.data(), kHashBytes);
  return write_file_atomically(fs, path, bytes);
}

Result<LoadedSession> parse_session(std::span<const std::byte> bytes, const std::string& name,
                                    const model::Model& model, const model::CacheOptions& cache) {
  ByteReader whole(bytes, name, Code::kBadSession);
  LCRUN_TRY(check_frame(whole, bytes));
  ByteReader in(bytes.first(bytes.size() - kHashBytes), name, Code::kBadSession);
  LCRUN_TRY(in.skip("header", whole.offset()));
  LCRUN_TRY(check_identity(in, model, cache));
  LoadedSession loaded;
  LCRUN_ASSIGN(loaded.tokens, read_array<model::Token>(in, "tokens"));
  const int64_t n_vocab = model.config().n_vocab;
  for (const model::Token token : loaded.tokens) {
    if (token < 0 || token >= n_vocab) return in.fail("tokens", format("{}", token), format("0 to {}", n_vocab - 1));
  }
  LCRUN_ASSIGN(loaded.logits, read_array<float>(in, "logits"));
  if (!loaded.logits.empty() && static_cast<int64_t>(loaded.logits.size()) != n_vocab) {
    return in.fail("logits", format("{}", loaded.logits.size()), format("0 or {}", n_vocab));
  }
  LCRUN_ASSIGN(const auto note, read_array<char>(in, "note"));
  loaded.note.assign(note.begin(), note.end());
  LCRUN_TRY(read_state(in, model, cache, loaded));
  return loaded;
}

Result<LoadedSession> load_session_file(FileSystem& fs, const std::string& path, const model::Model& model,
                                        const model::CacheOptions& cache) {
  auto file = fs.open(path, OpenMode::kRead);
  if (!file.has_value()) {
    const bool missing = file.error().code == Code::kNotFound;
    return Error{missing ? Code::kBadSession : file.error().code, file.error().message};
  }
  LCRUN_ASSIGN(const auto size, (*file)->size());
  LCRUN_ASSIGN(auto bytes, AlignedBuffer::allocate(static_cast<size_t>(size)));
  const std::span<std::byte> view(bytes.data(), static_cast<size_t>(size));
  LCRUN_TRY((*file)->read_at(0, view));
  return parse_session(view, path, model, cache);
}

}  // namespace lcrun::runtime
