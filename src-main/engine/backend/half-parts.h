// Parts of the decoder with bfloat16 products: norms, activations, sums and the stream stay float32, and what lies between two products
// stays in the second-level cache of the core that computes it. Included by `fused.cc`, whose threads and norms it uses.

#pragma once

#include "halves.h"

#if ESPALIER_HALVES

namespace {

// A stored weight [columns out, size in] as tiles; `low` holds what rounding took away, for products of float32's quality.
struct HalfWeight {
  const Half *high, *low;
  int64_t columnTiles, depth;

  const Half* tile(const Half* tiles, int64_t index) const { return tiles + index * depth * tileSize; }
};

// What rows are multiplied with, panel by panel: a weight, or sixteen columns of one beside sixteen of another of the same shape.
struct HalfPanels {
  HalfWeight weight;
  const HalfWeight* beside = nullptr;

  int64_t count() const { return beside ? weight.columnTiles : weight.columnTiles / 2; }
  int64_t depth() const { return weight.depth; }
  bool split() const { return weight.low != nullptr; }

  Operand operand(int64_t index) const { return {tiles(&HalfWeight::high, index), split() ? tiles(&HalfWeight::low, index) : Panel{}}; }

 private:
  Panel tiles(const Half* HalfWeight::*part, int64_t index) const {
    if (beside) return {weight.tile(weight.*part, index), beside->tile(beside->*part, index)};
    return {weight.tile(weight.*part, 2 * index), weight.tile(weight.*part, 2 * index + 1)};
  }
};

// Rows of a left operand as tiles, and what rounding took away where the weight has that too.
struct HalfRows {
  Half *high, *low;
  int64_t depth;

  Operand operand(int64_t row) const { return {panel(high, row), low ? panel(low, row) : Panel{}}; }

  Panel panel(const Half* tiles, int64_t row) const {
    const Half* first = tiles + row / tileSide * depth * tileSize;
    return {first, first + depth * tileSize};
  }

  template <class Read>
  void put(const Read& read, int64_t size, int64_t row) const {
    packRow(read, size, high, low, row, depth);
  }
};

// Asks for a share of what `depth` tiles of an operand take, so that it is near when it is needed.
inline void fetchShare(const Operand& operand, int64_t depth, int64_t share, int64_t shares) {
  constexpr int64_t line = 32;
  const int64_t halves = depth * tileSize, size = roundUp((halves + shares - 1) / shares, line), last = std::min(halves, (share + 1) * size);
  for (const Half* tiles : {operand.high.first, operand.high.second, operand.low.first, operand.low.second})
    for (int64_t at = share * size; tiles && at < last; at += line) _mm_prefetch(reinterpret_cast<const char*>(tiles + at), _MM_HINT_T1);
}

// How many tiles of depth are multiplied at once: so much of a panel stays in the first-level cache while rows pass it.
inline int64_t depthAtOnce(int64_t depth, bool split) {
  const int64_t most = split ? 5 : 9, pieces = (depth + most - 1) / most;
  return (depth + pieces - 1) / pieces;
}

// Products of rows [rows] with panels [first, last) of a weight; `take(panel, row, count, c)` gets each 32 by 32 of them. What comes next
// is fetched meanwhile.
template <class Take>
void forPanels(Units units, const HalfRows& a, int64_t rows, const HalfPanels& b, int64_t first, int64_t last, const Take& take) {
  const int64_t blocks = (rows + panelSide - 1) / panelSide, depth = b.depth(), step = depthAtOnce(depth, b.split());
  float* sums = scratch<10>(blocks * panelSide * panelSide);
  for (int64_t panel = first; panel < last; panel++) {
    const Operand right = b.operand(panel);
    for (int64_t from = 0; from < depth; from += step) {
      const int64_t next = from + step;
      const bool ends = next >= depth, more = !ends || panel + 1 < last;
      const Operand ahead = !ends ? right.from(next) : more ? b.operand(panel + 1) : right;
      for (int64_t block = 0; block < blocks; block++) {
        if (more) fetchShare(ahead, std::min(step, ends ? depth : depth - next), block, blocks);
        const int64_t row = block * panelSide;
        const int own = static_cast<int>(std::min<int64_t>(panelSide, rows - row));
        float* c = sums + block * panelSide * panelSide;
        multiplyPanels(units, a.operand(row).from(from), right.from(from), static_cast<int>(std::min(step, depth - from)), c, panelSide, own,
                       from > 0);
        if (ends) take(panel, row, own, c);
      }
    }
  }
}

// Halves that one thread keeps between calls.
template <int Purpose>
Half* halfScratch(size_t halves) {
  return reinterpret_cast<Half*>(scratch<Purpose>((halves + 1) / 2));
}

// How work on rows is divided: blocks of rows whose operands stay in the cache of a core, and for few rows pieces of the weight.
struct Division {
  int64_t blockRows, blocks, pieces;

