import { expect, test } from 'vitest'
import type { JobRecord } from '#db/runs/runs.ts'
import { judgeEnd } from '#jobs/cluster/cluster.ts'
import type { ClusterShell, Command, ShellAnswer } from '#jobs/cluster/cluster-shell.ts'
import { expandTasks, readJson, readOneLiners, readTextTasks, Slurm } from '#jobs/cluster/slurm.ts'

/** A shell with prepared answers to its commands. */
function answering(answer: (command: Command) => Partial<ShellAnswer>): ClusterShell {
  return { host: '', run: async (command) => ({ code: 0, output: '', errors: '', ...answer(command) }) }
}

const running = { job: 1, task: 0, name: 'espalier-x', state: 'RUNNING', node: 'n1', reason: null }
const waiting = { job: 1, task: 2, name: 'espalier-x', state: 'PENDING', node: null, reason: 'Resources' }

test.each([
  ['0-3', [0, 1, 2, 3]],
  ['1,4-5%2', [1, 4, 5]],
  ['0-9:4', [0, 4, 8]],
  ['0-1,...', [0, 1]],
  ['', []],
])('the tasks of %s are counted out', (text, tasks) => {
  expect(expandTasks(text)).toEqual(tasks)
})

test.each(['0-999999999999', '0-99999999,0-99999999', '0-9:0', '5-1', '99999999999999999999999'])(
  'a list of tasks that no array has (%s) costs nothing',
  (text) => expect(expandTasks(text).length).toBeLessThanOrEqual(10_000),
)

test('JSON of new and old versions says the same', () => {
  const set = (number: number) => ({ set: true, infinite: false, number })
  const unset = { set: false, infinite: false, number: 0 }
  const base = { name: 'espalier-x', job_id: 1 }
  const now = [
    {
      ...base,
      array_job_id: set(1),
      array_task_id: set(0),
      array_task_string: '',
      job_state: ['RUNNING'],
      state_reason: 'None',
      nodes: 'n1',
    },
    {
      ...base,
      array_job_id: set(1),
      array_task_id: unset,
      array_task_string: '2',
      job_state: ['PENDING'],
      state_reason: 'Resources',
      nodes: '',
    },
  ]
  const before = [
    { ...base, array_job_id: 1, array_task_id: 0, array_task_string: '', job_state: 'RUNNING', state_reason: 'None', nodes: 'n1' },
    { ...base, array_job_id: 1, array_task_id: null, array_task_string: '2', job_state: 'PENDING', state_reason: 'Resources', nodes: '' },
  ]
  for (const jobs of [now, before]) expect(readJson(JSON.stringify({ jobs }))).toEqual([running, waiting])
  expect(readJson('no JSON')).toBeUndefined()
  expect(readJson('{}')).toBeUndefined()
})

test('text says what JSON says', () => {
  expect(readTextTasks('1|0|RUNNING|n1|None|espalier-x\n1|2|PENDING||Resources|espalier-x\n')).toEqual([running, waiting])
  const lines =
    'JobId=2 ArrayJobId=1 ArrayTaskId=0 JobName=espalier-x JobState=RUNNING Reason=None NodeList=n1\nJobId=1 ArrayJobId=1 ArrayTaskId=2 JobName=espalier-x JobState=PENDING Reason=Resources NodeList=(null)\n'
  expect(readOneLiners(lines)).toEqual([running, waiting])
})

test('a Slurm without JSON is asked for text, once it has said so', async () => {
  const asked: string[] = []
  const shell = answering((command) => {
    asked.push(command.at(-1) as string)
    if (command.includes('--json')) return { code: 1, errors: "squeue: unrecognized option '--json'" }
    return { output: '1|0|RUNNING|n1|None|espalier-x\n7|0|RUNNING|n1|None|of-somebody\n' }
  })
  const asking = new Slurm(shell)
  expect(await asking.tasks()).toEqual([running])
  expect(await asking.tasks()).toEqual([running])
  expect(asked.filter((word) => word === '--json')).toHaveLength(1)
})

test('a controller that is down is distinguished from a job that is gone', async () => {
  const down = new Slurm(
    answering(() => ({ code: 1, errors: 'slurm_load_jobs error: Unable to contact slurm controller (connect failure)' })),
  )
  await expect(down.tasks()).rejects.toMatchObject({ code: 'unreachable', message: expect.stringContaining('Unable to contact') })
  await expect(down.cancel(['1_0'])).rejects.toThrow('Unable to contact')
  const gone = new Slurm(answering(() => ({ code: 1, errors: 'slurm_load_jobs error: Invalid job id specified' })))
  expect(await gone.remembered(1)).toEqual([])
  await gone.cancel(['1_0'])
})

test('where accounts are kept, they say how a forgotten job ended', async () => {
  const shell = answering(([program]) =>
    program === 'sacct' ? { output: '1_0|CANCELLED by 0|n1\n1_1|TIMEOUT|n2\n' } : { code: 1, errors: 'Invalid job id specified' },
  )
  expect((await new Slurm(shell).remembered(1)).map(({ task, state }) => [task, state])).toEqual([
    [0, 'CANCELLED'],
    [1, 'TIMEOUT'],
  ])
})

const job: JobRecord = {
  ...{ id: '1_0', state: 'running', node: 'n1', reason: null, submission: 'sent-1', task: 0 },
  ...{ drop: false, idle: 0, steps: 0, read: { attempt: '', events: 0, log: 0 } },
}

test.each([
  ['TIMEOUT', true, 0, { again: true }],
  ['TIMEOUT', false, 0, { status: 'failed', code: 'infeasible' }],
  ['NODE_FAIL', false, 0, { again: true }],
  ['FAILED', true, 5, { again: true }],
  ['FAILED', false, 2, { status: 'interrupted', message: expect.stringContaining('no such program') }],
  [undefined, false, 1, { again: true }],
  ['OUT_OF_MEMORY', true, 0, { status: 'failed', code: 'out-of-memory' }],
  ['CANCELLED', true, 0, { status: 'interrupted', code: 'cancelled' }],
])('a job that ended as %s, with a step done: %s, after %i idle ones', (state, moved, idle, verdict) => {
  expect(judgeEnd(state, moved, { ...job, idle }, 'no such program\n')).toMatchObject(verdict)
})
