#include "server/embedding/embed_job.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/embedding/vectors.h"
#include "server/generation/field_error.h"

namespace pregate {
namespace {

const std::string& PrefixOf(InputKind kind, const SentencePrompts& prompts) {
  switch (kind) {
    case InputKind::kQuery:
      return prompts.query;
    case InputKind::kPassage:
      return prompts.passage;
    case InputKind::kPlain:
      break;
  }
  return prompts.plain;
}

absl::Status Check(const ServedModel& model, const EmbedAsk& ask) {
  if (absl::Status status =
          model.CheckAddress(ask.caller.model, ask.caller.request_id, ask.caller.tenant);
      !status.ok()) {
    return status;
  }
  const int32_t width = model.engine().model().embedding_size;
  if (width == 0) {
    return absl::UnimplementedError(absl::StrCat("model: must give embeddings; got ",
                                                 Quoted(model.name()), ", which does not"));
  }
  if (ask.dimensions.has_value() && (*ask.dimensions < 1 || *ask.dimensions > width)) {
    return FieldError("dimensions", absl::StrCat("be in [1, ", width, "]"), *ask.dimensions);
  }
  return CheckInputs(ask.field, ask.inputs);
}

}  // namespace

absl::StatusOr<EncodingJob> PlanEmbedding(const ServedModel& model, EmbedAsk ask) {
  if (absl::Status status = Check(model, ask); !status.ok()) return status;
  const ModelInfo& info = model.engine().model();
  const InputReader reader(&model.tokenizer(), static_cast<int32_t>(info.max_prompt_tokens));
  const std::string& prefix = PrefixOf(ask.kind, model.prompts());

  EncodingJob job;
  job.inputs = static_cast<int32_t>(ask.inputs.size());
  for (size_t i = 0; i < ask.inputs.size(); ++i) {
    const std::string field = absl::StrCat(ask.field, "[", i, "]");
    TextOrIds& input = ask.inputs[i];
    auto* given = std::get_if<std::vector<int32_t>>(&input);
    absl::StatusOr<std::vector<int32_t>> ids =
        given != nullptr ? reader.Read(field, std::move(*given), ask.truncate)
                         : reader.Read(field, prefix, std::get<std::string>(input), ask.truncate);
    if (!ids.ok()) return ids.status();
    job.tokens += std::ssize(*ids);
    EncodingRequest request;
    request.ids = *std::move(ids);
    request.pooling = ask.pooling;
    request.priority = ask.caller.priority;
    request.cache_salt = model.CacheSalt(ask.caller.tenant);
    request.deadline = ask.caller.deadline;
    if (absl::Status status = ValidateRequest(request, info); !status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(field, ".", status.message()));
    }
    job.requests.push_back(std::move(request));
  }
  const Pooling pooling = ask.pooling == Pooling::kNone ? info.pooling : ask.pooling;
  job.finish = [pooling, tokens = job.tokens, normalize = ask.normalize,
                dimensions = ask.dimensions](std::vector<std::vector<float>> vectors) {
    EncodingResult result;
    result.pooling = pooling;
    result.tokens = tokens;
    for (std::vector<float>& vector : vectors) {
      if (dimensions.has_value()) vector.resize(static_cast<size_t>(*dimensions));
      if (normalize) Normalize(&vector);
    }
    result.vectors = std::move(vectors);
    return result;
  };
  return job;
}

}  // namespace pregate
