// UTF-8 as RFC 3629 defines it.
#ifndef PREGATE_ENGINE_MODEL_UTF8_H_
#define PREGATE_ENGINE_MODEL_UTF8_H_

#include <string_view>

namespace pregate {

// True when `text` is a sequence of whole characters: no overlong form, no surrogate, nothing above
// U+10FFFF.
bool IsValidUtf8(std::string_view text);

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_UTF8_H_
