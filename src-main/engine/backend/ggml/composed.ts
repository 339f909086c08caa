import type { Tensor, Tensor2D, TensorInfo } from '@tensorflow/tfjs-core'
import type { FusedOperations } from '../fused.ts'
import { attentionOf } from './attention.ts'
import type { Address } from './functions.ts'
import { largestOf } from './kernels/reductions.ts'
import type { GgmlTensors } from './tensors.ts'

/** The most logits of a row among which its maximum is searched, because ggml searches on one thread. */
const sampledLogits = 64

type Composed = Pick<FusedOperations, 'normalize' | 'gate' | 'exponents'> & Pick<Partial<FusedOperations>, 'attention'>

/** Returns the fused operations of the decoder that are each built from a few of ggml's operations. */
export function composedOperations(tensors: GgmlTensors, isGpu: boolean): Composed {
  const { operations } = tensors
  const asTensor = (made: TensorInfo) => tensors.tensorOf(made) as Tensor2D
  return {
    // Left out on a GPU. On llvmpipe, ggml's attention for Vulkan is correct and 1.5 times as fast, but its shaders take 10 to 30 s to
    // compile. It was not tried on a real GPU.
    ...(isGpu ? {} : { attention: attentionOf(tensors) }),
    normalize(x, weight, bias, { epsilon, divisor, centred }) {
      // ggml divides the sum of squares by the width. For another divisor, epsilon is multiplied by this ratio and the result by its root.
      const ratio = divisor / x.shape[1]
      const others = [weight, bias].filter((tensor): tensor is Tensor => tensor !== undefined)
      const made = tensors.make(x.shape, [x, ...others], ([input = 0, ...more]) => {
        const rows = operations[centred ? 'norm' : 'rmsNorm'](input, epsilon * ratio)
        let result = ratio === 1 ? rows : operations.scale(rows, Math.sqrt(ratio), 0)
        if (weight) result = operations.multiply(result, more[0] as Address)
        return bias ? operations.add(result, more.at(-1) as Address) : result
      })
      return asTensor(made)
    },
    gate: (gate, up) => asTensor(tensors.make(gate.shape, [gate, up], ([a = 0, b = 0]) => operations.gate(a, b))),
    exponents(logits) {
      const step = Math.ceil(logits.shape[1] / sampledLogits)
      const made = exponentsOf(tensors, logits, step)
      // If all sampled logits of a row are far below its maximum, their softmax underflows to zero and the sum overflows. Then the maximum
      // is searched among all logits.
      if ((tensors.readSync(made.dataId) as Float32Array).every((number) => Math.abs(number) < 1e30)) return asTensor(made)
      tensors.disposeData(made.dataId)
      return asTensor(exponentsOf(tensors, logits, 1))
    },
  }
}

/** Returns for each row of logits [N, V] the maximum m of every `step`-th logit, and the sum of e^(logit - m) over all logits: [N, 2]. */
function exponentsOf(tensors: GgmlTensors, { dataId, shape: [rows, width] }: Tensor2D, step: number): TensorInfo {
  const { softmax, contiguous, view, reshape, divide, scale, concat } = tensors.operations
  const count = Math.ceil(width / step)
  return tensors.make([rows, 2], [{ dataId, shape: [rows, width] }], ([input = 0]) => {
    const largest = (x: Address) => {
      const sampled = contiguous(view(x, 1, count, rows, 1, 4 * step, 4 * width, 4 * width * rows, 0))
      return largestOf(tensors.operations, reshape(sampled, count, rows, 1, 1), count)
    }
    // The softmax of logit m is 1 / sum of e^(logit - m), so its reciprocal is the sum. `scale(x, 0, 1)` makes a tensor of ones.
    const probability = largest(softmax(input, 0, 1, 0))
    return concat(largest(input), divide(scale(probability, 0, 1), probability), 0)
  })
}
