// What is said of the kernels covers every table and format, and agrees with what prepared weights take.
#include "src/kernels/describe.hpp"

#include <catch2/catch.hpp>
#include <string>

#include "quant/format.hpp"
#include "src/kernels/matmul.hpp"
#include "src/kernels/ops.hpp"
#include "tests/support/random_weights.hpp"

using namespace lcrun;
using namespace lcrun::kernels;

TEST_CASE("every table says who multiplies, for 1 to 16 rows without a gap", "[describe]") {
  for (const std::string& isa : built_isas()) {
    INFO(isa);
    int next = 1;
    for (const ProductChoice& choice : product_choices(isa)) {
      CHECK(choice.first_rows == next);
      CHECK(choice.last_rows >= choice.first_rows);
      CHECK(!choice.by.empty());
      next = choice.last_rows + 1;
    }
    CHECK(next == 17);
  }
  CHECK(product_choices("none").empty());
}

TEST_CASE("the bits a weight are those of prepared weights", "[describe]") {
  test::Random random(7);
  for (const quant::QuantOps& ops : quant::all_ops()) {
    INFO(quant::type_name(ops.dtype));
    PreparedForm form;
    REQUIRE(find_prepared_form(ops.dtype, form));
    const auto source = test::random_weights(ops.dtype, 32, 1024, random);
    const auto weights = Weights::prepare(source.view, 1);
    REQUIRE(weights.has_value());
    CHECK(8.0 * static_cast<double>(weights->memory_bytes()) / (32 * 1024) == Approx(form.bits_per_weight));
    CHECK(form.is_float == (form.inputs_per_scale == 0));
    CHECK(form.text().find("bits a weight") != std::string::npos);
  }
}

TEST_CASE("a format without a kernel has no form", "[describe]") {
  PreparedForm form;
  CHECK_FALSE(find_prepared_form(quant::find_type("IQ1_S")->dtype, form));
}
