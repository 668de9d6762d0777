// The laws of a session hold where its attention chooses what it reads: splits, threads, pages, restoring, losses.
#include <catch2/catch.hpp>
#include <fstream>
#include <iterator>

#include "src/runtime/budget.hpp"
#include "src/runtime/forecast.hpp"
#include "storage/fault_device.hpp"
#include "storage/sim_device.hpp"
#include "tests/support/own_rows.hpp"
#include "tests/support/random.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_session.hpp"

using namespace lcrun;
using namespace lcrun::runtime;
using namespace lcrun::testing;

namespace {

constexpr int64_t kTinyContext = 4096;
constexpr int64_t kText = 1900;  // tokens that are read before the question

std::vector<Token> some_tokens(int64_t n, uint64_t seed = 3) { return random_tokens(n, kTinyVocab, seed); }

// Further rows, and those of the table whose tokens choose together, with so little to read that there is something to
// choose here.
std::shared_ptr<const attention::PolicyRows> more_rows() {
  auto rows = std::make_shared<attention::PolicyRows>(*own_rows());
  for (attention::Policy row : attention::policies()) {
    if (row.read.role != attention::Role::kSelect || !row.read.is_by_tile()) continue;
    row.name += "-small";
    row.read.sinks = row.read.window = 64;
    row.read.blocks = 5;
    rows->rows.push_back(row);
  }
  return rows;
}

SessionOptions options_of(const std::string& policy, DType type = DType::kF16) {
  SessionOptions options = tiny_session_options();
  options.n_ctx = kTinyContext;
  options.cache.type_k = options.cache.type_v = type;
  options.policy = {policy, "auto", 256};
  options.policy.rows = more_rows();
  return options;
}

std::vector<float> ask(Session& session, std::span<const Token> tokens, int64_t ask_from = kText) {
  const auto logits = session.sync(tokens, {}, ask_from);
  REQUIRE(logits.has_value());
  return {logits->begin(), logits->end()};
}

// Decodes a token, past the end of the context too.
std::vector<float> slide(Session& session, Token token) {
  const auto logits = session.decode(token, Session::AtEnd::kSlide);
  REQUIRE(logits.has_value());
  return {logits->begin(), logits->end()};
}

// Text, question, and some decoded tokens: the logits after each.
std::vector<std::vector<float>> run(Session& session, const std::vector<Token>& tokens, int64_t step) {
  std::vector<std::vector<float>> all;
  for (int64_t done = 0; done < kText;) {
    done = std::min(done + step, kText);
    const auto read = session.sync({tokens.data(), static_cast<size_t>(done)}, {}, INT64_MAX);
    INFO((read.has_value() ? "" : read.error().message));
    REQUIRE(read.has_value());
  }
  all.push_back(ask(session, {tokens.data(), kText + 20}));
  for (size_t i = kText + 20; i < kText + 90; ++i) all.push_back(decode_copy(session, tokens[i]));
  return all;
}

PagingOptions on_disk(uint64_t seed, storage::Fault fault, int per_thousand) {
  PagingOptions paging;
  paging.open_device = [=]() -> Result<std::unique_ptr<storage::BlockDevice>> {
    storage::SimConfig config;
    config.capacity = uint64_t{64} << 20;
    storage::FaultPlan faults;
    faults.seed = seed;
    faults.per_thousand[static_cast<size_t>(fault)] = per_thousand;
    return std::unique_ptr<storage::BlockDevice>(
        std::make_unique<storage::FaultDevice>(std::make_unique<storage::SimDevice>(config), faults));
  };
  return paging;
}

const char* const kTiled[] = {"recall-small", "flexprefill-small", "xattention-small", "minference-small"};
const char* const kPolicyNames[] = {"stream",
                                    "select",
                                    "quest",
                                    "hip",
                                    "rekv",
                                    "recall-small",
                                    "flexprefill-small",
                                    "xattention-small",
                                    "minference-small",
                                    "moc",
                                    "bestfirst",
                                    "select-blocks",
                                    "select-mean",
                                    "recall-blocks",
                                    "moc-mean",
                                    "infinitehip",
                                    "levels",
                                    "levels-head",
                                    "levels-text",
                                    "levels-moc",
                                    "sparf",
                                    "strips-text"};

}  // namespace

