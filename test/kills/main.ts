/**
 * Kills the command line, the server and the compute process with SIGKILL at random moments of a run, and the migration of a history, and checks after each kill
 * that the history is whole, and at the end that every run has the plan of an undisturbed one: `npm run kills -- --count 300 --seed 1`.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { referenceModel } from '../fixtures/reference.ts'
import { seeded } from '../jobs/watching.ts'
import { killCommands, killRepairs } from './commands.ts'
import { killMigrations } from './histories.ts'
import { killComputes, killServers } from './servers.ts'
import { measureUndisturbed } from './subject.ts'

const { values } = parseArgs({ options: { count: { type: 'string', default: '30' }, seed: { type: 'string', default: '1' } } })
const scratch = mkdtempSync(join(tmpdir(), 'espalier-kills-'))
const count = Math.ceil(Number(values.count) / 5)

try {
  const model = await referenceModel('stories260k')
  const { plan, seconds } = await measureUndisturbed(model, join(scratch, 'undisturbed'))
  console.log(`An undisturbed command takes ${seconds.toFixed(1)} s.`)
  const kinds = Object.entries({
    'command line': killCommands,
    repair: killRepairs,
    server: killServers,
    'compute process': killComputes,
    migration: killMigrations,
  })
  const killed = await Promise.all(
    kinds.map(async ([name, kill], index) => {
      const random = seeded(Number(values.seed) * kinds.length + index)
      const found = await kill({ model, plan, seconds, random, count, folder: join(scratch, name.replace(' ', '-')) })
      console.log(
        `${name}: ${found.kills} kills, ${found.interrupted} of them interrupted a run, ${found.done} runs done with the same plan; the history was whole after each.`,
      )
      return found.kills
    }),
  )
  console.log(`${killed.reduce((sum, one) => sum + one, 0)} kills in all.`)
} finally {
  rmSync(scratch, { recursive: true, force: true })
}
