/** A process of the fuzzer: runs the cases that it receives one by one and reports their outcomes. Any case may kill it. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { toErrorMessage } from '#contract/errors.ts'
import { dieAtLimits } from '#engine/limits/reading.ts'
import { CallAttack } from './call-attack.ts'
import { DoorAttack } from './door-attack.ts'
import { fileAttacks, historyBytes } from './files.ts'
import { Random } from './random.ts'

export interface CaseOutcome {
  number: number
  kind: string
  error?: { code: string; message: string; raw: boolean }
  /** The request, if the case is a call: its ids depend on earlier cases. */
  request?: unknown
  memoryBytes: number
}

/** One case in four is a call, a body over HTTP or a command, in turns; the others take turns on files. */
const callsEvery = 4

const realExport = readFileSync(process.argv[2] as string, 'utf8')
const scratch = mkdtempSync(join(tmpdir(), 'espalier-fuzz-'))
const folder = join(scratch, 'case')
const attacks = Object.entries(fileAttacks(historyBytes(join(scratch, 'history'))))
let calls: CallAttack | undefined
let doors: DoorAttack | undefined

dieAtLimits()
process.on('unhandledRejection', (reason) => console.error('Left over:', reason))
process.on('message', ({ seed, number, keep }: { seed: number; number: number; keep?: string }) => void doCase(seed, number, keep))
process.on('disconnect', () => {
  rmSync(scratch, { recursive: true, force: true })
  process.exit(0)
})
process.send?.({ ready: true })

async function doCase(seed: number, number: number, keep: string | undefined): Promise<void> {
  const random = new Random(seed, number)
  const isCall = number % callsEvery === 0
  const [kind, work, request] = isCall ? await prepareCall(number, random, keep) : await prepareFile(number, random, keep)
  process.send?.({ number, kind, request })
  const error = await work().then(
    () => undefined,
    (thrown: unknown) => describeFailure(thrown),
  )
  process.send?.({ number, kind, ...(error ? { error } : {}), memoryBytes: process.memoryUsage.rss(), done: true })
}

async function prepareFile(number: number, random: Random, keep: string | undefined): Promise<[string, () => Promise<unknown>, undefined]> {
  const [kind, attack] = attacks[(number - Math.floor(number / callsEvery)) % attacks.length] as (typeof attacks)[number]
  const place = keep ?? folder
  rmSync(place, { recursive: true, force: true })
  mkdirSync(place, { recursive: true })
  await attack.write(place, random)
  return [kind, () => attack.read(place), undefined]
}

async function prepareCall(number: number, random: Random, keep: string | undefined): Promise<[string, () => Promise<unknown>, unknown]> {
  calls ??= await CallAttack.open(realExport)
  doors ??= await DoorAttack.open(calls)
  const prepared = prepare(calls, doors, (number / callsEvery) % 3, random)
  if (keep !== undefined) {
    mkdirSync(keep, { recursive: true })
    writeFileSync(join(keep, 'request.json'), JSON.stringify(prepared[2], null, 1))
  }
  return prepared
}

function prepare(calls: CallAttack, doors: DoorAttack, turn: number, random: Random): [string, () => Promise<unknown>, unknown] {
  if (turn === 1) {
    const body = doors.body(random)
    return [`body ${body.path}`, () => doors.send(body), { path: body.path, body: body.body.slice(0, 2000) }]
  }
  if (turn === 2) {
    const words = doors.flags(random)
    return [`flags ${words[0]?.startsWith('--') ? 'of a run' : words[0]}`, () => doors.command(words), words]
  }
  const request = calls.request(random)
  return [`call ${request.name}`, () => calls.perform(request), request]
}

/** What a user should never see: the wording of a language or a library instead of a sentence. */
const rawWords =
  /Cannot (read|set) prop|is not (a function|iterable|defined)|\[object |undefined|\bNaN\b|call stack|Invalid (string|typed array|array) length|at .*\.ts:\d+|E[A-Z]{4,}: |SQLITE_|ZodError|"code": ?"|Unexpected token .* in JSON at position .* at /

function describeFailure(thrown: unknown): CaseOutcome['error'] {
  const { code, message } = toErrorMessage(thrown)
  const raw = code === 'internal' || rawWords.test(message) || message.length > 2200
  if (raw && thrown instanceof Error) console.error(thrown.stack)
  return { code, message, raw }
}