TEST_CASE("a policy gives the same bits however a text is split, and on any number of threads", "[runtime][policy]") {
  const auto tokens = some_tokens(2000);
  for (const std::string arch : {"llama", "gemma2"}) {
    const auto model = load_tiny(arch);
    for (const char* policy : kPolicyNames) {
      CAPTURE(arch, policy);
      auto whole = open_tiny_session(model, options_of(policy));
      const auto want = run(whole, tokens, kText);
      CHECK(whole.attention_stats().queries > 0);
      auto options = options_of(policy);
      options.batch = 100;
      options.n_threads = options.n_threads_batch = 3;
      auto split = open_tiny_session(model, options);
      CHECK(run(split, tokens, 333) == want);
    }
  }
}

TEST_CASE("past the trained context positions can be moved: the same bits, in memory or on a disk",
          "[runtime][policy]") {
  const auto tokens = some_tokens(6100);
  for (const std::string arch : {"llama", "gemma2"}) {
    const auto model = load_tiny(arch);
    const int64_t trained = model->config().n_ctx_train;
    const std::vector<Token> part(tokens.begin(), tokens.begin() + trained);
    std::vector<std::vector<float>> answers;
    for (const auto& [policy, extend] : std::vector<std::pair<std::string, std::string>>{
             {"dense", "none"}, {"dense", "yarn"}, {"auto", "dca"}, {"selfextend", "auto"}}) {
      CAPTURE(arch, policy, extend);
      auto options = options_of(policy);
      options.n_ctx = 6000;
      options.policy.extend = extend;
      auto whole = open_tiny_session(model, options);
      const auto within = ask(whole, part, trained / 2);
      const std::vector<Token> text(tokens.begin(), tokens.begin() + 5000);
      std::vector<std::vector<float>> wanted{ask(whole, text, 4900)};
      for (size_t i = 5000; i < tokens.size(); ++i) wanted.push_back(slide(whole, tokens[i]));
      CHECK(whole.is_past_end());
      // Nothing moves before it has to, but for frequencies.
      if (extend != "yarn" && !answers.empty()) CHECK(within == answers.front());
      if (extend == "yarn") CHECK(within != answers.front());
      for (size_t i = 1; i < answers.size(); i += 2) CHECK(wanted.front() != answers[i]);
      answers.push_back(within);
      answers.push_back(wanted.front());

      options.batch = 100;
      options.n_threads = options.n_threads_batch = 3;
      options.paging = on_disk(1, storage::Fault::kFlipOnWrite, 0);
      options.max_state_bytes = model->state_bytes(whole.options().cache, 6000) / 2;
      auto split = open_tiny_session(model, options);
      REQUIRE(split.sync({text.data(), 4133}, {}, INT64_MAX).has_value());
      CHECK(ask(split, text, 4900) == wanted.front());
      for (size_t i = 5000; i < tokens.size(); ++i) CHECK(slide(split, tokens[i]) == wanted[i - 4999]);
    }
  }
}

TEST_CASE("tokens that choose together are planned whole, wherever a text is split, edited or lost",
          "[runtime][policy]") {
  const auto tokens = some_tokens(2000);
  auto edited = tokens;
  edited[1234] = (edited[1234] + 1) % kTinyVocab;
  int n_paged = 0;
  for (const std::string arch : {"llama", "gemma2", "qwen3next"}) {
    const auto model = load_tiny(arch);
    for (const char* policy : kTiled) {
      CAPTURE(arch, policy);
      auto options = options_of(policy);
      auto whole = open_tiny_session(model, options);
      REQUIRE(whole.attention()->reads_by_tile());
      const auto wanted = ask(whole, tokens);
      // Where the last layer is the one that attends, text has nothing to choose.
      CHECK((whole.attention_stats().scanned_bytes > 0 || arch == "qwen3next"));
      whole.clear();
      const auto after_edit = ask(whole, edited);
      CHECK(after_edit != wanted);
      // Batches smaller than a block, pieces that end anywhere.
      options.batch = 10;
      auto split = open_tiny_session(model, options);
      for (const int64_t end : {1, 70, 128, 700, 701, 900}) {
        REQUIRE(split.sync({tokens.data(), static_cast<size_t>(end)}, {}, INT64_MAX).has_value());
      }
      CHECK(ask(split, tokens) == wanted);
      CHECK(ask(split, edited) == after_edit);
      CHECK(ask(split, tokens) == wanted);
      // What a disk loses is planned as it was; under the smallest cap there is.
      options.paging = on_disk(5, storage::Fault::kFlipOnWrite, 20);
      const uint64_t all = model->state_bytes(whole.options().cache, kTinyContext);
      for (options.max_state_bytes = 65536; options.max_state_bytes < all; options.max_state_bytes += 16384) {
        auto paged = Session::open(model, options);
        if (!paged.has_value()) continue;
        CHECK(paged->page_store() != nullptr);
        CHECK(ask(*paged, tokens) == wanted);
        ++n_paged;
        break;
      }
    }
  }
  CHECK(n_paged >= 1);
}

