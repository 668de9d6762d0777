#include "storage/sim_case.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "src/base/format.hpp"
#include "storage/page_store.hpp"
#include "storage/sim_device.hpp"

namespace lcrun::storage {
namespace {

constexpr std::array<uint64_t, 2> kPayloads = {312, 712};  // two layers, one and two sectors' worth
constexpr uint64_t kFrames = 8;
constexpr size_t kMostSequences = 4;
constexpr int64_t kMostBlocks = 24;
constexpr int kTries = 3;  // of making a block again

// What a block holds follows from one number.
void fill(std::span<std::byte> bytes, uint64_t contents) {
  SimRandom random(contents);
  for (size_t at = 0; at < bytes.size(); at += 8) {
    const uint64_t word = random.next();
    std::memcpy(bytes.data() + at, &word, std::min<size_t>(8, bytes.size() - at));
  }
}

bool holds(std::span<const std::byte> bytes, uint64_t contents) {
  SimRandom random(contents);
  for (size_t at = 0; at < bytes.size(); at += 8) {
    const uint64_t word = random.next();
    if (std::memcmp(bytes.data() + at, &word, std::min<size_t>(8, bytes.size() - at)) != 0) return false;
  }
  return true;
}

struct TwinSequence {
  SequenceId id = 0;
  std::array<std::vector<uint64_t>, 2> layers;  // contents of each block
};

// Chances of each operation, of their sum.
struct Mix {
  uint32_t append, read, scan, write, fork, truncate, drop, begin, flush;
};
constexpr std::array<Mix, kSimWorks> kMixes = {{
    {60, 10, 3, 2, 0, 1, 0, 1, 1},
    {10, 5, 20, 5, 0, 0, 0, 0, 0},
    {15, 60, 2, 2, 0, 0, 0, 0, 1},
    {20, 20, 3, 25, 12, 4, 4, 1, 1},
    {30, 15, 3, 10, 2, 20, 1, 0, 1},
    {30, 20, 4, 10, 4, 4, 6, 10, 1},
}};
constexpr std::array<const char*, kSimWorks> kWorkNames = {"prefill", "decode",   "reload",
                                                           "branch",  "truncate", "many sequences"};
constexpr std::array<const char*, kSimVerdicts> kVerdictNames = {"same bytes", "detected, made again, same bytes",
                                                                 "clean error", "WRONG"};

class Run {
 public:
  explicit Run(const SimCase& which) : which_(which), random_(which.seed) {}

  SimResult result() {
    if (open()) {
      for (uint32_t i = 0; i < which_.operations && wrong_.empty(); ++i) step();
      read_everything();
      finish();
    }
    SimResult result;
    result.wrong = wrong_;
    result.verdict = !wrong_.empty() ? SimVerdict::kWrong
                     : given_up_ > 0 ? SimVerdict::kCleanError
                     : errors_ > 0   ? SimVerdict::kRecomputed
                                     : SimVerdict::kSame;
    if (faults_ != nullptr) result.faults = faults_->injected() + cuts_;
    if (store_ != nullptr) {
      for (uint32_t v = 1; v < kVerdicts; ++v) result.detected += store_->stats().verdicts[v];
    }
    return result;
  }

 private:
  bool open() {
    auto sim = std::make_unique<SimDevice>(
        SimConfig{.seed = random_.next(), .capacity = 512 * 1024, .depth = which_.depth, .longest_delay = 3});
    disk_ = sim.get();
    auto faulty = std::make_unique<FaultDevice>(std::move(sim), which_.faults);
    faults_ = faulty.get();
    PageStoreConfig config;
    config.page_bytes.assign(kPayloads.begin(), kPayloads.end());
    config.frames = kFrames;
    config.reserve_pages = random_.once_in(2) ? 16 : 0;
    config.window_blocks = static_cast<int64_t>(random_.below(3));
    auto made = PageStore::create(config, std::move(faulty));
    if (!made) {
      faults_ = nullptr;
      give_up(made.error(), "create");
      return false;
    }
    store_ = std::move(made).value();
    return true;
  }

