// Reads the factor that the first rows of a weight were multiplied by.

#pragma once

#include "../stored-entries.h"
#include "call.h"

namespace {

RowFactor rowFactorOf(TF_OpKernelConstruction* from) { return {intOf(from, "factored"), floatOf(from, "factor")}; }

bool requireFactor(Call& call, const RowFactor& factor, const TF_Tensor* weight) {
  return call.require(isMatrix(weight) && factor.rows >= 0 && factor.rows <= TF_Dim(weight, 0), "A factor of rows takes a matrix with these rows.");
}

}  // namespace
