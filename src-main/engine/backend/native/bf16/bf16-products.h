// Rows times a packed weight, with the norm before it and the sum after it. Values between two products stay in the second-level cache of
// the core that computes them.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "../norm.h"
#include "../stored-entries.h"
#include "../threads.h"
#include "bf16-tile-products.h"
#include "bf16-weights.h"

#if ESPALIER_BF16

namespace {

// Prefetches one share of an operand's next `depth` tiles in `steps` steps: so many requests at once would delay those of the product.
struct Fetch {
  static constexpr int64_t line = 32;
  const Bf16* tiles[4];
  int64_t at, last, step;

  Fetch(const Operand& operand, int64_t depth, int64_t share, int64_t shares, int64_t steps)
      : tiles{operand.high.first, operand.high.second, operand.low.first, operand.low.second} {
    const int64_t halves = depth * tileSize, size = roundUp((halves + shares - 1) / shares, line);
    at = share * size;
    last = std::min(halves, at + size);
    step = roundUp((size + steps - 1) / steps, line);
  }

  void some() { until(std::min(last, at + step)); }
  void rest() { until(last); }

 private:
  void until(int64_t end) {
    for (; at < end; at += line)
      for (const Bf16* part : tiles)
        if (part) _mm_prefetch(reinterpret_cast<const char*>(part + at), _MM_HINT_T1);
  }
};

// Tiles of depth multiplied at once: few enough that this part of a panel stays in the first-level cache while rows pass it, or all of a
// shallow product of split rows, as storing its sums in between takes longer.
inline int64_t depthAtOnce(int64_t depth, bool leftSplit, bool rightSplit = false) {
  const int64_t most = rightSplit ? 5 : !leftSplit ? 9 : depth <= 18 ? 18 : 6, pieces = (depth + most - 1) / most;
  return (depth + pieces - 1) / pieces;
}

// Adds the sums of a 32 by 32 block to others, or copies them.
inline void addSums(const float* from, float* to, bool adds) {
  for (int i = 0; i < panelSide * panelSide; i += tileSide) {
    const __m512 own = _mm512_load_ps(from + i);
    _mm512_store_ps(to + i, adds ? _mm512_add_ps(_mm512_load_ps(to + i), own) : own);
  }
}

// A block of sums on its way to the function that takes it, some rows at a time.
template <class Take>
struct Pending {
  const Take& take;
  int64_t panel = 0, row = 0;
  int left = 0;
  const float* c = nullptr;

  void start(int64_t ofPanel, int64_t firstRow, int count, const float* sums) {
    panel = ofPanel;
    row = firstRow;
    left = count;
    c = sums;
  }

  void some(int most) {
    if (left == 0) return;
    const int count = std::min(most, left);
    take(panel, row, count, c);
    row += count;
    left -= count;
    c += count * panelSide;
  }
};

// Bytes of rows that stay in a core's cache while panels pass them.
constexpr int64_t rowsInCache = 5 << 18;

// The order in which rows are multiplied by panels [first, last) of a weight. Rows that do not fit the cache are multiplied a piece of their
// depth at a time, by a group of panels one after another, so that they come from memory once for the group. A step is what one call
// multiplies: some tiles of depth, in a round of the rows' parts.
class StepOrder {
 public:
  struct Step {
    int64_t group, piece = 0, panel = group, from = 0;
    int round = 0;
  };

  StepOrder(const Bf16Rows& a, int64_t rows, const Bf16Panels& b, int64_t first, int64_t last) : depth_(b.depth()), last_(last), rounds_(a.rounds()) {
    constexpr int64_t most = 32;
    const int64_t bytes = roundUp(rows, panelSide) * tileDepth * sizeof(Bf16);
    const bool fits = a.parts * bytes * depth_ <= rowsInCache;
    for (int round = 0; round < rounds_; round++) {
      const int64_t fitting = rowsInCache / (bytes * (1 + a.splitIn(round))), step = steps_[round] = depthAtOnce(depth_, a.splitIn(round), b.split());
      pieces_[round] = fits ? depth_ : std::max<int64_t>(1, fitting / step) * step;
    }
    width_ = fits ? 1 : std::min(most, last - first);
  }

  int64_t width() const { return width_; }
  bool reaches(const Step& at) const { return at.panel < last_; }
  int64_t steps(const Step& at) const { return steps_[at.round]; }
  int64_t length(const Step& at) const { return std::min(steps(at), depth_ - at.from); }
  bool starts(const Step& at) const { return at.round == 0 && at.from == 0; }
  bool ends(const Step& at) const { return at.round + 1 == rounds_ && at.from + length(at) == depth_; }

