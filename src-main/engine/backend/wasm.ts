import { createRequire } from 'node:module'
import { dirname, sep } from 'node:path'
import * as tf from '@tensorflow/tfjs-core'
import type { Backend } from './active.ts'

/** WebAssembly with SIMD, one thread: runs everywhere, about a fifth of TensorFlow's rate on two cores. */
export async function openWasm(reason: string): Promise<Backend> {
  const { setWasmPaths } = await import('@tensorflow/tfjs-backend-wasm')
  const entry = createRequire(import.meta.url).resolve('@tensorflow/tfjs-backend-wasm')
  setWasmPaths(dirname(entry) + sep)
  await tf.setBackend('wasm')
  return { name: 'wasm', title: 'WebAssembly, one thread', reason, anyProducts: false }
}
