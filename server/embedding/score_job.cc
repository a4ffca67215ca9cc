#include "server/embedding/score_job.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/embedding/input_reader.h"
#include "server/embedding/vectors.h"
#include "server/generation/field_error.h"

namespace pregate {
namespace {

std::string DocumentField(size_t index) { return absl::StrCat("documents[", index, "]"); }

// Builds a job whose requests belong to documents.
class ScoreJobBuilder {
 public:
  ScoreJobBuilder(const ServedModel& model, const ScoreAsk& ask)
      : model_(model),
        ask_(ask),
        reader_(&model.tokenizer(), static_cast<int32_t>(model.engine().model().max_prompt_tokens)),
        salt_(model.CacheSalt(ask.caller.tenant)) {}

  absl::StatusOr<EncodingJob> Build() {
    const bool pairs = model_.engine().model().scores;
    absl::Status status = pairs ? AddPairs() : AddTexts();
    if (!status.ok()) return status;
    job_.inputs = static_cast<int32_t>(ask_.documents.size());
    job_.finish = [pairs, tokens = job_.tokens, sigmoid = ask_.sigmoid, owners = std::move(owners_),
                   documents = ask_.documents.size()](std::vector<std::vector<float>> values) {
      EncodingResult result;
      result.tokens = tokens;
      result.scores.assign(documents, -std::numeric_limits<float>::infinity());
      for (size_t i = 0; i < owners.size(); ++i) {
        // With vectors, the first is the query's.
        const float score = pairs ? values[i][0] : Cosine(values[0], values[i + 1]);
        float& best = result.scores[static_cast<size_t>(owners[i])];
        best = std::max(best, score);
      }
      for (float& score : result.scores) score = pairs && sigmoid ? Sigmoid(score) : score;
      return result;
    };
    return std::move(job_);
  }

 private:
  // Each document beside the query.
  absl::Status AddPairs() {
    const Tokenizer& tokenizer = model_.tokenizer();
    if (!tokenizer.makes_pairs()) {
      return absl::UnimplementedError(
          "model: must have a tokenizer that joins two texts; got one that does not");
    }
    absl::StatusOr<std::vector<int32_t>> query = reader_.ReadPlain("query", ask_.query);
    if (!query.ok()) return query.status();
    const int32_t room =
        reader_.max_tokens() - static_cast<int32_t>(tokenizer.JoinPair({}, {}).ids.size());
    if (absl::Status status = FitQuery(room / 2, &*query); !status.ok()) return status;
    const int32_t left = room - static_cast<int32_t>(query->size());
    if (left < 1) return FieldError("query", "leave room for a document", ask_.query);
    for (size_t i = 0; i < ask_.documents.size(); ++i) {
      absl::StatusOr<std::vector<int32_t>> ids =
          reader_.ReadPlain(DocumentField(i), ask_.documents[i]);
      if (!ids.ok()) return ids.status();
      const auto add = [&](absl::Span<const int32_t> piece) {
        Tokenizer::Pair pair = tokenizer.JoinPair(*query, piece);
        Add(std::move(pair.ids), pair.second_begin);
      };
      if (absl::Status status = AddPieces(i, *ids, left, add); !status.ok()) return status;
    }
    return absl::OkStatus();
  }

