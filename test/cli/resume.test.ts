import { join } from 'node:path'
import { afterAll, expect, test, vi } from 'vitest'
import { commands } from '#cli/commands/index.ts'
import { connectWorkbench } from '#server/client.ts'
import { scratchFolder } from '../fixtures/scratch.ts'
import { endProgram, killPrograms, startProgram } from '../server/started.ts'

const sample = join(import.meta.dirname, '../../resources/sample-model')
const folder = scratchFolder('resume')
afterAll(() => {
  killPrograms()
  vi.restoreAllMocks()
})

async function printedBy(work: () => Promise<number>): Promise<{ code: number; out: string }> {
  let out = ''
  const spy = vi.spyOn(console, 'log').mockImplementation((text: string) => {
    out += `${text}\n`
  })
  const code = await work()
  spy.mockRestore()
  return { code, out }
}

test('a run of a killed server is interrupted, is resumed by a command, and is listed as done', { timeout: 300_000 }, async () => {
  const server = await startProgram(folder)
  const remote = await connectWorkbench(server)
  await expect.poll(async () => (await remote.call('models.list', {})).length).toBeGreaterThan(0)
  const [model] = await remote.call('models.list', {})
  const calibration = { source: join(sample, 'calibration.txt'), sequenceLength: 256, windows: 64 }
  const { runs } = await remote.call('experiments.create', {
    name: 'to be killed',
    grid: { models: [model?.id ?? ''], methods: [{ method: '2ssp' }], amounts: [{ sparsity: 0.4 }], seeds: [1, 2], calibration },
  })
  const running = async () =>
    (await remote.call('runs.query', {})).rows.filter(({ status, method }) => status === 'running' && method === '2ssp').length
  await expect.poll(running, { interval: 20 }).toBe(1)
  await endProgram(server, 'SIGKILL')
  await remote.close()

  const listed = await printedBy(() => commands.runs(['list', '--json', '--data', folder]))
  const rows = (JSON.parse(listed.out) as { rows: { id: string; status: string }[] }).rows
  expect(rows.length).toBe(runs.length)
  const left = rows.filter(({ status }) => status === 'interrupted').map(({ id }) => id)
  expect(rows.map(({ status }) => status)).not.toContain('running')
  expect(left.length).toBe(1)

  const resumed = await printedBy(() => commands.runs(['resume', ...left, '--data', folder]))
  expect([resumed.code, resumed.out]).toEqual([0, expect.stringMatching(/ done /)])
  const again = await printedBy(() => commands.runs(['resume', ...left, '--data', folder]))
  expect(again.code).toBe(1)
})
