// Fused operations of the decoder for TensorFlow on a CPU: what its own operations do in many passes over memory, done in one.
// Compiled by set-up for the processor at hand and loaded like an addon; `operations.ts` beside it calls them.
// Uses TensorFlow's C API for kernels, which is stable; its headers are not needed.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

extern "C" {
struct TF_Status;
struct TF_Tensor;
struct TF_OpDefinitionBuilder;
struct TF_KernelBuilder;
struct TF_OpKernelConstruction;
struct TF_OpKernelContext;
struct TF_ShapeInferenceContext;
TF_Status* TF_NewStatus();
void TF_DeleteStatus(TF_Status*);
void TF_SetStatus(TF_Status*, int code, const char* message);
int TF_GetCode(const TF_Status*);
TF_OpDefinitionBuilder* TF_NewOpDefinitionBuilder(const char* name);
void TF_OpDefinitionBuilderAddAttr(TF_OpDefinitionBuilder*, const char*);
void TF_OpDefinitionBuilderAddInput(TF_OpDefinitionBuilder*, const char*);
void TF_OpDefinitionBuilderAddOutput(TF_OpDefinitionBuilder*, const char*);
void TF_OpDefinitionBuilderSetShapeInferenceFunction(TF_OpDefinitionBuilder*, void (*)(TF_ShapeInferenceContext*, TF_Status*));
void TF_ShapeInferenceContextSetUnknownShape(TF_ShapeInferenceContext*, TF_Status*);
void TF_RegisterOpDefinition(TF_OpDefinitionBuilder*, TF_Status*);
TF_KernelBuilder* TF_NewKernelBuilder(const char* op, const char* device, void* (*create)(TF_OpKernelConstruction*),
                                      void (*compute)(void*, TF_OpKernelContext*), void (*destroy)(void*));
void TF_RegisterKernelBuilder(const char* name, TF_KernelBuilder*, TF_Status*);
void TF_OpKernelConstruction_GetAttrInt32(TF_OpKernelConstruction*, const char*, int32_t*, TF_Status*);
void TF_OpKernelConstruction_GetAttrFloat(TF_OpKernelConstruction*, const char*, float*, TF_Status*);
void TF_GetInput(TF_OpKernelContext*, int, TF_Tensor**, TF_Status*);
TF_Tensor* TF_AllocateOutput(TF_OpKernelContext*, int, int dtype, const int64_t* dims, int count, size_t bytes, TF_Status*);
void TF_OpKernelContext_Failure(TF_OpKernelContext*, TF_Status*);
void* TF_TensorData(const TF_Tensor*);
int TF_NumDims(const TF_Tensor*);
int64_t TF_Dim(const TF_Tensor*, int);
void TF_DeleteTensor(TF_Tensor*);
}

namespace {

// ---- vectors

#if defined(__AVX512F__)
constexpr int lanes = 16, tileRows = 6, tileVectors = 4;
#elif defined(__AVX2__)
constexpr int lanes = 8, tileRows = 6, tileVectors = 2;
#elif defined(__aarch64__)
constexpr int lanes = 4, tileRows = 6, tileVectors = 4;
#else
constexpr int lanes = 4, tileRows = 4, tileVectors = 2;
#endif
constexpr int tileColumns = lanes * tileVectors;

typedef float Vector __attribute__((vector_size(lanes * sizeof(float))));
typedef int32_t Integers __attribute__((vector_size(lanes * sizeof(int32_t))));

inline Vector load(const float* from) {
  Vector vector;
  std::memcpy(&vector, from, sizeof vector);
  return vector;
}

inline void store(float* to, Vector vector) { std::memcpy(to, &vector, sizeof vector); }

inline Vector all(float value) { return Vector{} + value; }

inline float sumOf(Vector vector) {
  float sum = 0;
  for (int i = 0; i < lanes; i++) sum += vector[i];
  return sum;
}

inline Vector larger(Vector a, Vector b) { return a > b ? a : b; }

inline float largestOf(Vector vector) {
  float largest = vector[0];
  for (int i = 1; i < lanes; i++) largest = std::max(largest, vector[i]);
  return largest;
}

// exp, within 2 units in the last place; 0 below -87. Range reduction by ln 2 in two pieces, then a polynomial of degree 6.
inline Vector exponent(Vector x) {
  const Vector low = all(-87.0f), high = all(88.0f), magic = all(12582912.0f);
  const Integers vanishes = x < low;
  x = larger(x, low);
  x = x < high ? x : high;
  const Vector shifted = x * 1.44269504f + magic;
  const Vector power = shifted - magic;
  const Vector r = (x - power * 0.693359375f) - power * -2.12194440e-4f;
  Vector y = r * 1.9875691e-4f + 1.3981999e-3f;
  y = y * r + 8.3334519e-3f;
  y = y * r + 4.1665796e-2f;
  y = y * r + 1.6666667e-1f;
  y = y * r + 0.5f;
  y = y * (r * r) + (r + 1.0f);
  Integers bits, scale;
  std::memcpy(&bits, &y, sizeof bits);
  std::memcpy(&scale, &shifted, sizeof scale);
  bits += scale << 23;
  std::memcpy(&y, &bits, sizeof y);
  return vanishes ? all(0) : y;
}

// c [Rows, Vectors * lanes] (+)= a [Rows, depth] b [depth, Vectors * lanes], all in registers.
template <int Rows, int Vectors>
inline void multiplyTile(const float* a, int strideA, const float* b, int strideB, float* c, int strideC, int depth, bool adds) {
  Vector sum[Rows][Vectors];
  for (int row = 0; row < Rows; row++)
    for (int v = 0; v < Vectors; v++) sum[row][v] = adds ? load(c + row * strideC + v * lanes) : all(0);
  for (int k = 0; k < depth; k++) {
    Vector right[Vectors];
    for (int v = 0; v < Vectors; v++) right[v] = load(b + k * strideB + v * lanes);
    for (int row = 0; row < Rows; row++) {
      const Vector left = all(a[row * strideA + k]);
      for (int v = 0; v < Vectors; v++) sum[row][v] += left * right[v];
    }
  }
  for (int row = 0; row < Rows; row++)
    for (int v = 0; v < Vectors; v++) store(c + row * strideC + v * lanes, sum[row][v]);
}

template <int Vectors>
void multiplyRows(const float* a, int strideA, const float* b, int strideB, float* c, int strideC, int rows, int depth, bool adds) {
  for (int row = 0; row < rows; row += tileRows)
    multiplyTile<tileRows, Vectors>(a + row * strideA, strideA, b, strideB, c + row * strideC, strideC, depth, adds);
}

// As above for one tile of at most `tileColumns` columns; `rows` is a multiple of `tileRows`.
void multiplyPanel(const float* a, int strideA, const float* b, int strideB, float* c, int strideC, int rows, int depth, int columns,
                   bool adds) {
  switch ((columns + lanes - 1) / lanes) {
    case 1: return multiplyRows<1>(a, strideA, b, strideB, c, strideC, rows, depth, adds);
    case 2: return multiplyRows<2>(a, strideA, b, strideB, c, strideC, rows, depth, adds);
    case 3: return multiplyRows<std::min(3, tileVectors)>(a, strideA, b, strideB, c, strideC, rows, depth, adds);
    default: return multiplyRows<tileVectors>(a, strideA, b, strideB, c, strideC, rows, depth, adds);
  }
}

// ---- threads

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// Threads that stay awake for some microseconds after a task, as the next one of a token comes soon, and sleep while there is nothing to
// do: other programs on the machine are not disturbed.
class Pool {
 public:
  // Runs task(0) to task(count - 1), each once, on the calling thread and the others. It waits for tasks that were begun, not for threads
  // that the system has not woken yet.
  void run(int count, const std::function<void(int)>& task) {
    if (count <= 1 || workers_ == 0) {
      for (int i = 0; i < count; i++) task(i);
      return;
    }
    std::lock_guard<std::mutex> one(callers_);
    uint64_t round;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      task_ = &task;
      count_ = count;
      completed_ = 0;
      round = round_ + 1;
      ticket_ = round << 32;
      round_ = round;
    }
    wake_.notify_all();
    work(round, &task, count);
    for (int spin = 0; spin < spins && completed_ < count; spin++) pause();
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, [&] { return completed_ == count; });
  }

  int threads() const { return workers_ + 1; }

  static Pool& shared() {
    // Never destroyed: its threads end with the process.
    static Pool* pool = new Pool(wantedThreads() - 1);
    return *pool;
  }

 private:
  explicit Pool(int workers) : workers_(workers) {
    for (int i = 0; i < workers; i++) std::thread([this] { serve(); }).detach();
  }

  static int wantedThreads() {
    const char* given = std::getenv("TF_NUM_INTRAOP_THREADS");
    const int threads = given ? std::atoi(given) : 0;
    return threads > 0 ? threads : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  }

  // Takes tasks of a round as long as there are some. A ticket holds the round in its upper half and the next task in its lower one, so
  // that a thread that comes late takes none of another round, whose task may be gone.
  void work(uint64_t round, const std::function<void(int)>* task, int count) {
    for (uint64_t ticket = ticket_;;) {
      const int next = static_cast<int>(ticket & 0xffffffff);
      if (ticket >> 32 != (round & 0xffffffff) || next >= count) return;
      if (!ticket_.compare_exchange_weak(ticket, ticket + 1)) continue;
      (*task)(next);
      if (++completed_ == count) {
        std::lock_guard<std::mutex> lock(mutex_);
        done_.notify_one();
      }
      ticket = ticket_;
    }
  }

  void serve() {
    for (uint64_t seen = 0;;) {
      const std::function<void(int)>* task;
      int count;
      for (int spin = 0; spin < spins && round_ == seen; spin++) pause();
      {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [&] { return round_ != seen; });
        seen = round_;
        task = task_;
        count = count_;
      }
      work(seen, task, count);
    }
  }

  static constexpr int spins = 2000;
  const int workers_;
  std::mutex callers_, mutex_;
  std::condition_variable wake_, done_;
  const std::function<void(int)>* task_ = nullptr;
  int count_ = 0;
  std::atomic<int> completed_{0};
  std::atomic<uint64_t> round_{0}, ticket_{0};
};