TEST_CASE("a budget of the whole context is dense attention, bit for bit", "[runtime][policy]") {
  const auto tokens = some_tokens(2000);
  const auto model = load_tiny("llama");
  auto options = options_of("dense");
  auto dense = open_tiny_session(model, options);
  const auto want = run(dense, tokens, kText);
  for (const char* policy : {"select", "quest", "hip", "rekv", "longheads", "infllm", "infinitehip", "sparf",
                             "select-blocks", "select-mean", "shared-blocks", "levels", "levels-head"}) {
    options.policy = {policy, "dense", kTinyContext};
    options.policy.rows = own_rows();
    auto session = open_tiny_session(model, options);
    CAPTURE(policy);
    CHECK(run(session, tokens, 500) == want);
  }
  // While it is read, too.
  auto rows = std::make_shared<attention::PolicyRows>();
  const auto own = own_rows();
  std::vector<attention::Policy> all(attention::policies().begin(), attention::policies().end());
  all.insert(all.end(), own->rows.begin(), own->rows.end());
  for (attention::Policy row : all) {
    if (row.read.role != attention::Role::kSelect) continue;
    row.name += "-all";
    row.read.blocks = kTinyContext / 64;
    rows->rows.push_back(row);
    options.policy = {row.name, "auto", kTinyContext};
    options.policy.rows = rows;
    auto session = open_tiny_session(model, options);
    CAPTURE(row.name);
    CHECK(session.attention()->read.role == attention::Role::kSelect);
    CHECK(run(session, tokens, 500) == want);
  }
  CHECK(rows->rows.size() >= 3);
  options.policy = {"select", "dense", 256};
  auto selecting = open_tiny_session(model, options);
  CHECK(run(selecting, tokens, 500) != want);
}

TEST_CASE("auto is dense up to the trained context and chooses past it", "[runtime][policy]") {
  const auto model = load_tiny("llama");
  const int64_t trained = model->config().n_ctx_train;
  const auto tokens = some_tokens(trained + 2000);
  const auto with = [&](const char* policy) {
    auto options = options_of(policy);
    options.n_ctx = trained + 2000;
    return open_tiny_session(model, options);
  };
  auto dense = with("dense"), session = with("auto");
  REQUIRE(session.attention() != nullptr);
  CHECK(session.attention()->dense_until == trained);
  const std::vector<Token> part(tokens.begin(), tokens.begin() + trained);
  CHECK(ask(session, part, trained / 2) == ask(dense, part, trained / 2));
  CHECK(ask(session, tokens, trained + 1900) != ask(dense, tokens, trained + 1900));
}

TEST_CASE("layers that do not look back stream, and keep no index", "[runtime][policy]") {
  const auto tokens = some_tokens(2000);
  const auto model = load_tiny("llama");
  const auto n_layers = model->config().n_layers;
  REQUIRE(n_layers >= 2);
  const auto with = [&](const char* policy, const std::string& layers) {
    auto options = options_of(policy);
    options.policy.layers = layers;
    return open_tiny_session(model, options);
  };
  auto all = with("select", "all"), named = with("select", "0-" + std::to_string(n_layers - 1));
  const auto want = run(all, tokens, kText);
  CHECK(run(named, tokens, 500) == want);
  auto first = with("select", "0");
  CHECK(run(first, tokens, 500) != want);
  CHECK(model->state_bytes(first.options().cache, 2000) < model->state_bytes(all.options().cache, 2000));
  const std::string refused[] = {"", "5,", "x", "1-0", "-1", "0,,1", std::to_string(n_layers), "0 1"};
  for (const std::string& layers : refused) {
    auto options = options_of("select");
    options.policy.layers = layers;
    const auto session = Session::open(model, options);
    CAPTURE(layers);
    REQUIRE_FALSE(session.has_value());
    CHECK(session.error().code == Code::kInvalidArgument);
  }
}

