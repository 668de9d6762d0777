// Snapshots: restored = saved, added = whole, and whatever fails or is damaged, a prefix of the truth or an error.
#include "storage/snapshot.hpp"

#include <catch2/catch.hpp>
#include <utility>

#include "tests/support/alloc_counter.hpp"
#include "tests/support/memory_files.hpp"
#include "tests/support/state_bytes.hpp"
#include "tests/support/twin_state.hpp"

using namespace lcrun;
using namespace lcrun::storage;
using namespace lcrun::test;

namespace {

using Tokens = std::vector<int32_t>;

Tokens make_tokens(int64_t n, int32_t salt = 0) {
  Tokens tokens;
  for (int64_t i = 0; i < n; ++i) tokens.push_back(static_cast<int32_t>((i * 7919 + salt) % 1000));
  return tokens;
}

// One saver: a state, its tokens and what it knows of the file.
struct Saver {
  SequenceState state = twin_state();
  Tokens tokens;
  SnapshotStamp stamp;

  void go_to(const Tokens& wanted) {
    const auto differs = std::mismatch(tokens.begin(), tokens.end(), wanted.begin(), wanted.end());
    state.truncate(state.truncation_point(differs.first - tokens.begin()));
    tokens = wanted;
    twin_extend(state, tokens);
  }
  Result<SaveReport> save(FileSystem& fs, SyncMode sync = SyncMode::kBarrier, bool seal = false) {
    const auto bytes = std::as_bytes(std::span(tokens));
    const auto report = save_snapshot(fs, "s",
                                      {.state = state,
                                       .identity = bytes.first(std::min<size_t>(8, bytes.size())),
                                       .tokens = bytes,
                                       .extra = bytes.last(std::min<size_t>(12, bytes.size())),
                                       .sync = sync,
                                       .seal = seal,
                                       .n_threads = 2,
                                       .last = stamp});
    if (report.has_value()) {
      stamp = report->stamp;
      state.mark_saved();
    }
    return report;
  }
};

struct Restored {
  SequenceState state = twin_state();
  Tokens tokens;
  std::vector<std::string> damage;
  SnapshotStamp stamp;
};

Result<Restored> restore(FileSystem& fs, int n_threads = 2) {
  Restored restored;
  LCRUN_ASSIGN(auto snapshot, open_snapshot(fs, "s"));
  LCRUN_ASSIGN(const int64_t n, restore_snapshot(snapshot, restored.state, n_threads));
  if (n != restored.state.tokens()) return make_error(Code::kInternal, "{} tokens, not {}", restored.state.tokens(), n);
  restored.tokens.resize(snapshot.tokens.size() / sizeof(int32_t));
  if (!restored.tokens.empty()) std::memcpy(restored.tokens.data(), snapshot.tokens.data(), snapshot.tokens.size());
  restored.damage = snapshot.damage;
  restored.stamp = snapshot.stamp();
  return restored;
}

// "" if the file gives the state of one of `truths`, whole.
std::string whole_difference(FileSystem& fs, const std::vector<Tokens>& truths) {
  auto found = restore(fs);
  if (!found.has_value()) return found.error().message;
  if (!found->damage.empty()) return "damage: " + found->damage.front();
  if (std::find(truths.begin(), truths.end(), found->tokens) == truths.end()) return "other tokens";
  if (found->state.tokens() != static_cast<int64_t>(found->tokens.size())) return "fewer tokens";
  return twin_difference(found->state, found->tokens);
}

// The same where part of a state, told as damage, or an error is good enough.
std::string damaged_difference(FileSystem& fs, const std::vector<Tokens>& truths) {
  auto found = restore(fs);
  if (!found.has_value()) return found.error().code == Code::kBadSession ? "" : found.error().message;
  if (std::find(truths.begin(), truths.end(), found->tokens) == truths.end()) return "other tokens";
  const bool is_all = found->state.tokens() == static_cast<int64_t>(found->tokens.size());
  if (!is_all && found->damage.empty()) return "tokens are missing and nothing is said";
  return twin_difference(found->state, found->tokens);
}

}  // namespace

