import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { listWheel, unpackWheel, wheelPatterns } from '../../../src-main/setup/tensorflow/wheel.mjs'
import { makeWheel, python, tensorflowFiles } from '../make-wheel.ts'
import { scratchFolder } from '../scratch.ts'

function wheelIn(folder: string, files?: Record<string, string>): string {
  const path = join(folder, 'some.whl')
  makeWheel(path, files)
  return path
}

const names = async (path: string, pattern: RegExp) => (await listWheel(python, path, pattern)).map(({ name }) => name)

test('two libraries with their sizes and the headers of the C API are found, nothing else', async () => {
  const path = wheelIn(scratchFolder())
  expect(await listWheel(python, path, wheelPatterns.libraries)).toEqual([
    { name: 'tensorflow/libtensorflow_cc.so.2', size: 40000 },
    { name: 'tensorflow/libtensorflow_framework.so.2', size: 5000 },
  ])
  expect(await names(path, wheelPatterns.headers)).toEqual(Object.keys(tensorflowFiles).filter((name) => name.endsWith('.h')))
  expect(await names(path, wheelPatterns.cuda)).toEqual([])
})

test("NVIDIA's libraries, its assembler and its device library are found", async () => {
  const kept = ['nvidia/cublas/lib/libcublas.so.12', 'nvidia/cuda_nvcc/bin/ptxas', 'nvidia/cuda_nvcc/nvvm/libdevice/libdevice.10.bc']
  const left = ['nvidia/cublas/include/cublas.h', 'nvidia/cuda_nvcc/bin/nvcc', 'nvidia/cudnn/lib/libcudnn_static.a']
  const path = wheelIn(scratchFolder(), Object.fromEntries([...kept, ...left].map((name) => [name, name])))
  expect(await names(path, wheelPatterns.cuda)).toEqual(kept)
})

test('matching files are written under their own name, and progress is reported', async () => {
  const folder = scratchFolder()
  const large = 'x'.repeat(3 * 2 ** 20)
  const path = wheelIn(folder, { ...tensorflowFiles, 'tensorflow/libtensorflow_cc.so.2': large })
  let bytes = 0
  await unpackWheel(python, path, wheelPatterns.libraries, join(folder, 'out'), (more) => {
    bytes += more
  })
  expect(readFileSync(join(folder, 'out', 'tensorflow/libtensorflow_cc.so.2'), 'utf8') === large).toBe(true)
  expect(existsSync(join(folder, 'out', 'tensorflow/python'))).toBe(false)
  expect(bytes).toBe(4 * 2 ** 20)
})

test('an archive that is cut off, or names files outside itself, is refused with its name', async () => {
  const folder = scratchFolder()
  const path = wheelIn(folder)
  const bytes = readFileSync(path)
  writeFileSync(path, bytes.subarray(0, bytes.length / 2))
  await expect(listWheel(python, path, wheelPatterns.libraries)).rejects.toThrow(/some\.whl could not be read: .*not a zip file/)
  makeWheel(path, { '../escaped.so': 'x', '/absolute.so': 'x' })
  await expect(unpackWheel(python, path, /so/, join(folder, 'out'))).rejects.toThrow('names a file outside itself')
  expect(existsSync(join(folder, 'escaped.so'))).toBe(false)
})