void inPieces(int64_t size, int64_t piece, const std::function<void(int64_t, int64_t)>& task) {
  const int pieces = static_cast<int>((size + piece - 1) / piece);
  Pool::shared().run(pieces, [&](int i) { task(i * piece, std::min(size, (i + 1) * piece)); });
}

// Memory of a thread that is kept between calls.
template <int Purpose>
float* scratch(size_t floats) {
  static thread_local std::vector<float> memory;
  if (memory.size() < floats + lanes) memory.resize(floats + lanes);
  const auto address = reinterpret_cast<uintptr_t>(memory.data());
  return memory.data() + (-address / sizeof(float)) % lanes;
}

// ---- attention

// Keys and values of one block in a cache, [keyValueHeads, capacity, headSize] each. A position of a sequence has a slot there, so that
// sequences which begin alike share what they have in common.
struct Slots {
  float *keys, *values;
  int capacity, size;

  float* key(int group, int slot) const { return keys + (static_cast<size_t>(group) * capacity + slot) * size; }
  float* value(int group, int slot) const { return values + (static_cast<size_t>(group) * capacity + slot) * size; }
};

struct Attention {
  int heads, keyValueHeads, headSize, tokens, samples, window, rotated;
  const float *projected, *cosine, *sine;
  float* output;
  // Scores s become cap * tanh(s / cap), where there is one.
  float cap = 0;
  // Positions before the tokens; with them keys and values are those in the cache, at the places of one sequence.
  int past = 0;
  const Slots* slots = nullptr;
  const int32_t* places = nullptr;

  int rowSize() const { return (heads + 2 * keyValueHeads) * headSize; }
  int seen() const { return past + tokens; }
  int keyTiles() const { return (seen() + tileColumns - 1) / tileColumns; }
  int paddedSize() const { return (headSize + lanes - 1) / lanes * lanes; }
  size_t keyFloats() const { return static_cast<size_t>(keyTiles()) * tileColumns * headSize; }
  size_t valueFloats() const { return static_cast<size_t>(keyTiles()) * tileColumns * paddedSize(); }

  const float* vectorOf(int sample, int token, int head) const {
    return projected + (static_cast<size_t>(sample) * tokens + token) * rowSize() + head * headSize;
  }

  // Rotary embedding (arXiv 2104.09864, Eq. 34) of the first `rotated` dimensions, halves paired; to[i * stride].
  void rotate(const float* from, int token, float* to, int stride) const {
    const int half = rotated / 2;
    const float *c = cosine + static_cast<size_t>(token) * half, *s = sine + static_cast<size_t>(token) * half;
    for (int i = 0; i < half; i++) {
      to[i * stride] = from[i] * c[i] - from[i + half] * s[i];
      to[(i + half) * stride] = from[i + half] * c[i] + from[i] * s[i];
    }
    for (int i = rotated; i < headSize; i++) to[i * stride] = from[i];
  }
};

constexpr int queryRows = 48, keysAtOnce = 4 * tileColumns;
static_assert(queryRows % tileRows == 0, "query rows come in whole tiles");

// Keys as tiles [headSize, tileColumns], values as panels [S, <= tileColumns columns], padded with zeros: one tile of those of a pair.
void packTile(const Attention& call, int sample, int group, int tile, float* keys, float* values) {
  const int padded = call.paddedSize(), rows = call.keyTiles() * tileColumns;
  float* key = keys + static_cast<size_t>(tile) * tileColumns * call.headSize;
  for (int column = 0; column < tileColumns; column++) {
    const int token = tile * tileColumns + column;
    const float* from = nullptr;
    if (token >= call.seen()) {
      for (int i = 0; i < call.headSize; i++) key[i * tileColumns + column] = 0;
    } else if (call.slots) {
      const float* cached = call.slots->key(group, call.places[token]);
      for (int i = 0; i < call.headSize; i++) key[i * tileColumns + column] = cached[i];
      from = call.slots->value(group, call.places[token]);
    } else {
      call.rotate(call.vectorOf(sample, token, call.heads + group), token, key + column, tileColumns);
      from = call.vectorOf(sample, token, call.heads + call.keyValueHeads + group);
    }
    for (int first = 0; first < padded; first += tileColumns) {
      const int width = std::min(tileColumns, padded - first);
      float* to = values + static_cast<size_t>(first) * rows + static_cast<size_t>(token) * width;
      for (int i = 0; i < width; i++) to[i] = from && first + i < call.headSize ? from[first + i] : 0;
    }
  }
}

