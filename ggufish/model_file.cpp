#include "ggufish/model_file.hpp"

#include <algorithm>
#include <cstring>
#include <functional>
#include <new>
#include <optional>

#include "ggufish/layout.hpp"
#include "ggufish/metadata.hpp"
#include "ggufish/printable.hpp"
#include "ggufish/reader.hpp"
#include "ggufish/split_set.hpp"
#include "src/base/format.hpp"
#include "src/base/workspace.hpp"

namespace lcrun::ggufish {
namespace {

constexpr size_t kCopyAlignment = 4096;  // a private copy lies like a mapping

// The bytes of one file and whatever keeps them in memory.
struct LoadedBytes {
  std::unique_ptr<Mapping> mapping;
  AlignedBuffer copy;
  std::span<const std::byte> bytes;  // of the mapping, of the copy, or of the caller
};

// To a caller a model that is not there is a bad model, whatever the system said.
Error as_model_error(Error error) {
  if (error.code == Code::kNotFound || error.code == Code::kIo) error.code = Code::kBadModel;
  return error;
}

Result<LoadedBytes> map_file(File& file, bool lock) {
  LoadedBytes loaded;
  LCRUN_ASSIGN(loaded.mapping, file.map());
  if (lock) {
    const Status locked = loaded.mapping->lock_in_memory();
    if (!locked.has_value()) {
      return make_error(Code::kNoMemory, "{} ({} bytes); raise the limit of locked memory (ulimit -l) or load unlocked",
                        locked.error().message, loaded.mapping->bytes().size());
    }
  }
  loaded.bytes = loaded.mapping->bytes();
  return loaded;
}

Result<LoadedBytes> copy_file(File& file) {
  LCRUN_ASSIGN(const uint64_t size, file.size());
  // Whatever is not a model is refused before memory of its size is asked for.
  std::byte magic[kMagic.size()];
  const bool has_magic = size >= sizeof(magic) && file.read_at(0, magic).has_value() &&
                         std::memcmp(magic, kMagic.data(), sizeof(magic)) == 0;
  LoadedBytes loaded;
  const uint64_t wanted = has_magic ? size : std::min<uint64_t>(size, kHeaderBytes);
  LCRUN_ASSIGN(loaded.copy, AlignedBuffer::allocate(static_cast<size_t>(wanted), kCopyAlignment, Arena::kWeights));
  const std::span<std::byte> out(loaded.copy.data(), static_cast<size_t>(wanted));
  LCRUN_TRY(file.read_at(0, out));
  loaded.bytes = out;
  return loaded;
}

Result<LoadedBytes> load_bytes(const std::string& path, LoadMode mode, FileSystem& fs) {
  const bool direct = mode == LoadMode::kDirect;
  LCRUN_ASSIGN(auto file, fs.open(path, direct ? OpenMode::kReadDirect : OpenMode::kRead));
  if (direct || mode == LoadMode::kRead) return copy_file(*file);
  return map_file(*file, mode == LoadMode::kMmapLocked);
}

bool contains(const LoadedBytes& part, const TensorView& view) {
  const std::less_equal<const std::byte*> ordered;
  const std::byte* first = part.bytes.data();
  return ordered(first, view.data) && ordered(view.data + view.size_bytes, first + part.bytes.size());
}

class GgufModel final : public ModelFile {
 public:
  explicit GgufModel(std::string path) : path_(std::move(path)) {}

  const std::string& path() const override { return path_; }
  uint32_t version() const override { return version_; }
  const Metadata& meta() const override { return *meta_; }
  std::span<const TensorEntry> tensors() const override { return tensors_; }
  uint64_t file_bytes() const override { return file_bytes_; }

  const TensorView* find_tensor(std::string_view name) const override {
    const int64_t at = index_.find(name);
    return at < 0 ? nullptr : &tensors_[static_cast<size_t>(at)].view;
  }

  Result<TensorView> tensor(std::string_view name) const override {
    const TensorView* view = find_tensor(name);
    if (view == nullptr) {
      return make_error(Code::kBadModel, "{}: tensor {}: found nothing, wanted a tensor of this name",
                        printable(path_, kShownPath), quoted(name));
    }
    return *view;
  }

  void drop_pages(const TensorView& view) const override {
    for (const LoadedBytes& part : parts_) {
      if (part.mapping == nullptr || !contains(part, view)) continue;
      part.mapping->drop_pages(static_cast<uint64_t>(view.data - part.bytes.data()), view.size_bytes);
      return;
    }
  }

  void drop_header() const override {
    for (const LoadedBytes& part : parts_) {
      if (part.mapping == nullptr) continue;
      uint64_t end = part.bytes.size();
      for (const TensorEntry& entry : tensors_) {
        if (contains(part, entry.view)) end = std::min(end, static_cast<uint64_t>(entry.view.data - part.bytes.data()));
      }
      part.mapping->drop_pages(0, end);
    }
  }

  Status status() const override {
    for (const LoadedBytes& part : parts_) {
      if (part.mapping == nullptr) continue;
      const Status found = part.mapping->status();
      if (!found.has_value()) return Error{Code::kBadModel, found.error().message};
    }
    return {};
  }

