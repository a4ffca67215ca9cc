// Reflection: tells clients what is served, as grpc.reflection.v1 and v1alpha.
#ifndef PREGATE_SERVER_GRPC_REFLECTION_H_
#define PREGATE_SERVER_GRPC_REFLECTION_H_

#include <grpcpp/impl/codegen/service_type.h>

#include <memory>
#include <string>
#include <vector>

#include "server/grpc/gate.h"

namespace pregate {

// The two services; register both. `services`: full names of the others, whose descriptors are
// linked. `gate` must outlive the result. (The library's own reflection cannot be put behind a
// gate.)
std::vector<std::unique_ptr<grpc::Service>> MakeReflection(const Gate* gate,
                                                           std::vector<std::string> services);

}  // namespace pregate

#endif  // PREGATE_SERVER_GRPC_REFLECTION_H_
