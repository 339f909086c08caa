// The words and numbers of a `decode` step. `decode-words.ts` has the same names in the same order.

#pragma once

namespace {

// Where a word refers to a tensor, -1 means none, and -2 - i means packed weight i.
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
