// bench_storage [DIR] [MIB] [EXTENT_KIB] [DEPTH]: how fast blocks of cache come back from the disk under DIR.
//
// One file of MIB is read whole, extent by extent, in order (dense decoding) and in random order (selection), by a raw
// io_uring loop that does nothing else (the limit), by both backends through IoQueue, and by mmap + MADV_WILLNEED
// with a touch of each page. The page store reads as much from a scratch file of its own, checks included. All take
// turns in each of five rounds; the page cache is emptied of the file first. Figures are medians in GB/s with their
// ratio to the raw loop. Run it on an idle machine, on a disk and not on tmpfs.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "src/base/workspace.hpp"
#include "storage/file_device.hpp"
#include "storage/page_store.hpp"
#include "storage/sim_random.hpp"

#if LCRUN_HAVE_URING
#include <liburing.h>
#endif

using namespace lcrun;
using namespace lcrun::storage;

namespace {

constexpr int kRounds = 5;

struct Setup {
  std::string directory = ".";
  uint64_t bytes = uint64_t{1024} << 20;
  uint32_t extent = 64 << 10;
  uint32_t depth = 32;
  std::string path() const { return directory + "/bench_storage.tmp"; }
  uint64_t extents() const { return bytes / extent; }
};

using Order = std::vector<uint64_t>;

double seconds(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "bench_storage: %s\n", what.c_str());
  std::exit(1);
}

template <class T>
T need(Result<T> result) {
  if (!result) fail(result.error().message);
  return std::move(result).value();
}

void make_file(const Setup& setup) {
  const int fd = open(setup.path().c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) fail("cannot write " + setup.path());
  std::vector<uint64_t> piece((1 << 20) / 8);
  SimRandom random(1);
  for (uint64_t at = 0; at < setup.bytes; at += piece.size() * 8) {
    for (uint64_t& word : piece) word = random.next();
    if (write(fd, piece.data(), piece.size() * 8) != static_cast<ssize_t>(piece.size() * 8)) fail("disk full");
  }
  if (fsync(fd) != 0) fail("fsync");
  close(fd);
}

void forget_cached(const Setup& setup) {
  const int fd = open(setup.path().c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0 || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) != 0) fail("fadvise");
  close(fd);
}

// The limit: a ring and nothing else. 0 where this build or this system has none.
double raw_ring([[maybe_unused]] const Setup& setup, [[maybe_unused]] const Order& order,
                [[maybe_unused]] std::span<std::byte> memory) {
#if LCRUN_HAVE_URING
  io_uring ring{};
  if (io_uring_queue_init(setup.depth, &ring, 0) < 0) return 0;
  int fd = open(setup.path().c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC);
  if (fd < 0) fd = open(setup.path().c_str(), O_RDONLY | O_CLOEXEC);
  const double start = seconds(CLOCK_MONOTONIC);
  size_t next = 0, done = 0;
  while (done < order.size()) {
    while (next < order.size() && next - done < setup.depth) {
      io_uring_sqe* sqe = io_uring_get_sqe(&ring);
      if (sqe == nullptr) break;
      std::byte* to = memory.data() + (next % setup.depth) * setup.extent;
      io_uring_prep_read(sqe, fd, to, setup.extent, order[next++] * setup.extent);
    }
    if (io_uring_submit_and_wait(&ring, 1) < 0) fail("io_uring");
    io_uring_cqe* cqe = nullptr;
    while (io_uring_peek_cqe(&ring, &cqe) == 0 && cqe != nullptr) {
      if (cqe->res != static_cast<int>(setup.extent)) fail("raw read came back short");
      io_uring_cqe_seen(&ring, cqe);
      ++done;
    }
  }
  const double took = seconds(CLOCK_MONOTONIC) - start;
  close(fd);
  io_uring_queue_exit(&ring);
  return static_cast<double>(order.size() * setup.extent) / took;
#else
  return 0;
#endif
}