  Division(int64_t rows, int64_t panels) {
    const int64_t threads = Pool::shared().threads();
    blockRows = std::min<int64_t>(256, roundUp((rows + threads - 1) / threads, panelSide));
    blocks = (rows + blockRows - 1) / blockRows;
    pieces = blocks >= threads ? 1 : std::min<int64_t>(panels, 4 * threads / blocks);
  }

  // task(first row, rows, first panel, last panel, piece).
  template <class Task>
  void run(int64_t rows, int64_t panels, const Task& task) const {
    Pool::shared().run(static_cast<int>(blocks * pieces), [&](int index) {
      const int64_t block = index / pieces, piece = index % pieces;
      task(block * blockRows, std::min(blockRows, rows - block * blockRows), panels * piece / pieces, panels * (piece + 1) / pieces, piece);
    });
  }
};

// Where results of a product go: to[row * columns + column] = (product + bias) * scale + add.
struct RowsOut {
  const float *bias, *add;
  float scale;
  int64_t columns;
  float* to;

  void take(int64_t panel, int64_t row, int count, const float* c) const {
    for (int half = 0; half < 2; half++) {
      const int64_t column = panel * panelSide + half * tileSide;
      const int width = static_cast<int>(std::min<int64_t>(tileSide, columns - column));
      if (width <= 0) return;
      const __m512 shift = bias ? loadSome(bias + column, width) : _mm512_setzero_ps();
      for (int r = 0; r < count; r++) {
        __m512 value = _mm512_add_ps(_mm512_load_ps(c + r * panelSide + half * tileSide), shift);
        const int64_t at = (row + r) * columns + column;
        if (add) value = _mm512_fmadd_ps(value, _mm512_set1_ps(scale), loadSome(add + at, width));
        storeSome(to + at, value, width);
      }
    }
  }
};

// The norm in front of a product: none where it is null.
struct RowsIn {
  const float* x;
  int64_t size;
  const Norm* norm;
  const float *weight, *bias;

  void pack(const HalfRows& to, int64_t first, int64_t rows) const {
    for (int64_t row = 0; row < rows; row++) {
      const float* from = x + (first + row) * size;
      if (norm) packNormed(to, from, row);
      else to.put([from](int64_t at, int count) { return loadSome(from + at, count); }, size, row);
    }
  }

