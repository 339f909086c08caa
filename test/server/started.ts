import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { expect, vi } from 'vitest'
import { parseAddress, type ServerAddress } from '#server/address.ts'
import { patience } from '../patience.ts'

export const programEntry = join(import.meta.dirname, '../../src-main/server/main.ts')
const children: ChildProcess[] = []

export interface Started extends ServerAddress {
  child: ChildProcess
  printed(): string
}

/** The real server with the real workbench, as a separate program. */
export async function startProgram(dataFolder: string, ...flags: string[]): Promise<Started> {
  const child = spawn(process.execPath, [programEntry, '--data', dataFolder, ...flags], { stdio: ['ignore', 'pipe', 'pipe'] })
  children.push(child)
  let out = ''
  child.stdout?.on('data', (data) => {
    out += data
  })
  child.stderr?.on('data', (data) => {
    out += data
  })
  await vi.waitFor(() => expect(out).toMatch(/#token=\S+\n/), { timeout: 30_000 * patience })
  return { ...parseAddress(/http:\S+#token=\S+/.exec(out)?.[0] ?? ''), child, printed: () => out }
}

/** Returns the exit code; null if the signal ended it. */
export async function endProgram({ child }: Started, signal: NodeJS.Signals): Promise<number | null> {
  child.kill(signal)
  const [code] = (await once(child, 'exit')) as [number | null]
  return code
}

/** Kills what a failed test left running. */
export function killPrograms(): void {
  for (const child of children) child.kill('SIGKILL')
}
