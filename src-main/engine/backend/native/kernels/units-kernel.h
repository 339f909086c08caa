// The units of this processor, as TensorFlow asks for them.

#pragma once

#include "../halves/half-units.h"
#include "call.h"

namespace {

// To [1]: the best units of this processor, as a number.
struct UnitsKernel {
  explicit UnitsKernel(TF_OpKernelConstruction*) {}

  void compute(Call& call) const {
    if (float* output = call.output({1})) *output = static_cast<float>(bestUnits());
  }
};

}  // namespace
