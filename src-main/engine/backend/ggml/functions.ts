import { bind, koffi, type LibraryFunction, openLibrary } from './ggml-library.ts'

/** The address of a tensor, graph or buffer in the library. Numbers represent addresses up to 2^53 exactly. */
export type Address = number

const tensors = {
  newTensor: 'uintptr_t ggml_new_tensor_4d(uintptr_t, int type, int64_t, int64_t, int64_t, int64_t)',
  reshape: 'uintptr_t ggml_reshape_4d(uintptr_t, uintptr_t a, int64_t, int64_t, int64_t, int64_t)',
  view: 'uintptr_t ggml_view_4d(uintptr_t, uintptr_t a, int64_t, int64_t, int64_t, int64_t, size_t, size_t, size_t, size_t offset)',
  permute: 'uintptr_t ggml_permute(uintptr_t, uintptr_t a, int, int, int, int)',
  contiguous: 'uintptr_t ggml_cont(uintptr_t, uintptr_t a)',
  repeat: 'uintptr_t ggml_repeat_4d(uintptr_t, uintptr_t a, int64_t, int64_t, int64_t, int64_t)',
  concat: 'uintptr_t ggml_concat(uintptr_t, uintptr_t a, uintptr_t b, int dimension)',
  rows: 'uintptr_t ggml_get_rows(uintptr_t, uintptr_t a, uintptr_t indices)',
  pad: 'uintptr_t ggml_pad_ext(uintptr_t, uintptr_t a, int, int, int, int, int, int, int, int)',
  add: 'uintptr_t ggml_add(uintptr_t, uintptr_t a, uintptr_t b)',
  subtract: 'uintptr_t ggml_sub(uintptr_t, uintptr_t a, uintptr_t b)',
  multiply: 'uintptr_t ggml_mul(uintptr_t, uintptr_t a, uintptr_t b)',
  divide: 'uintptr_t ggml_div(uintptr_t, uintptr_t a, uintptr_t b)',
  scale: 'uintptr_t ggml_scale_bias(uintptr_t, uintptr_t a, float factor, float bias)',
  clamp: 'uintptr_t ggml_clamp(uintptr_t, uintptr_t a, float low, float high)',
  square: 'uintptr_t ggml_sqr(uintptr_t, uintptr_t a)',
  squareRoot: 'uintptr_t ggml_sqrt(uintptr_t, uintptr_t a)',
  logarithm: 'uintptr_t ggml_log(uintptr_t, uintptr_t a)',
  absolute: 'uintptr_t ggml_abs(uintptr_t, uintptr_t a)',
  negative: 'uintptr_t ggml_neg(uintptr_t, uintptr_t a)',
  exponential: 'uintptr_t ggml_exp(uintptr_t, uintptr_t a)',
  sigmoid: 'uintptr_t ggml_sigmoid(uintptr_t, uintptr_t a)',
  tanh: 'uintptr_t ggml_tanh(uintptr_t, uintptr_t a)',
  relu: 'uintptr_t ggml_relu(uintptr_t, uintptr_t a)',
  step: 'uintptr_t ggml_step(uintptr_t, uintptr_t a)',
  gelu: 'uintptr_t ggml_gelu_erf(uintptr_t, uintptr_t a)',
  gate: 'uintptr_t ggml_swiglu_split(uintptr_t, uintptr_t a, uintptr_t b)',
  sumRows: 'uintptr_t ggml_sum_rows(uintptr_t, uintptr_t a)',
  cumulate: 'uintptr_t ggml_cumsum(uintptr_t, uintptr_t a)',
  largest: 'uintptr_t ggml_pool_2d(uintptr_t, uintptr_t a, int kind, int, int, int, int, float, float)',
  softmax: 'uintptr_t ggml_soft_max_ext(uintptr_t, uintptr_t a, uintptr_t mask, float scale, float bias)',
  rmsNorm: 'uintptr_t ggml_rms_norm(uintptr_t, uintptr_t a, float epsilon)',
  norm: 'uintptr_t ggml_norm(uintptr_t, uintptr_t a, float epsilon)',
  product: 'uintptr_t ggml_mul_mat(uintptr_t, uintptr_t a, uintptr_t b)',
  attention:
    'uintptr_t ggml_flash_attn_ext(uintptr_t, uintptr_t query, uintptr_t key, uintptr_t value, uintptr_t mask, float scale, float bias, float cap)',
  cast: 'uintptr_t ggml_cast(uintptr_t, uintptr_t a, int type)',
} as const

