// TensorFlow kernel that lays out the quantised weights of a GGUF file.

#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "../quantised-blocks.h"
#include "../stored-groups.h"
#include "../threads.h"
#include "call.h"

namespace {

// The groups of a weight [R, C] whose rows a file stores as quantised blocks: [R / 4, C / columns of a group, words of four groups]. Each
// part of the weight has a type and a number of rows in `types`, what its entries were multiplied by in `factors`, and its bytes in
// `blocks`. Returns [0, 0] if unpacking these does not give the weight bit for bit.
struct GroupKernel {
  int parts;

  explicit GroupKernel(TF_OpKernelConstruction* from) : parts(intOf(from, "count")) {}

  void compute(Call& call) const {
    const TF_Tensor *weight, *types, *factors;
    std::vector<const TF_Tensor*> blocks(parts);
    if (!call.inputs({&weight, &types, &factors}) || !call.inputs(3, blocks)) return;
    const bool fits = isMatrix(weight) && sizeOf(types) == 2 * parts && sizeOf(factors) == parts;
    if (!call.require(fits, "Blocks need a weight, types and factors.")) return;
    std::vector<BlockRow> rows;
    GroupForm form{};
    for (int part = 0; part < parts; part++) {
      const BlockType* type = blockTypeOf(wordsOf(types)[2 * part]);
      if (!call.require(type, "Blocks have an unknown type.")) return;
      const BlockRow first{type, reinterpret_cast<const uint8_t*>(wordsOf(blocks[part])), TF_Dim(weight, 1), dataOf(factors)[part]};
      const int64_t count = wordsOf(types)[2 * part + 1];
      if (count * first.bytes() > 4 * sizeOf(blocks[part])) return void(call.output({0, 0}, int32));
      for (int64_t row = 0; row < count; row++) rows.push_back({type, first.blocks + row * first.bytes(), first.columns, first.factor});
      form = part == 0 ? type->form : joined(form, type->form);
    }
    if (!areRowsOf(weight, rows)) return void(call.output({0, 0}, int32));
    withForm(form, [&](auto groups) { fill<decltype(groups)>(call, rows, TF_Dim(weight, 1)); });
  }

 private:
  static bool areRowsOf(const TF_Tensor* weight, const std::vector<BlockRow>& rows) {
    const int64_t count = rows.size();
    std::atomic<bool> same{count == TF_Dim(weight, 0) && count % 4 == 0};
    inPieces(same ? count : 0, 64, [&](int64_t first, int64_t last) {
      for (int64_t row = first; row < last && same; row++)
        if (!rows[row].equals(dataOf(weight) + row * rows[row].columns)) same = false;
    });
    return same;
  }

  template <class Groups>
  static void fill(Call& call, const std::vector<BlockRow>& rows, int64_t columns) {
    const int64_t count = rows.size(), across = columns / Groups::columns;
    Groups* to = reinterpret_cast<Groups*>(call.output({count / 4, across, static_cast<int64_t>(sizeof(Groups) / 4)}, int32));
    if (!to) return;
    inPieces(count, 64, [&](int64_t first, int64_t last) {
      for (int64_t row = first; row < last; row++) {
        rows[row].forEachGroup([&](int64_t column, const BlockGroup& group) {
          for (int from = 0; from < rows[row].type->form.columns; from += Groups::columns)
            to[row / 4 * across + (column + from) / Groups::columns].set(row % 4, group.factor, group.shift, group.wholes + from);
        });
      }
    });
  }
};

}  // namespace
