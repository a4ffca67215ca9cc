// What every fuzz target gives: one entry for libFuzzer, and sound inputs to start from.
#ifndef PREGATE_TESTS_FUZZ_FUZZ_TARGET_H_
#define PREGATE_TESTS_FUZZ_FUZZ_TARGET_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"

// libFuzzer's interface. Ends the process when the code under test breaks a promise.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace pregate {

// Inputs that the target accepts.
std::vector<std::string> FuzzSeeds();

// Ends the process unless `status` is what outside data may cause: OK, or one of the codes that
// ModelFile::Open documents, with "<field>: <rule>; got <value>" of a bounded length.
void ExpectTyped(const absl::Status& status);

}  // namespace pregate

#endif  // PREGATE_TESTS_FUZZ_FUZZ_TARGET_H_