 private:
  // As `normalizeRow`, of a row that nothing else reads.
  void packNormed(const HalfRows& to, const float* from, int64_t row) const {
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

HalfRows halfRows(int64_t rows, int64_t depth, bool split) {
  const int64_t halves = roundUp(rows, panelSide) * depth * tileDepth;
  Half* high = halfScratch<5>(halves * (split ? 2 : 1));
  return {high, split ? high + halves : nullptr, depth};
}

void multiplyHalves(Units units, const RowsIn& in, int64_t rows, const HalfPanels& weight, const RowsOut& out) {
  Division(rows, weight.count()).run(rows, weight.count(), [&](int64_t first, int64_t count, int64_t from, int64_t to, int64_t) {
    TileRegisters registers(units);
    const HalfRows a = halfRows(count, weight.depth(), weight.split());
    in.pack(a, first, count);
    forPanels(units, a, count, weight, from, to,
              [&](int64_t panel, int64_t row, int own, const float* c) { out.take(panel, first + row, own, c); });
  });
}

// ---- MLP

inline __m512 activateVector(Activation kind, __m512 x) {
  const __m512 one = _mm512_set1_ps(1);
  switch (kind) {
    case silu: return _mm512_div_ps(x, _mm512_add_ps(one, quickExponent(_mm512_sub_ps(_mm512_setzero_ps(), x))));
    case geluTanh: {
      // 1 + tanh(y) = 2 / (1 + exp(-2 y)).
      const __m512 cubic = _mm512_fmadd_ps(_mm512_mul_ps(x, x), _mm512_set1_ps(0.044715f), one);
      const __m512 y = _mm512_mul_ps(_mm512_mul_ps(x, _mm512_set1_ps(-2 * 0.79788456f)), cubic);
      return _mm512_div_ps(x, _mm512_add_ps(one, quickExponent(y)));
    }
    case relu: return _mm512_max_ps(x, _mm512_setzero_ps());
    default: {
      alignas(64) float values[tileSide];
      _mm512_store_ps(values, x);
      for (float& value : values) value = activate(kind, value);
      return _mm512_load_ps(values);
    }
  }
}

// An MLP: neurons come sixteen gates and sixteen ups to a panel, or thirty-two ups where there is no gate.
struct HalfMlp {
  Units units;
  RowsIn in;
  int64_t rows, neurons;
  Activation activation;
  bool gated;
  const float *gateBias, *upBias;
  HalfPanels gateUp, down;
  RowsOut out;

  // The neurons of one 32 by 32: `put(row, first neuron, count, sixteen values)`.
  template <class Put>
  void takeNeurons(int64_t panel, int64_t row, int count, const float* c, const Put& put) const {
    const int64_t neuron = panel * (gated ? tileSide : panelSide);
    for (int half = 0; half < (gated ? 1 : 2); half++) {
      const int64_t first = neuron + half * tileSide;
      const int width = static_cast<int>(std::min<int64_t>(tileSide, neurons - first));
      const __m512 gateShift = gateBias ? loadSome(gateBias + first, width) : _mm512_setzero_ps();
      const __m512 upShift = upBias ? loadSome(upBias + first, width) : _mm512_setzero_ps();
      for (int r = 0; r < count; r++) {
        const float* own = c + r * panelSide + half * tileSide;
        __m512 value;
        if (gated) {
          const __m512 up = _mm512_add_ps(_mm512_load_ps(own + tileSide), upShift);
          value = _mm512_mul_ps(activateVector(activation, _mm512_add_ps(_mm512_load_ps(own), gateShift)), up);
        } else {
          value = activateVector(activation, _mm512_add_ps(_mm512_load_ps(own), upShift));
        }
        put(row + r, first, width, value);
      }
    }
  }

  // Rounded, as tiles of the left operand of the next product.
  static void storeNeurons(const HalfRows& inner, int64_t row, int64_t neuron, __m512 value) {
    const int64_t at = (row / tileSide * inner.depth + neuron / tileDepth) * tileSize + row % tileSide * tileDepth + neuron % tileDepth;
    const __m256bh high = _mm512_cvtneps_pbh(value);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(inner.high + at), (__m256i)high);
    if (!inner.low) return;
    const __m256bh low = _mm512_cvtneps_pbh(_mm512_sub_ps(value, widen(high)));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(inner.low + at), (__m256i)low);
  }

  HalfRows innerRows(int64_t count) const {
    const int64_t halves = roundUp(count, panelSide) * down.depth() * tileDepth;
    Half* high = halfScratch<6>(halves * (down.split() ? 2 : 1));
    return {high, down.split() ? high + halves : nullptr, down.depth()};
  }

  void neuronsOf(const HalfRows& a, const HalfRows& inner, int64_t count, int64_t from, int64_t to) const {
    forPanels(units, a, count, gateUp, from, to, [&](int64_t panel, int64_t row, int own, const float* c) {
      takeNeurons(panel, row, own, c, [&](int64_t at, int64_t neuron, int, __m512 value) { storeNeurons(inner, at, neuron, value); });
    });
  }

  void outputOf(const HalfRows& inner, int64_t first, int64_t count, int64_t from, int64_t to) const {
    forPanels(units, inner, count, down, from, to,
              [&](int64_t panel, int64_t row, int own, const float* c) { out.take(panel, first + row, own, c); });
  }