TEST_CASE("pages on a disk that loses them change nothing in what a policy gives", "[runtime][policy][paging]") {
  const auto tokens = some_tokens(2000);
  for (const std::string arch : {"llama", "gemma2"}) {
    const auto model = load_tiny(arch);
    for (const char* policy : {"stream", "select", "quest", "flexprefill-small", "xattention-small", "minference-small",
                               "select-blocks", "recall-blocks", "levels-head", "sparf"}) {
      auto memory = open_tiny_session(model, options_of(policy));
      const auto want = run(memory, tokens, kText);
      for (const auto fault : {storage::Fault::kShortRead, storage::Fault::kFlipOnWrite}) {
        CAPTURE(arch, policy, storage::fault_name(fault));
        auto options = options_of(policy);
        options.n_ctx = 1 << 18;  // far more than fits
        options.paging = on_disk(7, fault, 20);
        std::optional<Session> paged;
        for (options.max_state_bytes = 65536; !paged.has_value(); options.max_state_bytes += 16384) {
          auto made = Session::open(model, options);
          if (made.has_value()) paged.emplace(std::move(made).value());
        }
        REQUIRE(paged->page_store() != nullptr);
        CHECK(run(*paged, tokens, 400) == want);
        if (arch == "llama") CHECK(paged->page_store()->io_stats().bytes_written > 0);
      }
    }
  }
}

TEST_CASE("a session that chooses is saved and restored with its index", "[runtime][policy]") {
  const auto tokens = some_tokens(2000);
  const test::TempDir dir;
  const std::string path = dir.path() + "/s.ses";
  for (const std::string arch : {"llama", "gemma2"}) {
    const auto model = load_tiny(arch);
    for (const char* policy : {"stream", "select", "xattention-small", "select-blocks", "select-mean", "levels-head"}) {
      CAPTURE(arch, policy);
      auto saver = open_tiny_session(model, options_of(policy));
      REQUIRE(saver.sync({tokens.data(), kText}, {}, INT64_MAX).has_value());
      REQUIRE(saver.save(posix_file_system(), path).has_value());
      auto restored = open_tiny_session(model, options_of(policy));
      REQUIRE(restored.load(posix_file_system(), path).has_value());
      CHECK(restored.tokens().size() == kText);
      CHECK(ask(restored, tokens) == ask(saver, tokens));
      auto fresh = open_tiny_session(model, options_of(policy));
      CHECK(ask(fresh, tokens) == ask(saver, tokens));
    }
  }
}

TEST_CASE("a session file with another index, or none, gets the one that is wanted", "[runtime][policy]") {
  const auto tokens = some_tokens(2000);
  const test::TempDir dir;
  const std::string path = dir.path() + "/s.ses";
  const auto model = load_tiny("gemma2");
  const auto reading = [&](const char* policy) {
    auto options = options_of(policy);
    options.policy.prefill = "stream";
    auto session = open_tiny_session(model, options);
    REQUIRE(session.sync({tokens.data(), kText}, {}, INT64_MAX).has_value());
    return session;
  };
  const char* const names[] = {"stream", "select", "quest", "select-blocks", "select-mean", "levels"};
  for (const char* from : names) {
    auto saver = reading(from);
    REQUIRE(saver.save(posix_file_system(), path).has_value());
    for (const char* to : names) {
      CAPTURE(from, to);
      auto want = reading(to);
      auto options = options_of(to);
      options.policy.prefill = "stream";
      auto restored = open_tiny_session(model, options);
      REQUIRE(restored.load(posix_file_system(), path).has_value());
      CHECK(ask(restored, tokens) == ask(want, tokens));
      // And it can be saved there again.
      REQUIRE(restored.save(posix_file_system(), path).has_value());
      auto again = open_tiny_session(model, options);
      REQUIRE(again.load(posix_file_system(), path).has_value());
      REQUIRE(saver.save(posix_file_system(), path).has_value());
    }
  }
}

