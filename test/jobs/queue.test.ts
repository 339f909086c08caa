import { expect, test, vi } from 'vitest'
import { processorDevice } from '#jobs/this-machine.ts'
import { eventually } from '../eventually.ts'
import { fakeCompute, heldRun, oneRun, openedWorkbench, runEnded } from '../services/opened.ts'
import { processesOf } from './kill-checks.ts'

/** Also measures this process's processor time, which other programs do not affect. */
async function timed<T>(work: Promise<T>): Promise<{ value: T; milliseconds: number }> {
  const start = process.cpuUsage()
  const value = await work
  const { user, system } = process.cpuUsage(start)
  return { value, milliseconds: (user + system) / 1000 }
}

test.each(['block', 'ignore cancel'] as const)(
  'cancelling a run that would %s is answered within 200 ms of work and before its process ends, and the next run starts',
  async (does) => {
    await using workbench = await openedWorkbench({ timings: { graceMilliseconds: 1000 } })
    const { id } = await oneRun(workbench, { rounds: 1000, stepMilliseconds: 20, at: 3, does })
    await eventually(async () => (await workbench.call('runs.get', { id })).decisions.length >= 2, 'two decisions')
    const computing = processesOf(process.pid, fakeCompute[1])
    expect(computing).not.toEqual([])
    const { value, milliseconds } = await timed(workbench.call('runs.cancel', { ids: [id] }))
    expect(value.runs[0]?.status).toBe('cancelled')
    expect(milliseconds).toBeLessThan(200)
    expect(processesOf(process.pid, fakeCompute[1])).toEqual(expect.arrayContaining(computing))
    const next = await oneRun(workbench)
    expect((await runEnded(workbench, next.id)).status).toBe('done')
    expect((await workbench.call('runs.get', { id })).status).toBe('cancelled')
  },
)

test('a paused run keeps its steps and ends with the plan it would have had', async () => {
  await using workbench = await openedWorkbench()
  const whole = await runEnded(workbench, (await oneRun(workbench, { rounds: 8 }, 5)).id)
  const { options, letGo } = heldRun(workbench)
  const { id } = await oneRun(workbench, options, 5)
  await eventually(async () => (await workbench.call('runs.get', { id })).stepsDone >= 3, 'three steps')
  await workbench.call('runs.pause', { ids: [id] })
  expect((await workbench.call('runs.get', { id })).status).toBe('paused')
  letGo()
  await workbench.call('runs.resume', { ids: [id] })
  const resumed = await runEnded(workbench, id)
  expect(resumed).toMatchObject({ status: 'done', attempts: 2, plan: whole.plan })
  expect(resumed.decisions.map(({ block }) => block)).toEqual(whole.decisions.map(({ block }) => block))
})

test('a run that cannot be done fails with its reason and leaves the process alive', async () => {
  await using workbench = await openedWorkbench()
  const run = await runEnded(workbench, (await oneRun(workbench, { at: 2, does: 'throw' })).id)
  expect(run).toMatchObject({ status: 'failed', problem: { code: 'infeasible', message: 'This cannot be done.' } })
  expect((await workbench.call('queue.get', {})).devices[0]?.status).toBe('idle')
})

test('a run that was asked for a size has one sparsity, the one it reached; one asked for a sparsity has both', async () => {
  await using workbench = await openedWorkbench()
  const asked = await runEnded(workbench, (await oneRun(workbench)).id)
  const { id } = await workbench.call('runs.clone', {
    id: asked.id,
    changes: { amount: { bytes: 4e6, format: 'gguf' } },
    start: 'queue',
  })
  const found = await runEnded(workbench, id)
  expect([found.status, found.nominal, found.reached]).toEqual(['done', 0.24, 0.24])
  expect(asked.nominal).not.toBe(asked.reached)
})

test('running out of memory is reported as such, with the option to try', async () => {
  await using workbench = await openedWorkbench()
  const run = await runEnded(workbench, (await oneRun(workbench, { at: 2, does: 'out of memory' })).id)
  expect(run.problem).toMatchObject({ code: 'out-of-memory', advice: expect.stringContaining('Set the memory limit') })
  const { text } = await workbench.call('runs.log', { id: run.id })
  expect(text).toContain('bad_alloc')
  await workbench.call('runs.clone', { id: run.id, changes: { options: {} } })
})

test('a device whose process keeps dying is not used until the queue is resumed', async () => {
  await using workbench = await openedWorkbench()
  const dying = []
  // Two deaths in a row of one cause would stop the whole queue.
  for (const does of ['abort', 'exit', 'abort', 'abort', 'abort']) dying.push(await oneRun(workbench, { at: 1, does }))
  await eventually(async () => (await workbench.call('queue.get', {})).devices[0]?.status === 'broken', 'the breaker')
  const statuses = await Promise.all(dying.map(async ({ id }) => (await workbench.call('runs.get', { id })).status))
  // The first run was resumed once.
  expect(statuses).toEqual(['interrupted', 'interrupted', 'queued', 'queued', 'queued'])
  await workbench.call('runs.cancel', { ids: dying.slice(2).map(({ id }) => id) })
  await workbench.call('queue.resume', {})
  expect((await runEnded(workbench, (await oneRun(workbench)).id)).status).toBe('done')
})

test('a process that says nothing is ended and the run can be resumed', async () => {
  await using workbench = await openedWorkbench({ timings: { silenceMilliseconds: 1500 } })
  const run = await runEnded(workbench, (await oneRun(workbench, { at: 2, does: 'block' })).id)
  expect(run.status).toBe('interrupted')
  expect((await workbench.call('runs.log', { id: run.id })).text).toContain('No heartbeat')
})

