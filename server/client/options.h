// What `pregate-client` was asked to do.
#ifndef PREGATE_SERVER_CLIENT_OPTIONS_H_
#define PREGATE_SERVER_CLIENT_OPTIONS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace pregate {

struct ClientOptions {
  std::string target = "127.0.0.1:8001";
  std::string api_key_file;  // whose first token is sent; empty: PREGATE_API_KEY, if there is one
  bool tls = false;          // asked for by itself or by any of the files below
  std::string ssl_ca_certs;  // who may have signed the server's certificate; empty: the system's
  std::string ssl_certfile;  // shown to the server; empty: none
  std::string ssl_keyfile;
  double wait_seconds = 0;  // for the server to say SERVING; 0: it must be there

  // At most one of the two.
  std::optional<std::string> chat;
  std::optional<std::string> text;
  std::string system;  // of a chat; empty: none

  std::optional<int64_t> max_tokens;
  std::optional<float> temperature;
  std::optional<uint64_t> seed;
  std::vector<std::string> stop;
};

// Reads the command line; or the exit status, when help was asked for or it cannot be read, which
// has been said then.
std::variant<ClientOptions, int> ParseClientOptions(int argc, const char* const* argv);

}  // namespace pregate

#endif  // PREGATE_SERVER_CLIENT_OPTIONS_H_
