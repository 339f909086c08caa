import { getuid, platform } from 'node:process'
import { findOnPath } from '../tools.mjs'

/** @type {{ manager: string, install: string, pip: string, compiler: string }[]} */
const managers = [
  { manager: 'apt-get', install: 'apt-get install', pip: 'python3-pip', compiler: 'g++' },
  { manager: 'dnf', install: 'dnf install', pip: 'python3-pip', compiler: 'gcc-c++' },
  { manager: 'zypper', install: 'zypper install', pip: 'python3-pip', compiler: 'gcc-c++' },
  { manager: 'pacman', install: 'pacman -S', pip: 'python-pip', compiler: 'gcc' },
  { manager: 'brew', install: 'brew install', pip: 'python', compiler: 'gcc' },
]

/**
 * Returns the command that installs the missing tools on this machine.
 * @param {{ pip: boolean, compiler: boolean }} missing
 * @returns {string}
 */
export function adviseInstall(missing) {
  if (platform === 'darwin') return missing.compiler ? '`xcode-select --install` installs both' : '`xcode-select --install` installs pip'
  const known = managers.find(({ manager }) => findOnPath(manager))
  if (!known) return `install ${[missing.pip && 'python3 with pip', missing.compiler && 'g++'].filter(Boolean).join(' and ')}`
  const packages = [missing.pip && known.pip, missing.compiler && known.compiler].filter(Boolean).join(' ')
  return `\`${getuid?.() === 0 ? '' : 'sudo '}${known.install} ${packages}\``
}

/**
 * Returns the notice that ggml will be used. The factor was measured on one thread of one processor, with SmolLM2-135M.
 * @param {string} reason one sentence
 * @returns {string}
 */
export function slowerNotice(reason) {
  return [`TensorFlow is not used: ${reason}`, 'Espalier computes with ggml, which takes about 3 times as long.'].join('\n')
}
