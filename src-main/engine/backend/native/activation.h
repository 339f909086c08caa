// Activation functions of neurons.

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

// The value and slope of an activation.
struct ValueAndSlope {
  Vector value, slope;
};

ValueAndSlope valueAndSlope(Activation activation, Vector x) {
  switch (activation) {
    case silu: {
      const Vector open = 1 / (1 + exponent(-x));
      return {x * open, open * (1 + x * (1 - open))};
    }
    case geluTanh: {
      const Vector inner = hyperbolicTangent(0.79788456f * x * (1 + 0.044715f * x * x));
      return {0.5f * x * (1 + inner), 0.5f * (1 + inner) + 0.5f * 0.79788456f * x * (1 - inner * inner) * (1 + 3 * 0.044715f * x * x)};
    }
    case gelu: {
      const Vector density = exponent(-0.5f * x * x) * 0.39894228f;
      Vector share;
      for (int i = 0; i < lanes; i++) share[i] = 0.5f * (1 + std::erf(x[i] * 0.70710678f));
      return {x * share, share + x * density};
    }
    default: return {larger(x, all(0)), x > all(0) ? all(1) : all(0)};
  }
}

// Gradients with respect to gates and ups, given the gradients with respect to the neurons activation(gate) * up; and the neurons
// themselves. Without `up`, the neurons are activation(gate).
void neuronsBackward(Activation activation, const float* gate, const float* up, const float* gradient, int64_t size, float* byGate, float* byUp,
                     float* neurons) {
  const auto step = [&](const float* x, const float* u, const float* outer, float* toGate, float* toUp, float* to) {
    const ValueAndSlope at = valueAndSlope(activation, load(x));
    const Vector inner = load(outer), other = up ? load(u) : all(1);
    store(toGate, inner * other * at.slope);
    if (up) store(toUp, inner * at.value);
    store(to, at.value * other);
  };
  int64_t i = 0;
  for (; i + lanes <= size; i += lanes) step(gate + i, up + i, gradient + i, byGate + i, byUp + i, neurons + i);
  if (i == size) return;
  float room[6][lanes] = {};
  const int64_t left = size - i;
  std::copy(gate + i, gate + size, room[0]);
  if (up) std::copy(up + i, up + size, room[1]);
  std::copy(gradient + i, gradient + size, room[2]);
  step(room[0], room[1], room[2], room[3], room[4], room[5]);
  std::copy(room[3], room[3] + left, byGate + i);
  if (up) std::copy(room[4], room[4] + left, byUp + i);
  std::copy(room[5], room[5] + left, neurons + i);
}

}  // namespace