TEST_CASE("a restored state is the one that was saved, marks included", "[storage][snapshot]") {
  for (const int64_t n : {0, 1, 63, 64, 65, 130, 1100}) {
    for (const int n_threads : {1, 3}) {
      CAPTURE(n, n_threads);
      MemoryFiles files;
      Saver saver;
      saver.go_to(make_tokens(n));
      const auto report = saver.save(files);
      REQUIRE(report.has_value());
      CHECK(report->whole);
      auto found = restore(files, n_threads);
      REQUIRE(found.has_value());
      CHECK(found->damage.empty());
      CHECK(found->tokens == saver.tokens);
      CHECK(found->stamp == saver.stamp);
      CHECK(testing::state_bytes(found->state) == testing::state_bytes(saver.state));
      CHECK(twin_difference(found->state, saver.tokens).empty());
      for (const int64_t edit : {n / 4, n / 2, n * 9 / 10}) {
        CHECK(found->state.truncation_point(edit) == saver.state.truncation_point(edit));
      }
      CHECK(found->state.saved_tokens() == n);
      CHECK(files.count() == 1);
    }
  }
}

TEST_CASE("saving again writes only what is new, and gives what a whole save gives", "[storage][snapshot]") {
  MemoryFiles files;
  Saver saver;
  saver.go_to(make_tokens(2000));
  REQUIRE(saver.save(files).has_value());
  Random random(5);
  uint64_t largest = 0;
  for (int turn = 0; turn < 60; ++turn) {
    // Mostly on, sometimes back to an earlier point and another way.
    auto wanted = saver.tokens;
    if (random.below(4) == 0) wanted.resize(static_cast<size_t>(random.below(static_cast<int64_t>(wanted.size()) + 1)));
    const auto more = make_tokens(1 + random.below(90), turn + 1);
    wanted.insert(wanted.end(), more.begin(), more.end());
    saver.go_to(wanted);
    const int64_t new_blocks = static_cast<int64_t>(wanted.size()) / 64 - saver.state.saved_tokens() / 64 + 1;
    const auto report = saver.save(files);
    REQUIRE(report.has_value());
    CAPTURE(turn, new_blocks);
    CHECK_FALSE(report->whole);
    // Two regions that grow, one ring, the open chunk, two fixed states and their marks.
    CHECK(report->pages <= static_cast<uint64_t>(3 * new_blocks + 3 + 2 * (new_blocks / 8 + 2)));
    REQUIRE(whole_difference(files, {wanted}) == "");
    Saver whole;
    whole.go_to(wanted);
    auto found = restore(files);
    REQUIRE(found.has_value());
    CHECK(testing::state_bytes(found->state) == testing::state_bytes(whole.state));
    largest = std::max<uint64_t>(largest, files.get("s").size());
  }
  // Space of older commits is used again.
  Saver whole;
  whole.go_to(make_tokens(4000));
  REQUIRE(whole.save(files).has_value());
  CHECK(largest < 2 * files.get("s").size());
}

TEST_CASE("a restored session adds to its file; one that somebody else changed is written anew",
          "[storage][snapshot]") {
  MemoryFiles files;
  Saver first;
  first.go_to(make_tokens(200));
  REQUIRE(first.save(files).has_value());
  auto found = restore(files);
  REQUIRE(found.has_value());
  Saver second{std::move(found->state), found->tokens, found->stamp};
  second.go_to(make_tokens(300));
  const auto added = second.save(files);
  REQUIRE(added.has_value());
  CHECK_FALSE(added->whole);
  CHECK(added->stamp.sequence == 2);
  // The first one does not know of it.
  first.go_to(make_tokens(250));
  const auto anew = first.save(files);
  REQUIRE(anew.has_value());
  CHECK(anew->whole);
  CHECK(whole_difference(files, {make_tokens(250)}) == "");
  second.go_to(make_tokens(310));
  CHECK(second.save(files).value().whole);
  REQUIRE(files.remove("s").has_value());
  CHECK(second.save(files).value().whole);
  CHECK(whole_difference(files, {make_tokens(310)}) == "");
}

