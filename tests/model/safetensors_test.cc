// Safetensors files: the error list of the format's own reader (reliability rows V37, E12).
#include "engine/model/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tests/model/gguf_writer.h"

namespace pregate {
namespace {

std::string File(const std::string& header, size_t data_bytes) {
  return Bytes<uint64_t>(header.size()) + header + std::string(data_bytes, 'd');
}

std::string Entry(const std::string& name, const std::string& type, const std::string& shape,
                  const std::string& offsets) {
  return absl::StrCat("\"", name, "\":{\"dtype\":\"", type, "\",\"shape\":", shape,
                      ",\"data_offsets\":", offsets, "}");
}

std::string Object(const std::vector<std::string>& members) {
  return absl::StrCat("{", absl::StrJoin(members, ","), "}");
}

TEST(Safetensors, ReadsTensorsInTheOrderOfTheirData) {
  const std::string header =
      Object({"\"__metadata__\":{\"format\":\"pt\"}", Entry("b", "F16", "[3]", "[16,22]"),
              Entry("a", "F32", "[2,2]", "[0,16]"), Entry("empty", "F32", "[0]", "[0,0]"),
              Entry("scalar", "I64", "[]", "[22,30]")});
  const std::string file = File(header + "  ", 30);
  const auto tensors = ParseSafetensors(file, "x.safetensors");
  ASSERT_TRUE(tensors.ok()) << tensors.status();
  ASSERT_EQ(tensors->size(), 4u);
  EXPECT_EQ((*tensors)[0].name, "empty");
  EXPECT_EQ((*tensors)[1].name, "a");
  EXPECT_EQ((*tensors)[1].dtype, DType::kF32);
  EXPECT_THAT((*tensors)[1].shape, testing::ElementsAre(2, 2));
  EXPECT_EQ((*tensors)[1].data.size(), 16u);
  EXPECT_EQ((*tensors)[1].data.data(), file.data() + file.size() - 30);
  EXPECT_EQ((*tensors)[2].name, "b");
  EXPECT_EQ((*tensors)[3].dtype, std::nullopt);
  EXPECT_EQ((*tensors)[3].type, "I64");
}

struct Broken {
  std::string error;  // the name that the format's own reader gives it
  std::string file;
  std::string says;
};

std::vector<Broken> BrokenFiles() {
  const auto one = [](const std::string& type, const std::string& shape, const std::string& offsets,
                      size_t bytes) {
    return File(Object({Entry("t", type, shape, offsets)}), bytes);
  };
  std::vector<std::string> many;
  for (int i = 0; i < 70000; ++i) many.push_back(Entry(absl::StrCat(i), "F32", "[0]", "[0,0]"));
  return {
      {"HeaderTooSmall", "", "truncated"},
      {"HeaderTooSmall", "1234567", "truncated"},
      {"HeaderTooLarge", Bytes(std::numeric_limits<uint64_t>::max()) + "{}", "at most 100000000"},
      {"HeaderTooLarge", Bytes(uint64_t{100'000'001}) + "{}", "at most 100000000"},
      {"InvalidHeaderLength", Bytes(uint64_t{3}) + "{}", "truncated"},
      {"InvalidHeaderStart", File(" {}", 0), "must start with '{'"},
      {"InvalidHeaderStart", File("", 0), "must start with '{'"},
      {"InvalidHeader", File("{\"\xFF\":1}", 0), "JSON in UTF-8"},
      {"InvalidHeaderDeserialization", File("{", 0), "JSON"},
      {"InvalidHeaderDeserialization", File("{}x", 0), "JSON"},
      {"InvalidHeaderDeserialization", File("{\"t\":1}", 0), "got a number"},
      {"InvalidHeaderDeserialization", File("{\"t\":null}", 0), "got null"},
      {"InvalidHeaderDeserialization", File("{\"t\":[]}", 0), "got an array"},
      {"InvalidHeaderDeserialization", File("{\"t\":{}}", 0), "must have dtype, shape"},
      {"InvalidHeaderDeserialization", File("{\"t\":{\"dtype\":{}}}", 0), "got an object"},
      {"InvalidHeaderDeserialization", File("{\"t\":{\"other\":1}}", 0), "members of a tensor"},
      {"InvalidHeaderDeserialization", File("{\"t\":{\"dtype\":\"F32\",\"dtype\":\"F32\"}}", 0),
       "members must be unique"},
      {"InvalidHeaderDeserialization", File("{\"__metadata__\":{\"a\":1}}", 0), "got a number"},
      {"InvalidHeaderDeserialization", File(std::string(200000, '{'), 0), "JSON"},
      {"InvalidHeaderDeserialization", File("{\"t\":" + std::string(200000, '['), 0), "an array"},
      {"InvalidHeaderDeserialization", one("F32", "[-1]", "[0,4]", 4), "integers in [0, 2^64)"},
      {"InvalidHeaderDeserialization", one("F32", "[1.0]", "[0,4]", 4), "integers in [0, 2^64)"},
      {"InvalidHeaderDeserialization", one("F32", "[18446744073709551616]", "[0,4]", 4),
       "integers in [0, 2^64)"},
      {"InvalidHeaderDeserialization", one("F32", "[1]", "[0]", 4), "two numbers"},
      {"InvalidHeaderDeserialization", one("F32", "[1]", "[0,4,8]", 4), "two numbers"},
      {"InvalidHeaderDeserialization", one("F33", "[1]", "[0,4]", 4), "dtype"},
      {"DuplicateName",
       File(Object({Entry("t", "F32", "[1]", "[0,4]"), Entry("t", "F32", "[1]", "[4,8]")}), 8),
       "names must be unique"},
      {"TooManyTensors", File(Object(many), 0), "at most 65536 tensors"},
      {"InvalidOffset", one("F32", "[1]", "[4,0]", 4), "data_offsets"},
      {"InvalidOffset", one("F32", "[1]", "[0,5]", 4), "data_offsets"},
      {"InvalidOffset", one("F32", "[1]", "[4,8]", 8), "must start at 0"},
      {"InvalidOffset", one("F32", "[1]", "[18446744073709551612,0]", 4), "data_offsets"},
      {"InvalidOffset",
       File(Object({Entry("a", "F32", "[2]", "[0,8]"), Entry("b", "F32", "[2]", "[4,12]")}), 12),
       "tensor b.data_offsets: must start at 8"},
      {"InvalidOffset",
       File(Object({Entry("a", "F32", "[2]", "[0,8]"), Entry("b", "F32", "[2]", "[0,8]")}), 8),
       "must start at 8"},
      {"TensorInvalidInfo", one("F32", "[2]", "[0,4]", 4), "dtype and shape make 8 bytes"},
      {"TensorInvalidInfo", one("F32", "[]", "[0,8]", 8), "dtype and shape make 4 bytes"},
      {"ValidationOverflow", one("F32", "[4194305,4194305,211106198978564]", "[0,16]", 16), "size"},
      {"ValidationOverflow", one("U8", "[4294967296,4294967296]", "[0,0]", 0), "size"},
      {"ValidationOverflow", one("F32", "[0,9223372036854775808]", "[0,0]", 0), "2^63"},
      {"MisalignedSlice", one("F4", "[3]", "[0,1]", 1), "whole bytes"},
      {"MetadataIncompleteBuffer", one("F32", "[1]", "[0,4]", 5), "must cover all 5 bytes"},
      {"MetadataIncompleteBuffer", File("{}", 1), "must cover all 1 bytes"},
  };
}

TEST(Safetensors, BrokenFilesAreRefused) {
  for (const Broken& broken : BrokenFiles()) {
    SCOPED_TRACE(broken.error + " " + broken.file.substr(0, 120));
    const std::vector<char> exact(broken.file.begin(), broken.file.end());
    const auto read = ParseSafetensors({exact.data(), exact.size()}, "x.safetensors");
    ASSERT_EQ(read.status().code(), absl::StatusCode::kInvalidArgument) << read.status();
    const std::string message(read.status().message());
    EXPECT_THAT(message, testing::StartsWith("x.safetensors: "));
    EXPECT_THAT(message, testing::HasSubstr(broken.says));
  }
}

TEST(Safetensors, EveryCutIsRefused) {
  const std::string file = File(
      Object({Entry("a", "F32", "[2,2]", "[0,16]"), Entry("b", "BF16", "[3]", "[16,22]")}), 22);
  ASSERT_TRUE(ParseSafetensors(file, "x").ok());
  for (size_t cut = 0; cut < file.size(); ++cut) {
    const std::vector<char> part(file.begin(), file.begin() + cut);
    EXPECT_EQ(ParseSafetensors({part.data(), part.size()}, "x").status().code(),
              absl::StatusCode::kInvalidArgument)
        << cut;
  }
}

}  // namespace
}  // namespace pregate
