import { readFileSync } from 'node:fs'
import { arch, env, platform } from 'node:process'

/**
 * A set of instructions that kernels are compiled for. Each set includes those before it.
 * @typedef {{
 *   needs: string[],
 *   flags: string[],
 *   oneDnn: string,
 *   blas: string,
 *   ggml: string[],
 * }} Kernels `needs`: the names in /proc/cpuinfo; `flags`: those of the compiler; `oneDnn`: what TensorFlow's library may use at most; `blas`: OpenBLAS's name;
 *   `ggml`: variants of ggml's library, the best first
 */

const wide = ['avx512f', 'avx512bw', 'avx512dq', 'avx512vl']

/** @type {Readonly<Record<string, Kernels>>} */
export const kernelSets = {
  plain: { needs: [], flags: [], oneDnn: 'SSE41', blas: 'Nehalem', ggml: ['x64'] },
  avx2: { needs: ['avx2', 'fma', 'f16c'], flags: ['-mavx2', '-mfma', '-mf16c'], oneDnn: 'AVX2', blas: 'Haswell', ggml: ['haswell'] },
  avx512: { needs: wide, flags: wide.map((name) => `-m${name}`), oneDnn: 'AVX512_CORE', blas: 'SkylakeX', ggml: ['skylakex'] },
  bf16: { needs: ['avx512_bf16'], flags: ['-mavx512bf16'], oneDnn: 'AVX512_CORE_BF16', blas: 'Cooperlake', ggml: ['zen4', 'cooperlake'] },
  amx: {
    needs: ['amx_tile', 'amx_bf16', 'amx_int8'],
    flags: ['-mamx-tile', '-mamx-bf16', '-mamx-int8'],
    oneDnn: 'AVX512_CORE_AMX',
    blas: 'Sapphirerapids',
    ggml: ['sapphirerapids'],
  },
}

/**
 * The features of this processor, as Linux names them. Empty on other systems.
 * @returns {string[]}
 */
function processorFeatures() {
  if (platform !== 'linux') return []
  return /^(?:flags|Features)\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1]?.trim().split(/\s+/) ?? []
}

/**
 * The sets of kernels that a processor with these features can run.
 * @param {readonly string[]} [features]
 * @returns {string[]}
 */
export function runnableKernels(features = processorFeatures()) {
  if (platform !== 'linux' || arch !== 'x64') return []
  const sets = Object.entries(kernelSets)
  const missing = sets.findIndex(([, { needs }]) => !needs.every((name) => features.includes(name)))
  return sets.slice(0, missing < 0 ? undefined : missing).map(([name]) => name)
}

/**
 * The set that `ESPALIER_TEST_CPU` names, for tests; undefined if it is not set, so that everything uses the best that there is.
 * @param {NodeJS.ProcessEnv} [environment]
 * @param {readonly string[]} [features]
 * @returns {{ name: string, flags: string[], oneDnn: string, blas: string, ggml: string[] } | undefined}
 */
export function chosenKernels(environment = env, features = undefined) {
  const { ESPALIER_TEST_CPU: name } = environment
  if (!name) return undefined
  const runnable = runnableKernels(features)
  if (!runnable.includes(name)) {
    const allowed =
      runnable.length > 0 ? `one of ${runnable.join(', ')}, which this processor can run` : 'unset: only Linux on x64 has a choice'
    throw new Error(`ESPALIER_TEST_CPU is "${name}"; it must be ${allowed}.`)
  }
  const sets = Object.entries(kernelSets).slice(0, runnable.indexOf(name) + 1)
  const { oneDnn, blas } = /** @type {Kernels} */ (kernelSets[name])
  return {
    name,
    oneDnn,
    blas,
    flags: ['-march=x86-64', ...sets.flatMap(([, { flags }]) => flags)],
    ggml: sets.flatMap(([, { ggml }]) => ggml).reverse(),
  }
}
