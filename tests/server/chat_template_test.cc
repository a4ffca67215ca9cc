// Chat templates against what jinja2 makes of them (make_chat_goldens.py).
#include "server/chat_template/chat_template.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/model/model_file.h"
#include "tests/sample_models.h"

namespace pregate {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kFolder[] = "tests/server/";

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << path;
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

const Json& Goldens() {
  static const Json* goldens =
      new Json(Json::parse(ReadFile(absl::StrCat(kFolder, "chat_goldens.json"))));
  return *goldens;
}

// FNV-1a of 64 bits, as the script writes it.
std::string Hash(const std::string& text) {
  uint64_t value = 0xCBF29CE484222325;
  for (const char c : text) value = (value ^ static_cast<uint8_t>(c)) * 0x100000001B3;
  return absl::StrFormat("%016x", value);
}

std::string Join(const std::vector<RenderedSegment>& segments) {
  std::string text;
  for (const RenderedSegment& segment : segments) text += segment.text;
  return text;
}

absl::StatusOr<std::string> Render(const std::string& source, const ChatInput& input) {
  const absl::StatusOr<ChatTemplate> chat_template = ChatTemplate::Parse(source);
  if (!chat_template.ok()) return chat_template.status();
  const absl::StatusOr<std::vector<RenderedSegment>> segments = chat_template->Render(input);
  if (!segments.ok()) return segments.status();
  return Join(*segments);
}

ChatInput MakeInput(const Json& variables) {
  ChatInput input;
  input.bos_token = Goldens()["bos_token"];
  input.eos_token = Goldens()["eos_token"];
  input.now = absl::CivilSecond(2024, 2, 29, 13, 5, 9);
  for (const auto& [name, value] : variables.items()) {
    if (name == "messages") {
      input.messages = value;
    } else if (name == "add_generation_prompt") {
      input.add_generation_prompt = value;
    } else if (name == "tools") {
      Json tools = Json::array();
      for (const Json& index : value) tools.push_back(Goldens()["tools"][index.get<size_t>()]);
      input.variables["tools"] = tools;
    } else {
      input.variables[name] = value;
    }
  }
  return input;
}

// Whether `result` is what the script recorded; `text_of` maps a text to what was kept of it.
template <typename F>
bool Agrees(const absl::StatusOr<std::string>& result, const Json& expected, const F& text_of) {
  if (expected.is_string()) return result.ok() && text_of(*result) == expected;
  if (expected.contains("refused")) {
    return result.status().code() == absl::StatusCode::kInvalidArgument &&
           result.status().message() == expected["refused"].get<std::string>();
  }
  return !result.ok();
}

void CompareRenderings(const std::string& name, const std::string& source) {
  const absl::StatusOr<ChatTemplate> chat_template = ChatTemplate::Parse(source);
  ASSERT_TRUE(chat_template.ok()) << name << ": " << chat_template.status();
  const Json& conversations = Goldens()["conversations"];
  const Json& expected = Goldens()["renderings"][name];
  ASSERT_EQ(expected.size(), conversations.size());
  int differences = 0;
  for (size_t i = 0; i < conversations.size(); ++i) {
    const absl::StatusOr<std::string> text = Render(source, MakeInput(conversations[i]));
    if (Agrees(text, expected[i], Hash)) continue;
    if (++differences > 3) continue;
    ADD_FAILURE() << "make_chat_goldens.py --show " << name << " " << i << "\nexpected "
                  << expected[i] << "; got " << (text.ok() ? *text : text.status().ToString());
  }
  EXPECT_EQ(differences, 0) << name;
}

TEST(ChatTemplate, RendersConversationsAsJinja2) {
  int count = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(absl::StrCat(kFolder, "chat_templates"))) {
    CompareRenderings(entry.path().filename().string(), ReadFile(entry.path().string()));
    ++count;
  }
  EXPECT_EQ(count, 10);
}

TEST(ChatTemplate, RendersTheTemplateInsideARealModelAsJinja2) {
  const std::string name = "SmolLM2-135M-Instruct.Q4_1.gguf";
  const std::string path = SampleModelPath(name);
  if (path.empty()) GTEST_SKIP() << name << " is not in the model cache";
  const absl::StatusOr<std::unique_ptr<ModelFile>> file = ModelFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  CompareRenderings(name, std::string((*file)->chat_template()));
}

TEST(ChatTemplate, EachConstructIsAsInJinja2) {
  for (const Json& construct : Goldens()["constructs"]) {
    const std::string source = construct[0];
    ChatInput input = MakeInput(Json::object());
    for (const auto& [name, value] : Goldens()["variables"].items()) {
      (name == "messages" ? input.messages : input.variables[name]) = value;
    }
    const absl::StatusOr<std::string> text = Render(source, input);
    EXPECT_TRUE(Agrees(text, construct[1], [](const std::string& same) { return same; }))
        << source << "\nexpected " << construct[1] << "\ngot      "
        << (text.ok() ? Json(*text).dump(-1, ' ', false, Json::error_handler_t::replace)
                      : text.status().ToString());
  }
}

}  // namespace
}  // namespace pregate