void packKeysAndValues(const Attention& call, float* keys, float* values) {
  Pool::shared().run(call.samples * call.keyValueHeads * call.keyTiles(), [&](int task) {
    const int tile = task % call.keyTiles(), pair = task / call.keyTiles();
    packTile(call, pair / call.keyValueHeads, pair % call.keyValueHeads, tile, keys + pair * call.keyFloats(), values + pair * call.valueFloats());
  });
}

// tanh within 2e-7: a series where it is near x, else by the exponent.
inline Vector hyperbolicTangent(Vector x) {
  const Vector square = x * x;
  const Vector series = x * (1 + square * (-0.33333333f + square * (0.13333333f + square * (-0.053968254f + square * 0.021869489f))));
  const Vector whole = 1 - 2 / (exponent(x + x) + 1);
  return square < all(0.09f) ? series : whole;
}

// Scores s to cap * tanh(s / cap); `size` is a multiple of a vector's lanes.
void capScores(float* scores, int size, float cap) {
  for (int i = 0; i < size; i += lanes) store(scores + i, cap * hyperbolicTangent(load(scores + i) * (1 / cap)));
}

// The running softmax of one query row: its largest score, the sum of exponents relative to it.
struct Softmax {
  float largest = -std::numeric_limits<float>::infinity();
  float total = 0;
};

// Turns scores [0, size) of a row, of which [low, high) count, into exponents; returns what earlier results must be multiplied by.
float takeScores(Softmax& row, float* scores, int size, int low, int high) {
  if (high <= low) {
    std::fill(scores, scores + size, 0.0f);
    return 1;
  }
  constexpr float hidden = -std::numeric_limits<float>::infinity();
  std::fill(scores, scores + low, hidden);
  std::fill(scores + high, scores + size, hidden);
  Vector most = load(scores);
  for (int i = lanes; i < size; i += lanes) most = larger(most, load(scores + i));
  const float largest = std::max(row.largest, largestOf(most));
  Vector sum = all(0);
  for (int i = 0; i < size; i += lanes) {
    const Vector weight = exponent(load(scores + i) - largest);
    store(scores + i, weight);
    sum += weight;
  }
  const float rescale = row.total == 0 ? 0 : std::exp(row.largest - largest);
  row.total = row.total * rescale + sumOf(sum);
  row.largest = largest;
  return rescale;
}

void attendRows(const Attention& call, const float* keys, const float* values, int pair, int head, int first) {
  const int padded = call.paddedSize(), sample = pair / call.keyValueHeads, size = call.headSize;
  const int count = std::min(queryRows, call.tokens - first), begin = call.past + first, last = begin + count;
  const int paddedKeys = call.keyTiles() * tileColumns;
  const int rows = (count + tileRows - 1) / tileRows * tileRows;
  float* query = scratch<1>(static_cast<size_t>(queryRows) * (size + keysAtOnce + padded));
  float* scores = query + queryRows * size;
  float* mixed = scores + queryRows * keysAtOnce;
  Softmax softmax[queryRows];
  std::fill(query + static_cast<size_t>(count) * size, query + static_cast<size_t>(rows) * size, 0.0f);
  for (int row = 0; row < count; row++) call.rotate(call.vectorOf(sample, first + row, head), first + row, query + row * size, 1);
  std::fill(mixed, mixed + static_cast<size_t>(rows) * padded, 0.0f);
  const int seenFrom = call.window > 0 ? std::max(0, begin - call.window + 1) / tileColumns * tileColumns : 0;
  for (int from = seenFrom; from < last; from += keysAtOnce) {
    const int seen = std::min(keysAtOnce, (last - from + tileColumns - 1) / tileColumns * tileColumns);
    for (int column = 0; column < seen; column += tileColumns) {
      multiplyPanel(query, size, keys + static_cast<size_t>(from + column) * size, tileColumns, scores + column, keysAtOnce, rows, size,
                    tileColumns, false);
    }
    for (int row = 0; row < rows; row++) {
      const int position = begin + row - from;
      const int low = call.window > 0 ? std::max(0, position - call.window + 1) : 0;
      if (call.cap > 0) capScores(scores + row * keysAtOnce, seen, call.cap);
      const float rescale = takeScores(softmax[row], scores + row * keysAtOnce, seen, std::min(low, seen), std::min(position + 1, seen));
      float* out = mixed + row * padded;
      if (rescale != 1)
        for (int i = 0; i < padded; i += lanes) store(out + i, load(out + i) * rescale);
    }
    for (int column = 0; column < padded; column += tileColumns) {
      const int width = std::min(tileColumns, padded - column);
      const float* panel = values + static_cast<size_t>(column) * paddedKeys + static_cast<size_t>(from) * width;
      multiplyPanel(scores, keysAtOnce, panel, width, mixed + column, padded, rows, seen, width, true);
    }
  }
  for (int row = 0; row < count; row++) {
    const float scale = 1 / softmax[row].total;
    float* to = call.output + ((static_cast<size_t>(sample) * call.tokens + first + row) * call.heads + head) * size;
    for (int i = 0; i < size; i++) to[i] = mixed[row * padded + i] * scale;
  }
}

void attend(const Attention& call) {
  const int pairs = call.samples * call.keyValueHeads, perGroup = call.heads / call.keyValueHeads;
  float* keys = scratch<0>(pairs * (call.keyFloats() + call.valueFloats()));
  float* values = keys + pairs * call.keyFloats();
  packKeysAndValues(call, keys, values);
  const int blocks = (call.tokens + queryRows - 1) / queryRows;
  Pool::shared().run(blocks * pairs * perGroup, [&](int task) {
    // The last rows see the most: begun first, they don't keep the others waiting at the end.
    const int block = blocks - 1 - task / (pairs * perGroup), rest = task % (pairs * perGroup), pair = rest / perGroup;
    const int head = pair % call.keyValueHeads * perGroup + rest % perGroup;
    attendRows(call, keys + pair * call.keyFloats(), values + pair * call.valueFloats(), pair, head, block * queryRows);
  });
}

// ---- rows

// RMSNorm (arXiv 1910.07467, Eq. 4) or LayerNorm (arXiv 1607.06450); weight and bias may be null.
struct Norm {
  float epsilon, divisor;
  bool centred;
};

void normalizeRow(const Norm& norm, const float* x, const float* weight, const float* bias, float* to, int64_t size) {
  const int64_t whole = size / lanes * lanes;
  float mean = 0;
  if (norm.centred) {
    Vector sum = all(0);
    for (int64_t i = 0; i < whole; i += lanes) sum += load(x + i);
    mean = sumOf(sum);
    for (int64_t i = whole; i < size; i++) mean += x[i];
    mean /= static_cast<float>(size);
  }
  Vector squares = all(0);
  for (int64_t i = 0; i < whole; i += lanes) {
    const Vector value = load(x + i) - mean;
    squares += value * value;
  }
  float total = sumOf(squares);
  for (int64_t i = whole; i < size; i++) total += (x[i] - mean) * (x[i] - mean);
  const float scale = 1 / std::sqrt(total / norm.divisor + norm.epsilon);
  for (int64_t i = 0; i < size; i++) to[i] = (x[i] - mean) * scale * (weight ? weight[i] : 1) + (bias ? bias[i] : 0);
}

