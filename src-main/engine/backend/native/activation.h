// Activations of neurons.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "vectors.h"

namespace {

enum Activation { silu, gelu, geluTanh, relu };

float activate(Activation activation, float x) {
  switch (activation) {
    case silu: return x / (1 + std::exp(-x));
    case gelu: return 0.5f * x * (1 + std::erf(x * 0.70710678f));
    case geluTanh: return 0.5f * x * (1 + std::tanh(0.79788456f * x * (1 + 0.044715f * x * x)));
    default: return std::max(0.0f, x);
  }
}

// silu(gate) * up, where silu(x) = x / (1 + exp(-x)) (arXiv 2002.05202).
void gateNeurons(const float* gate, const float* up, float* to, int64_t size) {
  int64_t i = 0;
  for (; i + lanes <= size; i += lanes) {
    const Vector x = load(gate + i);
    store(to + i, x / (1 + exponent(-x)) * load(up + i));
  }
  for (; i < size; i++) to[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
}

}  // namespace
