import { type ChildProcess, spawn } from 'node:child_process'
import { join } from 'node:path'
import { execPath } from 'node:process'
import type { RunDocument } from '#contract/runs/run.ts'

const program = join(import.meta.dirname, '../../src-main/cli/espalier.mjs')

export interface Finished {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

export interface Running {
  readonly child: ChildProcess
  readonly finished: Promise<Finished>
}

/** Starts the real command with a data folder of its own. */
export function start(home: string, arguments_: readonly string[], environment: Record<string, string> = {}, cwd = home): Running {
  const child = spawn(execPath, [program, ...arguments_], {
    cwd,
    env: { ...process.env, ESPALIER_HOME: join(home, 'data'), ...environment },
  })
  let stdout = ''
  let stderr = ''
  child.stdout.on('data', (chunk: Buffer) => {
    stdout += chunk.toString()
  })
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString()
  })
  const finished = new Promise<Finished>((resolve) => {
    child.on('close', (code, signal) => resolve({ code, signal, stdout, stderr }))
  })
  return { child, finished }
}

export function run(home: string, arguments_: readonly string[], environment: Record<string, string> = {}, cwd = home): Promise<Finished> {
  return start(home, arguments_, environment, cwd).finished
}

/** The documents that `--json` printed; an error of the command becomes one of the test. */
export function documentsOf({ stdout, stderr, code }: Finished): RunDocument[] {
  if (code !== 0) throw new Error(`exit code ${code}: ${stderr}`)
  const parsed = JSON.parse(stdout) as RunDocument | RunDocument[]
  return Array.isArray(parsed) ? parsed : [parsed]
}
