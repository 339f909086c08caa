/**
 * Kills a run of fitted widths with repair at random moments, starts it again each time, and compares what comes out with a run that was
 * left alone: node test/bench/kills.ts [KILLS [SEED]]
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { argv, env, execPath } from 'node:process'
import type { RunDocument } from '#contract/run.ts'
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

function start(home: string): { child: ChildProcess; phase: () => string; output: Promise<string> } {
  // A group of its own: the compute process dies with it, as where a machine goes down.
  const child = spawn(execPath, command, { env: { ...env, ESPALIER_HOME: home }, detached: true, stdio: ['ignore', 'pipe', 'pipe'] })
  let [text, phase] = ['', 'starting']
  child.stdout?.on('data', (chunk) => {
    text += chunk
  })
  child.stderr?.on('data', (chunk) => {
    phase = /(\w[\w ]+): \d+ of/.exec(String(chunk))?.[1] ?? phase
  })
  return { child, phase: () => phase, output: new Promise((resolve) => child.on('close', () => resolve(text))) }
}

const wait = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds))

/** What must be equal: the plan with the hashes of its tensors, and every number that decided. */
function outcomeOf(text: string): string {
  const document = JSON.parse(text) as RunDocument
  const { tensors, ...plan } = document.plan
  return JSON.stringify([plan, tensors?.map(({ sha256 }) => sha256), document.fit, document.repair?.blocks])
}

const kills = Number(argv[2] ?? 10)
const random = new PythonRandom(Number(argv[3] ?? 1))
const homes = [mkdtempSync(join(tmpdir(), 'espalier-kills-')), mkdtempSync(join(tmpdir(), 'espalier-kills-'))] as const
try {
  const begun = performance.now()
  const expected = outcomeOf(await start(homes[0]).output)
  const whole = performance.now() - begun
  const counts = new Map<string, number>()
  let done = 0
  for (let result = ''; result === ''; ) {
    const { child, phase, output } = start(homes[1])
    if (done < kills) await Promise.race([wait(1000 + (random.integer(0, 1000) / 1000) * whole * 0.6), output])
    if (done < kills && child.exitCode === null) {
      process.kill(-(child.pid as number), 'SIGKILL')
      done += 1
      counts.set(phase(), (counts.get(phase()) ?? 0) + 1)
      await output
      continue
    }
    result = await output
    const same = outcomeOf(result) === expected
    console.log(
      `${done} kills (${[...counts].map(([name, count]) => `${count} at "${name}"`).join(', ')}): ${same ? 'equal' : 'DIFFERENT'}`,
    )
    process.exitCode = same ? 0 : 1
  }
} finally {
  for (const home of homes) rmSync(home, { recursive: true, force: true })
}
