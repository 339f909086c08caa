import { existsSync, readdirSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { arch, getuid, platform } from 'node:process'
import { addonName, findRuntime, runtimesFolder } from '../../runtime/places.mjs'
import { findTrustProblem, readDescription, trustedAddon } from '../../runtime/trusted.mjs'
import { withSetupLock } from '../setup-lock.mjs'
import { formatBytes, say } from '../terminal.mjs'
import { findOnPath, runTool } from '../tools.mjs'
import { bindingVersion, buildRuntime, RuntimeDoesNotRun, workFolder } from './build-runtime.mjs'
import { findCompiler } from './compiler.mjs'
import { recentFailure, rememberFailure } from './failures.mjs'
import { ensureFused } from './fused.mjs'
import { findPip, folderSize } from './python.mjs'
import { planRuntime } from './runtime-plan.mjs'
import { pinnedWheels } from './wheels.mjs'

/**
 * Ensures that the engine finds a tensor runtime. Never fails: without one, ggml is used, and a message says so.
 * @param {string} node the Node 24 that will load it
 * @param {typeof pinnedWheels} [pinned]
 * @returns {Promise<void>}
 */
export async function ensureRuntime(node, pinned = pinnedWheels) {
  try {
    if (!(await isInPlace())) {
      await withSetupLock(async () => {
        if (!(await isInPlace())) await provideRuntime(node, pinned)
      })
    }
  } catch (thrown) {
    say(slowerNotice(/** @type {Error} */ (thrown).message))
  }
  await ensureFused(node)
}

async function isInPlace() {
  const runtime = findRuntime()
  if (!runtime) return false
  const trustProblem = findTrustProblem(runtime.folder)
  if (trustProblem) throw new Error(`the files in ${runtime.folder} are not trusted: ${trustProblem}`)
  if (findDamage(runtime.folder)) return false
  return runtime.kind === 'gpu' || recentFailure('gpu') !== undefined || !(await wantsGpu())
}

async function wantsGpu() {
  return platform === 'linux' && arch === 'x64' && (await hasNvidiaGpu())
}

/**
 * Compares a runtime's folder with its description.
 * @param {string} folder
 * @returns {string | undefined} what is wrong, in words
 */
export function findDamage(folder) {
  const description = readDescription(folder)
  if (!description) return 'its description cannot be read'
  const installed = bindingVersion()
  if (description.binding !== installed) return `its binding has version ${description.binding}, but ${installed} is installed`
  for (const { path, size } of description.files) {
    const found = statSync(join(folder, path), { throwIfNoEntry: false })?.size
    if (found !== size) return `${path} has ${found ?? 0} bytes instead of ${size}`
  }
  return trustedAddon(folder, addonName) ? undefined : `${addonName} is not the file that setup built`
}

/**
 * @param {string} node
 * @param {typeof pinnedWheels} pinned
 */
async function provideRuntime(node, pinned) {
  discardDamaged()
  const pip = await findPip()
  const compiler = findCompiler()
  const found = { hasGpu: await hasNvidiaGpu(), hasPip: pip !== undefined, hasCompiler: compiler !== undefined }
  const plan = planRuntime({ platform, arch, ...found }, pinned)
  let reason = plan.missing ? `${plan.reason} To fix this: ${adviseInstall(plan.missing)}, then run the same command again.` : plan.reason
  for (const build of plan.builds) {
    if (!pip || !compiler || recentFailure(build.kind)) continue
    if (build.kind === 'cpu' && findRuntime()) return
    try {
      return announce(await buildRuntime(build, { pip, compiler, node, strip: platform === 'linux' ? findOnPath('strip') : undefined }))
    } catch (thrown) {
      reason = /** @type {Error} */ (thrown).message
      if (build.kind === 'gpu') giveUpGpu(reason)
      // Without a network the next attempt may succeed. A build that does not run, or gigabytes for the GPU, are not retried at every
      // start.
      if (build.kind === 'gpu' || thrown instanceof RuntimeDoesNotRun) rememberFailure(build.kind, reason)
    }
  }
  if (findRuntime()) return
  reason = recentFailure('cpu') ?? reason ?? 'it could not be built.'
  say(slowerNotice(reason))
}

/** @param {string} reason */
function giveUpGpu(reason) {
  say(`The CUDA build failed: ${reason} Using the CPU build instead.`)
  rmSync(workFolder('gpu'), { recursive: true, force: true })
}

/** Removes a runtime whose files changed, and useless folders that a killed setup left. */
function discardDamaged() {
  for (const name of existsSync(runtimesFolder()) ? readdirSync(runtimesFolder()) : []) {
    if (name.startsWith('.old-')) rmSync(join(runtimesFolder(), name), { recursive: true, force: true })
  }
  const runtime = findRuntime()
  const damage = runtime && findDamage(runtime.folder)
  if (!runtime || !damage) return
  say(`Rebuilding the TensorFlow in ${runtime.folder}: ${damage}.`)
  rmSync(runtime.folder, { recursive: true, force: true })
}

/** @param {string} folder */
function announce(folder) {
  const description = readDescription(folder)
  const bytes = existsSync(folder) ? folderSize(folder) : 0
  say(`TensorFlow ${description?.version} for the ${description?.kind?.toUpperCase()} is in ${folder}, ${formatBytes(bytes)}.`)
}

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
function adviseInstall(missing) {
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
function slowerNotice(reason) {
  return [`TensorFlow is not used: ${reason}`, 'Espalier computes with ggml, which takes about 3 times as long.'].join('\n')
}

/**
 * Whether an NVIDIA GPU responds. Costs nothing without NVIDIA's driver.
 * @returns {Promise<boolean>}
 */
async function hasNvidiaGpu() {
  const command = findOnPath('nvidia-smi')
  if (!command) return false
  const { code, output } = await runTool(command, ['--list-gpus'], { seconds: 20 })
  return code === 0 && /^GPU \d/m.test(output)
}
