#include "storage/snapshot_format.hpp"

#include <cstring>

#include "src/base/bytes.hpp"
#include "src/base/check.hpp"
#include "src/base/format.hpp"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace lcrun::storage {
namespace {

constexpr uint32_t kSealedFlag = 1;
constexpr uint32_t kParentFlag = 2;
constexpr uint64_t kMaxPath = 4096;
constexpr char kChainDomain[] = "lcrun prefix 1";  // on disk: a change of what a key means is a new one
constexpr uint64_t kMaxBlock = uint64_t{1} << 40;
constexpr uint32_t kMaxName = 64;
constexpr size_t kDigestAt = kSuperblockBytes - sizeof(Digest);

Status check_section(const ByteReader& in, const Section& section, uint64_t file_bytes) {
  if (section.offset % kSnapshotAlignment == 0 && section.offset >= kSnapshotStart && section.offset <= file_bytes &&
      section.bytes <= file_bytes - section.offset) {
    return {};
  }
  return in.fail("section", format("{} bytes at {}", section.bytes, section.offset),
                 format("a multiple of {} inside the {} bytes used", kSnapshotAlignment, file_bytes));
}

Result<RegionSpec> read_spec(ByteReader& in) {
  RegionSpec spec;
  LCRUN_ASSIGN(const auto kind, in.read<uint8_t>("region kind"));
  if (kind > static_cast<uint8_t>(RegionKind::kPending)) {
    return in.fail("region kind", format("{}", int{kind}), "0 to 4");
  }
  spec.kind = static_cast<RegionKind>(kind);
  LCRUN_ASSIGN(const auto name_bytes, in.read<uint32_t>("region name length"));
  if (name_bytes > kMaxName) return in.fail("region name length", format("{}", name_bytes), "at most 64");
  LCRUN_ASSIGN(const auto name, in.read_bytes("region name", name_bytes));
  spec.name.assign(reinterpret_cast<const char*>(name.data()), name.size());
  LCRUN_ASSIGN(spec.block_bytes, in.read<uint64_t>("region block bytes"));
  LCRUN_ASSIGN(spec.window, in.read<int64_t>("region window"));
  if (spec.block_bytes == 0 || spec.block_bytes > kMaxBlock || spec.window < 0) {
    return in.fail("region", format("{} bytes, window {}", spec.block_bytes, spec.window),
                   "a block of 1 to 2^40 bytes");
  }
  if (spec.kind == RegionKind::kIndex && (spec.window < 1 || kBlockTokens % spec.window != 0)) {
    return in.fail("tokens of an index row", format("{}", spec.window), "a divisor of 64");
  }
  if (spec.kind == RegionKind::kPending && spec.window < 1) return in.fail("tokens of a chunk", "0", "1 or more");
  return spec;
}

// A file that runs lie in.
struct Place {
  uint64_t file_bytes;
  uint64_t sequence;  // of its newest commit
  uint64_t left;      // bytes that pages may still claim
};

// Reads runs from block `next` on and takes their extents from what the file has left.
Status read_runs(ByteReader& in, Place& place, const RegionTable& table, uint64_t& next, std::vector<PageRun>& runs) {
  LCRUN_ASSIGN(const auto n_runs, in.read<uint64_t>("page runs"));
  if (n_runs > in.remaining() / sizeof(PageRun)) {
    return in.fail("page runs", format("{}", n_runs), format("at most {}", in.remaining() / sizeof(PageRun)));
  }
  const uint64_t extent = table.extent();
  for (uint64_t i = 0; i < n_runs; ++i) {
    LCRUN_ASSIGN(const auto run, in.read<PageRun>("page run"));
    const bool is_current = !table.spec.has_blocks() && run.first == kCurrentState;
    const bool fits = run.count != 0 && run.count <= place.left / extent && run.offset % kSnapshotAlignment == 0 &&
                      run.offset >= kSnapshotStart && run.offset <= place.file_bytes &&
                      run.count * extent <= place.file_bytes - run.offset;
    const bool ascends = run.first >= next && (is_current ? i + 1 == n_runs : run.first < kMaxBlock) &&
                         (table.spec.has_blocks() || run.count == 1);
    const bool is_past = run.generation != 0 && run.generation <= place.sequence;
    if (!fits || !ascends || !is_past) {
      return in.fail("page run",
                     format("{} pages from {} at {}, generation {}", run.count, run.first, run.offset, run.generation),
                     format("ascending pages of {} bytes inside {}, generation 1 to {}", extent, place.file_bytes,
                            place.sequence));
    }
    place.left -= run.count * extent;
    next = is_current ? kMaxBlock : run.first + run.count;
    runs.push_back(run);
  }
  return {};
}

Result<ParentRef> read_parent(ByteReader& in) {
  ParentRef parent;
  LCRUN_ASSIGN(parent.id, in.read<SessionId>("id of the parent"));
  LCRUN_ASSIGN(parent.sequence, in.read<uint64_t>("commit of the parent"));
  LCRUN_ASSIGN(parent.file_bytes, in.read<uint64_t>("size of the parent"));
  LCRUN_ASSIGN(parent.tokens, in.read<uint64_t>("shared tokens"));
  LCRUN_ASSIGN(parent.chain, in.read<Sha256Digest>("key of the shared tokens"));
  LCRUN_ASSIGN(const auto length, in.read<uint64_t>("length of the parent's path"));
  if (length == 0 || length > kMaxPath) return in.fail("length of the path", format("{}", length), "1 to 4096");
  LCRUN_ASSIGN(const auto path, in.read_bytes("path of the parent", length));
  parent.path.assign(reinterpret_cast<const char*>(path.data()), path.size());
  if (parent.path.find('\0') != std::string::npos) return in.fail("path of the parent", "a zero byte", "a path");
  if (parent.tokens == 0 || parent.tokens > kMaxBlock || parent.tokens % kBlockTokens != 0 || parent.sequence == 0) {
    return in.fail("shared tokens", format("{}", parent.tokens), "whole blocks of 64");
  }
  return parent;
}

void write_parent(ByteWriter& out, const ParentRef& parent) {
  out.write(parent.id);
  out.write(parent.sequence);
  out.write(parent.file_bytes);
  out.write(parent.tokens);
  out.write(parent.chain);
  out.write<uint64_t>(parent.path.size());
  out.append(parent.path.data(), parent.path.size());
}

void write_runs(ByteWriter& out, const std::vector<PageRun>& runs) {
  out.write<uint64_t>(runs.size());
  for (const PageRun& run : runs) out.write(run);
}

}  // namespace

