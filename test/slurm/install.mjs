import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const programs = ['/usr/sbin/slurmctld', '/usr/sbin/slurmd', '/usr/sbin/munged', '/usr/sbin/sshd', '/usr/bin/ssh', '/usr/bin/rsync']
const packages = ['slurm-wlm', 'munge', 'openssh-server', 'openssh-client', 'rsync']

/**
 * Brings a real Slurm, and what a cluster behind ssh needs, to a Debian machine on which this user may install packages. Elsewhere nothing happens, and its tests are skipped.
 * @returns {string} what was done
 */
export function installSlurm() {
  if (programs.every(existsSync)) return 'Slurm is installed.'
  if (process.platform !== 'linux' || process.getuid?.() !== 0 || !existsSync('/etc/debian_version'))
    return 'Slurm is not installed, and this is no Debian where this user may install it: its tests are skipped.'
  // At this run level Debian's packages do not start their services.
  const environment = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' }
  const apt = (/** @type {string[]} */ ...words) =>
    spawnSync('apt-get', ['-o', 'DPkg::Lock::Timeout=600', ...words], { stdio: ['ignore', 'ignore', 'inherit'], env: environment })
      .status === 0
  const install = () => apt('install', '--yes', '--no-install-recommends', ...packages)
  if (install() || (apt('update') && install())) return 'Slurm was installed.'
  return 'Slurm could not be installed: its tests are skipped.'
}

if (process.argv[1] === fileURLToPath(import.meta.url)) console.log(installSlurm())
