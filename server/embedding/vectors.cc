#include "server/embedding/vectors.h"

#include <cassert>
#include <cmath>
#include <cstddef>

namespace pregate {
namespace {

double Dot(const std::vector<float>& a, const std::vector<float>& b) {
  assert(a.size() == b.size());
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += double{a[i]} * b[i];
  return sum;
}

}  // namespace

void Normalize(std::vector<float>* vector) {
  const double length = std::sqrt(Dot(*vector, *vector));
  if (length == 0) return;
  for (float& value : *vector) value = static_cast<float>(value / length);
}

float Cosine(const std::vector<float>& a, const std::vector<float>& b) {
  const double lengths = std::sqrt(Dot(a, a) * Dot(b, b));
  return lengths == 0 ? 0.0f : static_cast<float>(Dot(a, b) / lengths);
}

float Sigmoid(float x) { return static_cast<float>(1 / (1 + std::exp(-double{x}))); }

}  // namespace pregate