// silu(gate) * up, where silu(x) = x / (1 + exp(-x)) (arXiv 2002.05202).
void gateNeurons(const float* gate, const float* up, float* to, int64_t size) {
  int64_t i = 0;
  for (; i + lanes <= size; i += lanes) {
    const Vector x = load(gate + i);
    store(to + i, x / (1 + exponent(-x)) * load(up + i));
  }
  for (; i < size; i++) to[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
}

float largestIn(const float* row, int64_t size) {
  const int64_t whole = size / lanes * lanes;
  float largest = -std::numeric_limits<float>::infinity();
  if (whole > 0) {
    Vector most = load(row);
    for (int64_t i = lanes; i < whole; i += lanes) most = larger(most, load(row + i));
    largest = largestOf(most);
  }
  for (int64_t i = whole; i < size; i++) largest = std::max(largest, row[i]);
  return largest;
}

// The largest logit of a row and the sum of exponents relative to it.
void sumExponents(const float* logits, int64_t size, float* to) {
  const int64_t whole = size / lanes * lanes;
  const float largest = largestIn(logits, size);
  double total = 0;
  constexpr int64_t piece = 64 * lanes;
  for (int64_t first = 0; first < whole; first += piece) {
    Vector sum = all(0);
    for (int64_t i = first; i < std::min(whole, first + piece); i += lanes) sum += exponent(load(logits + i) - largest);
    total += sumOf(sum);
  }
  for (int64_t i = whole; i < size; i++) total += std::exp(logits[i] - largest);
  to[0] = largest;
  to[1] = static_cast<float>(total);
}

// Logits of two models for one row: of each the largest and the sum of exponents relative to it, and the mean of their difference under the
// distribution of the first.
void compareLogits(const float* dense, const float* own, int64_t size, float* to) {
  const float largest = largestIn(dense, size), ownLargest = largestIn(own, size);
  double total = 0, ownTotal = 0, shift = 0;
  const int64_t whole = size / lanes * lanes;
  constexpr int64_t piece = 64 * lanes;
  for (int64_t first = 0; first < whole; first += piece) {
    Vector sum = all(0), ownSum = all(0), weighted = all(0);
    for (int64_t i = first; i < std::min(whole, first + piece); i += lanes) {
      const Vector a = load(dense + i), b = load(own + i), weight = exponent(a - largest);
      sum += weight;
      weighted += weight * (a - b);
      ownSum += exponent(b - ownLargest);
    }
    total += sumOf(sum);
    ownTotal += sumOf(ownSum);
    shift += sumOf(weighted);
  }
  for (int64_t i = whole; i < size; i++) {
    const float weight = std::exp(dense[i] - largest);
    total += weight;
    shift += weight * (dense[i] - own[i]);
    ownTotal += std::exp(own[i] - ownLargest);
  }
  to[0] = largest;
  to[1] = static_cast<float>(total);
  to[2] = ownLargest;
  to[3] = static_cast<float>(ownTotal);
  to[4] = static_cast<float>(shift / total);
}

// The `count` largest of a row, the lower place first among equals: values to `to`, places behind them.
void takeLargest(const float* row, int64_t size, int count, float* to) {
  constexpr int64_t piece = 16 * lanes;
  float* places = to + count;
  int found = 0;
  for (int64_t first = 0; first < size; first += piece) {
    const int64_t last = std::min(size, first + piece);
    if (found == count && !(largestIn(row + first, last - first) > to[count - 1])) continue;
    for (int64_t i = first; i < last; i++) {
      if (found == count && !(row[i] > to[count - 1])) continue;
      int at = found < count ? found++ : count - 1;
      for (; at > 0 && row[i] > to[at - 1]; at--) {
        to[at] = to[at - 1];
        places[at] = places[at - 1];
      }
      to[at] = row[i];
      places[at] = static_cast<float>(i);
    }
  }
}

// |a - b| / |b| and the cosine of two rows.
void compareRows(const float* a, const float* b, int64_t size, float* to) {
  Vector squaresA = all(0), squaresB = all(0), products = all(0), differences = all(0);
  const int64_t whole = size / lanes * lanes;
  for (int64_t i = 0; i < whole; i += lanes) {
    const Vector left = load(a + i), right = load(b + i), apart = left - right;
    squaresA += left * left;
    squaresB += right * right;
    products += left * right;
    differences += apart * apart;
  }
  double aa = sumOf(squaresA), bb = sumOf(squaresB), ab = sumOf(products), dd = sumOf(differences);
  for (int64_t i = whole; i < size; i++) {
    aa += a[i] * a[i];
    bb += b[i] * b[i];
    ab += a[i] * b[i];
    dd += (a[i] - b[i]) * (a[i] - b[i]);
  }
  constexpr double tiny = 1e-30;
  to[0] = static_cast<float>(std::sqrt(dd) / std::max(std::sqrt(bb), tiny));
  to[1] = static_cast<float>(ab / std::max(std::sqrt(aa) * std::sqrt(bb), tiny));
}

// Sums over rows of |x| or x squared for columns [first, last).
void sumColumns(const float* x, int64_t rows, int64_t columns, int64_t first, int64_t last, bool squared, float* to) {
  constexpr int64_t together = 32;
  const int64_t width = last - first;
  std::vector<double> total(width, 0);
  std::vector<float> part(width);
  for (int64_t start = 0; start < rows; start += together) {
    std::fill(part.begin(), part.end(), 0.0f);
    for (int64_t row = start; row < std::min(rows, start + together); row++) {
      const float* from = x + row * columns + first;
      if (squared)
        for (int64_t i = 0; i < width; i++) part[i] += from[i] * from[i];
      else
        for (int64_t i = 0; i < width; i++) part[i] += std::fabs(from[i]);
    }
    for (int64_t i = 0; i < width; i++) total[i] += part[i];
  }
  for (int64_t i = 0; i < width; i++) to[first + i] = static_cast<float>(total[i]);
}

// ---- activations

enum Activation { silu, gelu, geluTanh, relu };

float activate(Activation activation, float x) {
  switch (activation) {
    case silu: return x / (1 + std::exp(-x));
    case gelu: return 0.5f * x * (1 + std::erf(x * 0.70710678f));
    case geluTanh: return 0.5f * x * (1 + std::tanh(0.79788456f * x * (1 + 0.044715f * x * x)));
    default: return std::max(0.0f, x);
  }
}

}  // namespace

#include "half-parts.h"
#include "decode.h"

namespace {

// ---- TensorFlow

constexpr int float32 = 1, int32 = 3, invalidArgument = 3;

const int32_t* wordsOf(const TF_Tensor* tensor) { return static_cast<const int32_t*>(TF_TensorData(tensor)); }

// Tensors of one call: freed with it, and an error instead of a wrong read when shapes do not fit.
class Call {
 public:
  explicit Call(TF_OpKernelContext* context) : context_(context), status_(TF_NewStatus()) {}

  ~Call() {
    for (TF_Tensor* tensor : tensors_) TF_DeleteTensor(tensor);
    TF_DeleteStatus(status_);
  }

  const TF_Tensor* input(int index) {
    TF_Tensor* tensor = nullptr;
    TF_GetInput(context_, index, &tensor, status_);
    if (tensor) tensors_.push_back(tensor);
    if (failed()) return nullptr;
    return tensor;
  }

