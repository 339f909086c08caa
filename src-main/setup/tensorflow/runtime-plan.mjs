import { pinnedWheels, tensorflowVersion } from './wheels.mjs'

/**
 * The machine's properties that decide what setup downloads.
 * @typedef {{ platform: NodeJS.Platform, arch: string, hasGpu: boolean, hasPip: boolean, hasCompiler: boolean }} Machine
 */

/**
 * One way to get a runtime: the wheels to download (the GPU build includes NVIDIA's). `bytes` is the disk space needed during the build.
 * @typedef {{ kind: 'gpu' | 'cpu', wheels: import('./wheels.mjs').Wheels, bytes: number }} Build
 */

const cpuBytes = 2.2e9
const gpuBytes = 12e9

/**
 * Returns the builds to try, best first; or none and the reason if this machine cannot build a runtime.
 * @param {Machine} machine
 * @param {typeof pinnedWheels} [pinned]
 * @returns {{ builds: Build[], missing?: { pip: boolean, compiler: boolean }, reason?: string }}
 */
export function planRuntime({ platform, arch, hasGpu, hasPip, hasCompiler }, pinned = pinnedWheels) {
  if (platform !== 'linux' && platform !== 'darwin')
    return { builds: [], reason: `TensorFlow's Python package has no C library for ${platform}.` }
  const cpu = pinned[`${platform}-${arch} cpu`]
  const gpu = pinned[`${platform}-${arch} gpu`]
  if (!cpu) return { builds: [], reason: `TensorFlow ${tensorflowVersion} is not offered for ${platform} on ${arch}.` }
  if (!hasPip || !hasCompiler)
    return { builds: [], missing: { pip: !hasPip, compiler: !hasCompiler }, reason: describeMissing(hasPip, hasCompiler) }
  /** @type {Build} */
  const forCpu = { kind: 'cpu', wheels: cpu, bytes: cpuBytes }
  return { builds: gpu && hasGpu ? [{ kind: 'gpu', wheels: gpu, bytes: gpuBytes }, forCpu] : [forCpu] }
}

/** @param {boolean} hasPip @param {boolean} hasCompiler */
function describeMissing(hasPip, hasCompiler) {
  if (hasPip) return 'a C++ compiler is missing.'
  return hasCompiler ? 'Python with pip is missing.' : 'Python with pip and a C++ compiler are missing.'
}