const silent = 'setInterval(() => {}, 1000)'
const foreign = `process.send({ type: "ready", protocol: 99, version: "", node: "" }); ${silent}`

test.each([['/nonexistent/program'], [process.execPath, '-e', silent], [process.execPath, '-e', foreign]] as [string, ...string[]][])(
  'a program that is no compute process (%s %s %s) fails the run with a sentence',
  async (...computeCommand) => {
    await using workbench = await openedWorkbench()
    await workbench.call('queue.pause', {})
    const { id } = await oneRun(workbench)
    await workbench.close()
    await using other = await openedWorkbench({ folder: workbench.folder, computeCommand, timings: { handshakeMilliseconds: 700 } })
    await other.call('queue.resume', {})
    const run = await runEnded(other, id)
    expect(['failed', 'interrupted']).toContain(run.status)
    expect(run.problem?.message).toMatch(/compute process/)
  },
)

test('an event that cannot be stored becomes a note, and the run continues', async () => {
  await using workbench = await openedWorkbench()
  const run = await runEnded(workbench, (await oneRun(workbench, { at: 2, does: 'bad event' })).id)
  expect(run.status).toBe('done')
  const { events } = await workbench.call('runs.events', { id: run.id, types: ['note'] })
  expect(JSON.stringify(events)).toContain('could not be stored')
})

test('two devices compute two runs at once', async () => {
  const device = processorDevice()
  await using workbench = await openedWorkbench({
    devices: [
      { ...device, id: 'one' },
      { ...device, id: 'two' },
    ],
  })
  const { options, letGo } = heldRun(workbench)
  const runs = [await oneRun(workbench, options), await oneRun(workbench, options)]
  const stepsDone = async ({ id }: { id: string }) => (await workbench.call('runs.get', { id })).stepsDone
  await eventually(async () => (await Promise.all(runs.map(stepsDone))).every((steps) => steps === 3), 'three steps of both')
  letGo()
  for (const { id } of runs) expect((await runEnded(workbench, id)).status).toBe('done')
})

test('a second process adds to the queue and cancels, and the first does the work', async () => {
  await using owner = await openedWorkbench()
  const second = await openedWorkbench({ folder: owner.folder, computeCommand: fakeCompute })
  expect([(await owner.call('queue.get', {})).owner, (await second.call('queue.get', {})).owner]).toEqual([true, false])
  const { id } = await oneRun(second)
  expect((await runEnded(second, id)).status).toBe('done')
  const long = await oneRun(second, { rounds: 1000, stepMilliseconds: 20 })
  await eventually(async () => (await second.call('runs.get', { id: long.id })).status === 'running', 'the long run')
  await second.call('runs.cancel', { ids: [long.id] })
  await eventually(async () => (await second.call('runs.get', { id: long.id })).status === 'cancelled', 'the cancellation')
  await second.close()
})

test('a run done at once in a process of its own is in the history like any other', async () => {
  await using workbench = await openedWorkbench({ worksQueue: false })
  const { id } = await oneRun(workbench)
  expect((await workbench.call('runs.get', { id })).status).toBe('queued')
  await workbench.runNow(id)
  expect((await workbench.call('runs.get', { id })).status).toBe('done')
})

test('a compute process sees no token and no other secret', async () => {
  process.env.HF_TOKEN = 'hf_secret'
  process.env.SOMETHING_ELSE = 'unasked'
  const { hermeticEnvironment } = await import('#jobs/compute/environment.ts')
  const seen = hermeticEnvironment(process.env, { CUDA_VISIBLE_DEVICES: '1' })
  delete process.env.HF_TOKEN
  expect(seen).not.toHaveProperty('HF_TOKEN')
  expect(seen).not.toHaveProperty('SOMETHING_ELSE')
  expect(seen).toMatchObject({ CUDA_VISIBLE_DEVICES: '1', PATH: process.env.PATH })
  const ofGpus = { GGML_VK_VISIBLE_DEVICES: '1', VK_DRIVER_FILES: '/usr/share/vulkan/icd.d/lvp_icd.json' }
  expect(hermeticEnvironment(ofGpus), 'what names a GPU and its driver').toEqual({ GLIBC_TUNABLES: 'glibc.malloc.hugetlb=1', ...ofGpus })
  const loading = {
    GGML_BACKEND_PATH: '/tmp/x.so',
    VK_LAYER_PATH: '/tmp',
    VK_INSTANCE_LAYERS: 'x',
    LD_PRELOAD: '/tmp/x.so',
    LD_AUDIT: '/tmp/x.so',
  }
  expect(hermeticEnvironment({ ...loading, NODE_OPTIONS: '--require=/tmp/x.cjs', TF_PLUGGABLE: '/tmp' }), 'what loads a library').toEqual({
    GLIBC_TUNABLES: 'glibc.malloc.hugetlb=1',
  })
})

test('a second failure of a library, after the one that was reported, does not end the process', async () => {
  await using workbench = await openedWorkbench()
  const run = await runEnded(workbench, (await oneRun(workbench, { rounds: 4, at: 2, does: 'reject aside' })).id)
  expect(run).toMatchObject({ status: 'done', problem: null })
})

test('a clock that is set back gives no run negative seconds', async () => {
  await using workbench = await openedWorkbench()
  const now = Date.now()
  let calls = 0
  const clock = vi.spyOn(Date, 'now').mockImplementation(() => now - 1000 * calls++)
  try {
    const { id } = await oneRun(workbench, { rounds: 6, stepMilliseconds: 20 })
    const { seconds } = await runEnded(workbench, id)
    expect(seconds).toBeGreaterThan(0.05)
    expect(seconds).toBeLessThan(60)
  } finally {
    clock.mockRestore()
  }
})
