#include "server/metrics/bucket_edges.h"

namespace pregate {

absl::Span<const double> FirstTokenEdges() {
  static constexpr double kEdges[] = {
      0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1,  0.15, 0.2,   0.25,  0.35,
      0.5,   0.75,  1.0,   1.5,  2.5,  5.0,  7.5,  10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0};
  return kEdges;
}

absl::Span<const double> TokenGapEdges() {
  static constexpr double kEdges[] = {0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.008, 0.01,
                                      0.015, 0.02,  0.025, 0.03,  0.04,  0.05,  0.075, 0.1,
                                      0.15,  0.2,   0.3,   0.4,   0.5,   0.75,  1.0,   2.5,
                                      5.0,   7.5,   10.0,  20.0,  40.0,  80.0};
  return kEdges;
}

absl::Span<const double> LatencyEdges() {
  static constexpr double kEdges[] = {
      0.005, 0.01, 0.02, 0.05, 0.1,  0.15, 0.2,  0.3,  0.5,   0.8,   1.0,   1.5,   2.0,    2.5,
      5.0,   10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0};
  return kEdges;
}

absl::Span<const double> PhaseEdges() {
  static constexpr double kEdges[] = {1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 0.001, 0.002, 0.005, 0.01,
                                      0.02, 0.05, 0.1,  0.2,  0.5,  1.0,  2.0,   5.0,   10.0};
  return kEdges;
}

absl::Span<const double> LengthEdges() {
  static constexpr double kEdges[] = {1,     2,      5,      10,     20,      50,     100,
                                      200,   500,    1000,   2000,   5000,    10000,  20000,
                                      50000, 100000, 200000, 500000, 1000000, 2000000};
  return kEdges;
}

absl::Span<const double> StepEdges() {
  static constexpr double kEdges[] = {1,   2,    4,    8,    16,   32,    64,    128,  256,
                                      512, 1024, 2048, 4096, 8192, 16384, 32768, 65536};
  return kEdges;
}

absl::Span<const double> ExpertEdges() {
  static constexpr double kEdges[] = {1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32, 48, 64};
  return kEdges;
}

}  // namespace pregate