TEST_CASE("a sealed file is never written again", "[storage][snapshot]") {
  for (const bool adds : {false, true}) {
    MemoryFiles files;
    Saver saver;
    saver.go_to(make_tokens(100));
    if (adds) REQUIRE(saver.save(files).has_value());
    REQUIRE(saver.save(files, SyncMode::kFull, true).has_value());
    const auto before = files.get("s");
    CHECK(open_snapshot(files, "s").value().superblock.sealed);
    saver.go_to(make_tokens(120));
    Saver other;
    other.go_to(make_tokens(10));
    for (Saver* item : {&saver, &other}) {
      const auto refused = item->save(files);
      REQUIRE_FALSE(refused.has_value());
      CHECK(refused.error().code == Code::kBadSession);
      CHECK(refused.error().message.find("sealed") != std::string::npos);
    }
    CHECK(files.get("s") == before);
    // Either superblock may be lost, and it is sealed still.
    auto bad = before;
    bad[adds ? 100 : 4196] ^= std::byte{1};
    files.put("s", bad);
    CHECK(open_snapshot(files, "s").value().superblock.sealed);
  }
}

TEST_CASE("any damaged byte gives a prefix of the truth, told, or an error", "[storage][snapshot]") {
  MemoryFiles files;
  Saver saver;
  saver.go_to(make_tokens(600));
  REQUIRE(saver.save(files).has_value());
  const std::vector<Tokens> truths{make_tokens(600), make_tokens(1100)};
  saver.go_to(truths[1]);
  REQUIRE(saver.save(files).has_value());
  const auto good = files.get("s");
  Random random(11);
  int kept = 0;
  for (size_t at = 0; at < good.size(); at += at < 400 ? 1 : 1 + static_cast<size_t>(random.below(150))) {
    auto bad = good;
    bad[at] ^= static_cast<std::byte>(1 << random.below(8));
    files.put("s", std::move(bad));
    CAPTURE(at);
    REQUIRE(damaged_difference(files, truths) == "");
    const auto found = restore(files);
    kept += found.has_value() && found->state.tokens() >= 512 ? 1 : 0;
  }
  // One byte rarely costs much.
  CHECK(kept > 500);
}

TEST_CASE("any cut, and bytes behind the end, give a prefix of the truth, told, or an error", "[storage][snapshot]") {
  MemoryFiles files;
  Saver saver;
  const std::vector<Tokens> truths{make_tokens(600)};
  saver.go_to(truths[0]);
  REQUIRE(saver.save(files).has_value());
  const auto good = files.get("s");
  for (size_t size = 0; size < good.size(); size += size % 4096 == 0 || size % 4096 == 4095 ? 1 : 547) {
    files.put("s", {good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size)});
    CAPTURE(size);
    REQUIRE(damaged_difference(files, truths) == "");
  }
  auto longer = good;
  longer.resize(longer.size() + 5000, std::byte{7});
  files.put("s", longer);
  CHECK(whole_difference(files, truths) == "");
}

TEST_CASE("whole pages that belong elsewhere, or to an older commit, do not pass", "[storage][snapshot]") {
  MemoryFiles files;
  Saver saver;
  saver.go_to(make_tokens(600));
  REQUIRE(saver.save(files).has_value());
  const auto first = files.get("s");
  auto other = make_tokens(600, 3);
  other[0] = saver.tokens[0];
  Saver stranger;
  stranger.go_to(other);
  MemoryFiles strange_files;
  REQUIRE(stranger.save(strange_files).has_value());
  const auto strange = strange_files.get("s");
  const std::vector<Tokens> truths{make_tokens(600), make_tokens(640)};
  saver.go_to(truths[1]);
  REQUIRE(saver.save(files).has_value());
  const auto good = files.get("s");
  for (size_t page = 2; page * 4096 < good.size(); ++page) {
    CAPTURE(page);
    for (const auto* source : {&first, &strange, &good}) {
      for (const size_t from : {page, page + 1, size_t{9}}) {
        if ((from + 1) * 4096 > source->size()) continue;
        auto bad = good;
        std::memcpy(bad.data() + page * 4096, source->data() + from * 4096,
                    std::min<size_t>(4096, bad.size() - page * 4096));
        files.put("s", std::move(bad));
        REQUIRE(damaged_difference(files, truths) == "");
      }
    }
  }
}