  // The first part: brings the keys, and says whether more parts belong to it.
  Result<std::optional<SplitKeys>> add_first(LoadedBytes loaded) {
    LCRUN_ASSIGN(FilePart part, read_part(loaded.bytes, path_));
    LCRUN_ASSIGN(const auto keys, read_split_keys(*part.meta));
    version_ = part.version;
    meta_ = std::move(part.meta);
    keep(std::move(loaded), part);
    return keys;
  }

  Status add_others(const SplitKeys& keys, LoadMode mode, FileSystem& fs) {
    LCRUN_ASSIGN(const SplitName name, name_split_set(path_, *meta_, keys));
    for (int64_t no = 1; no < keys.count; ++no) {
      const std::string path = name.path_of(no + 1);
      LCRUN_ASSIGN(LoadedBytes loaded, load_part(path, no, keys, mode, fs));
      LCRUN_ASSIGN(FilePart part, read_part(loaded.bytes, path));
      LCRUN_TRY(check_split_part(*meta_, keys, *part.meta, no));
      keep(std::move(loaded), part);
    }
    if (static_cast<int64_t>(tensors_.size()) != keys.tensors) {
      return meta_->fail(kKeySplitTensors, format("{}", keys.tensors),
                         format("{}, the tensors in all parts", tensors_.size()));
    }
    return {};
  }

  // Makes tensors findable. A name that two parts have is an error.
  Status build_index() {
    std::vector<std::string_view> names;
    names.reserve(tensors_.size());
    for (const TensorEntry& entry : tensors_) names.push_back(entry.name);
    index_ = NameIndex(std::move(names));
    const int64_t twice = index_.find_duplicate();
    if (twice < 0) return {};
    const TensorEntry& entry = tensors_[static_cast<size_t>(twice)];
    return make_error(Code::kBadModel,
                      "{}: offset {}: tensor {} of part {}: found the name a second time, wanted each name once",
                      printable(path_, kShownPath), entry.offset, quoted(entry.name), entry.part + 1);
  }

 private:
  Result<LoadedBytes> load_part(const std::string& path, int64_t no, const SplitKeys& keys, LoadMode mode,
                                FileSystem& fs) const {
    auto loaded = load_bytes(path, mode, fs);
    if (loaded.has_value()) return loaded;
    Error error = as_model_error(std::move(loaded).error());
    error.message +=
        format(" (part {} of the {} files that {} begins)", no + 1, keys.count, printable(path_, kShownPath));
    return error;
  }

  void keep(LoadedBytes loaded, const FilePart& part) {
    for (TensorEntry entry : part.tensors) {
      entry.part = static_cast<int32_t>(parts_.size());
      tensors_.push_back(entry);
    }
    file_bytes_ += loaded.bytes.size();
    parts_.push_back(std::move(loaded));
  }

  std::string path_;
  uint32_t version_ = 0;
  uint64_t file_bytes_ = 0;
  std::vector<LoadedBytes> parts_;  // before what views them
  std::unique_ptr<const MetadataTable> meta_;
  std::vector<TensorEntry> tensors_;
  NameIndex index_;
};

using ModelResult = Result<std::shared_ptr<const ModelFile>>;

ModelResult open_parts(const std::string& path, LoadMode mode, FileSystem& fs) {
  auto loaded = load_bytes(path, mode, fs);
  if (!loaded.has_value()) return as_model_error(std::move(loaded).error());
  auto model = std::make_shared<GgufModel>(path);
  LCRUN_ASSIGN(const auto keys, model->add_first(std::move(loaded).value()));
  if (keys.has_value()) LCRUN_TRY(model->add_others(*keys, mode, fs));
  LCRUN_TRY(model->build_index());
  return std::shared_ptr<const ModelFile>(std::move(model));
}

ModelResult parse_bytes(std::span<const std::byte> bytes, const std::string& name) {
  auto model = std::make_shared<GgufModel>(name);
  LoadedBytes borrowed;
  borrowed.bytes = bytes;
  LCRUN_ASSIGN(const auto keys, model->add_first(std::move(borrowed)));
  if (keys.has_value()) {
    return model->meta().fail(kKeySplitCount, format("{}", keys->count), "a complete single file");
  }
  LCRUN_TRY(model->build_index());
  return std::shared_ptr<const ModelFile>(std::move(model));
}

// The directory of a huge file can be more than there is memory for.
template <class Function>
ModelResult guard_memory(const std::string& path, const Function& function) {
  try {
    return function();
  } catch (const std::bad_alloc&) {
    return make_error(Code::kNoMemory, "{}: no memory for the keys and tensor names of this file", path);
  }
}

}  // namespace

ModelResult ModelFile::open(const std::string& path, LoadMode mode, FileSystem& fs) {
  return guard_memory(path, [&] { return open_parts(path, mode, fs); });
}

ModelResult ModelFile::parse(std::span<const std::byte> bytes, const std::string& name) {
  return guard_memory(name, [&] { return parse_bytes(bytes, name); });
}

}  // namespace lcrun::ggufish
