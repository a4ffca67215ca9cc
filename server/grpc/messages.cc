#include "server/grpc/messages.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/embedding/encoding_job.h"
#include "server/grpc/encoding_messages.h"

namespace pregate {
namespace {

absl::StatusOr<std::vector<ChatMessage>> ReadChat(const v1::Chat& chat) {
  if (absl::Status status = CheckCount("chat.messages", chat.messages(), kMaxChatMessages);
      !status.ok()) {
    return status;
  }
  std::vector<ChatMessage> messages;
  for (const v1::ChatMessage& message : chat.messages()) {
    messages.push_back({message.role(), message.content()});
  }
  return messages;
}

absl::Status ReadPrompt(const v1::GenerateRequest& message, int32_t max_model_len,
                        ClientRequest* request) {
  switch (message.prompt_case()) {
    case v1::GenerateRequest::kText:
      request->prompt = message.text();
      return absl::OkStatus();
    case v1::GenerateRequest::kTokenIds: {
      const auto& given = message.token_ids().ids();
      if (given.size() > max_model_len) {
        return FieldError(
            "prompt_tokens",
            absl::StrCat("be at most ", max_model_len, " (context_length_exceeded: prompt ",
                         given.size(), ", max_tokens ", request->max_tokens, ")"),
            given.size());
      }
      absl::StatusOr<std::vector<int32_t>> ids =
          ReadTokenIds("prompt_tokens", given, max_model_len);
      if (!ids.ok()) return ids.status();
      request->prompt = *std::move(ids);
      return absl::OkStatus();
    }
    case v1::GenerateRequest::kChat: {
      absl::StatusOr<std::vector<ChatMessage>> messages = ReadChat(message.chat());
      if (!messages.ok()) return messages.status();
      request->prompt = *std::move(messages);
      return absl::OkStatus();
    }
    case v1::GenerateRequest::PROMPT_NOT_SET:
      break;
  }
  return absl::OkStatus();  // said by PromptEncoder
}

void ReadNumbers(const v1::SamplingParams& from, ClientRequest* request) {
  SamplingParams& to = request->sampling;
  if (from.has_max_tokens()) request->max_tokens = from.max_tokens();
  if (from.has_min_tokens()) request->min_tokens = from.min_tokens();
  if (from.has_temperature()) to.temperature = from.temperature();
  if (from.has_top_k()) to.top_k = from.top_k();
  if (from.has_top_p()) to.top_p = from.top_p();
  if (from.has_min_p()) to.min_p = from.min_p();
  if (from.has_typical_p()) to.typical_p = from.typical_p();
  if (from.has_repetition_penalty()) to.repetition_penalty = from.repetition_penalty();
  if (from.has_presence_penalty()) to.presence_penalty = from.presence_penalty();
  if (from.has_frequency_penalty()) to.frequency_penalty = from.frequency_penalty();
  if (from.has_seed()) request->seed = from.seed();
  if (from.has_n()) request->n = from.n();
  if (from.has_logprobs()) request->logprobs = from.logprobs();
  if (from.has_prompt_logprobs()) request->prompt_logprobs = from.prompt_logprobs();
  request->ignore_eos = from.ignore_eos();
}

absl::Status ReadLists(const v1::SamplingParams& from, ClientRequest* request) {
  absl::StatusOr<std::vector<std::string>> stop = ReadStopStrings(from.stop());
  if (!stop.ok()) return stop.status();
  request->stop = *std::move(stop);

  absl::StatusOr<std::vector<int32_t>> stop_ids =
      ReadTokenIds("stop_token_ids", from.stop_token_ids(), kMaxStopIds);
  if (!stop_ids.ok()) return stop_ids.status();
  request->stop_ids = *std::move(stop_ids);

  absl::StatusOr<std::vector<int32_t>> logprob_ids =
      ReadTokenIds("logprob_token_ids", from.logprob_token_ids(), kMaxLogprobIds);
  if (!logprob_ids.ok()) return logprob_ids.status();
  request->sampling.logprob_token_ids = *std::move(logprob_ids);

  const auto& logit_bias = from.logit_bias();
  if (absl::Status status = CheckCount("logit_bias", logit_bias, kMaxLogitBias); !status.ok()) {
    return status;
  }
  for (const auto& [id, bias] : logit_bias) {
    auto& [to, value] = request->sampling.logit_bias.emplace_back(0, bias);
    if (absl::Status status = ReadTokenId("logit_bias", id, &to); !status.ok()) return status;
  }
  // The map has no order; an answer must not depend on one.
  std::sort(request->sampling.logit_bias.begin(), request->sampling.logit_bias.end());
  return absl::OkStatus();
}

absl::Status RefuseConstraint(const v1::SamplingParams& from) {
  if (from.constraint_case() == v1::SamplingParams::CONSTRAINT_NOT_SET) return absl::OkStatus();
  const auto* field = v1::SamplingParams::descriptor()->FindFieldByNumber(from.constraint_case());
  return absl::UnimplementedError(
      absl::StrCat(field->name(), ": must be absent, constraints are not served; got one"));
}

void ToMessage(const PositionLogprobs& from, const Tokenizer& tokenizer,
               v1::PositionLogprobs* message) {
  auto fill = [&tokenizer](const TokenLogprob& logprob, v1::Logprob* to) {
    to->set_token_id(logprob.token_id);
    to->set_logprob(logprob.logprob);
    to->set_token(tokenizer.TokenBytes(logprob.token_id, /*show_special=*/true));
  };
  fill(from.chosen, message->mutable_chosen());
  for (const TokenLogprob& top : from.top) fill(top, message->add_top());
  for (const TokenLogprob& wanted : from.wanted) fill(wanted, message->add_wanted());
}

v1::GenerateResponse::FinishReason ToMessage(FinishReason finish) {
  switch (finish) {
    case FinishReason::kNone:
      return v1::GenerateResponse::NONE;
    case FinishReason::kStop:
      return v1::GenerateResponse::STOP;
    case FinishReason::kLength:
      return v1::GenerateResponse::LENGTH;
    case FinishReason::kCancelled:
      return v1::GenerateResponse::CANCELLED;
    case FinishReason::kDeadline:
      return v1::GenerateResponse::DEADLINE;
    case FinishReason::kError:
      break;
  }
  return v1::GenerateResponse::ERROR;
}

}  // namespace

absl::StatusOr<ClientRequest> FromMessage(const v1::GenerateRequest& message,
                                          int32_t max_model_len) {
  const v1::SamplingParams& sampling = message.sampling();
  if (absl::Status status = RefuseConstraint(sampling); !status.ok()) return status;
  ClientRequest request;
  ReadNumbers(sampling, &request);
  if (absl::Status status = ReadLists(sampling, &request); !status.ok()) return status;
  if (absl::Status status = ReadPrompt(message, max_model_len, &request); !status.ok()) {
    return status;
  }
  request.model = message.model();
  request.request_id = message.request_id();
  request.tenant = message.tenant();
  request.parse_special = message.parse_special();
  request.priority = message.priority();
  request.stream = !message.has_stream() || message.stream();
  return request;
}

void ToMessage(const AnswerDelta& delta, const Tokenizer& tokenizer,
               v1::GenerateResponse* message) {
  message->set_index(delta.index);
  message->set_text(delta.text);
  AppendIds(delta.token_ids, message->mutable_token_ids());
  for (const PositionLogprobs& logprobs : delta.logprobs) {
    ToMessage(logprobs, tokenizer, message->add_logprobs());
  }
  for (const PositionLogprobs& logprobs : delta.prompt_logprobs) {
    ToMessage(logprobs, tokenizer, message->add_prompt_logprobs());
  }
  if (delta.finish == FinishReason::kNone) return;
  message->set_finish_reason(ToMessage(delta.finish));
  v1::Usage* usage = message->mutable_usage();
  usage->set_prompt(delta.prompt_tokens);
  usage->set_cached_prompt(delta.cached_prompt_tokens);
  usage->set_completion(delta.completion_tokens);
  ToMessage(delta.timing, message->mutable_timing());
}

void ToMessage(const RequestTiming& timing, v1::Timing* message) {
  message->set_queue(absl::ToDoubleMilliseconds(timing.queue));
  message->set_prefill(absl::ToDoubleMilliseconds(timing.prefill));
  message->set_time_to_first_token(absl::ToDoubleMilliseconds(timing.time_to_first_token));
  message->set_decode(absl::ToDoubleMilliseconds(timing.decode));
  message->set_pregate(absl::ToDoubleMilliseconds(timing.pregate));
  message->set_expert_stall(absl::ToDoubleMilliseconds(timing.expert_stall));
  message->set_distinct_experts(static_cast<uint32_t>(timing.distinct_experts));
}

void ToMessage(const ServedModel& model, v1::Model* message) {
  const ModelInfo& info = model.engine().model();
  message->set_name(model.name());
  message->set_architecture(info.architecture);
  message->set_format(info.format);
  message->set_parameters(info.num_parameters);
  message->set_weight_bytes(info.weight_bytes);
  message->set_context_length(info.context_length);
  for (const absl::string_view capability : model.capabilities()) {
    message->add_capabilities(std::string(capability));
  }
  message->set_embedding_size(static_cast<uint32_t>(info.embedding_size));
  message->set_pooling(ToMessage(info.pooling));
  v1::Limits* limits = message->mutable_limits();
  limits->set_max_model_len(info.max_model_len);
  limits->set_max_prompt_tokens(model.max_prompt_tokens());
  limits->set_vocab_size(info.vocab_size);
  limits->set_max_answers(kMaxAnswers);
  limits->set_max_message_bytes(kMaxMessageBytes);
  limits->set_max_inputs(kMaxInputs);
}

void AppendIds(absl::Span<const int32_t> ids, google::protobuf::RepeatedField<uint32_t>* to) {
  to->Reserve(to->size() + static_cast<int>(ids.size()));
  for (const int32_t id : ids) to->Add(id);
}

}  // namespace pregate
