import { execFile } from 'node:child_process'
import { cpus, totalmem } from 'node:os'
import { promisify } from 'node:util'
import { plural } from '#contract/words.ts'
import { ownThreads } from '#runtime/threads.ts'
import { visibleGpus } from '#runtime/visible-gpus.mjs'

/** Where a run can compute: an NVIDIA GPU, or a share of the processor. */
export interface Device {
  id: string
  title: string
  kind: 'gpu' | 'cpu'
  /** Restricts a process to this device. */
  environment: Record<string, string>
}

/** Finds the GPUs that this program may use: the machine's NVIDIA GPUs, limited by `CUDA_VISIBLE_DEVICES` if set. */
export async function findGpus(environment: NodeJS.ProcessEnv = process.env): Promise<Device[]> {
  try {
    const { stdout } = await promisify(execFile)('nvidia-smi', ['--query-gpu=index,uuid,name', '--format=csv,noheader'], { timeout: 5000 })
    return parseDevices(stdout, environment.CUDA_VISIBLE_DEVICES)
  } catch {
    return []
  }
}

/** Returns the processor as one device. */
export function processorDevice(): Device {
  const model = cpus()[0]?.model.trim() || process.arch
  return { id: 'cpu', title: `${model}, ${cpus().length} threads`, kind: 'cpu', environment: {} }
}

/**
 * Splits the processor between runs that compute at the same time. Each slot gets an equal share of the threads and the memory.
 * @param slots as configured; null for the default: one slot without a GPU, none with one
 */
export function processorSlots(slots: number | null, gpus: number): Device[] {
  // A run on the processor must not see the GPUs that other runs use.
  const withoutGpus: Record<string, string> = gpus > 0 ? { CUDA_VISIBLE_DEVICES: '' } : {}
  const count = slots ?? (gpus > 0 ? 0 : 1)
  if (count === 1) return [{ ...processorDevice(), environment: withoutGpus }]
  const threads = Math.max(1, Math.floor(ownThreads() / count))
  const share = { ...withoutGpus, TF_NUM_INTRAOP_THREADS: String(threads), ESPALIER_MEMORY: String(Math.floor(totalmem() / count)) }
  return Array.from({ length: count }, (_, index) => ({
    id: `cpu-${index + 1}`,
    title: `CPU slot ${index + 1} of ${count}, ${plural(threads, 'thread')}`,
    kind: 'cpu',
    environment: share,
  }))
}

/**
 * Parses `0, GPU-1234, NVIDIA L4` lines. GPUs are counted in bus order, as CUDA is configured to do.
 * @param visible indices or UUID prefixes, as in `CUDA_VISIBLE_DEVICES`; CUDA ignores the first unknown entry and everything after it
 */
export function parseDevices(lines: string, visible?: string): Device[] {
  const all = lines
    .split('\n')
    .map((line) => /^\s*(\d+)\s*,\s*([^,\s]+)\s*,\s*(.+?)\s*$/.exec(line))
    .flatMap((match) => (match ? [{ index: match[1] as string, uuid: match[2] as string, name: match[3] as string }] : []))
  return visibleGpus(all, visible).map(({ index, name }) => ({
    id: `gpu-${index}`,
    title: name,
    kind: 'gpu',
    environment: { CUDA_DEVICE_ORDER: 'PCI_BUS_ID', CUDA_VISIBLE_DEVICES: index },
  }))
}