  float* output(std::initializer_list<int64_t> shape, int type = float32) {
    size_t bytes = sizeof(float);
    for (int64_t size : shape) bytes *= size;
    TF_Tensor* tensor = TF_AllocateOutput(context_, 0, type, shape.begin(), static_cast<int>(shape.size()), bytes, status_);
    if (tensor) tensors_.push_back(tensor);
    if (failed()) return nullptr;
    return static_cast<float*>(TF_TensorData(tensor));
  }

  bool require(bool holds, const char* message) {
    if (holds) return true;
    TF_SetStatus(status_, invalidArgument, message);
    return !failed();
  }

 private:
  bool failed() {
    if (TF_GetCode(status_) == 0) return false;
    TF_OpKernelContext_Failure(context_, status_);
    return true;
  }

  TF_OpKernelContext* context_;
  TF_Status* status_;
  std::vector<TF_Tensor*> tensors_;
};

const float* dataOf(const TF_Tensor* tensor) { return static_cast<const float*>(TF_TensorData(tensor)); }

int64_t sizeOf(const TF_Tensor* tensor) {
  int64_t size = 1;
  for (int i = 0; i < TF_NumDims(tensor); i++) size *= TF_Dim(tensor, i);
  return size;
}

bool isMatrix(const TF_Tensor* tensor) { return TF_NumDims(tensor) == 2; }

int32_t intOf(TF_OpKernelConstruction* construction, const char* name) {
  TF_Status* status = TF_NewStatus();
  int32_t value = 0;
  TF_OpKernelConstruction_GetAttrInt32(construction, name, &value, status);
  TF_DeleteStatus(status);
  return value;
}

float floatOf(TF_OpKernelConstruction* construction, const char* name) {
  TF_Status* status = TF_NewStatus();
  float value = 0;
  TF_OpKernelConstruction_GetAttrFloat(construction, name, &value, status);
  TF_DeleteStatus(status);
  return value;
}

#if ESPALIER_HALVES
// The units that a call asks for, or what there is of them.
Units unitsFor(int wanted) { return std::min(static_cast<Units>(wanted), bestUnits()); }
#endif

// To [1]: the best units of this processor, as a number.
struct UnitsKernel {
  explicit UnitsKernel(TF_OpKernelConstruction*) {}

  void compute(Call& call) const {
    if (float* output = call.output({1})) *output = static_cast<float>(bestUnits());
  }
};

// projected [B*T, (H + 2K) d], cosine and sine [T, rotated / 2] to [B*T, H d]; both products by `units`, of split operands
// where asked for, in float32 where units are 0 or scores are capped.
struct AttentionKernel {
  int heads, keyValueHeads, window, units;
  bool split;
  float cap;

  explicit AttentionKernel(TF_OpKernelConstruction* from)
      : heads(intOf(from, "heads")),
        keyValueHeads(intOf(from, "key_value_heads")),
        window(intOf(from, "window")),
        units(intOf(from, "units")),
        split(intOf(from, "split") != 0),
        cap(floatOf(from, "cap")) {}

  void compute(Call& call) const {
    const TF_Tensor *projected = call.input(0), *cosine = call.input(1), *sine = call.input(2);
    if (!projected || !cosine || !sine) return;
    if (!call.require(isMatrix(projected) && isMatrix(cosine) && sizeOf(cosine) == sizeOf(sine), "Attention takes matrices.")) return;
    const int tokens = static_cast<int>(TF_Dim(cosine, 0)), rotated = static_cast<int>(2 * TF_Dim(cosine, 1));
    const int64_t rows = TF_Dim(projected, 0), width = TF_Dim(projected, 1);
    const bool fits = heads > 0 && keyValueHeads > 0 && heads % keyValueHeads == 0 && width % (heads + 2 * keyValueHeads) == 0 &&
                      tokens > 0 && rows % tokens == 0 && rotated <= width / (heads + 2 * keyValueHeads);
    if (!call.require(fits, "Attention: the shapes of projections and rotary tables do not fit the heads.")) return;
    const int size = static_cast<int>(width / (heads + 2 * keyValueHeads));
    float* output = call.output({rows, static_cast<int64_t>(heads) * size});
    if (!output) return;
    const Attention attention{heads, keyValueHeads, size, tokens, static_cast<int>(rows / tokens), window, rotated, dataOf(projected),
                              dataOf(cosine), dataOf(sine), output, cap};
#if ESPALIER_HALVES
    if (units != noUnits && cap == 0) {
      if (split) return HalfAttention<true>(attention, unitsFor(units)).run();
      return HalfAttention<false>(attention, unitsFor(units)).run();
    }
#endif
    attend(attention);
  }
};

// x [N, D], weight and bias [D] or anything where `weighted` or `biased` is 0, to [N, D].
struct NormKernel {
  Norm norm;
  bool weighted, biased;

  explicit NormKernel(TF_OpKernelConstruction* from)
      : norm{floatOf(from, "epsilon"), floatOf(from, "divisor"), intOf(from, "centred") != 0},
        weighted(intOf(from, "weighted") != 0),
        biased(intOf(from, "biased") != 0) {}

  void compute(Call& call) const {
    const TF_Tensor *x = call.input(0), *weight = call.input(1), *bias = call.input(2);
    if (!x || !weight || !bias) return;
    if (!call.require(isMatrix(x), "A norm takes a matrix.")) return;
    const int64_t rows = TF_Dim(x, 0), size = TF_Dim(x, 1);
    const bool fits = (!weighted || sizeOf(weight) == size) && (!biased || sizeOf(bias) == size);
    if (!call.require(fits, "A norm's weights must be as many as its columns.")) return;
    float* output = call.output({rows, size});
    if (!output) return;
    const float *from = dataOf(x), *scales = weighted ? dataOf(weight) : nullptr, *shifts = biased ? dataOf(bias) : nullptr;
    inPieces(rows, 64, [&](int64_t first, int64_t last) {
      for (int64_t row = first; row < last; row++)
        normalizeRow(norm, from + row * size, scales, shifts, output + row * size, size);
    });
  }
};

// gate and up [N, I] to [N, I].
struct GateKernel {
  explicit GateKernel(TF_OpKernelConstruction*) {}

  void compute(Call& call) const {
    const TF_Tensor *gate = call.input(0), *up = call.input(1);
    if (!gate || !up) return;
    if (!call.require(isMatrix(gate) && isMatrix(up) && sizeOf(gate) == sizeOf(up), "Gate and up must be equal in shape.")) return;
    float* output = call.output({TF_Dim(gate, 0), TF_Dim(gate, 1)});
    if (!output) return;
    const float *gates = dataOf(gate), *ups = dataOf(up);
    inPieces(sizeOf(gate), 1 << 15, [&](int64_t first, int64_t last) {
      gateNeurons(gates + first, ups + first, output + first, last - first);
    });
  }
};

// logits [N, V] to [N, 2]: the largest of each row, and the sum of exponents relative to it.
struct ExponentsKernel {
  explicit ExponentsKernel(TF_OpKernelConstruction*) {}

  void compute(Call& call) const {
    const TF_Tensor* logits = call.input(0);
    if (!logits || !call.require(isMatrix(logits), "Sums of exponents take a matrix.")) return;
    const int64_t rows = TF_Dim(logits, 0), size = TF_Dim(logits, 1);
    float* output = call.output({rows, 2});
    if (!output) return;
    const float* from = dataOf(logits);
    inPieces(rows, 32, [&](int64_t first, int64_t last) {
      for (int64_t row = first; row < last; row++) sumExponents(from + row * size, size, output + 2 * row);
    });
  }
};

// Logits of a dense model and of another one, [N, C] each, to [N, 5 + 2 * count]: what `compareLogits` says, then the other's `count`
// largest logits and their columns. A model is compared with itself by giving one tensor twice.
struct CompareLogitsKernel {
  int count;

