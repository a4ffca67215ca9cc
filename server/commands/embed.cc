#include "server/commands/embed.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "server/commands/local_model.h"
#include "server/commands/terminal.h"
#include "server/embedding/embed_job.h"
#include "server/embedding/encoding_call.h"

namespace pregate {
namespace {

InputKind KindOf(const std::string& word) {
  if (word == "query") return InputKind::kQuery;
  return word == "passage" ? InputKind::kPassage : InputKind::kPlain;
}

Pooling PoolingOf(const std::string& word) {
  if (word == "cls") return Pooling::kCls;
  if (word == "mean") return Pooling::kMean;
  return word == "last" ? Pooling::kLast : Pooling::kNone;
}

}  // namespace

absl::Status Embed(const EmbedConfig& config) {
  absl::StatusOr<std::string> text = TextOrInput(config.text);
  if (!text.ok()) return text.status();
  const auto model = LocalModel::Load(config.model, config.engine, /*chat_template=*/"");
  if (!model.ok()) return model.status();
  EmbedAsk ask;
  ask.field = std::string("prompt");
  ask.inputs.emplace_back(*std::move(text));
  ask.kind = KindOf(config.kind);
  ask.pooling = PoolingOf(config.pooling);
  ask.normalize = config.normalize;
  if (config.dimensions > 0) ask.dimensions = config.dimensions;

  const ServedModel& served = (*model)->served();
  Event& news = (*model)->news();
  const auto call =
      EncodingCall::Start(&served, PlanEmbedding(served, std::move(ask)), [&news] { news.Set(); });
  if (!call.ok()) return call.status();
  while (!(*call)->Advance()) news.Wait(absl::Seconds(1));
  const absl::StatusOr<EncodingResult> result = (*call)->TakeResult();
  if (!result.ok()) return result.status();
  const auto format = [](std::string* out, float value) {
    absl::StrAppendFormat(out, "%.9g", value);
  };
  return WriteOut(absl::StrCat("[", absl::StrJoin(result->vectors[0], ",", format), "]\n"));
}

}  // namespace pregate
