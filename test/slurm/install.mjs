import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const programs = ['/usr/sbin/slurmctld', '/usr/sbin/slurmd', '/usr/sbin/munged']

/**
 * Brings a real Slurm to a Debian machine on which this user may install packages. Elsewhere nothing happens, and its tests are skipped.
 * @returns {string} what was done
 */
export function installSlurm() {
  if (programs.every(existsSync)) return 'Slurm is installed.'
  if (process.platform !== 'linux' || process.getuid?.() !== 0 || !existsSync('/etc/debian_version'))
    return 'Slurm is not installed, and this is no Debian where this user may install it: its tests are skipped.'
  const apt = (/** @type {string[]} */ ...words) =>
    spawnSync('apt-get', words, { stdio: ['ignore', 'ignore', 'inherit'], env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' } })
      .status === 0
  const install = () => apt('install', '--yes', '--no-install-recommends', 'slurm-wlm', 'munge')
  if (install() || (apt('update') && install())) return 'Slurm was installed.'
  return 'Slurm could not be installed: its tests are skipped.'
}

if (process.argv[1] === fileURLToPath(import.meta.url)) console.log(installSlurm())
