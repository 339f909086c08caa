import { findOnPath, runTool } from '../tools.mjs'

/**
 * Whether an NVIDIA GPU responds. Costs nothing without NVIDIA's driver.
 * @returns {Promise<boolean>}
 */
export async function hasNvidiaGpu() {
  const command = findOnPath('nvidia-smi')
  if (!command) return false
  const { code, output } = await runTool(command, ['--list-gpus'], { seconds: 20 })
  return code === 0 && /^GPU \d/m.test(output)
}