  // Of rows in three parts, sums over so many steps are added up apart, so that deep products are rounded no more often than float32's.
  bool isApart(const Step& at) const { return at.round > 0 && depth_ > stepsPerSum * steps(at); }
  bool startsSum(const Step& at) const { return at.round > 0 && at.from > 0 && at.from / steps(at) % stepsPerSum == 0; }
  bool endsFirstSum(const Step& at) const { return at.from == stepsPerSum * steps(at); }

  Step after(Step at) const {
    at.from += steps(at);
    if (at.from < std::min(depth_, at.piece + pieces_[at.round])) return at;
    if (++at.panel == std::min(last_, at.group + width_)) {
      at.panel = at.group;
      at.piece += pieces_[at.round];
      if (at.piece >= depth_) {
        at.piece = 0;
        if (++at.round == rounds_) return {at.group + width_};
      }
    }
    at.from = at.piece;
    return at;
  }

 private:
  static constexpr int64_t stepsPerSum = 8;
  int64_t depth_, last_, width_, steps_[2], pieces_[2];
  int rounds_;
};

// Multiplies rows [rows] by panels [first, last) of a weight and prefetches what is multiplied next. `take(panel, row, count, c)` receives
// each 32 by 32 block: `rowsAtOnce` rows at a time while matrix units compute the next block, or at once, for work that gains nothing by
// that. With `adds`, adds to the sums of the previous call, which must also have had one panel.
template <int rowsAtOnce = 4, class Take>
void forPanels(Units units, const Bf16Rows& a, int64_t rows, const Bf16Panels& b, int64_t first, int64_t last, const Take& take, bool adds = false) {
  const int64_t blocks = (rows + panelSide - 1) / panelSide;
  constexpr int64_t size = panelSide * panelSide;
  const StepOrder order(a, rows, b, first, last);
  float *sums = scratch<10>(2 * order.width() * blocks * size), *totals = sums + order.width() * blocks * size;
  Pending<Take> pending{take};
  const bool meanwhile = units == matrixUnits && blocks > 1 && rowsAtOnce < panelSide;
  for (StepOrder::Step at{first}; order.reaches(at);) {
    const StepOrder::Step next = order.after(at);
    const Operand right = b.operand(at.panel).from(at.from), ahead = order.reaches(next) ? b.operand(next.panel).from(next.from) : right;
    for (int64_t block = 0; block < blocks; block++) {
      Fetch fetch(ahead, order.reaches(next) ? order.length(next) : 0, block, blocks, order.steps(at));
      const int64_t row = block * panelSide, place = ((at.panel - at.group) * blocks + block) * size;
      const int own = static_cast<int>(std::min<int64_t>(panelSide, rows - row));
      float *c = sums + place, *total = totals + place;
      if (order.startsSum(at)) addSums(c, total, !order.endsFirstSum(at));
      multiplyPanels(units, a.operand(row, at.round).from(at.from), right, static_cast<int>(order.length(at)), c, panelSide, own,
                     !order.startsSum(at) && (adds || !order.starts(at)), [&] {
                       pending.some(rowsAtOnce);
                       fetch.some();
                     });
      fetch.rest();
      if (order.ends(at) && order.isApart(at)) addSums(total, c, true);
      pending.some(panelSide);
      if (!order.ends(at)) continue;
      pending.start(at.panel, row, own, c);
      if (!meanwhile) pending.some(panelSide);
    }
    at = next;
  }
  pending.some(panelSide);
}

// Divides work on rows into blocks of rows whose operands, `halves` entries per row, stay in a core's cache. If rows are few, the weight is
// divided into pieces, too.
struct Division {
  int64_t blockRows, blocks, pieces;

  Division(int64_t rows, int64_t panels, int64_t halves) {
    constexpr int64_t least = 128, most = 256;
    const int64_t threads = Pool::shared().threads(), fitting = rowsInCache / (halves * sizeof(Bf16)) / panelSide * panelSide;
    blockRows = std::min(fitting < least ? most : std::min(fitting, most), roundUp((rows + threads - 1) / threads, panelSide));
    blocks = (rows + blockRows - 1) / blockRows;
    pieces = blocks >= threads ? 1 : std::min<int64_t>(panels, 4 * threads / blocks);
  }

