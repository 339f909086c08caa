// The words and numbers of a step of `decode`, and what some of them mean. `decode-words.ts` has the same names in the same order.

#pragma once

namespace {

// Where a word names a tensor, -1 is none, and -2 - i the i-th of the packed weights.
namespace word {
enum {
  attends, keepsSource, firstRow, rows, inner, window, tables,
  beforeKind, beforeWeight, beforeBias, afterKind, afterWeight, afterBias, headKind, queryWeight, keyWeight,
  first, firstBias, gate, gateBias, second, secondBias, count
};
}

namespace number {
enum { beforeEpsilon, beforeDivisor, afterEpsilon, afterDivisor, headEpsilon, scale, count };
}

namespace normKind {
enum { none, rms, layer };
}

}  // namespace