double through_queue(const Setup& setup, const Order& order, std::span<std::byte> memory, IoChoice io) {
  auto device = open_for_reading(setup.path(), {.io = io, .depth = setup.depth});
  if (!device) return 0;
  device.value()->use_memory(memory);
  IoQueue queue(*device.value());
  std::vector<uint32_t> free_places(setup.depth);
  std::iota(free_places.begin(), free_places.end(), 0U);
  const double start = seconds(CLOCK_MONOTONIC);
  size_t next = 0, done = 0;
  while (done < order.size()) {
    while (next < order.size() && queue.has_room() && !free_places.empty()) {
      const uint32_t place = free_places.back();
      free_places.pop_back();
      queue.start({IoOp::kRead, order[next++] * setup.extent, memory.data() + uint64_t{place} * setup.extent,
                   setup.extent, place});
    }
    IoOutcome outcomes[32];
    const size_t n = queue.poll(outcomes, true);
    for (size_t i = 0; i < n; ++i) {
      if (outcomes[i].error != 0) fail(std::strerror(outcomes[i].error));
      free_places.push_back(static_cast<uint32_t>(outcomes[i].ticket));
    }
    done += n;
  }
  return static_cast<double>(order.size() * setup.extent) / (seconds(CLOCK_MONOTONIC) - start);
}

double mapped(const Setup& setup, const Order& order) {
  const int fd = open(setup.path().c_str(), O_RDONLY | O_CLOEXEC);
  void* map = mmap(nullptr, setup.bytes, PROT_READ, MAP_PRIVATE, fd, 0);
  if (map == MAP_FAILED) fail("mmap");
  auto* bytes = static_cast<const volatile uint8_t*>(map);
  const double start = seconds(CLOCK_MONOTONIC);
  for (size_t i = 0; i < order.size(); ++i) {
    const size_t ahead = i + setup.depth;
    const size_t first = i == 0 ? 0 : ahead;  // all of the first `depth`, then one more each time
    for (size_t a = first; a <= ahead && a < order.size(); ++a) {
      madvise(static_cast<std::byte*>(map) + order[a] * setup.extent, setup.extent, MADV_WILLNEED);
    }
    for (uint64_t at = 0; at < setup.extent; at += 4096) (void)bytes[order[i] * setup.extent + at];
  }
  const double took = seconds(CLOCK_MONOTONIC) - start;
  munmap(map, setup.bytes);
  close(fd);
  return static_cast<double>(order.size() * setup.extent) / took;
}

// A store whose pages fill extents of the size asked for, with frames for a sixteenth of them.
class StoreBench {
 public:
  StoreBench(const Setup& setup, IoChoice io) : setup_(setup) {
    auto device = need(open_scratch(setup.directory, {.io = io, .depth = setup.depth}));
    PageStoreConfig config;
    config.page_bytes = {setup.extent - kSealBytes};
    config.frames = std::max<uint64_t>(8 * setup.depth, setup.extents() / 16);
    config.reserve_pages = setup.extents();
    store_ = need(PageStore::create(config, std::move(device)));
    sequence_ = need(store_->create_sequence());
    SimRandom random(2);
    const double start = seconds(CLOCK_MONOTONIC);
    for (uint64_t block = 0; block < setup.extents(); ++block) {
      auto pin = need(store_->append(sequence_, 0));
      const auto bytes = pin.writable();
      for (size_t at = 0; at + 8 <= bytes.size(); at += 512) {
        const uint64_t word = random.next();
        std::memcpy(bytes.data() + at, &word, 8);
      }
      pin.release();
      store_->seal(sequence_, 0, static_cast<int64_t>(block));
    }
    if (!store_->flush()) fail("flush");
    written_ = static_cast<double>(setup.bytes) / (seconds(CLOCK_MONOTONIC) - start);
  }

