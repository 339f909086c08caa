import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { afterEach, expect, test } from 'vitest'
import { type FromCompute, fromCompute, type ToCompute } from '#contract/machine/compute-messages.ts'
import { eventually } from '../eventually.ts'
import { scratchOfTest } from '../fixtures/scratch.ts'
import { fakeCompute } from '../services/opened.ts'

let child: ChildProcess

function start(environment: Record<string, string> = {}) {
  const heard: FromCompute[] = []
  const env = { ...process.env, ...environment }
  child = spawn(fakeCompute[0], [fakeCompute[1]], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'], env })
  child.on('message', (message) => heard.push(fromCompute.parse(message)))
  const of = <T extends FromCompute['type']>(type: T) =>
    heard.filter((message): message is Extract<FromCompute, { type: T }> => message.type === type)
  return { of, send: (message: ToCompute) => child.send(message) }
}

const run = (rounds: number): ToCompute => ({
  type: 'start',
  job: 1,
  tensorFolder: tmpdir(),
  task: {
    kind: 'run',
    request: { model: 'x', method: '2ssp', amount: { sparsity: 0.5 }, options: { rounds }, seed: 0, measures: [], backend: 'auto' },
  },
})

afterEach(() => child.kill('SIGKILL'))

/** A process that survives has had its turn by then. */
async function nextSignOfLife(of: ReturnType<typeof start>['of']): Promise<void> {
  const before = of('alive').length
  await eventually(() => of('alive').length > before, 'a sign of life')
}

test('it reports that it is ready, and then every second that it is alive', async () => {
  const { of } = start()
  await eventually(() => of('ready').length === 1, 'ready')
  await eventually(() => of('alive').length >= 2, 'two signs of life')
  expect(of('alive')[0]?.memoryBytes).toBeGreaterThan(1e6)
})

test('a job does not continue before its step is written', async () => {
  const { of, send } = start()
  await eventually(() => of('ready').length === 1, 'ready')
  send(run(2))
  const [asked] = await eventually(() => of('get step').length === 1 && of('get step'), 'the question for a step')
  send({ type: 'step found', job: 1, asked: asked?.asked as number, found: false })
  const [put] = await eventually(() => of('put step').length === 1 && of('put step'), 'the step')
  await nextSignOfLife(of)
  expect([of('get step').length, of('event').length]).toEqual([1, 0])
  send({ type: 'refused', job: 1, asked: put?.asked as number, error: { code: 'disk', message: 'Full.' } })
  const [error] = await eventually(() => of('error').length === 1 && of('error'), 'the refusal')
  expect(error?.error).toMatchObject({ code: 'disk', message: 'Full.' })
})

test('a second job is refused while there is one', async () => {
  const { of, send } = start()
  await eventually(() => of('ready').length === 1, 'ready')
  send(run(2))
  send({ ...run(2), job: 2 } as ToCompute)
  const [error] = await eventually(() => of('error').length === 1 && of('error'), 'the refusal')
  expect(error).toMatchObject({ job: 2, error: { code: 'conflict' } })
})

test('it ends by itself when the main side is gone, and not when a terminal interrupts', async () => {
  const { of } = start()
  await eventually(() => of('ready').length === 1, 'ready')
  child.kill('SIGINT')
  await nextSignOfLife(of)
  expect(child.exitCode).toBeNull()
  child.disconnect()
  await eventually(() => child.exitCode === 0, 'its end')
})

test('it keeps compiled code after its first job, as it may be killed', async () => {
  const cache = scratchOfTest('compiled')
  const kept = () => readdirSync(cache, { recursive: true }).length
  const { of, send } = start({ NODE_COMPILE_CACHE: cache })
  await eventually(() => of('ready').length === 1, 'ready')
  const before = kept()
  send(run(0))
  expect(await eventually(kept, (now) => now > before)).toBeGreaterThan(1)
  child.kill('SIGKILL')
  await once(child, 'exit')
})