TEST_CASE("layers take over the blocks that another one has chosen, and need no index", "[runtime][policy]") {
  const auto tokens = some_tokens(2000);
  const auto model = load_tiny("llama");
  const int64_t n_layers = model->config().n_layers;
  REQUIRE(n_layers >= 3);
  const auto with = [&](const std::vector<attention::PlanSharing>& sharing, attention::Scope scope, int n_threads = 1) {
    auto rows = std::make_shared<attention::PolicyRows>();
    attention::Policy row;
    for (const auto& policy : attention::policies()) {
      if (policy.name == "select") row = policy;
    }
    row.name = "mine";
    row.ask.scope = scope;
    row.layers.plan_from = sharing;
    rows->rows.push_back(row);
    auto options = options_of("mine");
    options.policy.rows = rows;
    options.n_threads = options.n_threads_batch = n_threads;
    if (n_threads > 1) options.batch = 100;
    return open_tiny_session(model, options);
  };
  for (const auto scope : {attention::Scope::kLayer, attention::Scope::kHead}) {
    auto apart = with({}, scope);
    const auto want = run(apart, tokens, kText);
    // A layer whose choice is its own shares nothing.
    auto alone = with({{"1", 1}}, scope);
    CHECK(run(alone, tokens, kText) == want);
    auto shared = with({{"1-2", 0}}, scope);
    const auto found = run(shared, tokens, kText);
    CHECK(found != want);
    CHECK(model->state_bytes(shared.options().cache, 2000) < model->state_bytes(apart.options().cache, 2000));
    CHECK(shared.attention_stats().scanned_bytes < apart.attention_stats().scanned_bytes);
    CHECK(shared.attention_stats().queries == apart.attention_stats().queries);
    auto split = with({{"1,2", 0}}, scope, 3);
    CHECK(run(split, tokens, 333) == found);
  }
}

TEST_CASE("what is not read changes what a selection gives, in layers that take over blocks, too",
          "[runtime][policy]") {
  const auto tokens = some_tokens(2000);
  for (const std::string arch : {"llama", "gemma2"}) {
    const auto model = load_tiny(arch);
    std::vector<std::vector<std::vector<float>>> found;
    for (const char* policy : {"select", "select-blocks", "select-mean", "shared-blocks"}) {
      if (arch == "gemma2" && std::string(policy) == "shared-blocks") continue;
      auto session = open_tiny_session(model, options_of(policy));
      CAPTURE(arch, policy);
      found.push_back(run(session, tokens, kText));
      CHECK(std::count(found.begin(), found.end(), found.back()) == 1);
      // What it takes beside an index is planned.
      auto plain = open_tiny_session(model, options_of("select"));
      const auto more = [&](auto bytes) { return bytes(session.options().cache) - bytes(plain.options().cache); };
      const auto planned = more([&](const auto& cache) { return cache_bytes(model->config(), cache, 8192); });
      const auto held = more([&](const auto& cache) { return model->state_bytes(cache, 8192); });
      if (std::string(policy) != "shared-blocks") CHECK(planned == held);
      CHECK((planned > 0) == (std::string(policy) != "select"));
      const auto read = more([&](const auto& cache) { return cache_bytes_read(model->config(), cache, 3000); });
      CHECK((read > 0) == (planned > 0));
    }
  }
}

TEST_CASE("a coarse index that leaves all blocks changes nothing, one that leaves few reads less",
          "[runtime][policy]") {
  const auto tokens = some_tokens(2000);
  const auto own = own_rows();
  auto rows = std::make_shared<attention::PolicyRows>(*own);
  for (const int64_t shortlist : {9, 64}) {
    for (const attention::Policy& policy : own->rows) {
      attention::Policy row = policy;
      row.name += "-" + std::to_string(shortlist);
      row.read.shortlist = row.ask.shortlist = shortlist;
      rows->rows.push_back(row);
      row.name += "-one";
      row.read.coarse = row.ask.coarse = {};
      rows->rows.push_back(row);
    }
  }
  for (const std::string arch : {"llama", "gemma2"}) {
    const auto model = load_tiny(arch);
    for (const char* policy : {"levels", "levels-head", "levels-text", "levels-moc"}) {
      const auto with = [&](const std::string& name) {
        auto options = options_of(name);
        options.policy.rows = rows;
        options.policy.index = std::string(policy) == "levels-moc" ? "sub4" : "auto";
        return open_tiny_session(model, options);
      };
      CAPTURE(arch, policy);
      auto one = with(std::string(policy) + "-64-one"), all = with(std::string(policy) + "-64");
      auto few = with(std::string(policy) + "-9");
      const auto want = run(one, tokens, kText);
      CHECK(run(all, tokens, kText) == want);
      CHECK(all.attention_stats().scanned_bytes == one.attention_stats().scanned_bytes);
      CHECK(run(few, tokens, kText) != want);
      // What it takes is planned.
      const auto& cache = few.options().cache;
      CHECK(cache_bytes(model->config(), cache, 8192) == model->state_bytes(cache, 8192));
      CHECK(cache_bytes(model->config(), cache, 8192) > cache_bytes(model->config(), one.options().cache, 8192));
    }
  }
}

