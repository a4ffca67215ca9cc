// Who sends the spans.
#ifndef PREGATE_SERVER_TRACING_RESOURCE_H_
#define PREGATE_SERVER_TRACING_RESOURCE_H_

#include <functional>
#include <optional>
#include <string>

#include "server/tracing/span.h"

namespace pregate {

// service.name, service.version, service.instance.id, host.name, process.pid; then what the
// variables OTEL_RESOURCE_ATTRIBUTES ("key=value,...", percent-encoded) and OTEL_SERVICE_NAME of
// the environment say instead or in addition, as OpenTelemetry's own libraries have it.
Attributes ResourceOf(
    const std::function<std::optional<std::string>(const std::string& name)>& get_env);

}  // namespace pregate

#endif  // PREGATE_SERVER_TRACING_RESOURCE_H_