Digest digest_of(std::span<const std::byte> bytes) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits(bytes.data(), bytes.size()));
  Digest digest;
  std::memcpy(digest.data(), canonical.digest, digest.size());
  return digest;
}

std::string hex_text(std::span<const uint8_t> bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const uint8_t byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

const char* section_name(uint32_t section) {
  static constexpr const char* kNames[kSections] = {"identity", "tokens", "extra", "tables"};
  return section < kSections ? kNames[section] : "unknown";
}

SuperblockBytes encode_superblock(const Superblock& superblock) {
  ByteWriter out;
  out.append(kMagic, kMagicBytes);
  out.write(kSnapshotFormat);
  out.write((superblock.sealed ? kSealedFlag : 0U) | (superblock.has_parent ? kParentFlag : 0U));
  out.write(superblock.id);
  out.write(superblock.sequence);
  out.write(superblock.tokens);
  out.write(superblock.file_bytes);
  for (const Section& section : superblock.sections) {
    out.write(section.offset);
    out.write(section.bytes);
    out.write(section.digest);
  }
  LCRUN_CHECK(out.size() <= kDigestAt);
  SuperblockBytes bytes{};
  std::memcpy(bytes.data(), out.bytes().data(), out.size());
  const Digest digest = digest_of(std::span(bytes).first(kDigestAt));
  std::memcpy(bytes.data() + kDigestAt, digest.data(), digest.size());
  return bytes;
}

Result<Superblock> decode_superblock(std::span<const std::byte> bytes, const std::string& name, uint64_t offset) {
  ByteReader in(bytes, format("{}: superblock at {}", name, offset), Code::kBadSession);
  LCRUN_ASSIGN(const auto magic, in.read_bytes("magic", kMagicBytes));
  if (std::memcmp(magic.data(), kMagic, kMagicBytes) != 0) {
    return in.fail_at(0, "magic", "other bytes", "a session file of lcrun");
  }
  LCRUN_ASSIGN(const auto version, in.read<uint32_t>("version"));
  if (version != kSnapshotFormat) {
    return in.fail_at(kMagicBytes, "version", format("{}", version), format("{}", kSnapshotFormat));
  }
  if (bytes.size() < kSuperblockBytes) {
    return in.fail("superblock", format("{} bytes", bytes.size()), format("{}", kSuperblockBytes));
  }
  const Digest wanted = digest_of(bytes.first(kDigestAt));
  if (std::memcmp(bytes.data() + kDigestAt, wanted.data(), wanted.size()) != 0) {
    return in.fail_at(kDigestAt, "checksum", "other bytes", hex_text(wanted));
  }
  Superblock superblock;
  LCRUN_ASSIGN(const auto flags, in.read<uint32_t>("flags"));
  if (flags > (kSealedFlag | kParentFlag)) return in.fail("flags", format("{}", flags), "0 to 3");
  superblock.sealed = (flags & kSealedFlag) != 0;
  superblock.has_parent = (flags & kParentFlag) != 0;
  LCRUN_ASSIGN(superblock.id, in.read<SessionId>("id"));
  LCRUN_ASSIGN(superblock.sequence, in.read<uint64_t>("sequence"));
  LCRUN_ASSIGN(superblock.tokens, in.read<uint64_t>("tokens"));
  LCRUN_ASSIGN(superblock.file_bytes, in.read<uint64_t>("file size"));
  if (superblock.sequence == 0 || superblock.tokens > kMaxBlock) {
    return in.fail("sequence and tokens", format("{} and {}", superblock.sequence, superblock.tokens),
                   "from 1, and at most 2^40");
  }
  for (Section& section : superblock.sections) {
    LCRUN_ASSIGN(section.offset, in.read<uint64_t>("section offset"));
    LCRUN_ASSIGN(section.bytes, in.read<uint64_t>("section size"));
    LCRUN_ASSIGN(section.digest, in.read<Digest>("section checksum"));
    LCRUN_TRY(check_section(in, section, superblock.file_bytes));
  }
  return superblock;
}

Sha256Digest prefix_chain(const Sha256Digest& origin, std::span<const std::byte> tokens, uint64_t block_bytes) {
  Sha256 hash;
  hash.update(std::as_bytes(std::span(kChainDomain)));
  hash.update(std::as_bytes(std::span(origin)));
  Sha256Digest key = hash.finish();
  for (uint64_t at = 0; at + block_bytes <= tokens.size(); at += block_bytes) {
    hash.update(std::as_bytes(std::span(key)));
    hash.update(tokens.subspan(static_cast<size_t>(at), static_cast<size_t>(block_bytes)));
    key = hash.finish();
  }
  return key;
}

std::vector<std::byte> encode_tables(const SnapshotTables& tables, const ParentRef* parent) {
  ByteWriter out;
  if (parent != nullptr) write_parent(out, *parent);
  out.write<uint32_t>(static_cast<uint32_t>(tables.size()));
  for (const auto& layer : tables) {
    out.write<uint32_t>(static_cast<uint32_t>(layer.size()));
    for (const RegionTable& table : layer) {
      out.write<uint8_t>(static_cast<uint8_t>(table.spec.kind));
      out.write<uint32_t>(static_cast<uint32_t>(table.spec.name.size()));
      out.append(table.spec.name.data(), table.spec.name.size());
      out.write<uint64_t>(table.spec.block_bytes);
      out.write<int64_t>(table.spec.window);
      if (parent != nullptr) write_runs(out, table.inherited);
      write_runs(out, table.runs);
    }
  }
  return out.take();
}

Result<SnapshotTables> decode_tables(std::span<const std::byte> bytes, const std::string& name,
                                     const Superblock& superblock, std::optional<ParentRef>& parent) {
  ByteReader in(bytes, format("{}: tables", name), Code::kBadSession);
  parent.reset();
  Place inherited{0, 0, 0};
  if (superblock.has_parent) {
    LCRUN_ASSIGN(parent, read_parent(in));
    inherited = {parent->file_bytes, parent->sequence, parent->file_bytes};
  }
  LCRUN_ASSIGN(const auto n_layers, in.read<uint32_t>("layers"));
  if (n_layers > in.remaining() / sizeof(uint32_t)) {
    return in.fail("layers", format("{}", n_layers), format("at most {}", in.remaining() / sizeof(uint32_t)));
  }
  SnapshotTables tables(n_layers);
  Place own{superblock.file_bytes, superblock.sequence, superblock.file_bytes};
  for (auto& layer : tables) {
    LCRUN_ASSIGN(const auto n_regions, in.read<uint32_t>("regions"));
    for (uint32_t i = 0; i < n_regions; ++i) {
      RegionTable table;
      LCRUN_ASSIGN(table.spec, read_spec(in));
      uint64_t next = 0;  // least block that may come
      if (parent.has_value()) LCRUN_TRY(read_runs(in, inherited, table, next, table.inherited));
      const bool may_inherit = table.spec.kind == RegionKind::kAppend || table.spec.kind == RegionKind::kIndex;
      if (!table.inherited.empty() && !may_inherit) return in.fail("inherited pages", "some", "none of this kind");
      LCRUN_TRY(read_runs(in, own, table, next, table.runs));
      if (!table.spec.has_blocks() && next != kMaxBlock) {
        return in.fail("page runs", "marks alone", "the present state behind them");
      }
      layer.push_back(std::move(table));
    }
  }
  if (in.remaining() != 0) return in.fail("tables", format("{} bytes more", in.remaining()), "the end");
  return tables;
}

}  // namespace lcrun::storage
