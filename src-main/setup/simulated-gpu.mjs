import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { delimiter, join } from 'node:path'

/**
 * Returns the files that describe llvmpipe to Vulkan, in the form of `VK_DRIVER_FILES`; empty if there are none. On some systems their
 * names contain the processor.
 * @param {string} [folder]
 */
export function findDrivers(folder = '/usr/share/vulkan/icd.d') {
  const names = existsSync(folder) ? readdirSync(folder) : []
  return names
    .filter((name) => /^lvp_icd.*\.json$/.test(name))
    .map((name) => join(folder, name))
    .join(delimiter)
}

/** Returns the variables that let ggml compute through Vulkan on Mesa's llvmpipe. Unoptimised shaders compile in half the time. */
export const simulatedGpu = () => ({
  ESPALIER_VULKAN: '1',
  GGML_VK_VISIBLE_DEVICES: '0',
  VK_DRIVER_FILES: findDrivers(),
  GALLIVM_PERF: 'nopt',
})

/**
 * Installs llvmpipe if it is missing, on Debian and if this user may.
 * @returns {string | undefined} why it could not be installed; undefined if it is installed
 */
export function installVulkan() {
  if (findDrivers()) return undefined
  if (process.platform !== 'linux' || process.getuid?.() !== 0 || !existsSync('/etc/debian_version'))
    return 'Mesa’s simulated GPU is not installed. Installing it needs root on Debian.'
  const apt = (/** @type {string[]} */ ...words) =>
    spawnSync('apt-get', ['-o', 'DPkg::Lock::Timeout=600', ...words], {
      stdio: ['ignore', 'ignore', 'inherit'],
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
    }).status === 0
  const install = () => apt('install', '--yes', '--no-install-recommends', 'mesa-vulkan-drivers', 'libvulkan1')
  if (!install() && !(apt('update') && install())) return 'mesa-vulkan-drivers, Mesa’s simulated GPU, could not be installed.'
  return findDrivers() ? undefined : 'mesa-vulkan-drivers is installed, but has no file lvp_icd*.json in /usr/share/vulkan/icd.d.'
}
