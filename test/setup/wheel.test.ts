import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { extractVerified, neededFiles, openWheel, parseRecord, readInfo, wheelVersion } from '../../src-main/setup/wheel.mjs'
import { makeWheel, metadata, tensorflowFiles } from './make-wheel.ts'
import { scratchFolder } from './scratch.ts'

function wheelIn(folder: string, lies?: Record<string, string>) {
  const path = join(folder, 'tensorflow.whl')
  makeWheel(path, tensorflowFiles, lies)
  return openWheel(path)
}

test('two libraries and the headers of the C API are taken, nothing else', () => {
  const { libraries, headers, cuda } = neededFiles(wheelIn(scratchFolder()))
  expect(libraries.map(({ place }) => place)).toEqual(['lib/libtensorflow_cc.so.2', 'lib/libtensorflow_framework.so.2'])
  expect(headers.map(({ place }) => place)).toEqual([
    'tensorflow/c/c_api.h',
    'tensorflow/c/eager/c_api.h',
    'tsl/platform/ctstring_internal.h',
    'xla/tsl/c/tsl_status.h',
    'external/local_tsl/xla/tsl/c/tsl_status.h',
  ])
  expect(cuda).toEqual([])
})

test("NVIDIA's libraries, its assembler and its device library keep their places", () => {
  const folder = scratchFolder()
  const path = join(folder, 'nvidia.whl')
  const kept = ['nvidia/cublas/lib/libcublas.so.12', 'nvidia/cuda_nvcc/bin/ptxas', 'nvidia/cuda_nvcc/nvvm/libdevice/libdevice.10.bc']
  const left = ['nvidia/cublas/include/cublas.h', 'nvidia/cuda_nvcc/bin/nvcc', 'nvidia/cudnn/lib/libcudnn_static.a']
  makeWheel(path, Object.fromEntries([...kept, ...left].map((name) => [name, name])))
  expect(neededFiles(openWheel(path)).cuda.map(({ place }) => place)).toEqual(kept)
})

test('a file that RECORD describes otherwise is not left behind, not even in part', async () => {
  const folder = scratchFolder()
  const wheel = wheelIn(folder, { 'tensorflow/libtensorflow_cc.so.2': 'something else' })
  const entry = wheel.entries[0]
  if (!entry) throw new Error('no entry')
  await expect(extractVerified(wheel, entry, join(folder, 'out', 'library'))).rejects.toThrow('libtensorflow_cc.so.2 is not what')
  expect(readdirSync(join(folder, 'out'))).toEqual([])
})

test('a file that is right appears under its name only', async () => {
  const folder = scratchFolder()
  const wheel = wheelIn(folder)
  const entry = wheel.entries[0]
  if (!entry) throw new Error('no entry')
  await extractVerified(wheel, entry, join(folder, 'out', 'library'))
  expect(readdirSync(join(folder, 'out'))).toEqual(['library'])
  expect(readFileSync(join(folder, 'out', 'library'), 'utf8')).toBe(tensorflowFiles['tensorflow/libtensorflow_cc.so.2'])
})

test('the version comes out of METADATA', () => {
  const folder = scratchFolder()
  expect(readInfo(wheelIn(folder), 'METADATA')).toBe(metadata)
  expect(wheelVersion(metadata)).toBe('2.21.0')
  expect(existsSync(join(folder, 'out'))).toBe(false)
})

test('RECORD lines without a hash, and names with a comma, are understood', () => {
  const record = parseRecord('a.py,sha256=AAAA,3\r\n"b,c.py",sha256=AQID,4\nRECORD,,\n')
  expect([...record]).toEqual([
    ['a.py', { sha256: '000000', size: 3 }],
    ['b,c.py', { sha256: '010203', size: 4 }],
  ])
})
