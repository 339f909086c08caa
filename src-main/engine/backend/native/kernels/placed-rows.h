// Finds the cache slots of a call's rows.

#pragma once

#include <cstdint>
#include <vector>

#include "../attention.h"
#include "call.h"

namespace {

// Rows [table, position] of a call, where table is the index in `slots` at which a sequence's slots begin. Returns false if a row reaches
// beyond the slots or the cache.
bool placeRows(const TF_Tensor* rows, const TF_Tensor* slots, std::vector<PlacedRow>& placed) {
  if (!isMatrix(rows) || TF_Dim(rows, 1) != 2) return false;
  for (int64_t row = 0; row < TF_Dim(rows, 0); row++) {
    const int32_t table = wordsOf(rows)[2 * row], position = wordsOf(rows)[2 * row + 1];
    if (table < 0 || position < 0 || static_cast<int64_t>(table) + position >= sizeOf(slots)) return false;
    placed.push_back({wordsOf(slots) + table, position});
  }
  return true;
}

bool withinCapacity(const std::vector<PlacedRow>& rows, int capacity) {
  for (const PlacedRow& row : rows)
    for (int at = 0; at <= row.position; at++)
      if (row.places[at] < 0 || row.places[at] >= capacity) return false;
  return true;
}

}  // namespace