/** The functions that add a tensor to a graph. Their first parameter is the context. */
export type OperationName = keyof typeof tensors

const graphs = {
  reset: 'void ggml_reset(uintptr_t context)',
  newGraph: 'uintptr_t ggml_new_graph_custom(uintptr_t context, size_t size, bool gradients)',
  expand: 'void ggml_build_forward_expand(uintptr_t graph, uintptr_t tensor)',
  nodes: 'int ggml_graph_n_nodes(uintptr_t graph)',
  compute: 'int ggml_backend_graph_compute(uintptr_t backend, uintptr_t graph)',
  newAllocator: 'uintptr_t ggml_gallocr_new(uintptr_t bufferType)',
  freeAllocator: 'void ggml_gallocr_free(uintptr_t allocator)',
  allocateGraph: 'bool ggml_gallocr_alloc_graph(uintptr_t allocator, uintptr_t graph)',
} as const

const memory = {
  bufferType: 'uintptr_t ggml_backend_get_default_buffer_type(uintptr_t backend)',
  newBuffer: 'uintptr_t ggml_backend_alloc_buffer(uintptr_t backend, size_t bytes)',
  freeBuffer: 'void ggml_backend_buffer_free(uintptr_t buffer)',
  baseOf: 'uintptr_t ggml_backend_buffer_get_base(uintptr_t buffer)',
  place: 'int ggml_backend_tensor_alloc(uintptr_t buffer, uintptr_t tensor, uintptr_t address)',
  upload: 'void ggml_backend_tensor_set(uintptr_t tensor, const void *values, size_t offset, size_t bytes)',
  download: 'void ggml_backend_tensor_get(uintptr_t tensor, void *values, size_t offset, size_t bytes)',
} as const

const devices = {
  open: 'uintptr_t ggml_backend_dev_init(void *device, const char *parameters)',
  close: 'void ggml_backend_free(uintptr_t backend)',
  registryOf: 'void *ggml_backend_dev_backend_reg(void *device)',
  supports: 'bool ggml_backend_supports_op(uintptr_t backend, uintptr_t tensor)',
  procedure: 'void *ggml_backend_reg_get_proc_address(void *registry, const char *name)',
} as const

const declarations = { ...tensors, ...graphs, ...memory, ...devices }

/** The functions of libggml-base that build, place and compute graphs. */
export type GgmlFunctions = Record<keyof typeof declarations, LibraryFunction>

let bound: GgmlFunctions | undefined

export function ggmlFunctions(): GgmlFunctions {
  bound ??= bind(openLibrary('ggml-base'), declarations)
  return bound
}

/** Allocates memory for the descriptions of tensors and graphs. Their values are on a device, not here. */
export function newContext(bytes: number): Address {
  const room = koffi().struct({ bytes: 'size_t', memory: 'void *', noNumbers: 'bool' })
  const start = openLibrary('ggml-base').func('ggml_init', 'uintptr_t', [room])
  return start({ bytes, memory: null, noNumbers: true }) as Address
}

/** koffi accepts a type name only once. */
let setThreadsType: ReturnType<ReturnType<typeof koffi>['proto']> | undefined

/** Returns a function that sets how many threads a backend on the processor uses; undefined for other devices. */
export function threadSetter(device: unknown, backend: Address): ((threads: number) => void) | undefined {
  const { registryOf, procedure } = ggmlFunctions()
  const set: unknown = procedure(registryOf(device), 'ggml_backend_set_n_threads')
  setThreadsType ??= koffi().proto('void espalier_set_threads(uintptr_t backend, int threads)')
  const type = setThreadsType
  return set ? (threads) => koffi().call(set, type, backend, threads) : undefined
}

/** Sizes as ggml gives them: always four, the fastest-varying first. A tensor [a, b, c] of tfjs has sizes [c, b, a, 1]. */
export type Sizes = readonly [number, number, number, number]

export const elements = (sizes: readonly number[]): number => sizes.reduce((product, size) => product * size, 1)

/** Converts a shape to sizes. Dimensions before the last three are merged into one. */
export function sizesOf(shape: readonly number[]): Sizes {
  const [last = 1, second = 1, third = 1, ...rest] = shape.toReversed()
  return [last, second, third, elements(rest)]
}
