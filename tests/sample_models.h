// Where the real sample models are: deploy/fetch_model.sh puts them there.
#ifndef PREGATE_TESTS_SAMPLE_MODELS_H_
#define PREGATE_TESTS_SAMPLE_MODELS_H_

#include <cstdlib>
#include <filesystem>
#include <string>

namespace pregate {

// The path of a model in the cache ($PREGATE_MODELS or ~/.cache/pregate/models), "" when absent.
inline std::string SampleModelPath(const std::string& file) {
  std::filesystem::path folder;
  if (const char* models = std::getenv("PREGATE_MODELS")) {
    folder = models;
  } else if (const char* cache = std::getenv("XDG_CACHE_HOME")) {
    folder = std::filesystem::path(cache) / "pregate" / "models";
  } else if (const char* home = std::getenv("HOME")) {
    folder = std::filesystem::path(home) / ".cache" / "pregate" / "models";
  }
  const std::filesystem::path path = folder / file;
  return std::filesystem::exists(path) ? path.string() : "";
}

}  // namespace pregate

#endif  // PREGATE_TESTS_SAMPLE_MODELS_H_
