// Metrics: what the server tells Prometheus, and the listener that tells it.
#ifndef PREGATE_SERVER_METRICS_METRICS_H_
#define PREGATE_SERVER_METRICS_METRICS_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "server/config/config.h"

namespace pregate {

// One finished answer.
struct AnswerRecord {
  FinishReason finish = FinishReason::kNone;
  bool drained = false;  // kError because the server went away, for no fault of a step
  int32_t prompt_tokens = 0;
  int32_t cached_prompt_tokens = 0;
  int32_t completion_tokens = 0;
  RequestTiming timing;
  absl::Duration end_to_end;  // arrival of the call to its last byte handed over
};

// Why a request was turned away before the engine took it.
enum class Rejection : uint8_t {
  kInvalid,
  kQueueFull,
  kDraining,
  kNotFound,
  kUnimplemented,
  kUnauthenticated
};

// Where clients connect with TLS.
enum class Listener : uint8_t { kGrpc, kHttp };

// Files that are read again when they are replaced.
enum class WatchedFiles : uint8_t { kTokens, kCertificates };

// Why a span did not reach the collector: too many waited, or it could not take it.
enum class SpanDrop : uint8_t { kQueue, kCollector };

struct Instruments;
class MetricsListener;
class MetricsPage;

// Observing takes no lock and allocates nothing: it is safe on the engine's thread, from any number
// of threads at once, and whatever a scraper does. All label values are known beforehand.
class Metrics {
 public:
  // `engine` is asked for its stats at each scrape and must outlive this. `served_model_name` is
  // the model_name label of the series under vLLM's names. What `before` has counted was not for
  // clients, and is left out.
  Metrics(const Engine* engine, std::string served_model_name, MetricsCompat compat,
          const EngineStats& before = {});
  ~Metrics();  // stops the listener
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  void ObserveStep(const StepStats& step);     // for Engine::SetStepObserver
  void ObserveInterToken(absl::Duration gap);  // between two outputs of one answer
  void ObserveAnswer(const AnswerRecord& answer);
  void CountRejection(Rejection reason);
  int64_t rejections(Rejection reason) const;  // so far
  // The server would rather have no more requests for a while.
  void SetOverloaded(bool overloaded);
  // Connections that could not agree on TLS. (gRPC's library does not tell of those that hung up
  // without a word.)
  void CountFailedHandshakes(Listener where, int64_t count);
  // The end of the server's certificate. Without a call the page has no such series.
  void SetCertificateExpiry(absl::Time not_after);
  // Whether they are in force as they are now; else they cannot be used, and older ones stay.
  // Without a call the page has no such series.
  void SetFilesInForce(WatchedFiles files, bool in_force);
  // Requests are traced. Without a call the page has no series of spans.
  void ShowSpans();
  void CountExportedSpans(int64_t count);
  void CountDroppedSpans(SpanDrop why, int64_t count);

  // The page, in Prometheus' text format.
  std::string Text() const;

  // Serves /metrics over HTTP, in plain text: no TLS. Port 0 takes any free one. Call once.
  // UNAVAILABLE when the address cannot be listened on.
  absl::Status StartServer(const std::string& host, int port);
  int port() const;  // in use; 0 before StartServer

 private:
  std::shared_ptr<Instruments> instruments_;
  std::shared_ptr<MetricsPage> page_;
  std::unique_ptr<MetricsListener> listener_;
};

}  // namespace pregate

#endif  // PREGATE_SERVER_METRICS_METRICS_H_
