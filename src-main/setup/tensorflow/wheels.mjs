import { createHash } from 'node:crypto'
import { createReadStream, existsSync, rmSync } from 'node:fs'
import { basename } from 'node:path'

/**
 * The wheels of one build: file name to sha256 in hexadecimal.
 * @typedef {Readonly<Record<string, string>>} Wheels
 */

/** The TensorFlow version that the engine was measured with. */
export const tensorflowVersion = '2.21.0'

/**
 * Every wheel that setup uses, by system and build, with the hash that the package index listed when it was chosen. Nothing else is ever
 * unpacked or loaded.
 * @type {Readonly<Record<string, Wheels>>}
 */
export const pinnedWheels = {
  'linux-x64 cpu': {
    'tensorflow_cpu-2.21.0-cp311-cp311-manylinux_2_27_x86_64.whl': '2b847d217b02ee7731ed91431daf3250daa0196c3c94614d23be27232e6e5b6c',
  },
  'linux-arm64 cpu': {
    'tensorflow-2.21.0-cp311-cp311-manylinux_2_27_aarch64.whl': '4b24aca16d527a3cf1c37f720c04c484c3d20f4d0fdfa98632ac8b9f3be6eb5c',
  },
  'darwin-arm64 cpu': {
    'tensorflow-2.21.0-cp311-cp311-macosx_12_0_arm64.whl': '51f46f4806139d01fc7920cc72a4c75876f80649bf40ff083ab6212ceb43ca88',
  },
  'linux-x64 gpu': {
    'tensorflow-2.21.0-cp311-cp311-manylinux_2_27_x86_64.whl': '9056fbc9ba04235810b71ae6cbd958a196e8804fb53bbcffbf3e23b56155f124',
    'nvidia_cublas_cu12-12.9.3.13-py3-none-manylinux_2_27_x86_64.whl': 'd7d51055f161b317c7105ddaae90e71eda059026074ffef93cf7cde2886bfe72',
    'nvidia_cuda_cupti_cu12-12.8.90-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl':
      'ea0cb07ebda26bb9b29ba82cda34849e73c166c18162d3913575b0c9db9a6182',
    'nvidia_cuda_nvcc_cu12-12.9.86-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl':
      '5d6a0d32fdc7ea39917c20065614ae93add6f577d840233237ff08e9a38f58f0',
    'nvidia_cuda_nvrtc_cu12-12.9.86-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl':
      '210cf05005a447e29214e9ce50851e83fc5f4358df8b453155d5e1918094dcb4',
    'nvidia_cuda_runtime_cu12-12.9.79-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl':
      '25bba2dfb01d48a9b59ca474a1ac43c6ebf7011f1b0b8cc44f54eb6ac48a96c3',
    'nvidia_cudnn_cu12-9.28.0.42-py3-none-manylinux_2_27_x86_64.whl': '9ff58b7f36dacd0a93e89f8f2957b52466889217963701daa15e577317cfa375',
    'nvidia_cufft_cu12-11.4.1.4-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl':
      'c67884f2a7d276b4b80eb56a79322a95df592ae5e765cf1243693365ccab4e28',
    'nvidia_curand_cu12-10.3.10.19-py3-none-manylinux_2_27_x86_64.whl': '49b274db4780d421bd2ccd362e1415c13887c53c214f0d4b761752b8f9f6aa1e',
    'nvidia_cusolver_cu12-11.7.5.82-py3-none-manylinux_2_27_x86_64.whl': '15da72d1340d29b5b3cf3fd100e3cd53421dde36002eda6ed93811af63c40d88',
    'nvidia_cusparse_cu12-12.5.10.65-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl':
      '73060ce019ac064a057267c585bf1fd5a353734151f87472ff02b2c5c9984e78',
    'nvidia_nccl_cu12-2.32.3-py3-none-manylinux_2_27_x86_64.whl': 'bb94b2348e4861d5e8aa00b36c3d12d9bdf9c6369b82cbb723de0b582280a21c',
    'nvidia_nvjitlink_cu12-12.9.86-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl':
      'e3f1171dbdc83c5932a45f0f4c99180a70de9bd2718c1ab77d14104f6d7147f9',
  },
}

/**
 * Returns the requirement that makes pip download a wheel.
 * @param {string} file for instance `tensorflow_cpu-2.21.0-cp311-cp311-manylinux_2_27_x86_64.whl`
 * @returns {string} for instance `tensorflow-cpu==2.21.0`
 */
export function requirementOf(file) {
  const [name, version] = file.split('-')
  return `${name?.replaceAll('_', '-')}==${version}`
}

/**
 * Checks a wheel, whether it was just downloaded or is from an earlier attempt. If it is not the pinned one, deletes it and throws.
 * @param {string} path
 * @param {Wheels} wheels
 * @returns {Promise<void>}
 */
export async function checkWheel(path, wheels) {
  const expected = wheels[basename(path)]
  const found = existsSync(path) ? await hashFile(path) : 'that of no file'
  if (expected === found) return
  rmSync(path, { force: true })
  throw new Error(`${path} is not the expected wheel: its sha256 is ${found}, not ${expected}. It was deleted.`)
}

/**
 * @param {string} path
 * @returns {Promise<string>} its sha256 in hexadecimal
 */
export async function hashFile(path) {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk)
  return hash.digest('hex')
}