TEST_CASE("whichever operation of saving fails, the file is the old one or the new one, and the saver goes on",
          "[storage][snapshot]") {
  const std::vector<Tokens> truths{make_tokens(150), make_tokens(300), make_tokens(310)};
  for (const SyncMode sync : {SyncMode::kNone, SyncMode::kBarrier, SyncMode::kFull}) {
    for (const int saved_before : {0, 1, 2}) {
      for (int64_t k = 0;; ++k) {
        CAPTURE(static_cast<int>(sync), saved_before, k);
        MemoryFiles files;
        Saver saver;
        saver.go_to(truths[0]);
        if (saved_before > 0) REQUIRE(saver.save(files, sync).has_value());
        if (saved_before > 1) saver = Saver{std::move(restore(files)->state), truths[0], saver.stamp};
        if (saved_before > 1) saver.state.keep_marks(uint64_t{1} << 20);
        saver.go_to(truths[1]);
        files.fail_at(k, Code::kNoSpace);
        const auto report = saver.save(files, sync);
        const bool was_reached = files.has_failed();
        files.fail_at(-1);
        if (!report.has_value()) CHECK(report.error().code == Code::kNoSpace);
        if (saved_before == 0 && !report.has_value() && !files.exists("s")) {
          CHECK(open_snapshot(files, "s").error().code == Code::kBadSession);
        } else {
          REQUIRE(whole_difference(files, {report.has_value() ? truths[1] : truths[0], truths[1]}) == "");
        }
        CHECK(files.count() <= 1);
        CHECK(twin_difference(saver.state, truths[1]).empty());
        saver.go_to(truths[2]);
        REQUIRE(saver.save(files, sync).has_value());
        REQUIRE(whole_difference(files, {truths[2]}) == "");
        if (!was_reached) break;
      }
    }
  }
}

TEST_CASE("whichever operation of restoring fails, there is an error or a prefix, told", "[storage][snapshot]") {
  MemoryFiles files;
  Saver saver;
  saver.go_to(make_tokens(300));
  REQUIRE(saver.save(files).has_value());
  for (int64_t k = 0;; ++k) {
    CAPTURE(k);
    files.fail_at(k);
    auto found = restore(files, 1);
    const bool was_reached = files.has_failed() && k < files.operations();
    files.fail_at(-1);
    if (found.has_value()) {
      REQUIRE(twin_difference(found->state, saver.tokens) == "");
      CHECK((found->state.tokens() == 300 || !found->damage.empty()));
    } else {
      CHECK((found.error().code == Code::kIo || found.error().code == Code::kBadSession));
    }
    REQUIRE(whole_difference(files, {saver.tokens}) == "");
    if (!was_reached) break;
  }
}

TEST_CASE("a power cut leaves the old state or the new one, and without syncs never a wrong one",
          "[storage][snapshot]") {
  Random random(77);
  int kept_new = 0;
  for (int round = 0; round < 400; ++round) {
    const auto sync = static_cast<SyncMode>(round % 3);
    CAPTURE(round, static_cast<int>(sync));
    MemoryFiles files;
    Saver saver;
    std::vector<Tokens> truths{make_tokens(100 + random.below(100))};
    saver.go_to(truths[0]);
    REQUIRE(saver.save(files, SyncMode::kFull).has_value());
    // Any number of saves are over, and one may have failed half way.
    const int64_t turns = 1 + random.below(4);
    for (int64_t turn = 0; turn < turns; ++turn) {
      auto wanted = make_tokens(static_cast<int64_t>(saver.tokens.size()) + random.below(200));
      if (random.below(4) == 0) wanted.resize(wanted.size() / 2);
      truths.push_back(wanted);
      saver.go_to(wanted);
      if (turn + 1 == turns && random.below(2) == 0) files.fail_at(random.below(12));
      static_cast<void>(saver.save(files, sync));
      files.fail_at(-1);
    }
    files.power_cut(random);
    if (sync == SyncMode::kNone) {
      REQUIRE(damaged_difference(files, truths) == "");
    } else {
      REQUIRE(whole_difference(files, truths) == "");
      kept_new += restore(files)->tokens == truths.back() ? 1 : 0;
    }
  }
  CHECK(kept_new > 50);
}