  // The neurons alone, in float32: to[row * neurons + neuron].
  void runNeurons(float* to) const {
    Division(rows, gateUp.count()).run(rows, gateUp.count(), [&](int64_t first, int64_t count, int64_t from, int64_t last, int64_t) {
      TileRegisters registers(units);
      const HalfRows a = halfRows(count, gateUp.depth(), gateUp.split());
      in.pack(a, first, count);
      forPanels(units, a, count, gateUp, from, last, [&](int64_t panel, int64_t row, int own, const float* c) {
        takeNeurons(panel, row, own, c, [&](int64_t at, int64_t neuron, int width, __m512 value) {
          if (width > 0) storeSome(to + (first + at) * neurons + neuron, value, width);
        });
      });
    });
  }

  void run() const {
    const Division division(rows, gateUp.count());
    if (division.pieces > 1) return runFew();
    division.run(rows, gateUp.count(), [&](int64_t first, int64_t count, int64_t, int64_t, int64_t) {
      TileRegisters registers(units);
      const HalfRows a = halfRows(count, gateUp.depth(), gateUp.split()), inner = innerRows(count);
      in.pack(a, first, count);
      neuronsOf(a, inner, count, 0, gateUp.count());
      outputOf(inner, first, count, 0, down.count());
    });
  }

  // Few rows: all threads share them, and divide the weights.
  void runFew() const {
    const HalfRows a = halfRows(rows, gateUp.depth(), gateUp.split()), inner = innerRows(rows);
    in.pack(a, 0, rows);
    const auto divide = [&](int64_t panels, const std::function<void(int64_t, int64_t)>& task) {
      const int64_t pieces = std::min<int64_t>(panels, 4 * Pool::shared().threads());
      Pool::shared().run(static_cast<int>(pieces), [&](int piece) {
        TileRegisters registers(units);
        task(panels * piece / pieces, panels * (piece + 1) / pieces);
      });
    };
    divide(gateUp.count(), [&](int64_t from, int64_t to) { neuronsOf(a, inner, rows, from, to); });
    divide(down.count(), [&](int64_t from, int64_t to) { outputOf(inner, 0, rows, from, to); });
  }
};

// ---- attention

// Keys and values of one call as tiles of right operands: keys [S / 16][d / 32], values [d / 16][S / 32]; d and S rounded up. Of split
// operands, what rounding took away stands behind each.
template <bool Split>
struct HalfAttention {
  static constexpr int parts = Split ? 2 : 1, keysAtOnce = 256;
  // A reference of exponents stays until a score is that much above it.
  static constexpr float slack = 20;

  const Attention& call;
  Units units;
  int size, depth, positions;

  HalfAttention(const Attention& call, Units units)
      : call(call),
        units(units),
        size(static_cast<int>(roundUp(call.headSize, tileDepth))),
        depth(size / tileDepth),
        positions(static_cast<int>(roundUp(call.tokens, tileDepth))) {}

  int64_t halves() const { return static_cast<int64_t>(size) * positions; }

  void packKeys(int pair, int first, Half* keys, Half* values) const {
    const int sample = pair / call.keyValueHeads, group = pair % call.keyValueHeads;
    float* rotated = scratch<1>(static_cast<size_t>(tileDepth + 1) * size);
    std::fill(rotated, rotated + tileDepth * size, 0.0f);
    for (int i = 0; i < tileDepth && first + i < call.tokens; i++)
      call.rotate(call.vectorOf(sample, first + i, call.heads + group), first + i, rotated + i * size, 1);
    for (int part = 0; part < parts; part++) {
      for (int tile = 0; tile < 2; tile++) {
        Half* to = keys + part * halves() + static_cast<int64_t>(first / tileSide + tile) * size * tileSide;
        packColumns(rotated + tile * tileSide * size, size, tileSide, to, depth, part == 1);
      }
    }
    float* value = rotated + tileDepth * size;
    for (int i = 0; i < tileDepth; i++) {
      std::fill(value, value + size, 0.0f);
      if (first + i < call.tokens) {
        const float* from = call.vectorOf(sample, first + i, call.heads + call.keyValueHeads + group);
        std::copy(from, from + call.headSize, value);
      }
      for (int d = 0; d < size; d += tileSide) {
        Half* to = values + static_cast<int64_t>(d) * positions + first / tileDepth * tileSize + i / 2 * tileDepth + i % 2;
        __m512 rest = _mm512_loadu_ps(value + d);
        for (int part = 0; part < parts; part++, to += halves()) {
          alignas(32) Half row[tileSide];
          const __m256bh rounded = _mm512_cvtneps_pbh(rest);
          _mm256_store_si256(reinterpret_cast<__m256i*>(row), (__m256i)rounded);
          for (int column = 0; column < tileSide; column++) to[2 * column] = row[column];
          rest = _mm512_sub_ps(rest, widen(rounded));
        }
      }
    }
  }

