import { execFile } from 'node:child_process'
import { env } from 'node:process'
import { promisify } from 'node:util'
import { visibleGpus } from '#runtime/visible-gpus.mjs'
import type { SixteenBitType } from './bf16-ops.ts'

/** The driver's report on the GPU that this process can see. If it sees several, each value is the minimum over them. */
interface GpuReport {
  /** Free bytes of the GPU's memory. */
  readonly freeBytes?: number
  /** Compute capability, for instance 8.6. */
  readonly capability?: number
}

/** A GPU as NVIDIA's driver lists it. Memory is null if the driver does not report it. */
export interface ListedGpu {
  readonly index: string
  readonly name: string
  readonly driver: string
  readonly freeBytes: number | null
  readonly totalBytes: number | null
  /** Whether this process may use it (`CUDA_VISIBLE_DEVICES`). */
  readonly isVisible: boolean
}

/** Lists every NVIDIA GPU; empty if there is no driver. */
export async function listGpus(environment: NodeJS.ProcessEnv = env): Promise<ListedGpu[]> {
  const lines = await askNvidia('index,uuid,name,driver_version,memory.free,memory.total', environment)
  const bytes = (mebibytes = '') => (Number(mebibytes) > 0 ? 2 ** 20 * Number(mebibytes) : null)
  const all = wordsOf(lines).flatMap(([index, uuid, name, driver, free, total]) =>
    index && uuid && name && driver ? [{ index, uuid, name, driver, freeBytes: bytes(free), totalBytes: bytes(total) }] : [],
  )
  // A part of a GPU (MIG) has an id that the driver does not list here.
  const namesParts = environment.CUDA_VISIBLE_DEVICES?.includes('MIG-') === true
  const visible = new Set(visibleGpus(all, environment.CUDA_VISIBLE_DEVICES))
  return all.map((gpu) => ({ ...gpu, isVisible: namesParts || visible.has(gpu) }))
}

/** Returns the output of nvidia-smi, one line per GPU; empty if it cannot be run. */
async function askNvidia(fields: string, environment: NodeJS.ProcessEnv): Promise<string> {
  const query = [`--query-gpu=${fields}`, '--format=csv,noheader,nounits']
  const answer = await promisify(execFile)('nvidia-smi', query, { timeout: 20_000, env: environment }).catch(() => undefined)
  return answer?.stdout ?? ''
}

const wordsOf = (lines: string): string[][] => lines.split('\n').map((line) => line.split(',').map((word) => word.trim()))

/**
 * Queries NVIDIA's driver. The report is empty without a driver, and for devices that it does not describe (parts of a GPU, or memory
 * shared with the processor).
 */
export async function askDriver(environment: NodeJS.ProcessEnv = env): Promise<GpuReport> {
  return readReport(await askNvidia('index,uuid,memory.free,compute_cap', environment), environment.CUDA_VISIBLE_DEVICES)
}

/** Parses lines such as `0, GPU-1234, 22563, 8.9`: index, id, free MiB, compute capability. `visible` is CUDA_VISIBLE_DEVICES. */
export function readReport(lines: string, visible?: string): GpuReport {
  const all = wordsOf(lines).flatMap(([index, uuid, free, capability]) =>
    index && uuid ? [{ index, uuid, freeBytes: 2 ** 20 * Number(free), capability: Number(capability) }] : [],
  )
  const seen = visibleGpus(all, visible)
  if (seen.length === 0) return {}
  const [freeBytes, capability] = [Math.min(...seen.map((gpu) => gpu.freeBytes)), Math.min(...seen.map((gpu) => gpu.capability))]
  return { ...(freeBytes > 0 ? { freeBytes } : {}), ...(capability > 0 ? { capability } : {}) }
}

/**
 * The 16-bit type that a GPU has fast units for: bfloat16 since compute capability 8.0 (Ampere), float16 since 7.0 (Volta), and none for
 * older or unknown GPUs. The largest float16 is 65,504. Candidates whose values overflow are rescored in float32.
 */
export function sixteenBitTypeFor({ capability = 0 }: GpuReport): SixteenBitType | undefined {
  if (capability >= 8) return 'bfloat16'
  return capability >= 7 ? 'float16' : undefined
}