  explicit CompareLogitsKernel(TF_OpKernelConstruction* from) : count(intOf(from, "count")) {}

  void compute(Call& call) const {
    const TF_Tensor *dense = call.input(0), *own = call.input(1);
    if (!dense || !own) return;
    const bool fits = isMatrix(dense) && isMatrix(own) && TF_Dim(dense, 0) == TF_Dim(own, 0) && TF_Dim(dense, 1) == TF_Dim(own, 1) &&
                      count > 0 && count <= TF_Dim(own, 1) && TF_Dim(own, 1) <= 1 << 24;
    if (!call.require(fits, "Logits are compared in two matrices of one shape, of at most 16777216 columns.")) return;
    const int64_t rows = TF_Dim(own, 0), size = TF_Dim(own, 1), width = 5 + 2 * count;
    float* output = call.output({rows, width});
    if (!output) return;
    const float *from = dataOf(dense), *other = dataOf(own);
    inPieces(rows, 16, [&](int64_t first, int64_t last) {
      for (int64_t row = first; row < last; row++) {
        const float* logits = other + row * size;
        float* to = output + row * width;
        if (from == other) {
          sumExponents(logits, size, to);
          std::copy(to, to + 2, to + 2);
          to[4] = 0;
        } else {
          compareLogits(from + row * size, logits, size, to);
        }
        takeLargest(logits, size, count, to + 5);
      }
    });
  }
};

// a and b [N, D] to [N, 2]: |a - b| / |b| and the cosine of each pair of rows.
struct DistanceKernel {
  explicit DistanceKernel(TF_OpKernelConstruction*) {}

  void compute(Call& call) const {
    const TF_Tensor *a = call.input(0), *b = call.input(1);
    if (!a || !b) return;
    const bool fits = isMatrix(a) && isMatrix(b) && TF_Dim(a, 0) == TF_Dim(b, 0) && TF_Dim(a, 1) == TF_Dim(b, 1);
    if (!call.require(fits, "A distance takes two matrices of one shape.")) return;
    const int64_t rows = TF_Dim(a, 0), size = TF_Dim(a, 1);
    float* output = call.output({rows, 2});
    if (!output) return;
    const float *left = dataOf(a), *right = dataOf(b);
    inPieces(rows, 64, [&](int64_t first, int64_t last) {
      for (int64_t row = first; row < last; row++) compareRows(left + row * size, right + row * size, size, output + 2 * row);
    });
  }
};

// x [B * tokens, I] to [B, I]: sums over each sample's rows of |x|, or of x squared.
struct ColumnsKernel {
  int tokens;
  bool squared;

  explicit ColumnsKernel(TF_OpKernelConstruction* from) : tokens(intOf(from, "tokens")), squared(intOf(from, "squared") != 0) {}

  void compute(Call& call) const {
    const TF_Tensor* x = call.input(0);
    if (!x || !call.require(isMatrix(x) && tokens > 0 && TF_Dim(x, 0) % tokens == 0, "Columns take whole samples of rows.")) return;
    const int64_t samples = TF_Dim(x, 0) / tokens, columns = TF_Dim(x, 1), piece = 256, pieces = (columns + piece - 1) / piece;
    float* output = call.output({samples, columns});
    if (!output) return;
    const float* from = dataOf(x);
    Pool::shared().run(static_cast<int>(samples * pieces), [&](int task) {
      const int64_t sample = task / pieces, first = task % pieces * piece;
      sumColumns(from + sample * tokens * columns, tokens, columns, first, std::min(columns, first + piece), squared,
                 output + sample * columns);
    });
  }
};

// x [N, D] and weight [R, D], bias [R] or anything where `biased` is 0, to [N, R].
struct FewRowsKernel {
  bool biased;

  explicit FewRowsKernel(TF_OpKernelConstruction* from) : biased(intOf(from, "biased") != 0) {}

  void compute(Call& call) const {
    const TF_Tensor *x = call.input(0), *weight = call.input(1), *bias = call.input(2);
    if (!x || !weight || !bias) return;
    const bool fits = isMatrix(x) && isMatrix(weight) && TF_Dim(x, 1) == TF_Dim(weight, 1) && TF_Dim(x, 1) > 0 &&
                      (!biased || sizeOf(bias) == TF_Dim(weight, 0));
    if (!call.require(fits, "A product of few rows takes x [N, D], a weight [R, D] and a bias [R].")) return;
    const int64_t rows = TF_Dim(x, 0), columns = TF_Dim(weight, 0);
    float* output = call.output({rows, columns});
    if (!output) return;
    const int64_t size = TF_Dim(x, 1);
    FewRows{dataOf(x), size, rows, size, {dataOf(weight)}, columns, biased ? dataOf(bias) : nullptr, output, columns}.run();
  }
};

// The norm in front of a part of a block, and what its output is multiplied by before it is added to the stream.
struct PartNorm {
  Norm norm;
  bool weighted, shifted;
  float scale;

  explicit PartNorm(TF_OpKernelConstruction* from)
      : norm{floatOf(from, "epsilon"), floatOf(from, "divisor"), intOf(from, "centred") != 0},
        weighted(intOf(from, "weighted") != 0),
        shifted(intOf(from, "shifted") != 0),
        scale(floatOf(from, "scale")) {}

  // Rows [rows, size] through the norm.
  void run(const TF_Tensor* x, const TF_Tensor* weight, const TF_Tensor* bias, float* to) const {
    const int64_t rows = TF_Dim(x, 0), size = TF_Dim(x, 1);
    for (int64_t row = 0; row < rows; row++)
      normalizeRow(norm, dataOf(x) + row * size, weighted ? dataOf(weight) : nullptr, shifted ? dataOf(bias) : nullptr, to + row * size, size);
  }

#if ESPALIER_HALVES
  RowsIn rowsIn(const TF_Tensor* x, const TF_Tensor* weight, const TF_Tensor* bias, bool normed) const {
    return {dataOf(x), TF_Dim(x, 1), normed ? &norm : nullptr, weighted ? dataOf(weight) : nullptr, shifted ? dataOf(bias) : nullptr};
  }
#endif

  bool fits(const TF_Tensor* x, const TF_Tensor* weight, const TF_Tensor* bias) const {
    return isMatrix(x) && (!weighted || sizeOf(weight) == TF_Dim(x, 1)) && (!shifted || sizeOf(bias) == TF_Dim(x, 1));
  }
};

#if ESPALIER_HALVES

// A weight [R, C] to tiles of halves, [1, column tiles, depth, 256] words; where `split`, [2, ...] with what rounding took away behind them.
struct PackKernel {
  bool split;

  explicit PackKernel(TF_OpKernelConstruction* from) : split(intOf(from, "split") != 0) {}

