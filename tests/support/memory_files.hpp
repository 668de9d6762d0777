// Files in memory behind the door of src/base/file.hpp: for tests of what happens when the k-th operation fails, and
// of what a power cut leaves.
//
// Every operation counts; the one with the number fail_at() fails, a write after half of its bytes. What was written
// and not synced is remembered: power_cut() keeps an arbitrary part of it, and of names that were not synced.
// Reads from several threads at once are fine, as with the system's files; nothing else is.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "src/base/file.hpp"
#include "src/base/format.hpp"
#include "tests/support/random.hpp"

namespace lcrun::test {

class MemoryFiles final : public FileSystem {
 public:
  using Bytes = std::vector<std::byte>;

  void put(const std::string& path, Bytes bytes) {
    auto node = std::make_shared<Node>();
    node->bytes = bytes;
    node->durable = std::move(bytes);
    names_[path] = node;
    durable_names_[path] = node;
  }
  Bytes get(const std::string& path) const { return names_.at(path)->bytes; }
  size_t count() const { return names_.size(); }
  int64_t operations() const { return operations_; }
  // The operation with this number from now on fails (0: the next one); -1: none.
  void fail_at(int64_t k, Code code = Code::kIo) {
    operations_ = 0;
    fail_at_ = k;
    code_ = code;
  }
  bool has_failed() const { return has_failed_; }

  // As if the machine had gone off: of what was not synced, each write, in pieces of 512 bytes, and each change of a
  // name is there or not.
  void power_cut(Random& random) {
    for (auto& [path, node] : names_) {
      if (durable_names_[path] != node && random.below(2) == 0) durable_names_[path] = node;
    }
    std::erase_if(durable_names_, [](const auto& item) { return item.second == nullptr; });
    names_ = durable_names_;
    for (auto& [path, node] : names_) {
      for (const auto& [offset, bytes] : node->pending) {
        for (size_t at = 0; at < bytes.size(); at += 512) {
          if (random.below(2) == 0) continue;
          const size_t size = std::min<size_t>(512, bytes.size() - at);
          store(node->durable, offset + at, std::span(bytes).subspan(at, size));
        }
      }
      node->bytes = node->durable;
      node->pending.clear();
    }
  }

  Result<std::unique_ptr<File>> open(const std::string& path, OpenMode mode) override {
    if (fails()) return broken("open");
    auto& node = names_[path];
    const bool must_exist = mode == OpenMode::kRead || mode == OpenMode::kReadDirect || mode == OpenMode::kModify;
    if (must_exist && !node) {
      names_.erase(path);
      return make_error(Code::kNotFound, "{}: open failed: not there", path);
    }
    if (!must_exist) node = std::make_shared<Node>();
    return std::unique_ptr<File>(std::make_unique<MemoryFile>(*this, node, path));
  }
  Status rename(const std::string& from, const std::string& to) override {
    if (fails()) return broken("rename");
    names_[to] = names_.at(from);
    names_.erase(from);
    return {};
  }
  Status remove(const std::string& path) override {
    if (fails()) return broken("remove");
    names_.erase(path);
    return {};
  }
  Status sync_directory_of(const std::string&) override {
    if (fails()) return broken("sync of the directory");
    durable_names_ = names_;
    return {};
  }
  bool exists(const std::string& path) override { return names_.count(path) != 0; }

 private:
  struct Node {
    Bytes bytes;
    Bytes durable;
    std::vector<std::pair<uint64_t, Bytes>> pending;
  };

  static void store(Bytes& into, uint64_t offset, std::span<const std::byte> data) {
    if (into.size() < offset + data.size()) into.resize(offset + data.size());
    std::copy(data.begin(), data.end(), into.begin() + static_cast<std::ptrdiff_t>(offset));
  }

  class MemoryFile final : public File {
   public:
    MemoryFile(MemoryFiles& files, std::shared_ptr<Node> node, std::string path)
        : files_(files), node_(std::move(node)), path_(std::move(path)) {}
    const std::string& path() const override { return path_; }
    Result<uint64_t> size() const override {
      if (files_.fails()) return files_.broken("size");
      return static_cast<uint64_t>(node_->bytes.size());
    }
    Status read_at(uint64_t offset, std::span<std::byte> out) override {
      if (files_.fails()) return files_.broken("read");
      if (offset > node_->bytes.size() || out.size() > node_->bytes.size() - offset) {
        return make_error(Code::kIo, "{}: offset {}: end of file, {} bytes wanted", path_, offset, out.size());
      }
      if (!out.empty()) std::memcpy(out.data(), node_->bytes.data() + offset, out.size());
      return {};
    }
    Status write_at(uint64_t offset, std::span<const std::byte> data) override {
      const bool torn = files_.fails();
      const auto part = torn ? data.first(data.size() / 2) : data;
      store(node_->bytes, offset, part);
      node_->pending.emplace_back(offset, Bytes(part.begin(), part.end()));
      return torn ? Status(files_.broken("write")) : Status();
    }
    Status sync() override {
      if (files_.fails()) return files_.broken("sync");
      node_->durable = node_->bytes;
      node_->pending.clear();
      return {};
    }
    Result<std::unique_ptr<Mapping>> map() override { return files_.broken("map"); }

   private:
    MemoryFiles& files_;
    std::shared_ptr<Node> node_;
    std::string path_;
  };

  bool fails() {
    if (operations_++ != fail_at_) return false;
    has_failed_ = true;
    return true;
  }
  Error broken(const char* what) const { return make_error(code_, "{} failed, says the test", what); }

  std::map<std::string, std::shared_ptr<Node>> names_;
  std::map<std::string, std::shared_ptr<Node>> durable_names_;
  std::atomic<int64_t> operations_{0};
  int64_t fail_at_ = -1;
  std::atomic<bool> has_failed_{false};
  Code code_ = Code::kIo;
};

}  // namespace lcrun::test
