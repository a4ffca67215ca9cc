// What becomes of vectors once the engine has given them. Sums are in double.
#ifndef PREGATE_SERVER_EMBEDDING_VECTORS_H_
#define PREGATE_SERVER_EMBEDDING_VECTORS_H_

#include <vector>

namespace pregate {

// Divides by the Euclidean length; a vector of zeros stays as it is.
void Normalize(std::vector<float>* vector);

// The cosine of the angle between two vectors of one width; 0 if one of them is all zeros.
float Cosine(const std::vector<float>& a, const std::vector<float>& b);

// 1 / (1 + e^-x).
float Sigmoid(float x);

}  // namespace pregate

#endif  // PREGATE_SERVER_EMBEDDING_VECTORS_H_