  void compute(Call& call) const {
    const TF_Tensor* weight = call.input(0);
    if (!weight || !call.require(isMatrix(weight) && sizeOf(weight) > 0, "A weight to be packed is a matrix.")) return;
    const int64_t rows = TF_Dim(weight, 0), columns = TF_Dim(weight, 1), depth = roundUp(columns, tileDepth) / tileDepth;
    const int64_t tiles = roundUp(rows, panelSide) / tileSide;
    float* output = call.output({split ? 2 : 1, tiles, depth, tileSize / 2}, int32);
    if (!output) return;
    Half* to = reinterpret_cast<Half*>(output);
    const float* from = dataOf(weight);
    Pool::shared().run(static_cast<int>(tiles), [&](int tile) {
      const int64_t row = static_cast<int64_t>(tile) * tileSide;
      const int count = static_cast<int>(std::max<int64_t>(0, std::min<int64_t>(tileSide, rows - row)));
      for (int low = 0; low < (split ? 2 : 1); low++)
        packColumns(from + row * columns, columns, count, to + (low * tiles + tile) * depth * tileSize, depth, low);
    });
  }
};

HalfWeight halfWeight(const TF_Tensor* tensor) {
  const int64_t tiles = TF_Dim(tensor, 1), depth = TF_Dim(tensor, 2);
  const Half* high = reinterpret_cast<const Half*>(wordsOf(tensor));
  return {high, TF_Dim(tensor, 0) == 2 ? high + tiles * depth * tileSize : nullptr, tiles, depth};
}

// Whether a packed weight takes rows of `size` to `columns`.
bool fitsWeight(const TF_Tensor* weight, int64_t columns, int64_t size) {
  return TF_NumDims(weight) == 4 && TF_Dim(weight, 1) * tileSide == roundUp(columns, panelSide) &&
         TF_Dim(weight, 2) * tileDepth == roundUp(size, tileDepth) && TF_Dim(weight, 3) * 2 == tileSize;
}

// x [N, D] through a norm where there is one, a packed weight of `columns` and its bias, times `scale` onto `add` where that is asked for:
// [N, columns].
struct HalfProductKernel {
  PartNorm norm;
  int units, columns;
  bool normed, biased, adds;

  explicit HalfProductKernel(TF_OpKernelConstruction* from)
      : norm(from),
        units(intOf(from, "units")),
        columns(intOf(from, "columns")),
        normed(intOf(from, "normed") != 0),
        biased(intOf(from, "biased") != 0),
        adds(intOf(from, "adds") != 0) {}

  void compute(Call& call) const {
    const TF_Tensor* in[6];
    for (int i = 0; i < 6; i++)
      if (!(in[i] = call.input(i))) return;
    const TF_Tensor *x = in[0], *weight = in[3], *bias = in[4], *add = in[5];
    const bool fits = isMatrix(x) && columns > 0 && fitsWeight(weight, columns, TF_Dim(x, 1)) && (!biased || sizeOf(bias) == columns) &&
                      (!normed || norm.fits(x, in[1], in[2])) && (!adds || sizeOf(add) == TF_Dim(x, 0) * columns);
    if (!call.require(fits, "A product of halves: the packed weight, norm, bias or sum does not fit the rows.")) return;
    float* output = call.output({TF_Dim(x, 0), columns});
    if (!output) return;
    multiplyHalves(unitsFor(units), norm.rowsIn(x, in[1], in[2], normed), TF_Dim(x, 0), {halfWeight(weight)},
                   {biased ? dataOf(bias) : nullptr, adds ? dataOf(add) : nullptr, norm.scale, columns, output});
  }
};

// What an MLP is beside its norm and weights.
struct MlpWords {
  Activation activation;
  bool gated, gateBiased, upBiased;

  explicit MlpWords(TF_OpKernelConstruction* from)
      : activation(static_cast<Activation>(intOf(from, "activation"))),
        gated(intOf(from, "gated") != 0),
        gateBiased(intOf(from, "gate_biased") != 0),
        upBiased(intOf(from, "up_biased") != 0) {}
};

// What both kernels of an MLP with packed weights begin with; inputs from `first`: the norm's weight and bias, gate, up, each with its bias.
struct HalfMlpStart {
  PartNorm norm;
  MlpWords words;
  int units, neurons;
  bool normed;

  explicit HalfMlpStart(TF_OpKernelConstruction* from)
      : norm(from), words(from), units(intOf(from, "units")), neurons(intOf(from, "neurons")), normed(intOf(from, "normed") != 0) {}

  bool fits(const TF_Tensor* source, const TF_Tensor* const* in) const {
    const int64_t size = TF_Dim(source, 1);
    return fitsWeight(in[2], neurons, size) && fitsWeight(in[4], neurons, size) && (!normed || norm.fits(source, in[0], in[1])) &&
           (!words.gateBiased || sizeOf(in[3]) == neurons) && (!words.upBiased || sizeOf(in[5]) == neurons) &&
           TF_Dim(in[2], 0) == TF_Dim(in[4], 0);
  }

  // `ups` are the weights of `in`, and outlive what is made.
  HalfMlp with(const TF_Tensor* source, const TF_Tensor* const* in, const HalfWeight& ups) const {
    return {unitsFor(units), norm.rowsIn(source, in[0], in[1], normed), TF_Dim(source, 0), neurons, words.activation, words.gated,
            words.gateBiased ? dataOf(in[3]) : nullptr, words.upBiased ? dataOf(in[5]) : nullptr,
            words.gated ? HalfPanels{halfWeight(in[2]), &ups} : HalfPanels{ups}};
  }
};

// An MLP of `neurons` with packed weights: what it adds to x [N, D] of what it reads of source [N, D], down [D, I] with its bias behind the
// inputs above; where there is no gate, up stands there. To [N, D].
struct HalfMlpKernel {
  HalfMlpStart start;
  bool downBiased;

  explicit HalfMlpKernel(TF_OpKernelConstruction* from) : start(from), downBiased(intOf(from, "down_biased") != 0) {}

  void compute(Call& call) const {
    const TF_Tensor* in[10];
    for (int i = 0; i < 10; i++)
      if (!(in[i] = call.input(i))) return;
    const TF_Tensor *x = in[0], *source = in[1], *down = in[8], *downBias = in[9];
    if (!call.require(isMatrix(x) && isMatrix(source) && start.neurons > 0, "An MLP of halves takes matrices.")) return;
    const int64_t rows = TF_Dim(x, 0), hidden = TF_Dim(x, 1);
    const bool fits = TF_Dim(source, 0) == rows && start.fits(source, in + 2) && fitsWeight(down, hidden, start.neurons) &&
                      (!downBiased || sizeOf(downBias) == hidden) && TF_Dim(in[6], 0) == TF_Dim(down, 0);
    if (!call.require(fits, "An MLP of halves: its packed weights do not fit its rows.")) return;
    float* output = call.output({rows, hidden});
    if (!output) return;
    const HalfWeight ups = halfWeight(in[6]);
    HalfMlp mlp = start.with(source, in + 2, ups);
    mlp.down = {halfWeight(down)};
    mlp.out = {downBiased ? dataOf(downBias) : nullptr, dataOf(x), start.norm.scale, hidden, output};
    mlp.run();
  }
};

// The neurons of such an MLP, behind their activation: source [N, D] to [N, neurons].
struct HalfNeuronsKernel {
  HalfMlpStart start;

  explicit HalfNeuronsKernel(TF_OpKernelConstruction* from) : start(from) {}

