import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { arch, env, platform } from 'node:process'
import { findGgml, ggmlFolder, ggmlRelease, ggmlVersion, vulkanChoice } from '../runtime/ggml.mjs'
import { runtimesFolder } from '../runtime/places.mjs'
import { areInPlace, putInPlace } from './libraries.mjs'
import { installLocked } from './packages.mjs'
import { withSetupLock } from './setup-lock.mjs'
import { formatBytes, say, showStep } from './terminal.mjs'

/**
 * The packages with prebuilt ggml and llama.cpp libraries, by system. `integrity` is the hash that the npm registry listed when the release
 * was chosen. npm rejects any other content.
 * @type {Readonly<Record<string, { name: string, integrity: string }>>}
 */
export const ggmlPackages = {
  'linux-x64': {
    name: 'linux-x64',
    integrity: 'sha512-Totj6RTDMGo3FoK2yNUaz/oGmZD0olAqTrRluFUWmu0kW2i9TOzHSW0OWCAiGkzRCVX0WsU2CyUQo/W2NYtdPA==',
  },
  'linux-arm64': {
    name: 'linux-arm64',
    integrity: 'sha512-eI3anSEGzJiwF2rpMpZVTdHzw47LztbvfvuRzlu/fPO18ROnBOd+75RPUBlV6qENPpmNtbov85+3VODwEwBurg==',
  },
  'win32-x64': {
    name: 'win-x64',
    integrity: 'sha512-JcIpCnra7bAd7JNWA8ehdn2DIRaTMuj+fBC8bw+5rKSNzszWFbuj2XA05c5QHovonDMBLN1ePXE/hcfZtzXoUQ==',
  },
  'win32-arm64': {
    name: 'win-arm64',
    integrity: 'sha512-/UDR7Y0B8iKfc/tqxBmWkcgRdZQ9Wrkwod7fYl4J6iZXcTIj286RkHvZSED7VMY67TrcUXVvxJVMNFtmjeYnDg==',
  },
  'darwin-x64': {
    name: 'mac-x64',
    integrity: 'sha512-Q4nyNmbcNiKygBZQZjX+qLk2w3YzoiFpLWsxNURQN7xjyUi2p2rWxjRa7Otg0FrjGf/ri4aQ+X3Uj5Y0zD06eg==',
  },
  'darwin-arm64': {
    name: 'mac-arm64-metal',
    integrity: 'sha512-6MIDAZV7DXD9R1+jEXWJkFuolni3GATGE6mmuyFYc6ZmtOh9djAy15df0T0AXK3sCmVKL+fQcOAWZezxx4MvQQ==',
  },
}

/** The packages with ggml's library for Vulkan, which takes 55 MB on disk. Other systems have no such package. */
export const vulkanPackages = {
  'linux-x64': {
    name: 'linux-x64-vulkan',
    integrity: 'sha512-flEeSzONQ6OIm5bYKLQf4eEnBzcC5WugFbyPUwkCqyyOFZ8pH0H9ulQ7ZNDLSIczeKneMRJornlyY1Hq7d3GDA==',
  },
  'win32-x64': {
    name: 'win-x64-vulkan',
    integrity: 'sha512-HJ237Azh5m4Sz+w3A1IU/fYLaSDOocskcfn2ILTgqTuuORCB86EMnu3Yt/XsNhRHTtEiwz1Q/E0mO4PLIbZLAA==',
  },
}

/**
 * For each part: which files of its package are kept, and what does not work without it.
 * @type {Readonly<Record<import('../runtime/ggml.mjs').GgmlPart, { title: string, keeps: (name: string) => boolean, without: string }>>}
 */
const parts = {
  ggml: {
    title: 'ggml',
    // Everything is kept except node-llama-cpp's addon and llama-common, which the engine does not use.
    keeps: (name) => !/^llama-addon\.node$|llama-common/.test(name),
    without: 'Without it there are no quantised GGUF types, and Espalier cannot compute if TensorFlow is missing.',
  },
  'ggml-vulkan': {
    title: 'ggml for Vulkan',
    keeps: (name) => /^(lib)?ggml-vulkan\.(so|dll)$/.test(name),
    without: 'Without it Espalier uses no GPUs except NVIDIA GPUs on Linux.',
  },
}

