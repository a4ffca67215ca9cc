#include "server/chat_template/chat_template.h"

#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/chat_template/interpreter.h"
#include "server/chat_template/parser.h"

namespace pregate {
namespace {

// The client's JSON as a value; nothing when it is nested too deeply, or holds a number or a text
// that templates cannot work with.
std::optional<Value> FromJson(const nlohmann::ordered_json& json, int depth) {
  using Type = nlohmann::ordered_json::value_t;
  if (depth >= kMaxValueDepth) return std::nullopt;
  switch (json.type()) {
    case Type::boolean:
      return Value(json.get<bool>());
    case Type::number_integer:
      return Value(json.get<int64_t>());
    case Type::number_unsigned:
      if (json.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
      return Value(json.get<int64_t>());
    case Type::number_float:
      return Value(json.get<double>());
    case Type::string:
      return Value(TaggedText(json.get_ref<const std::string&>(), true));
    case Type::array: {
      Sequence sequence;
      for (const nlohmann::ordered_json& item : json) {
        std::optional<Value> value = FromJson(item, depth + 1);
        if (!value.has_value()) return std::nullopt;
        sequence.items.push_back(*std::move(value));
      }
      return Value(std::move(sequence));
    }
    case Type::object: {
      Mapping mapping;
      for (const auto& [key, item] : json.items()) {
        std::optional<Value> value = FromJson(item, depth + 1);
        if (!value.has_value()) return std::nullopt;
        mapping.entries.emplace_back(TaggedText(key, true), *std::move(value));
      }
      return Value(std::move(mapping));
    }
    case Type::null:
      return Value(None{});
    default:
      return std::nullopt;
  }
}

std::vector<RenderedSegment> ToSegments(const TaggedText& text) {
  std::vector<RenderedSegment> segments;
  size_t at = 0;
  const auto add = [&](size_t end, bool from_client) {
    if (at < end) segments.push_back({text.bytes().substr(at, end - at), from_client});
    at = end;
  };
  for (const TaggedText::Range& range : text.client_ranges()) {
    add(range.begin, false);
    add(range.end, true);
  }
  add(text.bytes().size(), false);
  return segments;
}

absl::Status TooDeep(absl::string_view field) {
  return absl::InvalidArgumentError(
      absl::StrCat(field, ": must be JSON of 64-bit numbers, nested at most ", kMaxValueDepth,
                   " deep; got something else"));
}

}  // namespace

struct ChatTemplate::Program {
  Block block;
};

ChatTemplate::ChatTemplate(std::unique_ptr<const Program> program) : program_(std::move(program)) {}
ChatTemplate::ChatTemplate(ChatTemplate&&) = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) = default;
ChatTemplate::~ChatTemplate() = default;

absl::StatusOr<ChatTemplate> ChatTemplate::Parse(absl::string_view source) {
  absl::StatusOr<Block> block = ParseTemplate(source);
  if (!block.ok()) {
    return absl::Status(block.status().code(),
                        absl::StrCat("chat template: ", block.status().message()));
  }
  return ChatTemplate(std::make_unique<const Program>(Program{*std::move(block)}));
}

absl::StatusOr<std::vector<RenderedSegment>> ChatTemplate::Render(const ChatInput& input) const {
  std::map<std::string, Value> variables;
  // Templates test these against none.
  variables["tools"] = Value(None{});
  variables["documents"] = Value(None{});
  for (const auto& [name, json] : input.variables.items()) {
    const std::optional<Value> value = FromJson(json, 0);
    if (!value.has_value()) return TooDeep(name);
    variables[name] = *value;
  }
  const std::optional<Value> messages = FromJson(input.messages, 0);
  if (!messages.has_value()) return TooDeep("messages");
  variables["messages"] = *messages;
  variables["add_generation_prompt"] = Value(input.add_generation_prompt);
  variables["bos_token"] = Value::String(input.bos_token);
  variables["eos_token"] = Value::String(input.eos_token);

  Interpreter interpreter(input.now);
  absl::StatusOr<TaggedText> text = interpreter.Render(program_->block, std::move(variables));
  if (!text.ok()) return text.status();
  return ToSegments(*text);
}

}  // namespace pregate
