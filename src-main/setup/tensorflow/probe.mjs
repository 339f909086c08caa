import { argv, stdout } from 'node:process'

// Runs in its own process, because a library that this processor or driver cannot run would crash setup.
const addon = { exports: /** @type {any} */ ({}) }
process.dlopen(addon, argv[2] ?? '')
const tensorflow = addon.exports

const product = [58, 64, 139, 154]
const float32 = tensorflow.TF_FLOAT
const left = tensorflow.createTensor([2, 3], float32, Float32Array.of(1, 2, 3, 4, 5, 6))
const right = tensorflow.createTensor([3, 2], float32, Float32Array.of(7, 8, 9, 10, 11, 12))
const attributes = [
  { name: 'transpose_a', type: tensorflow.TF_ATTR_BOOL, value: false },
  { name: 'transpose_b', type: tensorflow.TF_ATTR_BOOL, value: false },
  { name: 'T', type: tensorflow.TF_ATTR_TYPE, value: float32 },
]
const [result] = tensorflow.executeOp('MatMul', attributes, [left, right], 1)
const values = [...tensorflow.tensorDataSync(result.id)]
if (values.join() !== product.join()) throw new Error(`A known product came out as ${values.join(', ')} instead of ${product.join(', ')}.`)
if (argv[3]) tryFused(argv[3])
stdout.write(JSON.stringify({ usesGpu: tensorflow.isUsingGpuDevice() }))

/** @param {string} path the fused operations */
function tryFused(path) {
  process.dlopen({ exports: {} }, path)
  const gate = tensorflow.createTensor([1, 3], float32, Float32Array.of(-1, 0, 2))
  const up = tensorflow.createTensor([1, 3], float32, Float32Array.of(3, 4, 5))
  const [gated] = tensorflow.executeOp('EspalierGate', [], [gate, up], 1)
  const found = [...tensorflow.tensorDataSync(gated.id)].map((value) => value.toFixed(4))
  if (found.join() !== '-0.8068,0.0000,8.8080') throw new Error(`Known neurons came out as ${found.join(', ')}.`)
}
