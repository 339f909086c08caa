import * as tf from '@tensorflow/tfjs-core'
import { expect, test } from 'vitest'
import { openGgml } from '#engine/backend/ggml/open.ts'
import { probe } from '#engine/backend/probe.ts'

/** Entries rounded to TF32: 10 bits after the leading one. float16 has as many, bfloat16 fewer. */
const rounded = (numbers: Float32Array) =>
  new Float32Array(new Uint32Array(numbers.slice().buffer).map((bits) => (bits + 0xfff) & ~0x1fff).buffer)

test('a runtime that rounds operands of products to 16 bits is refused', async () => {
  await openGgml('')
  await expect(probe()).resolves.toBeUndefined()
  const product = tf.getKernel('BatchMatMul', 'ggml-cpu')
  tf.unregisterKernel('BatchMatMul', 'ggml-cpu')
  tf.registerKernel({
    ...product,
    kernelFunc(call) {
      const operands = Object.entries(call.inputs).map(([name, operand]) => {
        const { shape } = operand as tf.TensorInfo
        return [name, tf.tensor(rounded(tf.backend().readSync((operand as tf.TensorInfo).dataId) as Float32Array), shape)]
      })
      return product.kernelFunc({ ...call, inputs: Object.fromEntries(operands) })
    },
  })
  await expect(probe()).rejects.toThrow(/The ggml-cpu runtime computes wrongly/)
})