  // The query, then the documents.
  absl::Status AddTexts() {
    const SentencePrompts& prompts = model_.prompts();
    absl::StatusOr<std::vector<int32_t>> query =
        reader_.Read("query", prompts.query, ask_.query, ask_.truncate);
    if (!query.ok()) return query.status();
    Add(*std::move(query), 0);
    const Tokenizer& tokenizer = model_.tokenizer();
    const std::vector<int32_t> prefix = tokenizer.Encode(prompts.passage, {.add_special = false});
    const int32_t left = reader_.room() - static_cast<int32_t>(prefix.size());
    if (left < 1) return FieldError("documents", "have room beside the passage prefix", left);
    for (size_t i = 0; i < ask_.documents.size(); ++i) {
      const std::string field = DocumentField(i);
      absl::StatusOr<std::vector<int32_t>> whole =
          reader_.Read(field, prompts.passage, ask_.documents[i], /*truncate=*/true);
      absl::StatusOr<std::vector<int32_t>> ids = reader_.ReadPlain(field, ask_.documents[i]);
      if (!whole.ok()) return whole.status();
      if (!ids.ok()) return ids.status();
      if (ask_.truncate || std::ssize(*ids) <= left) {
        owners_.push_back(static_cast<int32_t>(i));
        Add(*std::move(whole), 0);
        continue;
      }
      const auto add = [&](absl::Span<const int32_t> piece) {
        std::vector<int32_t> text = prefix;
        text.insert(text.end(), piece.begin(), piece.end());
        Add(reader_.Wrap(text), 0);
      };
      if (absl::Status status = AddPieces(i, *ids, left, add); !status.ok()) return status;
    }
    return absl::OkStatus();
  }

  absl::Status FitQuery(int32_t most, std::vector<int32_t>* query) const {
    if (std::ssize(*query) <= most) return absl::OkStatus();
    if (!ask_.truncate) {
      return FieldError("query", absl::StrCat("be at most ", most, " tokens, or truncate be true"),
                        static_cast<int64_t>(query->size()));
    }
    query->resize(static_cast<size_t>(std::max(most, 0)));
    return absl::OkStatus();
  }

  template <typename AddPiece>
  absl::Status AddPieces(size_t document, const std::vector<int32_t>& ids, int32_t length,
                         const AddPiece& add) {
    const auto stretches = Stretches(static_cast<int32_t>(ids.size()), length);
    const size_t count = ask_.truncate ? 1 : stretches.size();
    if (static_cast<int64_t>(count) > kMaxPiecesOfDocument) {
      return FieldError(DocumentField(document),
                        absl::StrCat("be at most ", kMaxPiecesOfDocument, " pieces of ", length,
                                     " tokens, or truncate be true"),
                        static_cast<int64_t>(count));
    }
    if (static_cast<int64_t>(owners_.size() + count) > kMaxPieces) {
      return FieldError("documents", absl::StrCat("be at most ", kMaxPieces, " pieces in all"),
                        static_cast<int64_t>(owners_.size() + count));
    }
    for (size_t i = 0; i < count; ++i) {
      owners_.push_back(static_cast<int32_t>(document));
      const auto [begin, end] = stretches[i];
      add(absl::MakeConstSpan(ids).subspan(static_cast<size_t>(begin),
                                           static_cast<size_t>(end - begin)));
    }
    return absl::OkStatus();
  }

  void Add(std::vector<int32_t> ids, int32_t second_begin) {
    job_.tokens += std::ssize(ids);
    EncodingRequest request;
    request.ids = std::move(ids);
    request.second_begin = second_begin;
    request.priority = ask_.caller.priority;
    request.cache_salt = salt_;
    request.deadline = ask_.caller.deadline;
    job_.requests.push_back(std::move(request));
  }

  const ServedModel& model_;
  const ScoreAsk& ask_;
  const InputReader reader_;
  const uint64_t salt_;
  EncodingJob job_ = {.operation = "rerank"};
  std::vector<int32_t> owners_;  // [pieces] the document of each
};

}  // namespace

absl::StatusOr<EncodingJob> PlanScoring(const ServedModel& model, ScoreAsk ask) {
  if (absl::Status status =
          model.CheckAddress(ask.caller.model, ask.caller.request_id, ask.caller.tenant);
      !status.ok()) {
    return status;
  }
  const ModelInfo& info = model.engine().model();
  if (!info.scores && info.embedding_size == 0) {
    return absl::UnimplementedError(absl::StrCat("model: must give scores or embeddings; got ",
                                                 Quoted(model.name()), ", which does not"));
  }
  if (absl::Status status = CheckTexts("documents", ask.documents); !status.ok()) return status;
  return ScoreJobBuilder(model, ask).Build();
}

}  // namespace pregate