  // An error is right only where the disk gave cause.
  void error(const Error& error, const char* what) {
    ++errors_;
    const bool cause = faults_ == nullptr || faults_->injected() + cuts_ > 0;
    if (!cause) wrong_ = format("{}: {} without a fault: {}", what, code_name(error.code), error.message);
    if (error.code == Code::kInternal || error.code == Code::kInvalidArgument || error.message.empty()) {
      wrong_ = format("{}: {}: {}", what, code_name(error.code), error.message);
    }
  }
  void give_up(const Error& why, const char* what) {
    error(why, what);
    ++given_up_;
  }

  TwinSequence* any() { return twins_.empty() ? nullptr : &twins_[random_.below(twins_.size())]; }

  void forget(const TwinSequence& twin) {
    store_->drop(twin.id);
    twins_.erase(twins_.begin() + (&twin - twins_.data()));
  }

  bool append_block(TwinSequence& twin, uint32_t layer, uint64_t contents) {
    auto pin = store_->append(twin.id, layer);
    if (!pin) {
      error(pin.error(), "append");
      return false;
    }
    fill(pin.value().writable(), contents);
    twin.layers[layer].push_back(contents);
    pin.value().release();
    // Now and then a block stays open, as the last one of a sequence does.
    if (!random_.once_in(6)) store_->seal(twin.id, layer, static_cast<int64_t>(twin.layers[layer].size()) - 1);
    return true;
  }

  // The block, and those behind it, from the "tokens": the twin knows them. False: the sequence was given up.
  bool make_again(TwinSequence& twin, uint32_t layer, size_t block) {
    const std::vector<uint64_t> contents(twin.layers[layer].begin() + static_cast<std::ptrdiff_t>(block),
                                         twin.layers[layer].end());
    store_->truncate(twin.id, layer, static_cast<int64_t>(block));
    twin.layers[layer].resize(block);
    for (const uint64_t each : contents) {
      int tries = 0;
      while (tries < kTries && !append_block(twin, layer, each)) ++tries;
      if (tries == kTries) {
        ++given_up_;
        forget(twin);
        return false;
      }
    }
    return true;
  }

  bool read_block(TwinSequence& twin, uint32_t layer, size_t block) {
    for (int tries = 0; tries < kTries; ++tries) {
      auto pin = store_->pin(twin.id, layer, static_cast<int64_t>(block));
      if (pin) {
        if (!holds(pin.value().bytes(), twin.layers[layer][block])) {
          wrong_ = format("sequence {} layer {} block {} holds other bytes", twin.id, layer, block);
        }
        return true;
      }
      error(pin.error(), "pin");
      if (!make_again(twin, layer, block)) return false;
    }
    ++given_up_;
    forget(twin);
    return false;
  }

  bool read_all(TwinSequence& twin, uint32_t layer) {
    for (size_t block = 0; block < twin.layers[layer].size() && wrong_.empty(); ++block) {
      std::array<int64_t, 3> next{};
      for (size_t i = 0; i < next.size(); ++i) next[i] = static_cast<int64_t>(block + i);
      const size_t n = std::min(next.size(), twin.layers[layer].size() - block);
      if (random_.once_in(2)) store_->prefetch(twin.id, layer, std::span(next).first(n));
      if (!read_block(twin, layer, block)) return false;
    }
    return true;
  }

  void write_block(TwinSequence& twin, uint32_t layer, size_t block) {
    auto pin = store_->pin_for_writing(twin.id, layer, static_cast<int64_t>(block));
    if (!pin) {
      error(pin.error(), "pin for writing");
      make_again(twin, layer, block);
      return;
    }
    if (!holds(pin.value().bytes(), twin.layers[layer][block])) {
      wrong_ = format("sequence {} layer {} block {} held other bytes before a write", twin.id, layer, block);
    }
    const uint64_t contents = random_.next();
    fill(pin.value().writable(), contents);
    twin.layers[layer][block] = contents;
    pin.value().release();
    if (!random_.once_in(3)) store_->seal(twin.id, layer, static_cast<int64_t>(block));
  }

