/**
 * Kills processes with SIGKILL at random moments of their work, and checks after each kill that the history is whole, and at the end that every
 * run has the result of an undisturbed one: `npm run kills -- --count 300 --seed 1 --method slicegpt`.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { methodTitles } from '#contract/titles.ts'
import { referenceModel } from '../fixtures/reference.ts'
import { canMakeDisks } from '../fixtures/small-disk.ts'
import { seeded } from '../jobs/kill-checks.ts'
import { killCommands, killDivergences, killRecoveries, killRepairs } from './commands.ts'
import { killDownloads } from './downloads.ts'
import { killMigrations } from './histories.ts'
import { killJudgings } from './judgings.ts'
import { killFull, killLocked } from './obstacles.ts'
import { killComputes, killServers } from './servers.ts'
import { measureUndisturbed } from './subject.ts'

const { values } = parseArgs({
  options: {
    count: { type: 'string', default: '30' },
    seed: { type: 'string', default: '1' },
    method: { type: 'string', default: '2ssp' },
    kind: { type: 'string', multiple: true, default: [] as string[] },
  },
})

const kills = {
  'command line': killCommands,
  repair: killRepairs,
  recovery: killRecoveries,
  divergence: killDivergences,
  server: killServers,
  'compute process': killComputes,
  download: killDownloads,
  judging: killJudgings,
  migration: killMigrations,
  'lock held': killLocked,
  ...(canMakeDisks ? { 'disk full': killFull } : {}),
}
const unknown = values.kind.find((kind) => !Object.hasOwn(kills, kind))
if (unknown !== undefined) fail(`--kind is "${unknown}". Choose one of: ${Object.keys(kills).join(', ')}.`)
const kinds = Object.entries(kills).filter(([kind]) => values.kind.length === 0 || values.kind.includes(kind))
if (!canMakeDisks) console.log('The kind "disk full" is left out: only root can make the small disk that it fills.')
const count = Math.ceil(readWhole('count', 1) / kinds.length)
const seed = readWhole('seed', 0)
const { method } = values
if (!Object.hasOwn(methodTitles, method)) fail(`--method is "${method}". Choose one of: ${Object.keys(methodTitles).join(', ')}.`)
const scratch = mkdtempSync(join(tmpdir(), 'espalier-kills-'))

function readWhole(name: 'count' | 'seed', least: number): number {
  const number = Number(values[name])
  if (values[name].trim() !== '' && Number.isSafeInteger(number) && number >= least) return number
  fail(`--${name} is "${values[name]}". Give a whole number of at least ${least}.`)
}

function fail(message: string): never {
  console.error(message)
  process.exit(2)
}

try {
  const model = await referenceModel('stories260k')
  const { outcome, seconds } = await measureUndisturbed({ model, method, folder: join(scratch, 'undisturbed') })
  console.log(`An undisturbed command takes ${seconds.toFixed(1)} s.`)
  const killed = await Promise.all(
    kinds.map(async ([kind, kill], index) => {
      const random = seeded(seed * kinds.length + index)
      const work = kill({ model, method, outcome, seconds, random, count, folder: join(scratch, kind.replace(' ', '-')) })
      // The others end too, so that nothing writes into the folder that is removed.
      const found = await work.catch((thrown: unknown) => console.error(`${kind}:`, thrown))
      if (!found) return undefined
      console.log(
        `${kind}: ${found.kills} kills, ${found.interrupted} of them interrupted its work, ${found.done} ended with the same result; the history was whole after each.`,
      )
      return found.kills
    }),
  )
  if (killed.includes(undefined)) process.exitCode = 1
  console.log(`${killed.reduce<number>((sum, one) => sum + (one ?? 0), 0)} kills in all.`)
} finally {
  rmSync(scratch, { recursive: true, force: true })
}