  // Calls task(first row, rows, first panel, last panel, piece).
  template <class Task>
  void run(int64_t rows, int64_t panels, const Task& task) const {
    Pool::shared().run(static_cast<int>(blocks * pieces), [&](int index) {
      const int64_t block = index / pieces, piece = index % pieces;
      task(block * blockRows, std::min(blockRows, rows - block * blockRows), panels * piece / pieces, panels * (piece + 1) / pieces, piece);
    });
  }
};

// The destination of a product: to[row * columns + column] = (product * factor + bias) * scale + add, with the factor of the weight's rows.
struct RowsOut {
  const float *bias, *add;
  float scale;
  int64_t columns;
  float* to;
  // In all, or 0 if they are read at once.
  int64_t rows = 0;
  RowFactor factor = {};

  void take(int64_t panel, int64_t row, int count, const float* c) const {
    const bool passes = passesCaches(to, columns, rows * columns);
    for (int half = 0; half < 2; half++) {
      const int64_t column = panel * panelSide + half * tileSide;
      const int width = static_cast<int>(std::min<int64_t>(tileSide, columns - column));
      if (width <= 0) return;
      const __m512 shift = bias ? loadSome(bias + column, width) : _mm512_setzero_ps();
      const int divided = static_cast<int>(std::clamp<int64_t>(factor.rows - column, 0, tileSide));
      const __m512 factors = _mm512_mask_mov_ps(_mm512_set1_ps(1), firstLanes(divided), _mm512_set1_ps(factor.by));
      for (int r = 0; r < count; r++) {
        const __m512 sum = _mm512_load_ps(c + r * panelSide + half * tileSide);
        __m512 value = divided > 0 ? _mm512_fmadd_ps(sum, factors, shift) : _mm512_add_ps(sum, shift);
        const int64_t at = (row + r) * columns + column;
        if (add) {
          // Of the next block.
          _mm_prefetch(reinterpret_cast<const char*>(add + at + panelSide * columns), _MM_HINT_T0);
          value = _mm512_fmadd_ps(value, _mm512_set1_ps(scale), loadSome(add + at, width));
        }
        storeOutput(to + at, value, width, passes);
      }
    }
  }
};

// The norm before a product; null for none.
struct RowsIn {
  const float* x;
  int64_t size;
  const Norm* norm;
  const float *weight, *bias;

  // Packs rows [first, first + rows) into the rows of an operand, starting at `at`.
  void pack(const Bf16Rows& to, int64_t first, int64_t rows, int64_t at = 0) const {
    for (int64_t row = 0; row < rows; row++) {
      const float* from = x + (first + row) * size;
      if (norm) packNormed(to, from, at + row);
      else to.put([from](int64_t at, int count) { return loadSome(from + at, count); }, size, at + row);
    }
  }

 private:
  // Like `normalizeRow`, for a row that nothing else reads.
  void packNormed(const Bf16Rows& to, const float* from, int64_t row) const {
    const __m512 mean = _mm512_set1_ps(norm->centred ? sumOver([&](int64_t at, int count) { return loadSome(from + at, count); }) / size : 0);
    const auto centred = [&](int64_t at, int count) { return _mm512_maskz_sub_ps(firstLanes(count), loadSome(from + at, count), mean); };
    const float squares = sumOver([&](int64_t at, int count) {
      const __m512 value = centred(at, count);
      return _mm512_mul_ps(value, value);
    });
    const __m512 scale = _mm512_set1_ps(1 / std::sqrt(squares / norm->divisor + norm->epsilon));
    to.put(
        [&](int64_t at, int count) {
          __m512 value = _mm512_mul_ps(centred(at, count), scale);
          if (weight) value = _mm512_mul_ps(value, loadSome(weight + at, count));
          return bias ? _mm512_add_ps(value, loadSome(bias + at, count)) : value;
        },
        size, row);
  }

  template <class Read>
  float sumOver(const Read& read) const {
    __m512 sum[4] = {};
    for (int64_t at = 0; at < size; at += 4 * tileSide)
      for (int i = 0; i < 4; i++) sum[i] = _mm512_add_ps(sum[i], read(at + i * tileSide, static_cast<int>(std::min<int64_t>(tileSide, size - at - i * tileSide))));
    return _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(sum[0], sum[1]), _mm512_add_ps(sum[2], sum[3])));
  }
};

void multiplyBf16(Units units, const RowsIn& in, int64_t rows, const Bf16Panels& weight, int parts, const RowsOut& out) {
  Division(rows, weight.count(), parts * weight.depth() * tileDepth).run(rows, weight.count(), [&](int64_t first, int64_t count, int64_t from, int64_t to, int64_t) {
    TileRegisters registers(units);
    const Bf16Rows a = bf16Rows(count, weight.depth(), parts);
    in.pack(a, first, count);
    forPanels(units, a, count, weight, from, to,
              [&](int64_t panel, int64_t row, int own, const float* c) { out.take(panel, first + row, own, c); });
  });
}

}  // namespace

#endif
