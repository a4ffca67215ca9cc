#include "engine/plan/workload.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numbers>

namespace pregate {
namespace {

// SplitMix64.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  // In (0, 1].
  double Uniform() {
    uint64_t x = state_ += 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return static_cast<double>(((x ^ (x >> 31)) >> 11) + 1) * 0x1.0p-53;
  }
  double Exponential() { return -std::log(Uniform()); }
  double Normal() {
    return std::sqrt(2 * Exponential()) * std::cos(2 * std::numbers::pi * Uniform());
  }

 private:
  uint64_t state_;
};

int32_t DrawLength(Random& random, double mean, const SyntheticWorkload& synthetic) {
  const double mu = std::log(mean) - synthetic.deviation * synthetic.deviation / 2;
  const double length = std::exp(mu + synthetic.deviation * random.Normal());
  return std::clamp(static_cast<int32_t>(length + 0.5), 1, synthetic.longest);
}

std::vector<uint8_t> DrawChain(Random& random, int32_t tokens, const SyntheticWorkload& synthetic) {
  std::vector<double> preference(synthetic.num_experts);
  double sum = 0;
  for (double& weight : preference) sum += weight = random.Exponential();
  std::vector<uint8_t> chain(tokens);
  for (int32_t i = 0; i < tokens; ++i) {
    if (i > 0 && random.Uniform() < synthetic.stay) {
      chain[i] = chain[i - 1];
      continue;
    }
    double left = random.Uniform() * sum;
    int32_t expert = 0;
    while (expert + 1 < synthetic.num_experts && left > preference[expert]) {
      left -= preference[expert++];
    }
    chain[i] = static_cast<uint8_t>(expert);
  }
  return chain;
}

}  // namespace

Workload DrawWorkload(const SyntheticWorkload& synthetic) {
  // Arrivals and requests are drawn apart: another rate brings the same requests.
  Random arrivals(synthetic.seed), requests(synthetic.seed ^ 0x5eed);
  Workload workload;
  workload.num_experts = synthetic.num_experts;
  double now = 0;
  for (int32_t i = 1; i <= synthetic.requests; ++i) {
    if (synthetic.rate > 0) now += arrivals.Exponential() / synthetic.rate;
    WorkloadRequest request;
    request.id = static_cast<uint64_t>(i);
    request.arrival = now;
    request.prompt = DrawLength(requests, synthetic.prompt_mean, synthetic);
    const int32_t answer = DrawLength(requests, synthetic.answer_mean, synthetic);
    request.experts = DrawChain(requests, request.prompt + answer, synthetic);
    workload.requests.push_back(std::move(request));
  }
  return workload;
}

// --- The file ---

namespace {

constexpr std::string_view kDigits =
    "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_";
constexpr int64_t kLongest = int64_t{1} << 24;  // tokens of a request

std::string Number(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.17g", value);
  return text;
}

template <typename T>
std::string List(const std::vector<T>& values) {
  std::string text = "[";
  for (const T& value : values) {
    if (text.size() > 1) text += ',';
    text += Number(static_cast<double>(value));
  }
  return text + "]";
}

// One line: a flat object of numbers, strings without escapes and lists of numbers.
class Line {
 public:
  struct Field {
    std::string_view key, text;
    std::vector<double> numbers;
    bool is_text = false;
  };

  // False: not such an object.
  bool Parse(std::string_view line) {
    rest_ = line;
    fields_.clear();
    if (!Skip('{')) return false;
    if (Skip('}')) return AtEnd();
    do {
      Field field;
      if (!String(&field.key) || !Skip(':') || !Value(&field)) return false;
      fields_.push_back(std::move(field));
    } while (Skip(','));
    return Skip('}') && AtEnd();
  }

  const Field* Find(std::string_view key) const {
    for (const Field& field : fields_) {
      if (field.key == key) return &field;
    }
    return nullptr;
  }

  // A whole number in [low, high], `otherwise` where there is none; false: another value.
  template <typename T>
  bool Whole(std::string_view key, int64_t low, int64_t high, int64_t otherwise, T* value) const {
    const Field* field = Find(key);
    double number = static_cast<double>(otherwise);
    if (field != nullptr) {
      if (field->is_text || field->numbers.size() != 1) return false;
      number = field->numbers[0];
    }
    if (number != std::floor(number) || number < static_cast<double>(low) ||
        number > static_cast<double>(high)) {
      return false;
    }
    *value = static_cast<T>(number);
    return true;
  }

  bool Seconds(std::string_view key, double* value) const {
    const Field* field = Find(key);
    if (field == nullptr) return true;
    if (field->is_text || field->numbers.size() != 1 || !(field->numbers[0] >= 0)) return false;
    *value = field->numbers[0];
    return std::isfinite(*value);
  }

  template <typename T>
  bool Wholes(std::string_view key, std::vector<T>* values) const {
    const Field* field = Find(key);
    if (field == nullptr) return true;
    for (double number : field->numbers) {
      if (number != std::floor(number) || number < 0 || number > 0x7fffffff) return false;
      values->push_back(static_cast<T>(number));
    }
    return !field->is_text;
  }

