/**
 * Kills a run of fitted widths with repair at random moments of each of its phases, starts it again each time, and compares what comes
 * out with a run that was left alone: npm run bench -- kills [KILLS [SEED]]
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { argv, env, execPath } from 'node:process'
import type { RunDocument } from '#contract/runs/run.ts'
import { PythonRandom } from '#engine/random/python-random.ts'

const command = [
  'src-main/cli/espalier.mjs',
  '--model=sample',
  '--pruning_method=2ssp_fit',
  '--sparsity=0.5',
  '--option=windows=8',
  '--option=tableWindows=1',
  '--repair=in-order',
  '--repair_samples=16',
  '--json',
]

interface Started {
  readonly child: ChildProcess
  readonly output: Promise<string>
  /** Settles when the run reports one of these phases, or ends. */
  reached(phases: readonly string[]): Promise<unknown>
}

function start(home: string): Started {
  // A separate process group: the compute process dies with it, as when a machine fails.
  const child = spawn(execPath, command, { env: { ...env, ESPALIER_HOME: home }, detached: true, stdio: ['ignore', 'pipe', 'pipe'] })
  let text = ''
  child.stdout?.on('data', (chunk) => {
    text += chunk
  })
  const output = new Promise<string>((resolve) => child.on('close', () => resolve(text)))
  return {
    child,
    output,
    reached: (wanted) =>
      Promise.race([
        output,
        new Promise<void>((resolve) =>
          child.stderr?.on('data', (chunk) => wanted.some((phase) => String(chunk).includes(phase)) && resolve()),
        ),
      ]),
  }
}

const wait = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds))

/** What must be equal: the plan with the hashes of its tensors, and all numbers behind decisions. */
function outcomeOf(text: string): string {
  const document = JSON.parse(text) as RunDocument
  const { tensors, ...plan } = document.plan
  return JSON.stringify([plan, tensors?.map(({ sha256 }) => sha256), document.fit, document.repair?.blocks])
}

const phases = ['Fitting the table', 'Measuring the table', 'Repairing']
const kills = Number(argv[2] ?? 10)
const random = new PythonRandom(Number(argv[3] ?? 1))

/** Kills a run in each phase this many times, then lets it finish. */
async function killed(home: string): Promise<{ outcome: string; counts: Map<string, number> }> {
  const counts = new Map<string, number>()
  for (const [index, phase] of phases.entries()) {
    for (let i = 0; i < kills; i++) {
      const { child, reached, output } = start(home)
      // If a phase is already over, waits for the next one.
      await reached(phases.slice(index))
      await wait(random.integer(0, 800))
      if (child.exitCode !== null) return { outcome: outcomeOf(await output), counts }
      process.kill(-(child.pid as number), 'SIGKILL')
      await output
      counts.set(phase, (counts.get(phase) ?? 0) + 1)
    }
  }
  return { outcome: outcomeOf(await start(home).output), counts }
}

const homes = [mkdtempSync(join(tmpdir(), 'espalier-kills-')), mkdtempSync(join(tmpdir(), 'espalier-kills-'))] as const
try {
  const expected = outcomeOf(await start(homes[0]).output)
  const { outcome, counts } = await killed(homes[1])
  const counted = [...counts].map(([phase, count]) => `${count} at "${phase}"`).join(', ')
  console.log(`Killed ${counted}: ${outcome === expected ? 'equal' : 'DIFFERENT'}`)
  process.exitCode = outcome === expected ? 0 : 1
} finally {
  for (const home of homes) rmSync(home, { recursive: true, force: true })
}
