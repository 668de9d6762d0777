#include "ggufish/metadata.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "ggufish/printable.hpp"
#include "tests/support/raw_gguf.hpp"

using namespace lcrun;
using namespace lcrun::ggufish;
using namespace lcrun::test;

namespace {

constexpr uint32_t kArrayId = 9;

// A file that holds these keys.
struct Keys {
  explicit Keys(std::vector<RawKey> keys) {
    RawFile file;
    file.keys = std::move(keys);
    bytes = file.encode();
    auto opened = ModelFile::parse(bytes, "keys.gguf");
    REQUIRE(opened.has_value());
    model = *opened;
  }
  const Metadata& operator*() const { return model->meta(); }
  const Metadata* operator->() const { return &model->meta(); }
  Bytes bytes;
  std::shared_ptr<const ModelFile> model;
};

template <class T>
Bytes elements(std::initializer_list<T> values) {
  Bytes out;
  for (const T value : values) put(out, value);
  return out;
}

}  // namespace

TEST_CASE("integers of every width come out as the same number", "[ggufish]") {
  const Keys keys({{"u8", 0, scalar_value<uint8_t>(200), {}},
                   {"i8", 1, scalar_value<int8_t>(-100), {}},
                   {"u16", 2, scalar_value<uint16_t>(60000), {}},
                   {"i16", 3, scalar_value<int16_t>(-30000), {}},
                   {"u32", 4, scalar_value<uint32_t>(4000000000U), {}},
                   {"i32", 5, scalar_value<int32_t>(-2000000000), {}},
                   {"u64", 10, scalar_value<uint64_t>(std::numeric_limits<int64_t>::max()), {}},
                   {"i64", 11, scalar_value<int64_t>(std::numeric_limits<int64_t>::min()), {}},
                   {"big", 10, scalar_value<uint64_t>(uint64_t{1} << 63), {}}});
  CHECK(keys->get_int("u8").value() == 200);
  CHECK(keys->get_int("i8").value() == -100);
  CHECK(keys->get_int("u16").value() == 60000);
  CHECK(keys->get_int("i16").value() == -30000);
  CHECK(keys->get_int("u32").value() == 4000000000);
  CHECK(keys->get_int("i32").value() == -2000000000);
  CHECK(keys->get_int("u64").value() == std::numeric_limits<int64_t>::max());
  CHECK(keys->get_int("i64").value() == std::numeric_limits<int64_t>::min());
  CHECK(keys->get_float("i16").value() == -30000.0);
  CHECK(keys->get_int("big").error().message.find("big: found 9223372036854775808") != std::string::npos);
  CHECK_FALSE(keys->get_float("big").has_value());
}

TEST_CASE("a value of another kind is an error that names file, offset, key, found and wanted", "[ggufish]") {
  const Keys keys({{"number", 4, scalar_value<uint32_t>(2), {}},
                   {"text", 8, string_value("x"), {}},
                   {"flag", 7, scalar_value<uint8_t>(1), {}},
                   {"float", 6, scalar_value<float>(1.0F), {}},
                   {"list", kArrayId, array_value(5, 2, elements<int32_t>({1, 2})), {}}});
  const Error error = keys->get_int("text").error();
  CHECK(error.code == Code::kBadModel);
  CHECK(error.message.find("keys.gguf: offset ") == 0);
  CHECK(error.message.find("text: found string, wanted an integer") != std::string::npos);
  CHECK(keys->get_int("none").error().message == "keys.gguf: none: found nothing, wanted an integer");
  CHECK(keys->get_string("list").error().message.find("found array of 2 i32, wanted a string") != std::string::npos);
  for (const char* key : {"text", "flag", "float", "list"}) CHECK_FALSE(keys->get_int(key).has_value());
  for (const char* key : {"text", "flag", "list"}) CHECK_FALSE(keys->get_float(key).has_value());
  for (const char* key : {"number", "text", "float", "list"}) CHECK_FALSE(keys->get_bool(key).has_value());
  for (const char* key : {"number", "flag", "float", "list"}) CHECK_FALSE(keys->get_string(key).has_value());
  for (const char* key : {"number", "flag", "float", "text"}) {
    CHECK_FALSE(keys->get_ints(key).has_value());
    CHECK_FALSE(keys->get_floats(key).has_value());
    CHECK_FALSE(keys->get_strings(key).has_value());
    CHECK_FALSE(keys->is_array(key));
  }
  CHECK(keys->is_array("list"));
  CHECK_FALSE(keys->is_array("none"));
  CHECK_FALSE(keys->get_floats("list").has_value());
  CHECK_FALSE(keys->get_strings("list").has_value());
}