  void begin() {
    if (twins_.size() >= kMostSequences) return;
    auto made = store_->create_sequence();
    if (!made) return give_up(made.error(), "create sequence");
    twins_.emplace_back();
    twins_.back().id = made.value();
  }

  void fork(const TwinSequence& twin) {
    if (twins_.size() >= kMostSequences) return;
    auto made = store_->fork(twin.id);
    if (!made) return give_up(made.error(), "fork");
    TwinSequence copy = twin;
    copy.id = made.value();
    twins_.push_back(std::move(copy));
  }

  void step() {
    if (which_.power_cuts && random_.once_in(20)) {
      disk_->power_cut();
      ++cuts_;
    }
    if (twins_.empty()) begin();
    TwinSequence* twin = any();
    if (twin == nullptr) return;
    const auto layer = static_cast<uint32_t>(random_.below(2));
    const size_t size = twin->layers[layer].size();
    const Mix& mix = kMixes[static_cast<size_t>(which_.work)];
    uint64_t draw = random_.below(mix.append + mix.read + mix.scan + mix.write + mix.fork + mix.truncate + mix.drop +
                                  mix.begin + mix.flush);
    const auto is = [&draw](uint32_t chance) {
      const bool hit = draw < chance;
      draw -= hit ? 0 : chance;
      return hit;
    };
    if (is(mix.append)) {
      if (static_cast<int64_t>(size) < kMostBlocks) append_block(*twin, layer, random_.next());
    } else if (is(mix.read)) {
      if (size > 0) read_block(*twin, layer, random_.below(size));
    } else if (is(mix.scan)) {
      read_all(*twin, layer);
    } else if (is(mix.write)) {
      if (size > 0) write_block(*twin, layer, random_.once_in(2) ? size - 1 : random_.below(size));
    } else if (is(mix.fork)) {
      fork(*twin);
    } else if (is(mix.truncate)) {
      const size_t keep = random_.below(size + 1);
      store_->truncate(twin->id, layer, static_cast<int64_t>(keep));
      twin->layers[layer].resize(keep);
    } else if (is(mix.drop)) {
      forget(*twin);
    } else if (is(mix.begin)) {
      begin();
    } else {
      const Status flushed = store_->flush();
      if (!flushed) error(flushed.error(), "flush");
    }
  }

  void read_everything() {
    for (size_t i = 0; i < twins_.size() && wrong_.empty();) {
      // A sequence that is given up leaves its place to the next one.
      if (read_all(twins_[i], 0) && read_all(twins_[i], 1)) ++i;
    }
  }

  void finish() {
    if (!wrong_.empty()) return;
    while (!twins_.empty()) forget(twins_.back());
    faults_->heal();
    // Requests of pages that are gone may still be under way.
    for (int i = 0; i < 1000 && store_->pages() > 0; ++i) store_->poll();
    if (store_->pages() != 0 || store_->free_frames() != kFrames || store_->extents_in_use() != 0) {
      wrong_ = format("leak: {} pages, {} frames free, {} extents in use", store_->pages(), store_->free_frames(),
                      store_->extents_in_use());
    }
  }

  SimCase which_;
  SimRandom random_;
  SimDevice* disk_ = nullptr;
  FaultDevice* faults_ = nullptr;
  std::unique_ptr<PageStore> store_;
  std::vector<TwinSequence> twins_;
  uint64_t errors_ = 0, given_up_ = 0, cuts_ = 0;
  std::string wrong_;
};

}  // namespace

const char* sim_work_name(SimWork work) { return kWorkNames[static_cast<size_t>(work)]; }
const char* sim_verdict_name(SimVerdict verdict) { return kVerdictNames[static_cast<size_t>(verdict)]; }

SimResult run_sim_case(const SimCase& which) { return Run(which).result(); }

}  // namespace lcrun::storage
