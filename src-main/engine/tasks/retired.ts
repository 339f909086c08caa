import type { RunRequest } from '#contract/runs/run-request.ts'
import { retiredNotes } from '#engine/pruning/method.ts'
import { findMethod, methods } from '../pruning/registry.ts'

const instead = 'The best available backend computes instead.'

/** One sentence for each part of a request that this version no longer supports and therefore ignores. */
export function retiredIn({ backend, method, options }: Pick<RunRequest, 'backend' | 'method' | 'options'>): string[] {
  return [
    ...(backend === 'webgpu' ? [`The WebGPU backend was removed because nothing used it. ${instead}`] : []),
    ...(backend === 'wasm' ? [`The WebAssembly backend was removed, as ggml is faster. ${instead}`] : []),
    ...(Object.hasOwn(methods, method) ? retiredNotes(findMethod(method), options) : []),
  ]
}
