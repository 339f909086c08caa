import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseAddress, printedAddress } from '#server/address.ts'
import { connectWorkbench, type RemoteWorkbench } from '#server/client.ts'
import { type RunningServer, startServer } from '#server/server.ts'
import { makeToken } from '#server/token.ts'
import { defaultComputeCommand } from '#services/compute-command.ts'
import { unsavableModels } from '../engine/export/unsavable.ts'
import { referenceModel } from '../fixtures/reference.ts'
import { type Opened, openedWorkbench } from '../services/opened.ts'
import { run } from './espalier.ts'

let home: string
beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), 'espalier-save-refusals-'))
  await writeFile(
    join(home, 'windows.json'),
    JSON.stringify(Array.from({ length: 4 }, (_, i) => Array.from({ length: 16 }, (_, j) => i * 16 + j))),
  )
  await mkdir(join(home, 'taken'))
  await writeFile(join(home, 'taken', 'file'), '')
  await writeFile(join(home, 'file'), '')
})
afterAll(() => rm(home, { recursive: true, force: true }))

const data = ['--calibration_data=windows.json', '--eval_data=windows.json', '--sequence_length=16', '--no_history']
/** Those that open: tokenizers of these two kinds are checked where formats are. */
const openable = unsavableModels.filter(({ name }) => !name.startsWith('a tokenizer of'))

const folderOf = (name: string) => join(home, name.replace(/\W+/g, '-'))

describe('a format that cannot hold a model', () => {
  it.each(openable)(
    'is refused by the command before any window is computed: $name',
    async ({ name, make, method, format, ggufType, says }) => {
      await make(folderOf(name))
      const saving = ['--save=out', `--format=${format}`, ...(ggufType ? [`--gguf_type=${ggufType}`] : [])]
      const asked = [`--model=${folderOf(name)}`, `--pruning_method=${method}`, '--sparsity=0.3', ...data, ...saving]
      const { code, stderr, stdout } = await run(home, asked)
      expect(code, stderr).toBe(1)
      expect(stderr).toMatch(says)
      expect(stdout).toBe('')
      expect(await readdir(home)).not.toContain('out')
    },
  )
})

describe('a place or a flag that cannot be', () => {
  const wrong: [string, string[], number, RegExp][] = [
    ['a folder that is not empty', ['--save=taken'], 1, /taken exists and is not empty/],
    ['a file', ['--save=file'], 1, /file exists and is a file/],
    ['a place inside a file', ['--save=file/inside'], 1, /file/],
    ['an unknown format', ['--save=out', '--format=onnx'], 2, /--format names "onnx"; known are exact, stock, gguf/],
    ['one unknown format of two', ['--save=out', '--format=stock,onnx'], 2, /--format names "onnx"/],
    ['an unknown type', ['--save=out', '--format=gguf', '--gguf_type=Q3_K'], 2, /--gguf_type names "Q3_K"; known are F32, F16/],
    ['a type without its format', ['--save=out', '--format=stock', '--gguf_type=F16'], 2, /give --format=gguf too/],
    ['a format without a folder', ['--format=gguf'], 2, /give --save FOLDER too/],
    ['several plans', ['--save=out', '--sparsity=0.1'], 2, /--save needs one plan/],
  ]
  it.each(wrong)('is refused by the command: %s', async (_name, flags, expected, says) => {
    const { code, stderr } = await run(home, ['--model=sample', '--pruning_method=2ssp', '--sparsity=0.3', ...data, ...flags])
    expect(code, stderr).toBe(expected)
    expect(stderr).toMatch(says)
  })
})

describe('over HTTP', () => {
  let workbench: Opened
  let server: RunningServer
  let remote: RemoteWorkbench
  beforeAll(async () => {
    workbench = await openedWorkbench({ computeCommand: defaultComputeCommand(), modelPath: await referenceModel('stories260k') })
    const pages = join(home, 'pages')
    await mkdir(pages)
    const token = makeToken()
    server = await startServer({ door: workbench, pages, host: '127.0.0.1', port: 0, token })
    remote = await connectWorkbench(parseAddress(printedAddress({ ...server, token })))
  })
  afterAll(async () => {
    await remote.close()
    await server.close()
    await workbench[Symbol.asyncDispose]()
  })

  it.each(openable)('the same model is refused with its code: $name', async ({ name, make, method, format, ggufType, says }) => {
    const path = join(home, `http-${name.replace(/\W+/g, '-')}`)
    await make(path)
    const { id: model } = await remote.call('models.add', { path, name })
    const types = ggufType ? { ggufTypes: [ggufType] } : {}
    const folder = join(workbench.folder, 'exports', 'refused')
    const asked = { model, method, amount: { sparsity: 0.3 }, folder, formats: [format], ...types }
    await expect(remote.call('runs.checkSave', asked)).rejects.toMatchObject({ code: 'infeasible', message: expect.stringMatching(says) })
  })
})
