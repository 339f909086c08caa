import type { Tensor, Tensor2D, TensorInfo } from '@tensorflow/tfjs-core'
import type { FusedOperations } from '../fused.ts'
import { attentionOf } from './attention.ts'
import type { Address } from './functions.ts'
import { largestOf } from './kernels/reductions.ts'
import type { GgmlTensors } from './tensors.ts'

/** ggml searches for a row's maximum on one thread, so at most this many of its logits are compared. */
const comparedLogits = 64

type Composed = Pick<FusedOperations, 'normalize' | 'gate' | 'exponents'> & Pick<Partial<FusedOperations>, 'attention'>

/** Operations of the decoder that take only a few of ggml's operations. */
export function composedOperations(tensors: GgmlTensors, isGpu: boolean): Composed {
  const { operations } = tensors
  const asTensor = (made: TensorInfo) => tensors.tensorOf(made) as Tensor2D
  return {
    // Not on a GPU: on llvmpipe Vulkan's own attention is correct and 1.5 times as fast, but its shaders take 10 to 30 s to compile, and it
    // was not tried on a real GPU.
    ...(isGpu ? {} : { attention: attentionOf(tensors) }),
    normalize(x, weight, bias, { epsilon, divisor, centred }) {
      // ggml divides by the width. Another divisor changes all roots by the same factor.
      const share = divisor / x.shape[1]
      const others = [weight, bias].filter((tensor): tensor is Tensor => tensor !== undefined)
      const made = tensors.make(x.shape, [x, ...others], ([input = 0, ...more]) => {
        const rows = operations[centred ? 'norm' : 'rmsNorm'](input, epsilon * share)
        let result = share === 1 ? rows : operations.scale(rows, Math.sqrt(share), 0)
        if (weight) result = operations.multiply(result, more[0] as Address)
        return bias ? operations.add(result, more.at(-1) as Address) : result
      })
      return asTensor(made)
    },
    gate: (gate, up) => asTensor(tensors.make(gate.shape, [gate, up], ([a = 0, b = 0]) => operations.gate(a, b))),
    exponents(logits) {
      const step = Math.ceil(logits.shape[1] / comparedLogits)
      const made = exponentsOf(tensors, logits, step)
      // If all compared logits are far below the largest, their shares vanish and the sums overflow. Then all logits are compared.
      if ((tensors.readSync(made.dataId) as Float32Array).every((number) => Math.abs(number) < 1e30)) return asTensor(made)
      tensors.disposeData(made.dataId)
      return asTensor(exponentsOf(tensors, logits, 1))
    },
  }
}

/** For each row of logits [N, V], the maximum m of every `step`-th logit, and the sum of all e^(logit - m): [N, 2]. */
function exponentsOf(tensors: GgmlTensors, { dataId, shape: [rows, width] }: Tensor2D, step: number): TensorInfo {
  const { softmax, contiguous, view, reshape, divide, scale, concat } = tensors.operations
  const count = Math.ceil(width / step)
  return tensors.make([rows, 2], [{ dataId, shape: [rows, width] }], ([input = 0]) => {
    const largest = (x: Address) => {
      const every = contiguous(view(x, 1, count, rows, 1, 4 * step, 4 * width, 4 * width * rows, 0))
      return largestOf(tensors.operations, reshape(every, count, rows, 1, 1), count)
    }
    // The softmax of logit m is one divided by the sum of exponentials relative to m.
    const share = largest(softmax(input, 0, 1, 0))
    return concat(largest(input), divide(scale(share, 0, 1), share), 0)
  })
}
