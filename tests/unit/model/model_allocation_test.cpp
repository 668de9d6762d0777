// Decoding inside a block of the cache allocates nothing, for every architecture. This file replaces operator new of
// its executable to count.
#include <atomic>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <new>

#include "tests/support/model_runner.hpp"
#include "tests/support/tiny_model.hpp"

namespace {
std::atomic<int64_t> allocations{0};

void* counted(std::size_t size) noexcept {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return std::malloc(size == 0 ? 1 : size);
}

void* counted_or_throw(std::size_t size) {
  void* p = counted(size);
  if (p == nullptr) throw std::bad_alloc();
  return p;
}
}  // namespace

// Every form that a plain delete may have to free: AddressSanitizer brings its own of those left out, and tells of the
// mixture.
void* operator new(std::size_t size) { return counted_or_throw(size); }
void* operator new[](std::size_t size) { return counted_or_throw(size); }
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return counted(size); }
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept { return counted(size); }
void operator delete(void* p) noexcept { std::free(p); }
void operator delete[](void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t) noexcept { std::free(p); }
void operator delete(void* p, const std::nothrow_t&) noexcept { std::free(p); }
void operator delete[](void* p, const std::nothrow_t&) noexcept { std::free(p); }

namespace lcrun::testing {

TEST_CASE("decode steps inside a cache block allocate nothing", "[model]") {
  for (const std::string& arch : tiny_archs()) {
    CAPTURE(arch);
    TinyOptions options;
    options.arch = arch;
    ModelRunner runner(open_tiny(tiny_recipe(options)));
    runner.run(random_tokens(10, kTinyVocab, 1));
    const model::Model& model = runner.model();
    model::StepOptions step_options;
    step_options.cache = {DType::kF32, DType::kF32};
    step_options.max_rows = 1;
    model::Step step = model.plan(step_options).value();
    std::vector<float> logits(kTinyVocab);
    bool ok = true;
    int64_t before = 0;
    for (int32_t token = 0; token < 20; ++token) {
      if (token == 1) before = allocations.load();
      const int32_t tokens[] = {token};
      const auto hidden = model.forward(tokens, runner.state(), step);
      ok = ok && hidden.has_value();
      if (ok) model.logits(hidden.value(), MatView{logits.data(), 1, kTinyVocab, kTinyVocab}, step);
    }
    const int64_t after = allocations.load();
    REQUIRE(ok);
    CHECK(after - before == 0);
  }
}

}  // namespace lcrun::testing
