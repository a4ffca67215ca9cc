#include "server/commands/local_model.h"

#include <utility>

#include "absl/strings/str_format.h"
#include "server/commands/chat_template_file.h"
#include "server/commands/interrupt.h"
#include "server/commands/progress_bar.h"
#include "server/generation/generation.h"

namespace pregate {

absl::StatusOr<std::unique_ptr<LocalModel>> LocalModel::Load(const std::string& path,
                                                             EngineOptions options,
                                                             const std::string& chat_template) {
  absl::StatusOr<std::string> source = ReadChatTemplate(chat_template);
  if (!source.ok()) return source.status();
  absl::StatusOr<SentencePrompts> prompts = ReadSentencePrompts(path);
  if (!prompts.ok()) return prompts.status();
  std::unique_ptr<LocalModel> model(new LocalModel);
  {
    ProgressBar bar("Loading");
    absl::StatusOr<std::unique_ptr<Engine>> engine =
        Engine::Create(path, options, [&bar](double share) { bar.Show(share); });
    if (!engine.ok()) return engine.status();
    model->engine_ = *std::move(engine);
  }
  model->metrics_ = std::make_unique<Metrics>(model->engine_.get(), /*served_model_name=*/"",
                                              MetricsCompat::kNone);
  model->served_ = std::make_unique<ServedModel>(
      model->engine_.get(), model->metrics_.get(),
      ServedModelOptions{
          .name = model->engine_->model().name.empty() ? path : model->engine_->model().name,
          .chat_template = *std::move(source),
          .prompts = *std::move(prompts)});
  return model;
}

absl::StatusOr<LocalAnswer> LocalModel::Ask(
    ClientRequest request, const std::function<absl::Status(const std::string&)>& write) {
  const absl::StatusOr<std::shared_ptr<Generation>> generation =
      Generation::Start(served_.get(), std::move(request), [this] { news_.Set(); });
  if (!generation.ok()) return generation.status();
  LocalAnswer answer;
  absl::Status written;
  while (!(*generation)->done()) {
    news_.Wait(absl::Milliseconds(100));  // a Ctrl-C sets no event
    if (Interrupted() || !written.ok()) (*generation)->Cancel(absl::CancelledError("interrupted"));
    for (const AnswerDelta& delta : (*generation)->Take()) {
      answer.text += delta.text;
      answer.token_ids.insert(answer.token_ids.end(), delta.token_ids.begin(),
                              delta.token_ids.end());
      if (written.ok()) written = write(delta.text);
    }
  }
  if (!written.ok()) return written;
  const absl::Status& status = (*generation)->status();
  if (!status.ok() && !absl::IsCancelled(status)) return status;
  answer.record = (*generation)->record();
  answer.finish = answer.record.finish;
  return answer;
}

std::string FiguresOf(const AnswerRecord& answer) {
  if (answer.completion_tokens == 0) return "";
  std::string figures = absl::StrFormat("%d prompt tokens in %.2f s", answer.prompt_tokens,
                                        absl::ToDoubleSeconds(answer.timing.prefill));
  if (answer.cached_prompt_tokens > 0) {
    absl::StrAppendFormat(&figures, " (%d were known)", answer.cached_prompt_tokens);
  }
  if (answer.completion_tokens > 1) {
    absl::StrAppendFormat(&figures, "; %d tokens in %.2f s, %.1f tokens/s",
                          answer.completion_tokens, absl::ToDoubleSeconds(answer.timing.decode),
                          TokensPerSecond(answer));
  }
  return figures;
}

double TokensPerSecond(const AnswerRecord& answer) {
  const double seconds = absl::ToDoubleSeconds(answer.timing.decode);
  return answer.completion_tokens > 1 && seconds > 0 ? (answer.completion_tokens - 1) / seconds : 0;
}

}  // namespace pregate
