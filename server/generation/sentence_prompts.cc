#include "server/generation/sentence_prompts.h"

#include <fstream>
#include <nlohmann/json.hpp>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace pregate {
namespace {

constexpr char kFile[] = "config_sentence_transformers.json";
constexpr size_t kMaxFileBytes = 1 << 20;
constexpr size_t kMaxPromptBytes = 4096;

absl::Status Broken(const std::string& path, absl::string_view rule) {
  return absl::FailedPreconditionError(absl::StrCat(path, ": must ", rule, "; got another thing"));
}

// "" where `prompts` has none of that name.
std::string PromptOf(const nlohmann::json& prompts, const std::string& name) {
  const auto found = prompts.find(name);
  return found != prompts.end() && found->is_string() ? found->get<std::string>() : "";
}

}  // namespace

absl::StatusOr<SentencePrompts> ReadSentencePrompts(const std::string& model_path) {
  const std::string path = absl::StrCat(model_path, "/", kFile);
  std::ifstream file(path, std::ios::binary);
  if (!file) return SentencePrompts();
  std::string text(kMaxFileBytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(file.gcount()));
  if (text.size() > kMaxFileBytes) return Broken(path, "be at most 1 MiB");
  const nlohmann::json config = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!config.is_object()) return Broken(path, "be a JSON object");
  const auto prompts = config.find("prompts");
  if (prompts == config.end() || prompts->is_null()) return SentencePrompts();
  if (!prompts->is_object()) return Broken(path, "have an object as prompts");

  SentencePrompts read;
  read.query = PromptOf(*prompts, "query");
  read.passage = PromptOf(*prompts, "passage");
  if (read.passage.empty()) read.passage = PromptOf(*prompts, "document");
  const auto plain = config.find("default_prompt_name");
  if (plain != config.end() && plain->is_string()) {
    read.plain = PromptOf(*prompts, plain->get<std::string>());
  }
  for (const std::string* prompt : {&read.query, &read.passage, &read.plain}) {
    if (prompt->size() > kMaxPromptBytes) return Broken(path, "have prompts of at most 4 KiB");
  }
  return read;
}

}  // namespace pregate