  // The running softmax of a query row: exponents relative to a reference near its largest score, and their sum lane by lane.
  struct Row {
    float reference = -std::numeric_limits<float>::infinity();
    __m512 total;
  };

  Operand operand(const Half* tiles, int64_t second, int64_t low) const {
    return {{tiles, tiles + second}, Split ? Panel{tiles + low, tiles + low + second} : Panel{}};
  }

  // Scores [0, seen) of a row, of which [low, high) count, into exponents as row `row` of a left operand; `mixed` is what came of the keys
  // before, and is scaled to them.
  void takeRow(Row& state, float* scores, int seen, int low, int high, Half* weights, int row, int deep, float* mixed) const {
    constexpr float hidden = -1e30f;
    Half* to = weights + row / tileSide * deep * tileSize + row % tileSide * tileDepth;
    const int64_t below = static_cast<int64_t>(panelSide) * keysAtOnce;
    if (high <= low) {
      for (int i = 0; i < seen; i += tileDepth)
        for (int part = 0; part < parts; part++) _mm512_storeu_si512(to + part * below + i / tileDepth * tileSize, _mm512_setzero_si512());
      return;
    }
    std::fill(scores, scores + low, hidden);
    std::fill(scores + high, scores + seen, hidden);
    __m512 most = _mm512_load_ps(scores);
    for (int i = tileSide; i < seen; i += tileSide) most = _mm512_max_ps(most, _mm512_load_ps(scores + i));
    const float largest = _mm512_reduce_max_ps(most);
    if (largest > state.reference + slack) moveReference(state, largest, mixed);
    const __m512 shift = _mm512_set1_ps(state.reference * binaryLog);
    for (int i = 0; i < seen; i += tileDepth) {
      const __m512 a = exponentAbove<!Split>(_mm512_load_ps(scores + i), shift);
      const __m512 b = exponentAbove<!Split>(_mm512_load_ps(scores + i + tileSide), shift);
      state.total = _mm512_add_ps(state.total, _mm512_add_ps(a, b));
      storeHalves(to + i / tileDepth * tileSize, a, b, false);
      if (Split) storeHalves(to + below + i / tileDepth * tileSize, a, b, true);
    }
  }

  void moveReference(Row& state, float reference, float* mixed) const {
    const __m512 rescale = _mm512_set1_ps(std::exp(state.reference - reference));
    state.reference = reference;
    state.total = _mm512_mul_ps(state.total, rescale);
    for (int i = 0; i < size; i += tileSide) _mm512_store_ps(mixed + i, _mm512_mul_ps(_mm512_load_ps(mixed + i), rescale));
  }

  // What one task of a thread works with: scores and results in float32, queries and weights as left operands.
  struct Workspace {
    float *scores, *mixed, *query;
    Half *queries, *weights;
  };

  Workspace workspace() const {
    float* floats = scratch<1>(static_cast<size_t>(panelSide) * (keysAtOnce + size) + size);
    Half* halves = halfScratch<5>(static_cast<size_t>(parts) * panelSide * (size + keysAtOnce));
    float* mixed = floats + panelSide * keysAtOnce;
    return {floats, mixed, mixed + panelSide * size, halves, halves + parts * panelSide * size};
  }

