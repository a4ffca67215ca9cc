#include "server/openai/unserved_fields.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "server/openai/json_fields.h"

namespace pregate {
namespace {

using nlohmann::json;

struct Unserved {
  const char* field;
  const char* neutral;  // a list of the values that ask for nothing; null always does
};

constexpr Unserved kUnserved[] = {
    // OpenAI's.
    {"audio", "[]"},
    {"best_of", "[1]"},
    {"function_call", R"(["none", "auto"])"},
    {"functions", "[[]]"},
    {"modalities", R"([["text"], []])"},
    {"moderation", "[]"},
    {"prediction", "[]"},
    {"reasoning_effort", R"(["none"])"},
    {"response_format", R"([{"type": "text"}])"},
    {"store", "[false]"},
    {"suffix", R"([""])"},
    {"tool_choice", R"(["none", "auto"])"},
    {"tools", "[[]]"},
    {"verbosity", R"(["medium"])"},
    {"web_search_options", "[]"},
    // vLLM's.
    {"add_generation_prompt", "[true]"},
    {"allowed_token_ids", "[[]]"},
    {"bad_words", "[[]]"},
    {"chat_template", "[]"},
    {"chat_template_kwargs", "[{}]"},
    {"continue_final_message", "[false]"},
    {"documents", "[[]]"},
    {"guided_choice", "[[]]"},
    {"guided_grammar", "[]"},
    {"guided_json", "[]"},
    {"guided_regex", "[]"},
    {"include_stop_str_in_output", "[false]"},
    {"length_penalty", "[1.0]"},
    {"logits_processors", "[[]]"},
    {"mm_processor_kwargs", "[{}]"},
    {"prompt_embeds", "[]"},
    {"return_token_ids", "[false]"},
    {"return_tokens_as_token_ids", "[false]"},
    {"skip_special_tokens", "[true]"},
    {"spaces_between_special_tokens", "[true]"},
    {"structured_outputs", "[]"},
    {"truncate_prompt_tokens", "[]"},
    {"use_beam_search", "[false]"},
};

}  // namespace

absl::Status UnservedError(absl::string_view field, absl::string_view rule, const json& got) {
  return absl::UnimplementedError(JsonFieldError(field, rule, got).message());
}

absl::Status RefuseUnservedFields(const json& body) {
  for (const Unserved& unserved : kUnserved) {
    const auto it = body.find(unserved.field);
    if (it == body.end() || it->is_null()) continue;
    const json neutral = json::parse(unserved.neutral);
    if (std::find(neutral.begin(), neutral.end(), *it) != neutral.end()) continue;
    std::string rule = "be absent";
    for (const json& value : neutral) absl::StrAppend(&rule, " or ", value.dump());
    return UnservedError(unserved.field, rule + ", it is not served", *it);
  }
  return absl::OkStatus();
}

}  // namespace pregate
