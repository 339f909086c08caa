// TensorFlow kernel that reports this processor's units.

#pragma once

#include "../bf16/bf16-units.h"
#include "call.h"

namespace {

// Returns [1]: this processor's best units, as a number.
struct UnitsKernel {
  explicit UnitsKernel(TF_OpKernelConstruction*) {}

  void compute(Call& call) const {
    if (float* output = call.output({1})) *output = static_cast<float>(bestUnits());
  }
};

}  // namespace