  // Digits; false where there are none to be read.
  bool Experts(std::string_view key, int32_t num_experts, std::vector<uint8_t>* experts) const {
    const Field* field = Find(key);
    if (field == nullptr || !field->is_text) return false;
    for (char digit : field->text) {
      const size_t expert = kDigits.find(digit);
      if (expert >= static_cast<size_t>(num_experts)) return false;
      experts->push_back(static_cast<uint8_t>(expert));
    }
    return true;
  }

 private:
  void Blanks() {
    while (!rest_.empty() && (rest_[0] == ' ' || rest_[0] == '\t' || rest_[0] == '\r')) {
      rest_.remove_prefix(1);
    }
  }
  bool AtEnd() {
    Blanks();
    return rest_.empty();
  }
  bool Skip(char c) {
    Blanks();
    if (rest_.empty() || rest_[0] != c) return false;
    rest_.remove_prefix(1);
    return true;
  }
  bool String(std::string_view* text) {
    if (!Skip('"')) return false;
    const size_t end = rest_.find_first_of("\"\\");
    if (end == std::string_view::npos || rest_[end] == '\\') return false;
    *text = rest_.substr(0, end);
    rest_.remove_prefix(end + 1);
    return true;
  }
  bool Number(std::vector<double>* numbers) {
    Blanks();
    const size_t length = std::min(rest_.find_first_not_of("+-.0123456789eE"), rest_.size());
    const std::string text(rest_.substr(0, std::min<size_t>(length, 40)));
    double number = 0;
    char after = 0;
    if (length > 40 || std::sscanf(text.c_str(), "%lf%c", &number, &after) != 1) return false;
    numbers->push_back(number);
    rest_.remove_prefix(length);
    return true;
  }
  bool Value(Field* field) {
    Blanks();
    field->is_text = !rest_.empty() && rest_[0] == '"';
    if (field->is_text) return String(&field->text);
    if (!Skip('[')) return Number(&field->numbers);
    if (Skip(']')) return true;
    do {
      if (!Number(&field->numbers)) return false;
    } while (Skip(','));
    return Skip(']');
  }

  std::string_view rest_;
  std::vector<Field> fields_;
};

constexpr int64_t kMost = int64_t{1} << 53;

const char* ReadRequest(const Line& line, Workload* workload) {
  WorkloadRequest request;
  if (!line.Whole("request", 0, kMost, -1, &request.id)) return "request: must be a number";
  if (!line.Seconds("arrival", &request.arrival)) return "arrival: must be seconds";
  if (!line.Experts("experts", workload->num_experts, &request.experts) ||
      request.size() > kLongest) {
    return "experts: must be a digit for each token, below the number of experts";
  }
  if (!line.Whole("prompt", 1, request.size() - 1, -1, &request.prompt)) {
    return "prompt: must leave at least one token to the answer";
  }
  if (!line.Wholes("tokens", &request.tokens) ||
      (!request.tokens.empty() && request.tokens.size() != request.experts.size())) {
    return "tokens: must be as many as experts, or none";
  }
  if (!line.Wholes("stop_ids", &request.stop_ids) ||
      !std::is_sorted(request.stop_ids.begin(), request.stop_ids.end())) {
    return "stop_ids: must be ids, ascending";
  }
  if (!line.Whole("step", -1, kMost, -1, &request.step) ||
      !line.Whole("max_tokens", 0, kLongest, 0, &request.max_tokens) ||
      !line.Whole("priority", -kLongest, kLongest, 0, &request.priority) ||
      !line.Whole("salt", 0, kMost, 0, &request.salt) ||
      !line.Whole("scored", 0, 1, 0, &request.scored)) {
    return "step, max_tokens, priority, salt, scored: out of range";
  }
  if (request.max_tokens != 0 && request.max_tokens < request.answer()) {
    return "max_tokens: must not be less than the answer has";
  }
  workload->requests.push_back(std::move(request));
  return nullptr;
}

const char* ReadStep(const Line& line, Workload* workload) {
  WorkloadStep step;
  int64_t number = 0;
  const int64_t next = static_cast<int64_t>(workload->steps.size());
  if (!line.Whole("step", next, next, -1, &number)) return "step: must follow the step before";
  std::vector<uint8_t> experts;
  const Line::Field* load_seconds = line.Find("load_seconds");
  if (load_seconds != nullptr) step.load_seconds = load_seconds->numbers;
  if (!line.Seconds("seconds", &step.seconds) || !line.Seconds("stall", &step.stall)) {
    return "seconds, stall: must be seconds";
  }
  if (!line.Whole("rows", 0, kLongest, 0, &step.rows)) return "rows: out of range";
  if (!line.Experts("experts", workload->num_experts, &experts) ||
      (line.Find("guessed") != nullptr &&
       !line.Experts("guessed", workload->num_experts, &step.guessed))) {
    return "experts, guessed: must be digits";
  }
  if (!line.Wholes("loaded", &step.loaded) || !line.Wholes("failed", &step.failed) ||
      step.load_seconds.size() != step.loaded.size()) {
    return "loaded, load_seconds, failed: must be lists that fit each other";
  }
  for (uint8_t expert : experts) step.experts |= uint64_t{1} << expert;
  workload->steps.push_back(std::move(step));
  return nullptr;
}

const char* ReadCancel(const Line& line, Workload* workload) {
  WorkloadCancel cancel;
  if (!line.Whole("cancel", 0, kMost, -1, &cancel.id) ||
      !line.Whole("step", 0, kMost, -1, &cancel.step) ||
      !line.Whole("in_step", 0, 1, 0, &cancel.in_step)) {
    return "cancel, step, in_step: out of range";
  }
  workload->cancels.push_back(cancel);
  return nullptr;
}

}  // namespace

