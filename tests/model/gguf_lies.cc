#include "tests/model/gguf_lies.h"

#include <gmock/gmock.h>
#include <sys/resource.h>

#include <algorithm>

#include "engine/model/model_contents.h"

namespace pregate {
namespace {

int64_t PeakKilobytes() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

}  // namespace

void ExpectRefusal(GgufWriter writer, const Lie& lie) {
  lie.tell(writer);
  const std::string file = writer.Build();
  [[maybe_unused]] const int64_t before = PeakKilobytes();
  const absl::StatusOr<ModelContents> model = ReadGgufModel(file);
  ASSERT_EQ(model.status().code(), lie.code) << model.status();
  EXPECT_THAT(std::string(model.status().message()), testing::HasSubstr(lie.says));
  EXPECT_THAT(std::string(model.status().message()), testing::HasSubstr("; got "));
#if !defined(__SANITIZE_ADDRESS__)  // the sanitizer keeps freed memory
  EXPECT_LE(PeakKilobytes() - before, 16 * 1024);
#endif
}

std::vector<Lie> SizeLies(const std::string& key) {
  std::string name = "V6_" + key.substr(key.find('.') + 1);
  std::replace(name.begin(), name.end(), '.', '_');
  return {
      {name + "_0", [=](auto& w) { w.SetU32(key, 0); }, kMalformed, key},
      {name + "_negative", [=](auto& w) { w.SetI32(key, -4); }, kMalformed, key},
      {name + "_string", [=](auto& w) { w.SetString(key, "4"); }, kMalformed,
       key + ": must be an integer; got string"},
      {name + "_float", [=](auto& w) { w.SetF32(key, 4); }, kMalformed,
       key + ": must be an integer; got float32"},
      {name + "_2p32", [=](auto& w) { w.SetU64(key, uint64_t{1} << 32); }, kMalformed, key},
      {name + "_2p64m1", [=](auto& w) { w.SetU64(key, kMax64); }, kMalformed, key},
  };
}

}  // namespace pregate
