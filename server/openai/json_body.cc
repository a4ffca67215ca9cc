#include "server/openai/json_body.h"

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/generation/field_error.h"

namespace pregate {
namespace {

using nlohmann::json;

// Told of values by the library's parser, which does not recurse; makes the document of them.
class Builder : public nlohmann::json_sax<json> {
 public:
  bool null() override { return Put(nullptr) != nullptr; }
  bool boolean(bool value) override { return Put(value) != nullptr; }
  bool number_integer(int64_t value) override { return Put(value) != nullptr; }
  bool number_unsigned(uint64_t value) override { return Put(value) != nullptr; }
  bool number_float(double value, const std::string& /*text*/) override {
    return Put(value) != nullptr;
  }
  bool string(std::string& value) override { return Put(std::move(value)) != nullptr; }
  bool binary(json::binary_t& /*value*/) override { return false; }  // not in a text

  bool start_object(size_t /*size*/) override { return Open(json::object()); }
  bool end_object() override { return Close(); }
  bool start_array(size_t /*size*/) override { return Open(json::array()); }
  bool end_array() override { return Close(); }

  bool key(std::string& name) override {
    const auto [it, is_new] = open_.back()->emplace(name, nullptr);
    if (!is_new) return Fail(FieldError("body", "name a field once", name));
    named_ = &*it;
    return true;
  }

  bool parse_error(size_t position, const std::string& last_token,
                   const nlohmann::detail::exception& /*error*/) override {
    return Fail(FieldError("body", absl::StrCat("be JSON (near byte ", position, ")"), last_token));
  }

  absl::StatusOr<json> Result() && {
    if (!status_.ok()) return status_;
    if (!root_.is_object()) return FieldError("body", "be a JSON object", root_.type_name());
    return std::move(root_);
  }

 private:
  // Where the value now is; null: there are too many.
  json* Put(json value) {
    if (++values_ > kMaxJsonValues) {
      Fail(FieldError("body", absl::StrCat("have at most ", kMaxJsonValues, " values"), "more"));
      return nullptr;
    }
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    json& parent = *open_.back();
    if (!parent.is_array()) {
      *named_ = std::move(value);
      return named_;
    }
    parent.push_back(std::move(value));
    return &parent.back();
  }

  bool Open(json empty) {
    if (open_.size() >= kMaxJsonDepth) {
      return Fail(
          FieldError("body", absl::StrCat("be at most ", kMaxJsonDepth, " levels deep"), "more"));
    }
    json* const value = Put(std::move(empty));
    if (value == nullptr) return false;
    open_.push_back(value);
    return true;
  }

  bool Close() {
    open_.pop_back();
    return true;
  }

  bool Fail(absl::Status status) {
    if (status_.ok()) status_ = std::move(status);
    return false;
  }

  json root_;
  std::vector<json*> open_;  // from the outermost inwards; the inner ones do not move
  json* named_ = nullptr;    // the field that the next value belongs to
  int64_t values_ = 0;
  absl::Status status_;
};

}  // namespace

absl::StatusOr<json> ParseJsonBody(absl::string_view text) {
  Builder builder;
  json::sax_parse(text.begin(), text.end(), &builder);
  return std::move(builder).Result();
}

std::string JsonText(absl::string_view text) {
  return json(std::string(text))
      .dump(-1, ' ', /*ensure_ascii=*/false, json::error_handler_t::replace);
}

}  // namespace pregate