std::string ReadWorkload(std::string_view text, Workload* workload) {
  *workload = {};
  Line line;
  for (int64_t number = 1; !text.empty(); ++number) {
    const size_t end = std::min(text.find('\n'), text.size());
    const char* wrong = nullptr;
    if (!line.Parse(text.substr(0, end))) {
      wrong = "must be a flat JSON object";
    } else if (number == 1) {
      int32_t version = 0;
      if (!line.Whole("pregate_trace", 1, 1, -1, &version)) {
        wrong = "pregate_trace: must be 1";
      } else if (!line.Whole("experts", 1, static_cast<int64_t>(kDigits.size()), -1,
                             &workload->num_experts)) {
        wrong = "experts: must be 1 to 64";
      }
    } else if (line.Find("request") != nullptr) {
      wrong = ReadRequest(line, workload);
    } else if (line.Find("cancel") != nullptr) {
      wrong = ReadCancel(line, workload);
    } else if (line.Find("step") != nullptr) {
      wrong = ReadStep(line, workload);
    }
    if (wrong != nullptr) return "line " + std::to_string(number) + ": " + wrong;
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  std::stable_sort(workload->requests.begin(), workload->requests.end(),
                   [](const WorkloadRequest& a, const WorkloadRequest& b) {
                     return a.step != b.step ? a.step < b.step : a.id < b.id;
                   });
  std::stable_sort(
      workload->cancels.begin(), workload->cancels.end(),
      [](const WorkloadCancel& a, const WorkloadCancel& b) { return a.step < b.step; });
  return "";
}

std::string WorkloadHeader(int32_t num_experts) {
  return "{\"pregate_trace\":1,\"experts\":" + std::to_string(num_experts) + "}\n";
}

std::string ToLine(const WorkloadRequest& request) {
  std::string line = "{\"request\":" + std::to_string(request.id) +
                     ",\"arrival\":" + Number(request.arrival) +
                     ",\"step\":" + std::to_string(request.step) +
                     ",\"prompt\":" + std::to_string(request.prompt) + ",\"experts\":\"";
  for (uint8_t expert : request.experts) line += kDigits[expert];
  line += "\"";
  if (!request.tokens.empty()) line += ",\"tokens\":" + List(request.tokens);
  if (!request.stop_ids.empty()) line += ",\"stop_ids\":" + List(request.stop_ids);
  if (request.max_tokens != 0) line += ",\"max_tokens\":" + std::to_string(request.max_tokens);
  if (request.priority != 0) line += ",\"priority\":" + std::to_string(request.priority);
  if (request.salt != 0) line += ",\"salt\":" + std::to_string(request.salt);
  if (request.scored) line += ",\"scored\":1";
  return line + "}\n";
}

std::string ToLine(const WorkloadCancel& cancel) {
  return "{\"cancel\":" + std::to_string(cancel.id) + ",\"step\":" + std::to_string(cancel.step) +
         ",\"in_step\":" + (cancel.in_step ? "1" : "0") + "}\n";
}

std::string ToLine(int64_t step, const WorkloadStep& what) {
  std::string line = "{\"step\":" + std::to_string(step) + ",\"seconds\":" + Number(what.seconds) +
                     ",\"stall\":" + Number(what.stall);
  if (what.rows > 0) line += ",\"rows\":" + std::to_string(what.rows);
  line += ",\"experts\":\"";
  for (size_t expert = 0; expert < kDigits.size(); ++expert) {
    if (what.experts >> expert & 1) line += kDigits[expert];
  }
  line += "\"";
  if (!what.guessed.empty()) {
    line += ",\"guessed\":\"";
    for (uint8_t expert : what.guessed) line += kDigits[expert];
    line += "\"";
  }
  if (!what.loaded.empty()) {
    line += ",\"loaded\":" + List(what.loaded) + ",\"load_seconds\":" + List(what.load_seconds);
  }
  if (!what.failed.empty()) line += ",\"failed\":" + List(what.failed);
  return line + "}\n";
}

}  // namespace pregate
