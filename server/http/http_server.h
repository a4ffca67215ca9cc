// HttpServer: the listener for HTTP/1.1, with limits. It knows no API: routes are given to it.
#ifndef PREGATE_SERVER_HTTP_HTTP_SERVER_H_
#define PREGATE_SERVER_HTTP_HTTP_SERVER_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/http/http_exchange.h"
#include "server/identity/authorizer.h"
#include "server/identity/tls_files.h"

namespace pregate {

struct HttpRoute {
  std::string method;  // "GET" (HEAD follows), "POST"
  // Compared byte by byte: no form of a path but its own reaches a route. "{name}" stands for one
  // segment, "{name...}" at the end for the rest. Of several that fit, the first counts.
  std::string path;
  // Called on a worker's thread, where it may take the time to read the request, or `at_once` on an
  // I/O thread, which it must not hold up. It may keep the exchange and answer later, from any
  // thread.
  std::function<void(std::shared_ptr<HttpExchange>)> handler;
  bool at_once = false;
  HttpErrorFormat error = nullptr;                // of what is refused before the handler
  bool needs_token = true;                        // where the server has tokens at all
  std::string content_type = "application/json";  // that a body must have; "": any
};

struct HttpServerOptions {
  std::string host = "127.0.0.1";
  int port = 0;                            // 0: any free one
  const Authorizer* authorizer = nullptr;  // null: nobody needs a token
  const TlsFiles* tls = nullptr;           // null: plain text
  HttpErrorFormat error = nullptr;         // for paths that no route has

  int io_threads = 2;      // that read and write
  int worker_threads = 2;  // that run handlers
  int max_connections = 4096;
  int64_t max_body_memory = 512 << 20;  // of all requests that are being read together
  absl::Duration request_timeout = absl::Seconds(10);  // for a request to come; see Limits
  absl::Duration idle_timeout = absl::Seconds(75);     // between requests
  absl::Duration stall_timeout = absl::Seconds(30);    // of a client that does not read

  // Told of refusals that no handler has seen (no token, no such path, too large, ...). May be
  // null. Called on an I/O thread: must not block.
  std::function<void(const HttpRequest& request, const absl::Status& status)> on_refused;
  // The same for connections that end before TLS is agreed on.
  std::function<void()> on_failed_handshake;
  // Whether it will soon stop: an answer that begins then is the last of its connection, so that
  // clients which keep theirs find another server in time. May be null. Called on an I/O thread:
  // must not block.
  std::function<bool()> leaving;
};

// The library's headers stay behind this one. A fixed number of threads serves any number of
// connections, each of which belongs to one I/O thread. Limits: a request's head 8 KiB (431), its
// body kMaxBodyBytes (413); a request must come within `request_timeout`, and one more second for
// every 128 KiB of its body (408); a client that lets `stall_timeout` pass without reading while
// something is being written is given up. When there are `max_connections`, the one that has been
// idle longest makes room; when none is idle the new one gets 503. When the process has no file
// descriptors left, nothing is accepted until it has.
class HttpServer {
 public:
  // UNAVAILABLE when the address cannot be listened on, FAILED_PRECONDITION when the certificates
  // cannot be used. What `options` points to must outlive the result.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const HttpServerOptions& options,
                                                           std::vector<HttpRoute> routes);
  virtual ~HttpServer() = default;

  // The port in use.
  virtual int port() const = 0;
  virtual int connections() const = 0;

  // Accepts nothing new, closes idle connections at once and each other one after its answer, cuts
  // what is left after `grace`, and ends all threads. Call before destruction, once.
  virtual void Shutdown(absl::Duration grace) = 0;
};

}  // namespace pregate

#endif  // PREGATE_SERVER_HTTP_HTTP_SERVER_H_
