#include "server/client/options.h"

#include <CLI/CLI.hpp>

namespace pregate {

std::variant<ClientOptions, int> ParseClientOptions(int argc, const char* const* argv) {
  ClientOptions options;
  CLI::App app("Asks a Pregate server and writes the answer as it comes.", "pregate-client");
  app.set_help_flag("--help", "this");
  app.add_option("--target", options.target, "address of the server")
      ->type_name("HOST:PORT")
      ->capture_default_str();
  app.add_option("--api-key-file", options.api_key_file,
                 "send the first token of this file (else that in PREGATE_API_KEY)")
      ->type_name("FILE");
  app.add_flag("--tls", options.tls, "the server speaks TLS");
  app.add_option("--ssl-ca-certs", options.ssl_ca_certs,
                 "TLS; trust these authorities (else the system's)")
      ->type_name("FILE");
  CLI::Option* certificate =
      app.add_option("--ssl-certfile", options.ssl_certfile, "TLS; show this certificate")
          ->type_name("FILE");
  CLI::Option* key =
      app.add_option("--ssl-keyfile", options.ssl_keyfile, "its key")->type_name("FILE");
  certificate->needs(key);
  key->needs(certificate);
  app.add_option("--wait", options.wait_seconds, "wait so long for the server to be ready")
      ->type_name("SECONDS")
      ->check(CLI::NonNegativeNumber);
  CLI::Option* chat = app.add_option("--chat", options.chat, "ask this")->type_name("TEXT");
  CLI::Option* text = app.add_option("--text", options.text, "continue this")->type_name("TEXT");
  app.add_option("--system", options.system, "system message of a chat")
      ->type_name("TEXT")
      ->needs(chat);
  app.add_option("--max-tokens", options.max_tokens, "length of the answer")->type_name("N");
  app.add_option("--temperature", options.temperature, "0: always the likeliest token")
      ->type_name("X");
  app.add_option("--seed", options.seed, "of the random numbers")->type_name("N");
  app.add_option("--stop", options.stop, "end before this text; may be repeated")
      ->type_name("TEXT")
      ->expected(1)
      ->take_all();
  chat->excludes(text);
  // The library throws what it has to say.
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  options.tls = options.tls || !options.ssl_ca_certs.empty() || !options.ssl_certfile.empty();
  if (!options.chat.has_value() && !options.text.has_value() && options.wait_seconds == 0) {
    std::fputs("pregate-client: give --chat, --text or --wait (see --help)\n", stderr);
    return 2;
  }
  return options;
}

}  // namespace pregate