  void compute(Call& call) const {
    const TF_Tensor* in[7];
    for (int i = 0; i < 7; i++)
      if (!(in[i] = call.input(i))) return;
    const bool fits = isMatrix(in[0]) && start.neurons > 0 && start.fits(in[0], in + 1);
    if (!call.require(fits, "Neurons of halves: their packed weights do not fit the rows.")) return;
    float* output = call.output({TF_Dim(in[0], 0), start.neurons});
    if (!output) return;
    const HalfWeight ups = halfWeight(in[5]);
    start.with(in[0], in + 1, ups).runNeurons(output);
  }
};

// As `ExponentsKernel`, of the logits of hidden states x [N, D] over a packed head of `columns` entries: [N, 2]. The reference is near the
// largest logit.
struct HalfExponentsKernel {
  int units, columns;
  bool biased;
  float cap;

  explicit HalfExponentsKernel(TF_OpKernelConstruction* from)
      : units(intOf(from, "units")), columns(intOf(from, "columns")), biased(intOf(from, "biased") != 0), cap(floatOf(from, "cap")) {}

  void compute(Call& call) const {
    const TF_Tensor *x = call.input(0), *head = call.input(1), *bias = call.input(2);
    if (!x || !head || !bias) return;
    const bool fits = isMatrix(x) && columns > 0 && fitsWeight(head, columns, TF_Dim(x, 1)) && (!biased || sizeOf(bias) == columns);
    if (!call.require(fits, "Sums of exponents: the packed head does not fit the rows.")) return;
    float* output = call.output({TF_Dim(x, 0), 2});
    if (!output) return;
    HalfExponents{unitsFor(units), {dataOf(x), TF_Dim(x, 1), nullptr, nullptr, nullptr}, TF_Dim(x, 0), columns, {halfWeight(head)},
                  biased ? dataOf(bias) : nullptr, cap}
        .run(output);
  }
};

#endif

}  // namespace

#include "decode-kernels.h"

namespace {

void unknownShape(TF_ShapeInferenceContext* context, TF_Status* status) { TF_ShapeInferenceContextSetUnknownShape(context, status); }

template <class Kernel>
bool registerKernel(const char* name, std::initializer_list<const char*> inputs, std::initializer_list<const char*> attributes,
                    const char* output = "output: float") {
  TF_Status* status = TF_NewStatus();
  TF_OpDefinitionBuilder* definition = TF_NewOpDefinitionBuilder(name);
  for (const char* attribute : attributes) TF_OpDefinitionBuilderAddAttr(definition, attribute);
  for (const char* input : inputs) TF_OpDefinitionBuilderAddInput(definition, input);
  TF_OpDefinitionBuilderAddOutput(definition, output);
  TF_OpDefinitionBuilderSetShapeInferenceFunction(definition, unknownShape);
  TF_RegisterOpDefinition(definition, status);
  const bool defined = TF_GetCode(status) == 0;
  if (defined) {
    TF_KernelBuilder* builder = TF_NewKernelBuilder(
        name, "CPU", [](TF_OpKernelConstruction* from) -> void* { return new Kernel(from); },
        [](void* kernel, TF_OpKernelContext* context) {
          Call call(context);
          static_cast<const Kernel*>(kernel)->compute(call);
        },
        [](void* kernel) { delete static_cast<Kernel*>(kernel); });
    TF_RegisterKernelBuilder(name, builder, status);
  }
  const bool registered = defined && TF_GetCode(status) == 0;
  TF_DeleteStatus(status);
  return registered;
}

bool registerHalves() {
#if ESPALIER_HALVES
  return registerKernel<PackKernel>("EspalierPack", {"weight: float"}, {"split: int"}, "output: int32") &&
         registerKernel<HalfProductKernel>(
             "EspalierHalfProduct", {"x: float", "norm: float", "shift: float", "weight: int32", "bias: float", "add: float"},
             {"epsilon: float", "divisor: float", "scale: float", "centred: int", "weighted: int", "shifted: int", "units: int",
              "columns: int", "normed: int", "biased: int", "adds: int"}) &&
         registerKernel<HalfMlpKernel>(
             "EspalierHalfMlp",
             {"x: float", "source: float", "norm: float", "shift: float", "gate: int32", "gate_bias: float", "up: int32", "up_bias: float",
              "down: int32", "down_bias: float"},
             {"epsilon: float", "divisor: float", "scale: float", "centred: int", "weighted: int", "shifted: int", "units: int",
              "activation: int", "neurons: int", "normed: int", "gated: int", "gate_biased: int", "up_biased: int", "down_biased: int"}) &&
         registerKernel<HalfNeuronsKernel>(
             "EspalierHalfNeurons",
             {"source: float", "norm: float", "shift: float", "gate: int32", "gate_bias: float", "up: int32", "up_bias: float"},
             {"epsilon: float", "divisor: float", "scale: float", "centred: int", "weighted: int", "shifted: int", "units: int",
              "activation: int", "neurons: int", "normed: int", "gated: int", "gate_biased: int", "up_biased: int"}) &&
         registerKernel<HalfExponentsKernel>("EspalierHalfExponents", {"x: float", "head: int32", "bias: float"},
                                             {"units: int", "columns: int", "biased: int", "cap: float"});
#else
  return true;
#endif
}

bool registerAll() {
  return registerHalves() && registerKernel<UnitsKernel>("EspalierUnits", {}, {}) &&
         registerKernel<AttentionKernel>("EspalierAttention", {"projected: float", "cosine: float", "sine: float"},
                                         {"heads: int", "key_value_heads: int", "window: int", "units: int", "split: int", "cap: float"}) &&
         registerKernel<NormKernel>("EspalierNorm", {"x: float", "weight: float", "bias: float"},
                                    {"epsilon: float", "divisor: float", "centred: int", "weighted: int", "biased: int"}) &&
         registerKernel<GateKernel>("EspalierGate", {"gate: float", "up: float"}, {}) &&
         registerKernel<ExponentsKernel>("EspalierExponents", {"logits: float"}, {}) &&
         registerKernel<CompareLogitsKernel>("EspalierCompareLogits", {"dense: float", "own: float"}, {"count: int"}) &&
         registerKernel<DistanceKernel>("EspalierDistance", {"a: float", "b: float"}, {}) &&
         registerKernel<ColumnsKernel>("EspalierColumns", {"x: float"}, {"tokens: int", "squared: int"}) &&
         registerKernel<FewRowsKernel>("EspalierFewRows", {"x: float", "weight: float", "bias: float"}, {"biased: int"}) &&
         registerKernel<PlacedAttentionKernel>(
             "EspalierPlacedAttention",
             {"projected: float", "cosine: float", "sine: float", "rows: int32", "slots: int32", "keys: float", "values: float"},
             {"heads: int", "key_value_heads: int", "window: int", "cap: float"}) &&
         registerKernel<DecodeKernel>(
             "EspalierDecode",
             {"x: float", "steps: int32", "numbers: float", "lists: int32", "rows: int32", "slots: int32", "tensors: count * float",
              "halves: packed * int32"},
             {"count: int >= 0", "packed: int >= 0", "heads: int", "key_value_heads: int", "head_size: int", "activation: int",
              "gated_queries: int", "cap: float"});
}

}  // namespace

// What Node asks an addon for. Its exports stay as they are: registering is all it does, once per process.
extern "C" __attribute__((visibility("default"))) void* napi_register_module_v1(void*, void* exports) {
  static const bool registered = registerAll();
  return registered ? exports : nullptr;
}
