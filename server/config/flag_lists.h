// The flags of each command.
#ifndef PREGATE_SERVER_CONFIG_FLAG_LISTS_H_
#define PREGATE_SERVER_CONFIG_FLAG_LISTS_H_

#include <vector>

#include "server/config/config.h"
#include "server/config/flag.h"

namespace pregate {

// Flags that store into `config`, which must outlive them. The first is "model" or "trace", which
// the command line takes by position.
std::vector<Flag> ServeFlags(ServeConfig* config);
std::vector<Flag> ChatFlags(ChatConfig* config);
std::vector<Flag> GenerateFlags(GenerateConfig* config);
std::vector<Flag> EmbedFlags(EmbedConfig* config);
std::vector<Flag> InspectFlags(InspectConfig* config);
std::vector<Flag> BenchFlags(BenchConfig* config);
std::vector<Flag> SimulateFlags(SimulateConfig* config);

inline constexpr char kModelFlag[] = "model";
inline constexpr char kTraceFlag[] = "trace";

}  // namespace pregate

#endif  // PREGATE_SERVER_CONFIG_FLAG_LISTS_H_
