#include "server/commands/generate.h"

#include <unistd.h>

#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/commands/interrupt.h"
#include "server/commands/local_model.h"
#include "server/commands/terminal.h"
#include "server/generation/answer_text.h"

namespace pregate {
namespace {

constexpr int kReaderLeftExitStatus = 1;

ClientRequest AsRequest(const GenerateConfig& config, std::string prompt) {
  ClientRequest request;
  if (config.raw) {
    request.prompt = std::move(prompt);
  } else {
    std::vector<ChatMessage> messages;
    if (!config.system.empty()) messages.push_back({"system", config.system});
    messages.push_back({"user", std::move(prompt)});
    request.prompt = std::move(messages);
  }
  request.max_tokens = config.max_tokens;
  request.sampling.temperature = static_cast<float>(config.temperature);
  request.sampling.top_p = static_cast<float>(config.top_p);
  request.sampling.top_k = config.top_k;
  request.seed = config.seed;
  return request;
}

std::string AsJson(const LocalAnswer& answer) {
  const RequestTiming& timing = answer.record.timing;
  nlohmann::ordered_json json;
  json["text"] = answer.text;
  json["token_ids"] = answer.token_ids;
  json["finish_reason"] = FinishName(answer.finish);
  json["usage"] = {{"prompt_tokens", answer.record.prompt_tokens},
                   {"completion_tokens", answer.record.completion_tokens}};
  json["timing"] = {
      {"prefill_seconds", absl::ToDoubleSeconds(timing.prefill)},
      {"time_to_first_token_seconds", absl::ToDoubleSeconds(timing.time_to_first_token)},
      {"decode_seconds", absl::ToDoubleSeconds(timing.decode)},
      {"tokens_per_second", TokensPerSecond(answer.record)}};
  return absl::StrCat(json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace), "\n");
}

}  // namespace

absl::StatusOr<int> Generate(const GenerateConfig& config) {
  absl::StatusOr<std::string> prompt = TextOrInput(config.prompt);
  if (!prompt.ok()) return prompt.status();
  EngineOptions options = config.engine;
  options.max_num_seqs = 1;
  options.enable_prefix_caching = false;  // nobody comes after
  const auto model = LocalModel::Load(config.model, options, config.chat_template);
  if (!model.ok()) return model.status();
  const ServedModel& served = (*model)->served();
  if (const absl::Status chat = served.chat_status();
      !config.raw && served.engine().model().generates && !chat.ok()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "chat-template: must be given for this model, or --raw; got ", chat.message()));
  }

  CatchInterrupts();
  absl::StatusOr<LocalAnswer> answer =
      (*model)->Ask(AsRequest(config, *std::move(prompt)), [&config](const std::string& text) {
        return config.json ? absl::OkStatus() : WriteOut(text);
      });
  absl::Status status = answer.status();
  if (status.ok()) status = WriteOut(config.json ? AsJson(*answer) : "\n");
  if (absl::IsUnavailable(status)) return kReaderLeftExitStatus;
  if (!status.ok()) return status;
  if (Interrupted()) return kInterruptedExitStatus;
  const std::string figures = FiguresOf(answer->record);
  if (IsTerminal(STDERR_FILENO) && !figures.empty()) {
    std::fprintf(stderr, "\n%s\n", InColour(figures, Colour::kDim, STDERR_FILENO).c_str());
  }
  return 0;
}

}  // namespace pregate
