#include "server/generation/warm_up.h"

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"

namespace pregate {
namespace {

constexpr int32_t kToken = 0;  // every vocabulary has it

// What a step's end is told to.
struct FirstStep {
  absl::Notification over;
  absl::Status status;

  void End(absl::Status how) {
    status = std::move(how);
    over.Notify();
  }
};

absl::StatusOr<uint64_t> Generate(Engine* engine, FirstStep* step) {
  GenerationRequest request;
  request.prompt = {kToken};
  request.sampling.resize(1);
  request.max_tokens = 1;
  request.ignore_eos = true;
  return engine->Submit(std::move(request), [step](const GenerationOutput& output) {
    if (output.finish == FinishReason::kNone) return;
    const bool made = output.finish == FinishReason::kLength;
    step->End(made ? absl::OkStatus() : absl::InternalError(output.detail));
  });
}

absl::StatusOr<uint64_t> Read(Engine* engine, FirstStep* step) {
  EncodingRequest request;
  request.ids = {kToken, kToken};
  if (engine->model().scores) request.second_begin = 1;
  return engine->Encode(std::move(request),
                        [step](const EncodingOutput& output) { step->End(output.status); });
}

}  // namespace

absl::Status WarmUp(Engine* engine) {
  FirstStep step;
  const absl::StatusOr<uint64_t> id =
      engine->model().generates ? Generate(engine, &step) : Read(engine, &step);
  if (!id.ok()) return id.status();
  step.over.WaitForNotification();
  engine->WaitUntilIdle(absl::InfiniteDuration());
  if (step.status.ok()) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("first step: ", std::string(step.status.message())));
}

}  // namespace pregate
