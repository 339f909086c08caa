// The quantised blocks of a GGUF file, as ggml defines them.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "stored-groups.h"

namespace {

// Columns with one scale: an entry is factor * whole + shift.
struct BlockGroup {
  float factor, shift;
  int8_t wholes[32];
};

inline float halfFloat(const uint8_t* from) {
  const int bits = from[0] | from[1] << 8, exponent = bits >> 10 & 31, fraction = bits & 1023;
  const float value = std::ldexp(static_cast<float>(exponent > 0 ? fraction | 1024 : fraction), std::max(exponent, 1) - 25);
  return bits >> 15 ? -value : value;
}

// Blocks of 32 entries with one scale. If entries have fewer than 8 bits, the lower halves of the bytes hold the first half of the entries,
// and the fifth bits of all entries are stored together.
template <int Bits>
void readPlain(const uint8_t* block, int, BlockGroup& to) {
  to.factor = halfFloat(block);
  const uint8_t* entries = block + (Bits == 5 ? 6 : 2);
  if (Bits == 8) return void(std::memcpy(to.wholes, entries, 32));
  for (int i = 0; i < 16; i++) to.wholes[i] = static_cast<int8_t>((entries[i] & 15) - 8), to.wholes[i + 16] = static_cast<int8_t>((entries[i] >> 4) - 8);
  if (Bits == 4) return;
  uint32_t fifth;
  std::memcpy(&fifth, block + 2, 4);
  for (int i = 0; i < 32; i++) to.wholes[i] = static_cast<int8_t>(to.wholes[i] - 8 + static_cast<int8_t>((fifth >> i & 1) << 4));
}

// Blocks of 256 entries. Each 32 entries have a scale and an addend of 6 bits, which are multiplied by two scales of the block.
template <int Bits>
void readShifted(const uint8_t* block, int group, BlockGroup& to) {
  const uint8_t *scales = block + 4, *fifth = block + 16, *entries = block + (Bits == 5 ? 48 : 16) + group / 2 * 32;
  const int last = group - 4;
  const int scale = group < 4 ? scales[group] & 63 : (scales[group + 4] & 15) | scales[last] >> 6 << 4;
  const int least = group < 4 ? scales[group + 4] & 63 : scales[group + 4] >> 4 | scales[group] >> 6 << 4;
  to.factor = halfFloat(block) * scale;
  to.shift = -(halfFloat(block + 2) * least);
  for (int i = 0; i < 32; i++) {
    const int low = group % 2 == 0 ? entries[i] & 15 : entries[i] >> 4;
    to.wholes[i] = static_cast<int8_t>(Bits == 5 ? low | (fifth[i] >> group & 1) << 4 : low);
  }
}

// Blocks of 256 entries. Each 16 entries have a scale of 8 bits.
inline void readSixBits(const uint8_t* block, int group, BlockGroup& to) {
  const int half = group / 8, quarter = group % 8 / 2;
  to.factor = halfFloat(block + 208) * static_cast<int8_t>(block[192 + group]);
  for (int i = 0; i < 16; i++) {
    const int column = group % 2 * 16 + i;
    const int low = block[half * 64 + quarter % 2 * 32 + column] >> (quarter / 2 * 4) & 15;
    const int high = block[128 + half * 32 + column] >> (quarter * 2) & 3;
    to.wholes[i] = static_cast<int8_t>((low | high << 4) - 32);
  }
}

// A type of ggml, given its number in a file.
struct BlockType {
  int number, values, bytes;
  GroupForm form;
  void (*read)(const uint8_t* block, int group, BlockGroup& to);
};

constexpr BlockType blockTypes[] = {
    {2, 32, 18, {4, 32, false}, readPlain<4>},     {6, 32, 22, {8, 32, false}, readPlain<5>},    {8, 32, 34, {8, 32, false}, readPlain<8>},
    {12, 256, 144, {4, 32, true}, readShifted<4>}, {13, 256, 176, {8, 32, true}, readShifted<5>}, {14, 256, 210, {8, 16, false}, readSixBits},
};

inline const BlockType* blockTypeOf(int number) {
  for (const BlockType& type : blockTypes)
    if (type.number == number) return &type;
  return nullptr;
}

// A row of a weight whose entries were multiplied by `factor` after unpacking.
struct BlockRow {
  const BlockType* type;
  const uint8_t* blocks;
  int64_t columns;
  float factor;

  int64_t bytes() const { return columns / type->values * type->bytes; }

  // Calls act(first column, group) for each group.
  template <class Act>
  void forEachGroup(const Act& act) const {
    const int size = type->form.columns;
    for (int64_t block = 0; block < columns / type->values; block++) {
      for (int group = 0; group < type->values / size; group++) {
        // Adding -0 changes no bits, so groups without an addend have -0.
        BlockGroup read{0, -0.0f, {}};
        type->read(blocks + block * type->bytes, group, read);
        read.factor *= factor;
        read.shift *= factor;
        act(block * type->values + group * size, read);
      }
    }
  }

  // Whether the row has exactly these entries.
  bool equals(const float* entries) const {
    bool same = columns % type->values == 0;
    forEachGroup([&](int64_t first, const BlockGroup& group) {
      float own[32];
      for (int i = 0; i < type->form.columns; i++) own[i] = group.factor * group.wholes[i] + group.shift;
      same = same && std::memcmp(own, entries + first, type->form.columns * sizeof(float)) == 0;
    });
    return same;
  }
};

}  // namespace
