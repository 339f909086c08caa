import { execFile } from 'node:child_process'
import { cpus } from 'node:os'
import { promisify } from 'node:util'

/** Where runs can compute: each NVIDIA GPU, else the processor. */
export interface Device {
  id: string
  title: string
  kind: 'gpu' | 'cpu'
  environment: Record<string, string>
}

export async function findDevices(): Promise<Device[]> {
  const gpus = await nvidiaDevices()
  return gpus.length > 0 ? gpus : [processorDevice()]
}

export function processorDevice(): Device {
  const model = cpus()[0]?.model.trim() || process.arch
  return { id: 'cpu', title: `${model}, ${cpus().length} threads`, kind: 'cpu', environment: {} }
}

/** Reads `0, NVIDIA L4` lines; GPUs are counted in the order of the bus, as CUDA is told to. */
export function parseDevices(lines: string): Device[] {
  return lines
    .split('\n')
    .map((line) => /^\s*(\d+)\s*,\s*(.+?)\s*$/.exec(line))
    .flatMap((match) =>
      match
        ? [
            {
              id: `gpu-${match[1]}`,
              title: match[2] as string,
              kind: 'gpu' as const,
              environment: { CUDA_DEVICE_ORDER: 'PCI_BUS_ID', CUDA_VISIBLE_DEVICES: match[1] as string },
            },
          ]
        : [],
    )
}

async function nvidiaDevices(): Promise<Device[]> {
  try {
    const { stdout } = await promisify(execFile)('nvidia-smi', ['--query-gpu=index,name', '--format=csv,noheader'], { timeout: 5000 })
    return parseDevices(stdout)
  } catch {
    return []
  }
}
