import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { documentsOf, run, start } from '../cli/espalier.ts'
import { askPython, type Tools } from './environment.ts'
import type { Table } from './table.ts'

const root = join(import.meta.dirname, '..', '..')
const questions = join(root, 'resources', 'questions')

/** Tasks of the harness, one per kind of answer, with the split and the file of their sample questions. */
const tasks = {
  winogrande: ['validation', join(questions, 'winogrande', 'validation.jsonl')],
  hellaswag: ['validation', join(questions, 'hellaswag', 'validation.jsonl')],
} as const

/** The harness's names of measures. */
const names = { accuracy: 'acc,none', 'accuracy per character': 'acc_norm,none' } as const

/** Runs lm-evaluation-harness against `espalier serve` with a pruned run, and expects the run's accuracies. */
export async function checkHarness(tools: Tools, folder: string, table: Table): Promise<void> {
  table.title('lm-evaluation-harness against `espalier serve` (difference of accuracy)')
  const asked = [
    '--model=sample',
    '--pruning_method=2ssp',
    '--sparsity=0.25',
    '--option=windows=4',
    '--tasks=winogrande,hellaswag',
    '--json',
  ]
  const [pruned] = documentsOf(await run(folder, [...asked, '--task_folder', questions]))
  const server = start(folder, ['serve', '--port', '0'])
  try {
    const { address, token } = await announced(server)
    const listed = await fetch(`${address}v1/models`, { headers: { authorization: `Bearer ${token}` } })
    const { data } = (await listed.json()) as { data: { id: string }[] }
    const model = data.find(({ id }) => id.startsWith('run-'))?.id
    if (!model) throw new Error(`\`espalier serve\` lists no pruned run, only: ${data.map(({ id }) => id).join(', ')}.`)
    await mkdir(join(folder, 'tasks'))
    const job = {
      address: `${address}v1/completions`,
      key: token,
      model,
      tokenizer: join(root, 'resources', 'sample-model'),
      length: 256,
      tasks,
      folder: join(folder, 'tasks'),
    }
    const theirs = await askPython<Record<string, Record<string, number>>>(tools, 'harness.py', [], job, folder)
    for (const [task, found] of Object.entries(theirs)) {
      const own = pruned?.measures.filter(({ dataset }) => dataset === task) ?? []
      if (own.length === 0) table.state(task, 'The run has no accuracy of it.')
      for (const { name, value } of own) {
        const their = found[names[name as keyof typeof names]] ?? Number.NaN
        table.add(`${task}, ${name}`, Math.abs(value - their), 1e-9, `(${their.toFixed(4)})`)
      }
    }
  } finally {
    server.child.kill()
    await server.finished
  }
}

/** A starting server prints its address within this time, even on a busy machine. */
const startSeconds = 60

/** The address and the token that a starting server prints. */
function announced({ child, finished }: ReturnType<typeof start>): Promise<{ address: string; token: string }> {
  return new Promise((resolve, reject) => {
    let [text, errors] = ['', '']
    const giveUp = () => reject(new Error(`The server printed no address within ${startSeconds} s, but this: ${text}${errors}`))
    setTimeout(giveUp, startSeconds * 1000).unref()
    child.stderr?.on('data', (chunk: Buffer) => {
      errors += chunk.toString()
    })
    child.stdout?.on('data', (chunk: Buffer) => {
      text += chunk.toString()
      const [, address, token] = /(http:\S+)#token=(\S+)\n/.exec(text) ?? []
      if (address && token) resolve({ address, token })
    })
    void finished.then(({ stderr }) => reject(new Error(`The server ended: ${stderr}`)))
  })
}