  void packQueries(const Workspace& work, int sample, int head, int first, int count) const {
    for (int row = 0; row < count; row++) {
      const float* from = call.vectorOf(sample, first + row, head);
      for (int i = 0; i < call.headSize; i += tileSide) _mm_prefetch(reinterpret_cast<const char*>(from + i), _MM_HINT_T0);
    }
    for (int row = 0; row < panelSide; row++) {
      std::fill(work.query, work.query + size, 0.0f);
      if (row < count) call.rotate(call.vectorOf(sample, first + row, head), first + row, work.query, 1);
      const auto read = [&](int64_t at, int) { return _mm512_load_ps(work.query + at); };
      packRow(read, size, work.queries, Split ? work.queries + panelSide * size : nullptr, row, depth);
    }
  }

  void rows(const Half* keys, const Half* values, int pair, int head, int first) const {
    const int sample = pair / call.keyValueHeads, count = std::min(panelSide, call.tokens - first), last = first + count;
    const Workspace work = workspace();
    packQueries(work, sample, head, first, count);
    std::fill(work.mixed, work.mixed + panelSide * size, 0.0f);
    Row states[panelSide];
    for (Row& state : states) state.total = _mm512_setzero_ps();
    const Operand left = operand(work.queries, depth * tileSize, panelSide * size);
    const int seenFrom = call.window > 0 ? std::max(0, first - call.window + 1) / tileDepth * tileDepth : 0;
    for (int from = seenFrom; from < last; from += keysAtOnce) {
      const int seen = std::min(keysAtOnce, static_cast<int>(roundUp(last - from, tileDepth))), deep = seen / tileDepth;
      for (int column = 0; column < seen; column += panelSide) {
        const Operand right = operand(keys + static_cast<int64_t>(from + column) * size, tileSide * size, halves());
        multiplyPanels(units, left, right, depth, work.scores + column, keysAtOnce, panelSide, false);
      }
      for (int row = 0; row < panelSide; row++) {
        const int position = first + std::min(row, count - 1) - from;
        const int low = call.window > 0 ? std::max(0, position - call.window + 1) : 0;
        takeRow(states[row], work.scores + row * keysAtOnce, seen, std::min(low, seen), std::min(position + 1, seen), work.weights, row,
                deep, work.mixed + row * size);
      }
      const Operand weighted = operand(work.weights, deep * tileSize, static_cast<int64_t>(panelSide) * keysAtOnce);
      for (int column = 0; column < size; column += panelSide) {
        const Half* value = values + static_cast<int64_t>(column) * positions + from / tileDepth * tileSize;
        const Operand right = operand(value, static_cast<int64_t>(tileSide) * positions, halves());
        multiplyPanels(units, weighted, right, deep, work.mixed + column, size, panelSide, true);
      }
    }
    for (int row = 0; row < count; row++) {
      const float scale = 1 / _mm512_reduce_add_ps(states[row].total);
      float* to = call.output + ((static_cast<size_t>(sample) * call.tokens + first + row) * call.heads + head) * call.headSize;
      for (int i = 0; i < call.headSize; i++) to[i] = work.mixed[row * size + i] * scale;
    }
  }

  void run() const {
    const int pairs = call.samples * call.keyValueHeads, perGroup = call.heads / call.keyValueHeads, pieces = positions / tileDepth;
    const int64_t own = parts * halves();
    Half* keys = halfScratch<0>(2 * pairs * own);
    Half* values = keys + pairs * own;
    Pool::shared().run(pairs * pieces, [&](int task) {
      const int pair = task / pieces;
      packKeys(pair, task % pieces * tileDepth, keys + pair * own, values + pair * own);
    });
    const int blocks = (call.tokens + panelSide - 1) / panelSide;
    Pool::shared().run(blocks * pairs * perGroup, [&](int task) {
      // The last rows see the most: begun first, they don't keep the others waiting at the end.
      const int block = blocks - 1 - task / (pairs * perGroup), rest = task % (pairs * perGroup), pair = rest / perGroup;
      TileRegisters registers(units);
      rows(keys + pair * own, values + pair * own, pair, pair % call.keyValueHeads * perGroup + rest % perGroup, block * panelSide);
    });
  }
};

// ---- head

// Sums of exponents of logits that are never stored: hidden states [rows, size] through the head, to pairs of a reference and the sum of
// exponents relative to it.
struct HalfExponents {
  Units units;
  RowsIn in;
  int64_t rows, columns;
  HalfPanels head;
  const float* bias;
  float cap;

  // Sixteen sums side by side, each relative to a reference that moves only when exponents could overflow.
  struct Sums {
    __m512 reference, total;
  };

