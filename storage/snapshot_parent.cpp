// Parents: sealed files whose first pages other files share.
//
// Such a file never changes, so that a reference to a commit of it (its random id, the number of the commit, its size)
// stays true for as long as it is there; every page that is read of it carries its identity besides. It is looked for
// where the reference says, beside the file that refers to it if that is a bare name.
#include <algorithm>
#include <filesystem>

#include "src/base/format.hpp"
#include "storage/snapshot.hpp"
#include "storage/snapshot_parts.hpp"

namespace lcrun::storage {
namespace {

std::string folder_of(const std::string& path) { return path.substr(0, path.find_last_of('/') + 1); }

}  // namespace

std::string parent_name(const std::string& from, const std::string& path) {
  const std::string folder = folder_of(path);
  if (folder == folder_of(from)) return path.substr(folder.size());
  std::error_code failed;
  const auto whole = std::filesystem::absolute(path, failed);
  return failed ? path : whole.lexically_normal().string();
}

std::string parent_path(const std::string& from, const std::string& name) {
  return name.find('/') == std::string::npos ? folder_of(from) + name : name;
}

Result<ParentFile> open_parent(FileSystem& fs, const std::string& from, const ParentRef& ref) {
  const std::string path = parent_path(from, ref.path);
  auto opened = fs.open(path, OpenMode::kRead);
  if (!opened.has_value()) return make_error(Code::kBadSession, "{}", opened.error().message);
  std::shared_ptr<File> file = std::move(*opened);
  static_cast<void>(file->try_lock(false));
  LCRUN_ASSIGN(const auto superblocks, read_superblocks(*file));
  const Superblock& found = superblocks.front();
  if (found.id != ref.id || found.sequence != ref.sequence || found.file_bytes != ref.file_bytes || !found.sealed) {
    return make_error(Code::kBadSession, "{}: found session {} of {} bytes, wanted {} of {} bytes, sealed", path,
                      hex_text(found.id), found.file_bytes, hex_text(ref.id), ref.file_bytes);
  }
  LCRUN_ASSIGN(const uint64_t size, file->size());
  if (size < ref.file_bytes) {
    return make_error(Code::kBadSession, "{}: found {} bytes, wanted {}", path, size, ref.file_bytes);
  }
  return ParentFile{std::move(file), found};
}

std::optional<Parent> parent_of(const Snapshot& snapshot) {
  Parent parent;
  if (snapshot.parent.has_value()) {
    if (snapshot.parent_file == nullptr) return {};
    parent.ref = *snapshot.parent;
    parent.tables = snapshot.tables;
    for (auto& layer : parent.tables) {
      for (RegionTable& table : layer) table.runs = std::move(table.inherited);
    }
    return parent;
  }
  const Superblock& superblock = snapshot.superblock;
  if (!superblock.sealed || snapshot.tables.empty()) return {};
  parent.ref.id = superblock.id;
  parent.ref.sequence = superblock.sequence;
  parent.ref.file_bytes = superblock.file_bytes;
  parent.ref.tokens = superblock.tokens / kBlockTokens * kBlockTokens;
  parent.ref.path = snapshot.path;
  parent.tables = snapshot.tables;
  return parent;
}

}  // namespace lcrun::storage