/**
 * Ensures that the engine finds ggml. Never throws: if ggml cannot be installed, a message says what does not work without it.
 * @param {Readonly<Record<string, { name: string, integrity: string }>>} [packages]
 * @param {import('../runtime/ggml.mjs').GgmlPart} [part]
 * @returns {Promise<void>}
 */
export async function ensureGgml(packages = ggmlPackages, part = 'ggml') {
  if (areInPlace(findGgml(part))) return
  try {
    await withSetupLock(async () => {
      if (!areInPlace(findGgml(part))) await installGgml(packages, part)
    })
  } catch (thrown) {
    const { title, without } = parts[part]
    say(`${title} could not be installed: ${/** @type {Error} */ (thrown).message}\n${without} Run the same command again to retry.`)
  }
}

/**
 * Ensures that the engine finds ggml's library for Vulkan if a GPU can use it. `ESPALIER_VULKAN=1` installs it in any case, and
 * `ESPALIER_VULKAN=0` never.
 */
export async function ensureVulkan() {
  if (wantsVulkan()) await ensureGgml(vulkanPackages, 'ggml-vulkan')
}

/**
 * Returns whether this machine has the Vulkan loader and, on Linux, a GPU of any make. A driver is not looked for. `ESPALIER_VULKAN`
 * overrides the answer.
 * @param {NodeJS.ProcessEnv} [environment]
 * @param {{ system: string, root: string }} [machine] `root` is the root folder of its file system
 */
export function wantsVulkan(environment = env, { system, root } = { system: `${platform}-${arch}`, root: '/' }) {
  const choice = vulkanChoice(environment)
  if (choice) return choice === 'on'
  if (!Object.hasOwn(vulkanPackages, system)) return false
  if (system === 'win32-x64') return existsSync(join(environment.SystemRoot ?? 'C:\\Windows', 'System32', 'vulkan-1.dll'))
  return (
    readNames(join(root, 'dev/dri')).some((name) => name.startsWith('renderD')) &&
    loaderFolders.some((folder) => readNames(join(root, folder)).includes('libvulkan.so.1'))
  )
}

const loaderFolders = ['usr/lib/x86_64-linux-gnu', 'usr/lib64', 'usr/lib']

/**
 * Returns the names in a folder; none if the folder is missing or this user may not list it.
 * @param {string} folder
 */
function readNames(folder) {
  try {
    return readdirSync(folder)
  } catch {
    return []
  }
}

/**
 * @param {Readonly<Record<string, { name: string, integrity: string }>>} packages
 * @param {import('../runtime/ggml.mjs').GgmlPart} part
 */
async function installGgml(packages, part) {
  const wanted = packages[`${platform}-${arch}`]
  if (!wanted) throw new Error(`no package is known for ${platform} ${arch}. Packages exist for ${Object.keys(packages).join(', ')}.`)
  const work = join(runtimesFolder(), `.installing-${part}`)
  rmSync(work, { recursive: true, force: true })
  mkdirSync(work, { recursive: true })
  await showStep(`Installing ${parts[part].title}`, async (report) => {
    await installLocked({ ...wanted, name: `@node-llama-cpp/${wanted.name}`, version: ggmlRelease }, work)
    const libraries = join(work, 'node_modules', '@node-llama-cpp', wanted.name, 'bins', wanted.name)
    for (const name of readdirSync(libraries)) if (!parts[part].keeps(name)) rmSync(join(libraries, name))
    report(formatBytes(putInPlace(libraries, ggmlFolder(part), { name: part, version: ggmlVersion, release: ggmlRelease })))
  }).finally(() => rmSync(work, { recursive: true, force: true }))
}
