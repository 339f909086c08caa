import { createRequire } from 'node:module'
import type { MathBackendCPU } from '@tensorflow/tfjs-backend-cpu'
import { getKernelsForBackend, registerKernel, type TensorInfo } from '@tensorflow/tfjs-core'
import { elementwise } from './kernels/elementwise.ts'
import { gathers } from './kernels/gather.ts'
import { inputsOf, type KernelCall, type Kernels } from './kernels/kernel.ts'
import { products } from './kernels/products.ts'
import { reductions } from './kernels/reductions.ts'
import { shapes } from './kernels/shapes.ts'
import type { GgmlTensors } from './tensors.ts'

const kernels: Kernels = { ...elementwise, ...gathers, ...products, ...reductions, ...shapes }

/** Operations that may have inputs of any type: they only move values, or take indices. */
const anyType = ['Identity', 'Reshape', 'GatherV2']

/** Counts how often each operation was computed by its plain kernel, in JavaScript. */
export const plainCalls = new Map<string, number>()

/** Registers every operation of tfjs-core for a backend. A call is computed by ggml if possible, otherwise in JavaScript. */
export function registerKernels(backendName: string): void {
  const load = createRequire(import.meta.url)
  const { MathBackendCPU: Plain } = load('@tensorflow/tfjs-backend-cpu') as { MathBackendCPU: new () => MathBackendCPU }
  const plain = new Plain()
  Object.assign(plain, { firstUse: false })
  for (const { kernelName, kernelFunc } of getKernelsForBackend('cpu')) {
    registerKernel({
      kernelName,
      backendName,
      kernelFunc({ inputs, attrs = {}, backend }) {
        const call: KernelCall = { inputs, attrs, tensors: backend as GgmlTensors }
        const numbers = anyType.includes(kernelName) || inputsOf(call).every(({ dtype }) => dtype === 'float32')
        const made = numbers ? kernels[kernelName]?.(call) : undefined
        if (made) return made
        plainCalls.set(kernelName, (plainCalls.get(kernelName) ?? 0) + 1)
        return runPlainly(plain, call, (copies) => kernelFunc({ inputs: copies, attrs, backend: plain }))
      },
    })
  }
}

/** Computes a call in this process on copies of its inputs, and writes the results back to the device. */
function runPlainly(
  plain: MathBackendCPU,
  { inputs, tensors }: KernelCall,
  run: (inputs: KernelCall['inputs']) => TensorInfo | TensorInfo[],
): TensorInfo | TensorInfo[] {
  const copied = Object.entries(inputs).map(([name, input]) => {
    const { dataId, shape, dtype } = input as TensorInfo
    return [name, plain.makeTensorInfo(shape, dtype, tensors.readSync(dataId) as Float32Array)] as const
  })
  // Operations that take a list of tensors expect an array.
  const result = run(Array.isArray(inputs) ? (copied.map(([, copy]) => copy) as never) : Object.fromEntries(copied))
  const back = [result]
    .flat()
    .map(({ dataId, shape, dtype }) => ({ dataId: tensors.write(plain.readSync(dataId), shape, dtype), shape, dtype }))
  for (const { dataId } of [...copied.map(([, copy]) => copy), ...[result].flat()]) plain.disposeData(dataId, true)
  return Array.isArray(result) ? back : (back[0] as TensorInfo)
}
