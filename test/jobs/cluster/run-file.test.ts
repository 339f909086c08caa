import { execFileSync } from 'node:child_process'
import { appendFileSync, existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { type RunFile, runResult } from '#contract/clusters/run-file.ts'
import type { RunDocument } from '#contract/runs/run.ts'
import { version } from '#contract/version.ts'
import { openHistory } from '#db/history.ts'
import { performRunFile } from '#jobs/cluster/perform-run-file.ts'
import { namesIn, type RunFolder, readWhole, runFolderOf } from '#jobs/cluster/run-folder.ts'
import { keepTensors, takeIn } from '#jobs/cluster/take-in.ts'
import { ComputeHost } from '#jobs/compute/compute-host.ts'
import { hermeticEnvironment } from '#jobs/compute/environment.ts'
import { RunLogs } from '#jobs/run-log.ts'
import { writeWhole } from '#runtime/write-whole.ts'
import { insertRun } from '../../db/rows.ts'
import { eventually } from '../../eventually.ts'
import { scratchOfTest } from '../../fixtures/scratch.ts'
import { fakeCompute, heldRun } from '../../services/opened.ts'

function temporaryFolder(): string {
  const folder = scratchOfTest('cluster')
  return folder
}

function asked(root: string, run: string, options: Record<string, unknown>, changes: Partial<RunFile> = {}): RunFolder {
  const model = join(root, 'model')
  mkdirSync(model, { recursive: true })
  writeFileSync(join(model, 'config.json'), '{}')
  const folder = runFolderOf(root, run)
  const request = { model, method: '2ssp', amount: { sparsity: 0.25 }, options, seed: 5, measures: [], backend: 'auto' as const }
  const file: RunFile = { format: 'espalier run request', formatVersion: 1, run, request, version, ...changes }
  writeWhole(folder.request, JSON.stringify(file))
  return folder
}

const compute = (folder: RunFolder) =>
  performRunFile(folder.request, {
    hostFor: (tensorFolder) => new ComputeHost({ command: fakeCompute, environment: hermeticEnvironment(process.env), tensorFolder }),
    fetchFile: () => Promise.reject(new Error('no network in this test')),
    job: '17',
    node: 'n1',
    device: 'cpu',
  })

function planOf({ result }: RunFolder): unknown {
  const read = readWhole(runResult, result)
  return read?.status === 'done' ? (read.document as RunDocument).plan : read
}

function openRow(root: string, folder: string) {
  const history = openHistory(join(root, 'data'))
  onTestFinished(() => history.close())
  const { id, number } = insertRun(history, { status: 'queued' })
  const read = { attempt: '', events: 0, log: 0 }
  const job = {
    id: '17',
    state: 'running',
    node: null,
    reason: null,
    submission: 'x',
    task: 0,
    drop: false,
    idle: 0,
    steps: 0,
    read,
  } as const
  history.runs.patch(number, { job })
  const parts = { history, logs: new RunLogs(join(root, 'logs')), emit: () => {} }
  const known = new Set<string>()
  const look = () =>
    takeIn(parts, history.runs.find(id) as NonNullable<ReturnType<typeof history.runs.find>>, runFolderOf(root, folder), known)
  return { history, id, number, look, log: () => parts.logs.tail(id, 10_000).text }
}

test('a run that is stopped on a node resumes at its last step and ends with the plan of an undisturbed one', async () => {
  const root = temporaryFolder()
  const { options, letGo } = heldRun({ folder: root })
  const whole = asked(root, 'run-whole', { rounds: options.rounds })
  expect(await compute(whole).over).toBe('done')
  const halted = asked(root, 'run-halted', options)
  const first = compute(halted)
  await eventually(() => first.steps() >= 3, 'three steps')
  first.stop()
  expect(await first.over).toBe('stopped')
  expect(existsSync(halted.result)).toBe(false)
  letGo()
  const second = compute(halted)
  expect(await second.over).toBe('done')
  expect(second.steps()).toBe(options.rounds - 3)
  expect(planOf(halted)).toEqual(planOf(whole))
  expect(namesIn(halted.attempts)).toEqual(['0001', '0002'])
})

test('a process that dies on a node is started again there; what is the run’s own fault ends it', async () => {
  const root = temporaryFolder()
  const failing = asked(root, 'run-failing', { at: 2, does: 'throw' })
  expect(await compute(failing).over).toBe('failed')
  expect(readWhole(runResult, failing.result)).toMatchObject({ status: 'failed', error: { code: 'infeasible' } })
  const dying = asked(root, 'run-dying', { at: 2, does: 'abort' })
  expect(await compute(dying).over).toBe('failed')
  expect(readFileSync(join(dying.attempts, '0001', 'log.txt'), 'utf8').match(/begins/g)).toHaveLength(3)
})

test('what a node wrote enters the history once, and half a line is read the next time', async () => {
  const root = temporaryFolder()
  const folder = asked(root, 'run-read', { rounds: 3 })
  expect(await compute(folder).over).toBe('done')
  const { history, id, number, look, log } = openRow(root, 'run-read')
  const events = join(folder.attempts, '0001', 'events.jsonl')
  const [line] = readFileSync(events, 'utf8').split('\n')
  appendFileSync(events, `${line?.slice(0, 20)}`)
  expect(look()).toMatchObject({ news: true, attempts: 1, state: { job: '17', steps: 3 }, result: { status: 'done' } })
  const reported = history.events.after(number, 0, 100)
  expect(reported.map(({ event }) => event.type)).toEqual(['decision', 'decision', 'decision', 'measure'])
  expect(history.steps.count(id)).toBe(3)
  expect(log()).toContain('begins')
  expect(look().news).toBe(false)
  expect(history.events.after(number, 0, 100)).toEqual(reported)
  appendFileSync(events, `${line?.slice(20)}\n`)
  look()
  expect(history.events.after(number, 0, 100)).toHaveLength(5)
})

test.each([
  ['{', 'is not a run request'],
  ['{"format":"espalier run request"}', 'is not a run request'],
])('a file that is no request (%s) is refused with its name', (content, sentence) => {
  const root = temporaryFolder()
  const folder = runFolderOf(root, 'run-bad')
  writeWhole(folder.request, content)
  expect(() => compute(folder)).toThrow(sentence)
})

test('a request of another version is refused with both', () => {
  const folder = asked(temporaryFolder(), 'run-old', {}, { version: '0.0.1' })
  expect(() => compute(folder)).toThrow(`written by Espalier 0.0.1, but this is ${version}`)
})

test('a step whose value was changed is done again', async () => {
  const root = temporaryFolder()
  const folder = asked(root, 'run-damaged', { rounds: 4 })
  expect(await compute(folder).over).toBe('done')
  const plan = planOf(folder)
  const [name] = namesIn(folder.steps)
  const file = join(folder.steps, name as string)
  writeFileSync(file, readFileSync(file, 'utf8').replace(/"block":\d/, '"block":9'))
  rmSync(folder.result)
  const again = compute(folder)
  expect(await again.over).toBe('done')
  expect(again.steps()).toBe(1)
  expect(planOf(folder)).toEqual(plan)
})

describe.skipIf(process.platform === 'win32')('what a hostile node left in the folder of a run', () => {
  /** A finished run whose folder was changed by someone else. */
  async function tampered(name: string, tamper: (folder: ReturnType<typeof asked>, root: string) => void) {
    const root = temporaryFolder()
    const folder = asked(root, name, { rounds: 1 })
    expect(await compute(folder).over).toBe('done')
    tamper(folder, root)
    return { ...openRow(root, name), folder, root }
  }

  test('pipes are not waited for', async () => {
    const { look } = await tampered('run-pipes', ({ attempts, result, steps }) => {
      const first = join(attempts, '0001')
      for (const file of [result, join(first, 'state.json'), join(first, 'events.jsonl'), join(first, 'log.txt'), join(steps, 'x.json')]) {
        rmSync(file, { force: true })
        execFileSync('mkfifo', [file])
      }
    })
    expect(look()).toMatchObject({ result: undefined, state: undefined })
  })

  test('links to other files of this machine are not read', async () => {
    const { look, log } = await tampered('run-links', ({ attempts }, root) => {
      writeFileSync(join(root, 'secret'), 'a secret')
      rmSync(join(attempts, '0001', 'log.txt'), { force: true })
      symlinkSync(join(root, 'secret'), join(attempts, '0001', 'log.txt'))
    })
    look()
    expect(log()).not.toContain('a secret')
  })

  test('a flood of nonsense makes one note, and a line without end is given up', async () => {
    const { look, history, number } = await tampered('run-flood', ({ attempts }) => {
      const events = join(attempts, '0001', 'events.jsonl')
      const [line] = readFileSync(events, 'utf8').split('\n')
      writeFileSync(events, `${'x\n'.repeat(20_000)}`)
      appendFileSync(events, Buffer.alloc(17_000_000, 'y'))
      appendFileSync(events, `\n${line}\n`)
    })
    for (let times = 0; times < 5; times++) look()
    const reported = history.events.after(number, 0, 100).map(({ event }) => event.type)
    expect(reported.filter((type) => type === 'note').length).toBeLessThanOrEqual(4)
    expect(reported).toContain('decision')
  })

  test('tensors that are a device or a link are not taken over', async () => {
    const { history, root } = await tampered('run-tensors', () => {})
    const link = join(root, 'link')
    symlinkSync('/dev/zero', link)
    for (const file of ['/dev/zero', link])
      expect(() => keepTensors(history, { file, bytes: 8, sha256: '0'.repeat(64) })).toThrow('is not a regular file')
  })
})
