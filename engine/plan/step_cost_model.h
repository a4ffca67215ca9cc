// StepCostModel: what a step costs, learnt from the server's own steps:
//
//   seconds = fixed + per_row * rows + per_byte * bytes of expert weights read
//
// with coefficients that are not negative. Steps fall into cells by their rows and bytes. A cell
// keeps a mean over its newest steps and fades slowly, so that what light load has shown is not
// forgotten under heavy load, where rows and bytes no longer vary; the line is fitted to the cells
// by weighted least squares. One step counts at most `kClip` times its cell's mean, so a pause of
// the machine moves little. Pure and deterministic.
#ifndef PREGATE_ENGINE_PLAN_STEP_COST_MODEL_H_
#define PREGATE_ENGINE_PLAN_STEP_COST_MODEL_H_

#include <array>
#include <cstdint>

namespace pregate {

struct StepCost {
  double fixed = 0;     // seconds
  double per_row = 0;   // seconds
  double per_byte = 0;  // seconds, of expert weights read
  double Seconds(double rows, double bytes) const {
    return fixed + per_row * rows + per_byte * bytes;
  }
};

class StepCostModel {
 public:
  static constexpr double kClip = 3;

  // `total_bytes`: of all expert weights; at least 1.
  explicit StepCostModel(int64_t total_bytes);

  // A step took `seconds`, what it waited for loads not counted.
  void Observe(int32_t rows, int64_t bytes, double seconds);
  // `bytes` were loaded in `seconds`.
  void ObserveLoad(int64_t bytes, double seconds);

  // Whether there have been steps enough to say anything.
  bool ready() const { return observed_ >= kEnough; }
  const StepCost& cost() const { return cost_; }
  // Of loading a byte; what was seen, or 0.
  double load_seconds_per_byte() const { return load_; }

 private:
  static constexpr int64_t kEnough = 32;
  static constexpr int32_t kByteCells = 8;
  static constexpr int32_t kRowCells = 16;  // by doublings

  // Weighted means of a cell's steps, in scaled units.
  struct Cell {
    double weight = 0;
    double rows = 0;
    double bytes = 0;
    double seconds = 0;
  };

  void Fit();

  double total_bytes_;
  int64_t observed_ = 0;
  std::array<Cell, kByteCells * kRowCells> cells_;
  StepCost cost_;
  double load_ = 0;
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_PLAN_STEP_COST_MODEL_H_
