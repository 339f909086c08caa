import {
  copyFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { DataRequest } from '#contract/data/data-request.ts'
import { generationSettings } from '#contract/playground/generation-settings.ts'
import { sharedPhase } from '#contract/runs/measures.ts'
import type { MeasureRequest, RunRequest } from '#contract/runs/run-request.ts'
import { runRequest } from '#contract/runs/run-request.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { otherModel } from '../fixtures/other-model.ts'
import { referenceModel, referenceWindows } from '../fixtures/reference.ts'
import { Random } from '../fuzz/random.ts'
import { OneHistory, type Relation, runFresh, type Subjects } from './one-history.ts'

/**
 * A result depends only on the request: a run in a full history, in an experiment or as a clone, gives what the same request gives in an
 * empty one. Pairs of requests differ in one field, or in the content at a path.
 */
const home = mkdtempSync(join(tmpdir(), 'espalier-pairs-'))
const at = (name: string) => join(home, name)
const random = new Random(Number(process.env.ESPALIER_SEED ?? 1), 24)
const relations: Relation[] = ['alone', 'in the same experiment', 'as a clone']

type Measure<Kind extends MeasureRequest['kind']> = Extract<MeasureRequest, { kind: Kind }>

const calibration: DataRequest = { source: at('calibration.json'), sequenceLength: 32, windows: 8 }
const heldOut: DataRequest = { source: at('held-out.json'), sequenceLength: 32, windows: 3 }
const perplexity: Measure<'perplexity'> = { kind: 'perplexity', data: heldOut, name: 'held out' }
const tasks: Measure<'tasks'> = { kind: 'tasks', tasks: ['piqa'], folder: at('questions') }
const answers: Measure<'answers'> = { kind: 'answers', prompts: ['Once upon'], maxLength: 10 }
const repetition = { kind: 'repetition' as const, data: heldOut, name: 'held out', tokens: 8 }
const longContext = { kind: 'long context' as const, data: heldOut, name: 'held out' }
const inference: Measure<'inference'> = { kind: 'inference', sequenceLength: 8, repeats: 1 }

const common = {
  model: at('model'),
  seed: 3,
  backend: 'tensorflow' as const,
  calibration,
  measures: [perplexity],
} satisfies Partial<RunRequest>
const evolution = { windows: 3, finalWindows: 2, startStates: 4, offspring: 3, generations: 2 }
const repaired: RunRequest = {
  ...common,
  method: '2ssp',
  amount: { sparsity: 0.4 },
  options: { windows: 4 },
  repair: { kind: 'one-pass', calibration },
}
const bases: RunRequest[] = [
  { ...common, method: '2ssp', amount: { sparsity: 0.4 }, options: { windows: 4 } },
  { ...common, method: 'shortgpt', amount: { blocks: 2 }, options: {} },
  { ...common, method: 'window_based', amount: { blocks: 2 }, options: {} },
  { ...common, method: 'blockpruner', amount: { blocks: 2 }, options: {} },
  { ...common, method: 'blockpruner_submodule', amount: { blocks: 1 }, options: {} },
  { ...common, method: 'evopress', amount: { blocks: 2 }, options: evolution },
  { ...common, method: 'slicegpt', amount: { sparsity: 0.3 }, options: { windows: 4 } },
  repaired,
]
const dense: RunRequest = {
  ...common,
  method: 'dense',
  amount: { sparsity: 0 },
  options: {},
  measures: [perplexity, tasks, answers, inference],
}
const study: RunRequest = { ...common, method: 'l1_norm', amount: { sparsity: 0 }, options: { sparsities: [0.3], windows: 2 } }
const named: RunRequest = { ...(bases[1] as RunRequest), calibration: { ...calibration, source: 'wikitext2' }, localFolder: at('local') }
const inspected: RunRequest = {
  ...common,
  method: 'divergence',
  amount: { sparsity: 0 },
  options: {},
  measures: [],
  inspect: { kind: 'divergence', runs: ['subject'], data: heldOut },
}

/** Replaces one field of a base. */
type Change = (base: RunRequest) => Partial<RunRequest>
const of = (base: RunRequest, change: Change) => ({ base, changed: { ...base, ...change(base) } })
const anyOf = (change: Change) => of(random.pick(bases), change)

const ofData = {
  source: (data) => ({ ...data, source: at('other.json') }),
  sequenceLength: (data) => ({ ...data, sequenceLength: 24 }),
  windows: (data) => ({ ...data, windows: (data.windows ?? 0) - 1 }),
  split: (data) => ({ ...data, source: at('words.txt'), split: { part: 'deciding', seed: 1 } }),
  mix: (data) => ({
    ...data,
    mix: [
      { source: at('calibration.json'), share: 1 },
      { source: at('other.json'), share: 2 },
    ],
  }),
} satisfies Record<keyof DataRequest, (data: DataRequest) => DataRequest>
const dataChanges = Object.values(ofData)

const ofMeasure = {
  perplexity: {
    data: dataChanges.map((change) => ({ ...perplexity, data: change(heldOut) })),
    name: [{ ...perplexity, name: 'another name' }],
  },
  tasks: {
    tasks: [{ ...tasks, tasks: ['arc_easy'] }],
    folder: [{ ...tasks, folder: at('other-questions') }],
    limit: [{ ...tasks, limit: 1 }],
    chat: [{ ...tasks, chat: true }],
  },
  inference: { sequenceLength: [{ ...inference, sequenceLength: 9 }], repeats: [{ ...inference, repeats: 2 }] },
  repetition: {
    data: dataChanges.map((change) => ({ ...repetition, data: change(heldOut) })),
    name: [{ ...repetition, name: 'another name' }],
    tokens: [{ ...repetition, tokens: 5 }],
  },
  'long context': {
    data: dataChanges.map((change) => ({ ...longContext, data: change(heldOut) })),
    name: [{ ...longContext, name: 'another name' }],
  },
  answers: { prompts: [{ ...answers, prompts: ['Lily was'] }], maxLength: [{ ...answers, maxLength: 12 }] },
} satisfies { [Kind in MeasureRequest['kind']]: Record<Exclude<keyof Extract<MeasureRequest, { kind: Kind }>, 'kind'>, MeasureRequest[]> }
const measureChanges: MeasureRequest[] = Object.values(ofMeasure).flatMap((fields) => Object.values(fields).flat())

const otherOptions: Record<string, Record<string, unknown>> = {
  '2ssp': { windows: 4, norm: 1 },
  shortgpt: { tokens: 'all' },
  window_based: { similarity: 'angular', tokens: 'all' },
  blockpruner: { windows: 2 },
  blockpruner_submodule: { ratio: 'free' },
  evopress: { ...evolution, firstWindows: 2 },
  slicegpt: { windows: 3 },
}
const recovery = { amount: { tokens: 256 }, text: { ...calibration, windows: undefined }, rate: 1e-3 }
const repairWith = (kind: 'one-pass' | 'in-order', data: DataRequest) => of(repaired, () => ({ repair: { kind, calibration: data } }))

/** Every field of a request; a new field is a compile error until it is added here. */
const pairs: Record<keyof RunRequest, { base: RunRequest; changed: RunRequest; subjects?: true }[]> = {
  model: bases.map((base) => of(base, () => ({ model: at('other-model') }))),
  method: ['window_based', 'blockpruner', 'blockpruner_submodule'].map((method) => of(bases[1] as RunRequest, () => ({ method }))),
  amount: bases.map((base) =>
    of(base, ({ amount }) => ({ amount: 'blocks' in amount ? { blocks: 3 - amount.blocks } : { sparsity: 0.2 } })),
  ),
  options: bases.map((base) => of(base, ({ method }) => ({ options: otherOptions[method] ?? {} }))),
  seed: bases.map((base) => of(base, () => ({ seed: 4 }))),
  calibration: [
    ...dataChanges.map((change) => anyOf(({ calibration: data }) => ({ calibration: change(data ?? calibration) }))),
    of(study, () => ({ calibration: ofData.source(calibration) })),
  ],
  vocabulary: [
    of(repaired, () => ({ vocabulary: { rows: 480 } })),
    of({ ...repaired, recover: recovery, vocabulary: { rows: 480 } }, () => ({ vocabulary: { share: 0.97 } })),
  ],
  repair: [
    ...dataChanges.map((change) => repairWith('one-pass', change(calibration))),
    repairWith('in-order', calibration),
    of(bases[0] as RunRequest, () => ({ repair: { kind: 'one-pass', calibration } })),
  ],
  recover: [
    of(repaired, () => ({ recover: recovery })),
    of({ ...repaired, recover: recovery }, () => ({ recover: { ...recovery, amount: { tokens: 128 } } })),
    of({ ...repaired, recover: recovery }, () => ({ recover: { ...recovery, rate: 2e-3 } })),
    of({ ...repaired, recover: recovery }, () => ({ recover: { ...recovery, trains: 'low-rank' } })),
    of({ ...repaired, recover: recovery }, () => ({ recover: { ...recovery, text: ofData.source(recovery.text) } })),
    of({ ...repaired, recover: recovery }, () => ({ recover: { ...recovery, text: ofData.sequenceLength(recovery.text) } })),
  ],
  beginToken: [
    ...[...bases, study].map((base) => of(base, () => ({ beginToken: 'always' as const }))),
    of(dense, () => ({ beginToken: 'always' })),
    of(dense, () => ({ beginToken: 'auto' })),
    of({ ...repaired, recover: recovery }, () => ({ beginToken: 'always' })),
    of({ ...repaired, weights: 'Q4_0' }, () => ({ beginToken: 'always' })),
    { ...of(inspected, () => ({ beginToken: 'always' })), subjects: true },
  ],
  weights: [
    // Without times in llama.cpp, which the comparison would leave out.
    of({ ...dense, measures: [perplexity, tasks, answers] }, () => ({ weights: 'Q8_0' })),
    of({ ...dense, measures: [perplexity, tasks, answers], weights: 'F16' }, () => ({ weights: 'Q8_0' })),
    of(repaired, () => ({ weights: 'Q4_0' })),
    of({ ...repaired, weights: 'Q4_0' }, () => ({ repair: { kind: 'one-pass', calibration: ofData.source(calibration) } })),
  ],
  measures: [
    ...dataChanges.map((change) => of(repaired, () => ({ measures: [{ ...perplexity, data: change(heldOut) }] }))),
    ...measureChanges.map((one) => of(dense, () => ({ measures: [one] }))),
    ...dataChanges.map((change) => anyOf(() => ({ measures: [{ ...perplexity, data: change(heldOut) }] }))),
    of(study, () => ({ measures: [{ ...perplexity, data: ofData.source(heldOut) }] })),
  ],
  inspect: [
    ...dataChanges.map((change) => ({
      ...of(inspected, () => ({ inspect: { kind: 'divergence', runs: ['subject'], data: change(heldOut) } })),
      subjects: true as const,
    })),
    {
      ...of(inspected, () => ({
        method: 'generation',
        inspect: {
          kind: 'generation',
          runs: ['subject'],
          dense: true,
          prompts: [{ text: 'Once', tags: [] }],
          settings: generationSettings.parse({ maxTokens: 4 }),
        },
      })),
      subjects: true,
    },
  ],
  localFolder: [of(named, () => ({ localFolder: at('other-local') }))],
  backend: [anyOf(() => ({ backend: 'auto' }))],
  precision: (['bfloat16', 'mixed'] as const).map((precision) => anyOf(() => ({ precision }))),
  memoryBytes: [of(bases[0] as RunRequest, () => ({ memoryBytes: 2_000_000 }))],
  reproduces: [of(bases[0] as RunRequest, () => ({ reproduces: { measures: [], version: '1.0.0', afresh: true } }))],
}

let subjects: Subjects = []
let shared: OneHistory

beforeAll(async () => {
  await openBackend('tensorflow')
  await makeTexts()
  writeFileSync(at('words.txt'), Array.from({ length: 4000 }, (_, word) => `word ${(word * 37) % 997}`).join('\n'))
  const reference = await referenceModel('stories260k')
  cpSync(reference, at('model'), { recursive: true })
  otherModel(reference, at('other-model'))
  subjects = [{ run: { id: 'subject', name: 'subject', method: '2ssp', reached: 0.4 }, plan: subjectPlan, fingerprint: null }]
  shared = new OneHistory()
  for (const base of [...bases, dense, study, named]) await shared.run(base, { relation: 'in the same experiment' })
  await shared.run(inspected, { relation: 'in the same experiment', subjects })
})
afterAll(async () => {
  await shared[Symbol.asyncDispose]()
  rmSync(home, { recursive: true, force: true })
})

test('there are pairs for every field of a request', () => {
  expect(Object.keys(pairs).sort()).toEqual(Object.keys(runRequest.shape).sort())
})

test.each(Object.entries(pairs))('a request with another %s equals itself in a fresh history', async (_, all) => {
  for (const { base, changed, ...pair } of all) {
    const own = pair.subjects ? subjects : []
    // A clone of a repaired run reuses most from its parent.
    const relation = base.repair ? 'as a clone' : random.pick(relations)
    const found = await shared.run(changed, { relation, base, subjects: own })
    expect(found, `${changed.method}, ${relation}`).toEqual(await runFresh(changed, own))
  }
})

test('what a run found done counts as its pruning as far as it was pruning, and a measure does not', async () => {
  await using history = new OneHistory()
  const base = { ...(bases[1] as RunRequest), measures: [{ ...perplexity, data: { ...heldOut, windows: 16 } }] }
  const again = { ...base }
  for (const request of [base, again]) await history.run(request)
  const secondsOf = (request: RunRequest) => {
    const { number } = history.history.runs.find(history.runOf(request)) as { number: number }
    return history.history.documents.find(number).phaseSeconds
  }
  expect(secondsOf(again)[sharedPhase]).toBeGreaterThan(0)
  expect(secondsOf(again)[sharedPhase]).toBeLessThanOrEqual(secondsOf(base).pruning as number)
})

describe('the content at a path is replaced between two runs', () => {
  const ways = {
    'by renaming a file over it': (from: string, to: string) => {
      copyFileSync(from, `${to}.new`)
      renameSync(`${to}.new`, to)
    },
    'by writing into it': (from: string, to: string) => writeFileSync(to, readFileSync(from)),
    'by writing into it, with the time that it had': (from: string, to: string) => {
      const { atime, mtime } = statSync(to)
      writeFileSync(to, readFileSync(from))
      utimesSync(to, atime, mtime)
    },
  }
  const replaced = {
    'the weights': ['model/model.safetensors', 'other-model/model.safetensors'],
    'the calibration text': ['calibration.json', 'other.json'],
    'the text of the measure': ['held-out.json', 'other.json'],
  } as const
  const cases = Object.entries(replaced).flatMap(([what, files]) =>
    Object.entries(ways).map(([how, replace]) => ({ what, how, files, replace })),
  )

  /** By replaced file and request: every way of replacing leaves the same files. */
  const known = new Map<string, unknown>()
  const freshAfter = async (file: string, request: RunRequest) => {
    const key = JSON.stringify([file, request])
    if (!known.has(key)) known.set(key, await runFresh(request))
    return known.get(key)
  }

  test.each(cases)('$what, $how', async ({ files: [file, other], replace }) => {
    const [from, to] = [at(other), at(file)]
    copyFileSync(to, at('as-it-was'))
    try {
      await using history = new OneHistory()
      // The dense run uses no calibration text.
      const asked = [random.pick(bases), repaired, ...(file === 'calibration.json' ? [] : [dense])]
      const before: unknown[] = []
      for (const one of asked) before.push(await history.run(one, { relation: 'in the same experiment' }))
      replace(from, to)
      if (random.chance(0.5)) await history.restart()
      for (const [index, one] of asked.entries()) {
        const found = await history.run({ ...one }, { relation: one.repair ? 'as a clone' : random.pick(relations), base: one })
        expect(found).toEqual(await freshAfter(file, one))
        expect(found).not.toEqual(before[index])
      }
    } finally {
      copyFileSync(at('as-it-was'), to)
    }
  })

  test.each(Object.entries(ways))(
    'weights that are replaced during a run, %s, end it: nothing of two models is mixed',
    async (_, replace) => {
      await using history = new OneHistory()
      copyFileSync(at('model/model.safetensors'), at('as-it-was'))
      const steps: string[] = []
      const beforeStep = (name: string) => {
        steps.push(name)
        if (steps.length === 2) replace(at('other-model/model.safetensors'), at('model/model.safetensors'))
      }
      try {
        const found = await history.run(bases[0] as RunRequest, { beforeStep })
        expect(found).toEqual({ code: 'conflict', message: expect.stringContaining('changed during the run') })
        expect(steps).toHaveLength(2)
      } finally {
        copyFileSync(at('as-it-was'), at('model/model.safetensors'))
      }
    },
  )

  test('a run that is resumed on another model begins again: nothing that its first attempt reported is left', async () => {
    await using history = new OneHistory()
    copyFileSync(at('model/model.safetensors'), at('as-it-was'))
    const base = { ...dense, measures: [perplexity, { ...perplexity, data: ofData.windows(heldOut), name: 'fewer' }] }
    let steps = 0
    const beforeStep = () => {
      if (++steps > 2) throw new Error('killed')
    }
    try {
      expect(await history.run(base, { beforeStep })).toMatchObject({ message: 'killed' })
      const id = history.runOf(base)
      const { number } = history.history.runs.find(id) as { number: number }
      const reported = () => history.history.measures.ofRuns([number]).get(number) ?? []
      const before = reported().find(({ dataset }) => dataset === 'held out')
      copyFileSync(at('other-model/model.safetensors'), at('model/model.safetensors'))
      const found = (await history.run(base, { resumed: id })) as { measures: { dataset: string; value: number }[] }
      expect(found).toEqual(await runFresh(base))
      const value = found.measures.find(({ dataset }) => dataset === 'held out')?.value
      expect(before?.value).not.toBe(value)
      expect(reported().find(({ dataset }) => dataset === 'held out')).toMatchObject({ value, best: value })
    } finally {
      copyFileSync(at('as-it-was'), at('model/model.safetensors'))
    }
  })

  test('a model is read completely only once, however many runs use it', async () => {
    await using history = new OneHistory()
    const written: string[] = []
    const beforeStep = (name: string) => void written.push(name)
    for (const base of bases.slice(2, 4)) await history.run(base, { beforeStep })
    await history.restart()
    await history.run(bases[0] as RunRequest, { beforeStep })
    expect(written.filter((name) => name.includes('fingerprint'))).toHaveLength(1)
  })

  test('a model whose weights were renamed away fails, and says where', async () => {
    await using history = new OneHistory()
    const base = bases[0] as RunRequest
    await history.run(base)
    renameSync(at('model/model.safetensors'), at('model/away.safetensors'))
    try {
      expect(await history.run(base)).toEqual({ code: 'not-found', message: expect.stringContaining(at('model')) })
    } finally {
      renameSync(at('model/away.safetensors'), at('model/model.safetensors'))
    }
  })
})

const subjectPlan: Subjects[number]['plan'] = {
  blocks: Array.from({ length: 5 }, (_, block) => ({ attention: block === 2 ? 'removed' : 'kept', mlp: { kept: 'all' } })),
}

async function makeTexts(): Promise<void> {
  const ids = (await Promise.all([referenceWindows('calibration'), referenceWindows('test')])).flat().flatMap((window) => [...window])
  const text = (name: string, first: number) => writeFileSync(at(name), JSON.stringify(ids.slice(first, first + 512)))
  text('calibration.json', 0)
  text('other.json', 6000)
  text('held-out.json', 20_000)
  const words = readFileSync(join(import.meta.dirname, '..', 'fixtures', 'texts', 'wikitext-2-valid.txt'), 'utf8')
  for (const [folder, part] of [
    ['local', words.slice(0, 3000)],
    ['other-local', words.slice(3000, 6000)],
  ] as const) {
    mkdirSync(at(`${folder}/wikitext-2`), { recursive: true })
    writeFileSync(at(`${folder}/wikitext-2/text.txt`), part)
  }
  makeQuestions('questions', 'run')
  makeQuestions('other-questions', 'sleep')
}

function makeQuestions(folder: string, word: string): void {
  const write = (task: string, file: string, rows: unknown[]) => {
    mkdirSync(at(`${folder}/${task}`), { recursive: true })
    writeFileSync(at(`${folder}/${task}/${file}`), rows.map((row) => JSON.stringify(row)).join('\n'))
  }
  write(
    'piqa',
    'validation.jsonl',
    [0, 1].map((label) => ({ goal: `To ${word}`, sol1: 'you eat a red ball', sol2: 'you go home', label })),
  )
  write('arc_easy', 'test.jsonl', [
    { question: `Who can ${word}?`, choices: { text: ['a cat', 'a stone'], label: ['A', 'B'] }, answerKey: 'A' },
  ])
}