TEST_CASE("whichever allocation of saving and restoring fails, there is an error or nothing happened",
          "[storage][snapshot]") {
  const std::vector<Tokens> truths{make_tokens(150), make_tokens(300)};
  for (const bool adds : {false, true}) {
    bool was_reached = true;
    for (int64_t k = 0; was_reached; ++k) {
      CAPTURE(adds, k);
      MemoryFiles files;
      Saver saver;
      saver.go_to(truths[0]);
      REQUIRE(saver.save(files).has_value());
      if (!adds) saver.stamp = {};
      saver.go_to(truths[1]);
      testing::fail_allocation(k);
      const auto report = saver.save(files);
      was_reached = testing::allocation_failed();
      testing::fail_allocation(-1);
      if (!report.has_value()) CHECK(report.error().code == Code::kNoMemory);
      REQUIRE(whole_difference(files, {report.has_value() ? truths[1] : truths[0], truths[1]}) == "");
      CHECK(files.count() == 1);
      REQUIRE(saver.save(files).has_value());
      REQUIRE(whole_difference(files, {truths[1]}) == "");
    }
  }
  MemoryFiles files;
  Saver saver;
  saver.go_to(truths[1]);
  REQUIRE(saver.save(files).has_value());
  bool was_reached = true;
  for (int64_t k = 0; was_reached; ++k) {
    CAPTURE(k);
    auto state = twin_state();
    testing::fail_allocation(k);
    auto snapshot = open_snapshot(files, "s");
    auto restored =
        snapshot.has_value() ? restore_snapshot(*snapshot, state, 1) : Result<int64_t>(Error(snapshot.error()));
    was_reached = testing::allocation_failed();
    testing::fail_allocation(-1);
    if (restored.has_value()) {
      CHECK(twin_difference(state, truths[1]) == "");
    } else {
      // A message may have been cut short, never its code.
      CHECK((restored.error().code == Code::kNoMemory || restored.error().code == Code::kBadSession));
    }
  }
}

TEST_CASE("memory beside the state does not grow with the session", "[storage][snapshot]") {
  std::vector<int64_t> saving, restoring;
  for (const int64_t n : {4096, 65536}) {
    MemoryFiles files;
    Saver saver;
    saver.go_to(make_tokens(n));
    REQUIRE(saver.save(files).has_value());
    int64_t before = testing::allocation_count();
    saver.go_to(make_tokens(n + 1));
    REQUIRE(saver.save(files).has_value());
    saving.push_back(testing::allocation_count() - before);
    auto snapshot = open_snapshot(files, "s").value();
    before = testing::allocation_count();
    CHECK(verify_snapshot(snapshot, 2).value() == 0);
    restoring.push_back(testing::allocation_count() - before);
  }
  // Calls, not bytes: what is made for each page would show.
  CHECK(saving[1] < saving[0] + 600);  // of 3,000 pages
  CHECK(restoring[1] < restoring[0] + 600);
}

TEST_CASE("what was never a session, or of another version, is refused by name", "[storage][snapshot]") {
  MemoryFiles files;
  CHECK(open_snapshot(files, "s").error().code == Code::kBadSession);
  files.put("s", std::vector<std::byte>(20000, std::byte{'x'}));
  CHECK(open_snapshot(files, "s").error().code == Code::kBadSession);
  CHECK_FALSE(looks_like_snapshot(files, "s").value());
  std::vector<std::byte> old(20000);
  std::memcpy(old.data(), "LCRUNSES\1", 9);
  files.put("s", old);
  const auto refused = open_snapshot(files, "s");
  CHECK(refused.error().message.find("version: found 1, wanted 2") != std::string::npos);
  CHECK(looks_like_snapshot(files, "s").value());
  Saver saver;
  saver.go_to(make_tokens(70));
  REQUIRE(saver.save(files).has_value());
  auto other = SequenceState::create({{twin_specs()[0][0]}}).value();
  auto snapshot = open_snapshot(files, "s").value();
  CHECK(restore_snapshot(snapshot, other, 1).error().code == Code::kBadSession);
}