  double read(const Order& order) {
    const uint64_t before = store_->io_stats().bytes_read;
    const double start = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_THREAD_CPUTIME_ID);
    std::vector<int64_t> ahead;
    for (size_t i = 0; i < order.size(); ++i) {
      ahead.clear();
      for (size_t a = i; a < std::min(order.size(), i + uint64_t{3} * setup_.depth); ++a)
        ahead.push_back(static_cast<int64_t>(order[a]));
      store_->prefetch(sequence_, 0, ahead);
      const auto pin = need(store_->pin(sequence_, 0, ahead.front()));
      sum_ += static_cast<uint64_t>(pin.bytes()[0]);
    }
    cpu_share_ = (seconds(CLOCK_THREAD_CPUTIME_ID) - cpu) / (seconds(CLOCK_MONOTONIC) - start);
    return static_cast<double>(store_->io_stats().bytes_read - before) / (seconds(CLOCK_MONOTONIC) - start);
  }
  double written() const { return written_; }
  double cpu_share() const { return cpu_share_; }

 private:
  Setup setup_;
  std::unique_ptr<PageStore> store_;
  SequenceId sequence_ = 0;
  double written_ = 0, cpu_share_ = 0;
  uint64_t sum_ = 0;
};

struct Row {
  const char* name;
  std::function<double(const Order&)> run;
  std::vector<double> figures{};
};

void report(const char* order_name, std::vector<Row>& rows) {
  double raw = 0;
  for (Row& row : rows) {
    std::sort(row.figures.begin(), row.figures.end());
    const double median = row.figures[row.figures.size() / 2];
    if (&row == rows.data()) raw = median;
    std::printf("%-10s %-26s %7.3f GB/s  [%.3f, %.3f]  %.2f of raw\n", order_name, row.name, median / 1e9,
                row.figures.front() / 1e9, row.figures.back() / 1e9, raw > 0 ? median / raw : 0.0);
  }
}

}  // namespace

int main(int argc, char** argv) {
  Setup setup;
  if (argc > 1) setup.directory = argv[1];
  if (argc > 2) setup.bytes = std::strtoull(argv[2], nullptr, 10) << 20;
  if (argc > 3) setup.extent = static_cast<uint32_t>(std::strtoul(argv[3], nullptr, 10)) << 10;
  if (argc > 4) setup.depth = static_cast<uint32_t>(std::strtoul(argv[4], nullptr, 10));
  if (setup.extent < 4096 || setup.extents() < 64 || setup.depth < 1 || setup.depth > 1024) fail("sizes too small");
  make_file(setup);
  AlignedBuffer memory = need(AlignedBuffer::allocate(uint64_t{setup.depth} * setup.extent, 4096));
  const std::span<std::byte> frames(memory.data(), memory.size());
  StoreBench ring_store(setup, IoChoice::kAuto), pool_store(setup, IoChoice::kThreads);
  Order in_order(setup.extents());
  std::iota(in_order.begin(), in_order.end(), uint64_t{0});
  Order shuffled = in_order;
  SimRandom random(3);
  for (size_t i = shuffled.size(); i-- > 1;) std::swap(shuffled[i], shuffled[random.below(i + 1)]);

  for (const Order* order : {&in_order, &shuffled}) {
    std::vector<Row> rows = {
        {"raw io_uring", [&](const Order& o) { return raw_ring(setup, o, frames); }},
        {"uring", [&](const Order& o) { return through_queue(setup, o, frames, IoChoice::kUring); }},
        {"threads", [&](const Order& o) { return through_queue(setup, o, frames, IoChoice::kThreads); }},
        {"mmap + WILLNEED", [&](const Order& o) { return mapped(setup, o); }},
        {"page store, default", [&](const Order& o) { return ring_store.read(o); }},
        {"page store, threads", [&](const Order& o) { return pool_store.read(o); }},
    };
    for (int round = 0; round < kRounds; ++round) {
      for (Row& row : rows) {
        forget_cached(setup);
        row.figures.push_back(row.run(*order));
      }
    }
    report(order == &in_order ? "in order" : "random", rows);
  }
  std::printf("page store: written at %.3f GB/s (default), reading thread busy %.0f %% of the time\n",
              ring_store.written() / 1e9, 100 * ring_store.cpu_share());
  unlink(setup.path().c_str());
  return 0;
}
