#include "server/commands/chat_template_file.h"

#include <fstream>

#include "absl/strings/str_cat.h"
#include "server/config/flag.h"

namespace pregate {

absl::StatusOr<std::string> ReadChatTemplate(const std::string& path) {
  if (path.empty()) return "";
  constexpr size_t kMaxBytes = 1 << 20;
  std::ifstream file(path, std::ios::binary);
  std::string text(kMaxBytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(file.gcount()));
  if (text.empty() || text.size() > kMaxBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "chat-template: must name a readable file of at most 1 MiB; got ", Shown(path)));
  }
  return text;
}

}  // namespace pregate