TEST_CASE("roles that are assigned later are those that a session is opened with", "[runtime][policy]") {
  const auto tokens = some_tokens(2000);
  const auto model = load_tiny("gemma2");
  const auto n_layers = static_cast<size_t>(model->config().n_layers);
  std::string full;
  for (size_t i = 0; i < n_layers; ++i) {
    if (model->config().layers[i].window == 0) full = std::to_string(i);
  }
  auto options = options_of("select");
  options.policy.layers = full;
  auto opened = open_tiny_session(model, options);
  const auto want = run(opened, tokens, kText);
  auto session = open_tiny_session(model, options_of("select"));
  attention::Roles roles;
  roles.looks_back.assign(n_layers, false);
  roles.looks_back[std::stoul(full)] = true;
  REQUIRE(session.assign_roles(roles).has_value());
  CHECK(run(session, tokens, kText) == want);
  // And back: nothing but the roles has changed.
  session.clear();
  REQUIRE(session.assign_roles({}).has_value());
  auto all = open_tiny_session(model, options_of("select"));
  CHECK(run(session, tokens, kText) == run(all, tokens, kText));
  // A layer without an index cannot choose.
  CHECK_FALSE(opened.assign_roles({}).has_value());
}

TEST_CASE("a damaged session is read again as it was read: text as text, the rest as asked", "[runtime][policy]") {
  const auto tokens = some_tokens(2400);
  const test::TempDir dir;
  const std::string path = dir.path() + "/s";
  const auto model = load_tiny("llama");
  auto session = open_tiny_session(model, options_of("select"));
  run(session, tokens, kText);  // of which 90 are asked
  REQUIRE(session.sync({tokens.data(), 2200}, {}, INT64_MAX).has_value());
  ask(session, {tokens.data(), 2220}, 2200);
  REQUIRE(session.save(posix_file_system(), path).has_value());
  const auto want = ask(session, tokens, 2300);

  std::ifstream in(path, std::ios::binary);
  const std::vector<char> good{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  int damaged = 0;
  for (size_t at = 9000; at < good.size(); at += 60013) {
    CAPTURE(at);
    auto bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 1);
    std::ofstream(path, std::ios::binary).write(bad.data(), static_cast<std::streamsize>(bad.size()));
    auto other = open_tiny_session(model, options_of("select"));
    const auto restored = other.load(posix_file_system(), path);
    REQUIRE(restored.has_value());
    if (other.tokens().size() > 0 && other.tokens().size() < 1900) ++damaged;
    CHECK(restored->attention == session.attention_text());
    CHECK(ask(other, tokens, 2300) == want);
  }
  CHECK(damaged > 0);
}

TEST_CASE("spans of asked tokens stay ascending and apart", "[runtime][policy]") {
  using Spans = std::vector<AskedTokens::Span>;
  const auto spans = [](const AskedTokens& asked) { return Spans(asked.spans().begin(), asked.spans().end()); };
  AskedTokens asked;
  asked.set(10, 20);
  asked.set(20, 25);
  asked.set(40, 50);
  CHECK(spans(asked) == Spans{{10, 25}, {40, 50}});
  CHECK(asked.contains(24));
  CHECK_FALSE(asked.contains(25));
  CHECK_FALSE(asked.contains(9));
  CHECK(asked.alike(0, 100) == 10);
  CHECK(asked.alike(10, 100) == 15);
  CHECK(asked.alike(25, 5) == 5);
  AskedTokens part;
  part.append(asked.spans(), 15, 45);
  CHECK(spans(part) == Spans{{15, 25}, {40, 45}});
  part.cut(20);
  CHECK(spans(part) == Spans{{15, 20}});
  part.set(5, 5);
  CHECK(spans(part) == Spans{{15, 20}});
  asked.set(12, 13);
  CHECK(spans(asked) == Spans{{10, 13}});
}