TEST_CASE("the forms with a fallback use it only when the key is absent", "[ggufish]") {
  const Keys keys({{"number", 4, scalar_value<uint32_t>(2), {}}, {"text", 8, string_value("x"), {}}});
  CHECK(keys->int_or("number", 9).value() == 2);
  CHECK(keys->int_or("none", 9).value() == 9);
  CHECK_FALSE(keys->int_or("text", 9).has_value());
  CHECK(keys->float_or("none", 0.5).value() == 0.5);
  CHECK_FALSE(keys->bool_or("number", true).has_value());
  CHECK(keys->bool_or("none", true).value());
}

TEST_CASE("a bool may be told as a byte of 0 or 1", "[ggufish]") {
  const Keys keys({{"yes", 0, scalar_value<uint8_t>(1), {}},
                   {"no", 1, scalar_value<int8_t>(0), {}},
                   {"two", 0, scalar_value<uint8_t>(2), {}}});
  CHECK(keys->get_bool("yes").value());
  CHECK_FALSE(keys->get_bool("no").value());
  CHECK(keys->get_bool("two").error().message.find("two: found 2, wanted 0 or 1") != std::string::npos);
}

TEST_CASE("arrays convert from every width of their kind and refuse what does not fit", "[ggufish]") {
  const Keys keys({{"i8", kArrayId, array_value(1, 2, elements<int8_t>({-1, 5})), {}},
                   {"u64", kArrayId, array_value(10, 2, elements<uint64_t>({1, uint64_t{1} << 63})), {}},
                   {"bool", kArrayId, array_value(7, 2, elements<uint8_t>({1, 0})), {}},
                   {"f64", kArrayId, array_value(12, 3, elements<double>({0.5, -INFINITY, 1e-300})), {}},
                   {"huge", kArrayId, array_value(12, 1, elements<double>({1e39})), {}},
                   {"f32", kArrayId, array_value(6, 1, elements<float>({NAN})), {}},
                   {"empty", kArrayId, array_value(8, 0, {}), {}}});
  CHECK(keys->get_ints("i8").value() == std::vector<int64_t>{-1, 5});
  CHECK(keys->get_ints("u64").error().message.find("found 9223372036854775808 at [1]") != std::string::npos);
  CHECK(keys->get_ints("bool").value() == std::vector<int64_t>{1, 0});
  CHECK(keys->get_floats("f64").value() == std::vector<float>{0.5F, -INFINITY, 0.0F});
  CHECK(keys->get_floats("huge").error().message.find("at [0]") != std::string::npos);
  CHECK(std::isnan(keys->get_floats("f32").value()[0]));
  CHECK(keys->get_strings("empty").value().empty());
}

TEST_CASE("values are shown short, in file order and without control characters", "[ggufish]") {
  Bytes words;
  for (const char* word : {"a\x1b[31m", "b\"", "c", "d", "e", "f", "g"}) put_string(words, word);
  const Keys keys({{"z.last", 8, string_value("line\nnext \xff " + std::string(5000, 'x')), {}},
                   {"words", kArrayId, array_value(8, 7, words), {}},
                   {"flag", 7, scalar_value<uint8_t>(1), {}},
                   {"real", 6, scalar_value<float>(0.5F), {}},
                   {"low", 1, scalar_value<int8_t>(-3), {}}});
  const auto entries = keys->entries();
  REQUIRE(entries.size() == 5);
  CHECK(entries[0].key == "z.last");
  CHECK(entries[0].text.find("\"line\\nnext \\xff xxx") == 0);
  CHECK(entries[0].text.size() < 120);
  CHECK(entries[1].count == 7);
  CHECK(entries[1].element_type == ValueType::kString);
  CHECK(entries[1].text == "[7] \"a\\x1b[31m\", \"b\\\"\", \"c\", \"d\", \"e\", \"f\", ...");
  CHECK(entries[2].text == "true");
  CHECK(entries[3].text == "0.5");
  CHECK(entries[4].text == "-3");
}

TEST_CASE("well-formed UTF-8 is told from what only looks like it", "[ggufish]") {
  for (const char* good :
       {"a", "\xC3\xA9", "\xE2\x82\xAC", "\xED\x9F\xBF", "\xEE\x80\x80", "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF"}) {
    CHECK(utf8_length(good) == std::string_view(good).size());
  }
  for (const char* bad : {"", "\x80", "\xC1\xBF", "\xC3", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xE2\x82",
                          "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80", "\xF0\x90\x80", "\xF8\x88\x80\x80"}) {
    CHECK(utf8_length(bad) == 0);
  }
  CHECK(printable("\xC2\x9B\x7f\t", 80) == "\\xc2\\x9b\\x7f\\t");
  CHECK(printable("\xE2\x82\xAC\xE2\x82\xAC\xE2\x82\xAC", 4) == "\xE2\x82\xAC\xE2\x82\xAC...");
}
