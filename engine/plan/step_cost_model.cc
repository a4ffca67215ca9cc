#include "engine/plan/step_cost_model.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace pregate {
namespace {

constexpr double kNewestSteps = 64;  // that a cell's mean is over
constexpr double kFade = 0.9995;     // of all cells, a step
constexpr double kSureOfMean = 4;    // steps before a cell clips
constexpr int64_t kFitEvery = 8;     // steps
constexpr double kRidge = 1e-4;      // of the data's weight: what steps never show is 0
constexpr double kLoadsRemembered = 16;
constexpr int32_t kTerms = 3;

using Vector = std::array<double, kTerms>;
using Matrix = std::array<Vector, kTerms>;

// Solves the equations of the terms in `active` by elimination; the others are 0. The matrix is
// positive definite.
Vector Solve(Matrix a, Vector b, uint32_t active) {
  for (int32_t i = 0; i < kTerms; ++i) {
    if (active >> i & 1) continue;
    for (int32_t j = 0; j < kTerms; ++j) a[i][j] = a[j][i] = 0;
    a[i][i] = 1;
    b[i] = 0;
  }
  for (int32_t i = 0; i < kTerms; ++i) {
    for (int32_t j = i + 1; j < kTerms; ++j) {
      const double factor = a[j][i] / a[i][i];
      for (int32_t k = i; k < kTerms; ++k) a[j][k] -= factor * a[i][k];
      b[j] -= factor * b[i];
    }
  }
  Vector x = {};
  for (int32_t i = kTerms - 1; i >= 0; --i) {
    double rest = b[i];
    for (int32_t k = i + 1; k < kTerms; ++k) rest -= a[i][k] * x[k];
    x[i] = rest / a[i][i];
  }
  return x;
}

// x^T a x - 2 b^T x: least squares, up to a constant.
double Loss(const Matrix& a, const Vector& b, const Vector& x) {
  double loss = 0;
  for (int32_t i = 0; i < kTerms; ++i) {
    for (int32_t j = 0; j < kTerms; ++j) loss += x[i] * a[i][j] * x[j];
    loss -= 2 * b[i] * x[i];
  }
  return loss;
}

// The best solution without negative terms: it is among those of the subsets of terms.
Vector SolveNonNegative(const Matrix& a, const Vector& b) {
  Vector best = {};
  double best_loss = std::numeric_limits<double>::infinity();
  for (uint32_t active = 0; active < 1u << kTerms; ++active) {
    const Vector x = Solve(a, b, active);
    if (std::any_of(x.begin(), x.end(), [](double term) { return term < 0; })) continue;
    if (const double loss = Loss(a, b, x); loss < best_loss) {
      best = x;
      best_loss = loss;
    }
  }
  return best;
}

}  // namespace

StepCostModel::StepCostModel(int64_t total_bytes)
    : total_bytes_(static_cast<double>(std::max<int64_t>(total_bytes, 1))) {}

void StepCostModel::Observe(int32_t rows, int64_t bytes, double seconds) {
  if (rows <= 0 || seconds <= 0) return;
  const double share = std::min(static_cast<double>(bytes) / total_bytes_, 1.0);
  const int32_t row_cell =
      std::min<int32_t>(std::bit_width(static_cast<uint32_t>(rows)), kRowCells) - 1;
  const int32_t byte_cell = std::min(static_cast<int32_t>(share * kByteCells), kByteCells - 1);
  for (Cell& cell : cells_) cell.weight *= kFade;
  Cell& cell = cells_[row_cell * kByteCells + byte_cell];
  if (cell.weight > kSureOfMean) {
    seconds = std::clamp(seconds, cell.seconds / kClip, cell.seconds * kClip);
  }
  cell.weight = std::min(cell.weight, kNewestSteps - 1) + 1;
  cell.rows += (rows - cell.rows) / cell.weight;
  cell.bytes += (share - cell.bytes) / cell.weight;
  cell.seconds += (seconds - cell.seconds) / cell.weight;
  if (++observed_ % kFitEvery == 0) Fit();
}

void StepCostModel::ObserveLoad(int64_t bytes, double seconds) {
  if (bytes <= 0 || seconds <= 0) return;
  const double rate = seconds / static_cast<double>(bytes);
  load_ += load_ == 0 ? rate : (std::min(rate, kClip * load_) - load_) / kLoadsRemembered;
}

void StepCostModel::Fit() {
  // A step is judged by its relative error: a millisecond matters more in a short one.
  double most_rows = 1;
  for (const Cell& cell : cells_) most_rows = std::max(most_rows, cell.rows);
  Matrix a = {};
  Vector b = {};
  double all_weight = 0, mean = 0;
  for (const Cell& cell : cells_) {
    all_weight += cell.weight;
    mean += cell.weight * cell.seconds;
  }
  if (all_weight <= 0) return;
  mean /= all_weight;
  for (const Cell& cell : cells_) {
    if (cell.weight < 0.5) continue;
    const Vector x = {1, cell.rows / most_rows, cell.bytes};
    const double weight = cell.weight * mean / cell.seconds * mean / cell.seconds;
    for (int32_t i = 0; i < kTerms; ++i) {
      for (int32_t j = 0; j < kTerms; ++j) a[i][j] += weight * x[i] * x[j];
      b[i] += weight * x[i] * cell.seconds;
    }
  }
  for (int32_t i = 0; i < kTerms; ++i) a[i][i] += kRidge * (1 + all_weight);
  const Vector terms = SolveNonNegative(a, b);
  cost_ = {.fixed = terms[0], .per_row = terms[1] / most_rows, .per_byte = terms[2] / total_bytes_};
}

}  // namespace pregate
