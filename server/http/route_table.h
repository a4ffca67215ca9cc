// RouteTable: from a request's method and path to its route.
#ifndef PREGATE_SERVER_HTTP_ROUTE_TABLE_H_
#define PREGATE_SERVER_HTTP_ROUTE_TABLE_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "server/http/http_server.h"

namespace pregate {

// Immutable, safe to share between threads.
class RouteTable {
 public:
  explicit RouteTable(std::vector<HttpRoute> routes);

  struct Match {
    // The route for the method; else one with another method for the same path; null: no such path.
    const HttpRoute* route = nullptr;
    bool method_fits = false;
    std::vector<std::string> params;  // decoded
    std::string allow;                // methods of this path: "GET, HEAD"
  };
  Match Find(absl::string_view method, absl::string_view path) const;

 private:
  struct Entry {
    HttpRoute route;
    std::vector<std::string> segments;
  };
  std::vector<Entry> entries_;
};

}  // namespace pregate

#endif  // PREGATE_SERVER_HTTP_ROUTE_TABLE_H_