  __m512 logitsOf(const float* c, __m512 shift) const {
    const __m512 logits = _mm512_add_ps(_mm512_load_ps(c), shift);
    if (cap <= 0) return logits;
    // cap tanh(x / cap) = cap - 2 cap / (1 + exp(2 x / cap)).
    const __m512 e = quickExponent(_mm512_mul_ps(logits, _mm512_set1_ps(2 / cap)));
    return _mm512_sub_ps(_mm512_set1_ps(cap), _mm512_div_ps(_mm512_set1_ps(2 * cap), _mm512_add_ps(_mm512_set1_ps(1), e)));
  }

  void add(Sums& sums, __m512 logits, int width) const {
    if (width < tileSide)
      logits = _mm512_mask_mov_ps(_mm512_set1_ps(-std::numeric_limits<float>::infinity()), static_cast<__mmask16>((1u << width) - 1), logits);
    const __m512 above = _mm512_sub_ps(logits, sums.reference);
    if (_mm512_cmp_ps_mask(above, _mm512_set1_ps(40), _CMP_GT_OQ)) {
      const __m512 next = _mm512_max_ps(sums.reference, logits);
      sums.total = _mm512_mul_ps(sums.total, quickExponent(_mm512_sub_ps(sums.reference, next)));
      sums.reference = next;
      sums.total = _mm512_add_ps(sums.total, quickExponent(_mm512_sub_ps(logits, next)));
      return;
    }
    sums.total = _mm512_add_ps(sums.total, quickExponent(above));
  }

  // A reference and a sum relative to it, of many such pairs.
  struct Total {
    double reference = -1e30, total = 0;

    void add(double otherReference, double otherTotal) {
      if (otherTotal == 0) return;
      const double next = std::max(reference, otherReference);
      total = total * std::exp(reference - next) + otherTotal * std::exp(otherReference - next);
      reference = next;
    }

    void add(const Sums& sums) {
      alignas(64) float references[tileSide], totals[tileSide];
      _mm512_store_ps(references, sums.reference);
      _mm512_store_ps(totals, sums.total);
      for (int i = 0; i < tileSide; i++) add(references[i], totals[i]);
    }
  };

  void addPanels(const HalfRows& a, int64_t count, int64_t from, int64_t to, Sums* sums) const {
    forPanels(units, a, count, head, from, to, [&](int64_t panel, int64_t row, int own, const float* c) {
      for (int half = 0; half < 2; half++) {
        const int64_t column = panel * panelSide + half * tileSide;
        const int width = static_cast<int>(std::min<int64_t>(tileSide, columns - column));
        if (width <= 0) return;
        const __m512 shift = bias ? loadSome(bias + column, width) : _mm512_setzero_ps();
        for (int r = 0; r < own; r++) add(sums[row + r], logitsOf(c + r * panelSide + half * tileSide, shift), width);
      }
    });
  }

  void run(float* to) const {
    const Division division(rows, head.count());
    std::vector<Total> parts(rows * division.pieces);
    division.run(rows, head.count(), [&](int64_t first, int64_t count, int64_t from, int64_t last, int64_t piece) {
      TileRegisters registers(units);
      const HalfRows a = halfRows(count, head.depth(), head.split());
      in.pack(a, first, count);
      Sums* sums = reinterpret_cast<Sums*>(scratch<6>(count * sizeof(Sums) / sizeof(float)));
      std::fill(sums, sums + count, Sums{_mm512_set1_ps(-1e30f), _mm512_setzero_ps()});
      addPanels(a, count, from, last, sums);
      for (int64_t row = 0; row < count; row++) parts[(first + row) * division.pieces + piece].add(sums[row]);
    });
    for (int64_t row = 0; row < rows; row++) {
      Total all;
      for (int64_t piece = 0; piece < division.pieces; piece++) {
        const Total& part = parts[row * division.pieces + piece];
        all.add(part.reference, part.total);
      }
      to[2 * row] = static_cast<float>(all.reference);
      to[2 * row + 1] = static_cast<float>(all.total * std::exp(all.reference - static_cast<double>(to[2 * row])));
    }
  }
};

}  // namespace

#endif
