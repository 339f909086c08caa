import { argv, stdout } from 'node:process'

// Run by set-up in a process of its own: a library that this processor or its driver cannot run ends it, not set-up.
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
if (values.join() !== product.join()) throw new Error(`A known product came out as ${values.join(', ')} in place of ${product.join(', ')}.`)
stdout.write(JSON.stringify({ usesGpu: tensorflow.isUsingGpuDevice() }))
