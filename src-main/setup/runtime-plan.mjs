/**
 * What set-up knows of a machine before it downloads anything.
 * @typedef {{ platform: NodeJS.Platform, arch: string, hasGpu: boolean, hasPip: boolean, hasCompiler: boolean }} Machine
 */

/**
 * One way to get a runtime: which wheel is downloaded, and whether NVIDIA's companions come with it. `bytes` is the disk space it takes meanwhile.
 * @typedef {{ kind: 'gpu' | 'cpu', wheel: string, withCuda: boolean, bytes: number }} Build
 */

/** The TensorFlow that the engine was measured with. Where it is not offered (an older macOS, say) pip's newest is taken. */
export const wantedVersion = '2.21.0'

const cpuBytes = 2.2e9
const gpuBytes = 12e9

/**
 * The builds to try, the best first; none when this machine cannot build, with the reason.
 * @param {Machine} machine
 * @returns {{ builds: Build[], missing?: { pip: boolean, compiler: boolean }, reason?: string }}
 */
export function planRuntime({ platform, arch, hasGpu, hasPip, hasCompiler }) {
  if (platform !== 'linux' && platform !== 'darwin')
    return { builds: [], reason: `TensorFlow's Python package has no C library for ${platform}.` }
  if (arch !== 'x64' && arch !== 'arm64') return { builds: [], reason: `TensorFlow's Python package is not offered for ${arch}.` }
  if (!hasPip || !hasCompiler)
    return { builds: [], missing: { pip: !hasPip, compiler: !hasCompiler }, reason: describeMissing(hasPip, hasCompiler) }
  // Only Linux on x64 has a wheel of its own for the CPU; elsewhere `tensorflow` is that.
  const isLinuxX64 = platform === 'linux' && arch === 'x64'
  /** @type {Build} */
  const cpu = { kind: 'cpu', wheel: isLinuxX64 ? 'tensorflow-cpu' : 'tensorflow', withCuda: false, bytes: cpuBytes }
  /** @type {Build} */
  const gpu = { kind: 'gpu', wheel: 'tensorflow', withCuda: true, bytes: gpuBytes }
  return { builds: isLinuxX64 && hasGpu ? [gpu, cpu] : [cpu] }
}

/** @param {boolean} hasPip @param {boolean} hasCompiler */
function describeMissing(hasPip, hasCompiler) {
  if (hasPip) return 'a C++ compiler is missing.'
  return hasCompiler ? 'Python with pip is missing.' : 'Python with pip and a C++ compiler are missing.'
}
