// Named moments at which a worker can end itself by SIGKILL, and a BlockDevice and a FileSystem that pass through them.
//
// A name says what is under way (restore, prefill, decode, save, sealed) and what has just happened or is about to.
// Tests only; product code knows nothing of them. Thread rule: one thread, but for reads of files.
#pragma once

#include <atomic>
#include <csignal>
#include <cstdio>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "src/base/file.hpp"
#include "storage/block_device.hpp"

namespace lcrun::testing {

class KillPoints {
 public:
  // The n-th time (from 1) that the worker comes by this name is its last moment; operation: the n-th of all.
  void arm(std::string name, int64_t nth) {
    wanted_ = std::move(name);
    nth_ = nth;
  }
  void enter(const char* phase) { phase_ = phase; }
  void pass(const char* what) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const std::string name = std::string(phase_) + ": " + what;
    const int64_t count = ++counts_[name];
    ++total_;
    if ((name == wanted_ && count == nth_) || (wanted_ == "operation" && total_ == nth_)) std::raise(SIGKILL);
  }
  // Is the next pass of this name the last? (To do a write by half.)
  bool is_next(const char* what) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const std::string name = std::string(phase_) + ": " + what;
    return name == wanted_ && counts_[name] + 1 == nth_;
  }
  // "point COUNT NAME" each.
  void print() const {
    for (const auto& [name, count] : counts_)
      std::printf("point %lld %s\n", static_cast<long long>(count), name.c_str());
    std::printf("operations %lld\n", static_cast<long long>(total_));
  }

 private:
  std::string wanted_;
  int64_t nth_ = 0;
  std::atomic<const char*> phase_{"open"};
  std::mutex mutex_;
  std::map<std::string, int64_t> counts_;
  int64_t total_ = 0;
};

class KillingDevice final : public storage::BlockDevice {
 public:
  KillingDevice(std::unique_ptr<storage::BlockDevice> inner, KillPoints& points)
      : inner_(std::move(inner)), points_(points) {}
  std::string name() const override { return inner_->name(); }
  uint32_t alignment() const override { return inner_->alignment(); }
  uint32_t block_bytes() const override { return inner_->block_bytes(); }
  uint32_t depth() const override { return inner_->depth(); }
  bool direct() const override { return inner_->direct(); }
  void discard(uint64_t offset, uint64_t bytes) override {
    points_.pass("scratch space given back");
    inner_->discard(offset, bytes);
  }
  void use_memory(std::span<std::byte> memory) override { inner_->use_memory(memory); }
  uint64_t now_ns() override { return inner_->now_ns(); }

  Status allocate(uint64_t bytes) override {
    points_.pass("scratch before it grows");
    const Status done = inner_->allocate(bytes);
    points_.pass("scratch grown");
    return done;
  }
  int submit(std::span<const storage::IoRequest> requests) override {
    const bool writes = !requests.empty() && requests.front().op == storage::IoOp::kWrite;
    points_.pass(writes ? "page before its write" : "page before its read");
    const int taken = inner_->submit(requests);
    points_.pass(writes ? "page being written" : "page being read");
    return taken;
  }
  int poll(std::span<storage::IoDone> out, bool wait) override {
    const int n = inner_->poll(out, wait);
    if (n > 0) points_.pass("pages moved");
    return n;
  }

 private:
  std::unique_ptr<storage::BlockDevice> inner_;
  KillPoints& points_;
};

class KillingFiles final : public FileSystem {
 public:
  explicit KillingFiles(KillPoints& points) : points_(points) {}

  Result<std::unique_ptr<File>> open(const std::string& path, OpenMode mode) override {
    points_.pass(mode == OpenMode::kRead ? "before a file is opened" : "before a file is opened to be written");
    LCRUN_ASSIGN(auto file, posix_file_system().open(path, mode));
    points_.pass(mode == OpenMode::kRead ? "file opened" : "file opened to be written");
    return std::unique_ptr<File>(std::make_unique<KillingFile>(std::move(file), points_));
  }
  Status rename(const std::string& from, const std::string& to) override {
    points_.pass("before the rename");
    LCRUN_TRY(posix_file_system().rename(from, to));
    points_.pass("renamed");
    return {};
  }
  Status remove(const std::string& path) override {
    points_.pass("before a leftover is removed");
    return posix_file_system().remove(path);
  }
  Status sync_directory_of(const std::string& path) override {
    points_.pass("before the directory is synced");
    LCRUN_TRY(posix_file_system().sync_directory_of(path));
    points_.pass("directory synced");
    return {};
  }
  bool exists(const std::string& path) override { return posix_file_system().exists(path); }
  std::vector<std::string> longer_names(const std::string& path) override {
    return posix_file_system().longer_names(path);
  }

 private:
  class KillingFile final : public File {
   public:
    KillingFile(std::unique_ptr<File> file, KillPoints& points) : file_(std::move(file)), points_(points) {}
    const std::string& path() const override { return file_->path(); }
    Result<uint64_t> size() const override { return file_->size(); }
    Status read_at(uint64_t offset, std::span<std::byte> out) override {
      points_.pass(offset < kHead ? "superblock before it is read" : "section before it is read");
      return file_->read_at(offset, out);
    }
    Status read_scattered(uint64_t offset, std::span<const std::span<std::byte>> parts) override {
      points_.pass("pages before they are restored");
      return file_->read_scattered(offset, parts);
    }
    // Half of it, then all of it: each is a moment.
    Status write_at(uint64_t offset, std::span<const std::byte> data) override {
      const bool is_head = offset < kHead;
      const char* half = is_head ? "superblock half written" : "contents half written";
      points_.pass(is_head ? "superblock before its write" : "contents before their write");
      if (points_.is_next(half)) static_cast<void>(file_->write_at(offset, data.first(data.size() / 2)));
      points_.pass(half);
      LCRUN_TRY(file_->write_at(offset, data));
      points_.pass(is_head ? "superblock written" : "contents written");
      return {};
    }
    Status sync() override {
      points_.pass("before a sync");
      LCRUN_TRY(file_->sync());
      points_.pass("synced");
      return {};
    }
    bool try_lock(bool exclusive) override { return file_->try_lock(exclusive); }
    Result<std::unique_ptr<Mapping>> map() override {
      points_.pass("file before it is mapped");
      return file_->map();
    }

   private:
    static constexpr uint64_t kHead = 8192;  // both superblocks
    std::unique_ptr<File> file_;
    KillPoints& points_;
  };

  KillPoints& points_;
};

}  // namespace lcrun::testing
