import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'

const driver = '/usr/share/vulkan/icd.d/lvp_icd.json'

/** What lets ggml compute through Vulkan on Mesa's llvmpipe. Without optimisation its shaders compile in half the time. */
export const simulatedGpu = { ESPALIER_VULKAN: '1', GGML_VK_VISIBLE_DEVICES: '0', VK_DRIVER_FILES: driver, GALLIVM_PERF: 'nopt' }

/**
 * Installs llvmpipe on Debian where this user may.
 * @returns {string | undefined} why it is missing; nothing where it is in place
 */
export function installVulkan() {
  if (existsSync(driver)) return
  if (process.platform !== 'linux' || process.getuid?.() !== 0 || !existsSync('/etc/debian_version'))
    return 'Mesa’s simulated GPU is not installed, and this is no Debian where this user may install it.'
  const apt = (/** @type {string[]} */ ...words) =>
    spawnSync('apt-get', ['-o', 'DPkg::Lock::Timeout=600', ...words], {
      stdio: ['ignore', 'ignore', 'inherit'],
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
    }).status === 0
  const install = () => apt('install', '--yes', '--no-install-recommends', 'mesa-vulkan-drivers', 'libvulkan1')
  if (!install() && !(apt('update') && install())) return 'mesa-vulkan-drivers, Mesa’s simulated GPU, could not be installed.'
}
