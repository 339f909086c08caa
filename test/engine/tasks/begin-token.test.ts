import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { RunRequest } from '#contract/runs/run-request.ts'
import { releaseModel } from '#engine/model/kept-model.ts'
import type { StepResult } from '#engine/steps/step-name.ts'
import { checkRequests } from '#engine/tasks/check-request.ts'
import { executeInspection } from '#engine/tasks/inspection.ts'
import { executeRun } from '#engine/tasks/run/run.ts'
import { executeStudy } from '#engine/tasks/study.ts'
import { referenceModel } from '../../fixtures/reference.ts'
import { hostIn } from '../../fixtures/run-host.ts'
import { scratchFolder } from '../../fixtures/scratch.ts'

const folder = scratchFolder('begin')
const at = (name: string) => join(folder, name)
afterAll(() => releaseModel())

let request: RunRequest
beforeAll(async () => {
  const words = readFileSync(join(import.meta.dirname, '../../fixtures/texts/wikitext-2-valid.txt'), 'utf8')
  writeFileSync(at('a.txt'), words.slice(0, 8000))
  writeFileSync(at('b.txt'), words.slice(8000, 16_000))
  const calibration = { source: at('a.txt'), sequenceLength: 32, windows: 8 }
  const heldOut = { source: at('b.txt'), sequenceLength: 32, windows: 4 }
  request = {
    model: await referenceModel('stories260k'),
    method: '2ssp',
    amount: { sparsity: 0.4 },
    options: { windows: 4 },
    seed: 0,
    calibration,
    repair: { kind: 'in-order', calibration },
    recover: { amount: { tokens: 256 }, text: { ...heldOut, windows: undefined } },
    weights: 'Q2_K',
    measures: [
      { kind: 'perplexity', data: heldOut, name: 'held out' },
      { kind: 'repetition', data: heldOut, name: 'held out', tokens: 4 },
      { kind: 'long context', data: { ...heldOut, sequenceLength: 128 }, name: 'held out' },
    ],
    backend: 'tensorflow',
  }
})

const hostOf = (done: Map<string, StepResult>, phases: string[] = []) =>
  hostIn(folder, done, (event) => void (event.type === 'progress' && phases.push(event.progress.phase)))
const labelOf = (name: string) => name.replace(/ #[0-9a-f]+$/, '')

describe('a run whose windows begin with the begin token', () => {
  test('says so for every text, and shares no step that reads a text with a run whose windows do not', async () => {
    const plain = new Map<string, StepResult>()
    const begun = new Map<string, StepResult>()
    const before = await executeRun(request, hostOf(plain))
    const after = await executeRun({ ...request, beginToken: 'always' }, hostOf(begun))
    expect(before).not.toHaveProperty('beginToken')
    expect(after.beginToken).toEqual({ asked: 'always', begins: true, token: '<s>' })
    expect(after.notes).toContain('Each window begins with <s>, as requested.')
    for (const [document, expected] of [
      [before, undefined],
      [after, true],
    ] as const) {
      const used = [document.calibration, document.repair?.calibration, document.recovery?.text, ...document.evaluation]
      expect(used.map((data) => data?.beginToken)).toEqual(used.map(() => expected))
    }
    expect(after.notes.join(' ')).toContain('of a.txt, each beginning with the begin token.')
    const shared = [...begun.keys()].filter((name) => plain.has(name)).map(labelOf)
    // How fast this machine trains does not depend on the text.
    expect(shared.filter((label) => !/fingerprint of the model|speed of a recovery/.test(label))).toEqual([])
    expect(begun.size).toBeGreaterThan(15)
  })

  test('predicts no begin token: the perplexity is that of the text’s tokens', async () => {
    const dense = { ...request, method: 'dense', options: {}, repair: undefined, recover: undefined, weights: undefined }
    const one = { ...dense, measures: request.measures.slice(0, 1) }
    const [plain, begun] = [await executeRun(one, hostOf(new Map())), await executeRun({ ...one, beginToken: 'always' }, hostOf(new Map()))]
    expect(begun.evaluation[0]?.hash).not.toBe(plain.evaluation[0]?.hash)
    expect(begun.evaluation[0]).toMatchObject({ sequenceLength: 32, windows: 4 })
    expect(begun.measures.find(({ name }) => name === 'perplexity')?.value).not.toBe(
      plain.measures.find(({ name }) => name === 'perplexity')?.value,
    )
  })
})

describe('auto', () => {
  test('measures once for all runs, states both figures, and costs no pruning time', async () => {
    const done = new Map<string, StepResult>()
    const phases: string[] = []
    const asked: RunRequest = { ...request, repair: undefined, recover: undefined, weights: undefined, beginToken: 'auto' }
    const first = await executeRun(asked, hostOf(done, phases))
    expect(phases).toContain('Measuring the begin token')
    expect(first.beginToken).toMatchObject({ asked: 'auto', token: '<s>', figures: { windows: 4, sequenceLength: 256 } })
    const steps = [...done.keys()].filter((name) => labelOf(name).includes('begin token'))
    expect(steps).toHaveLength(1)
    const again: string[] = []
    const second = await executeRun({ ...asked, amount: { sparsity: 0.3 } }, hostOf(done, again))
    expect(again).not.toContain('Measuring the begin token')
    expect(second.beginToken).toEqual(first.beginToken)
    expect(first.seconds['begin token']).toBeGreaterThan(0)
  })

  test('gives the results of the reference where it finds no need, as for this model', async () => {
    const asked: RunRequest = { ...request, repair: undefined, recover: undefined, weights: undefined }
    const plain = await executeRun({ ...asked, beginToken: 'reference' }, hostOf(new Map()))
    const auto = await executeRun({ ...asked, beginToken: 'auto' }, hostOf(new Map()))
    expect(auto.beginToken?.begins).toBe(false)
    expect({ ...auto, beginToken: undefined, seconds: {} }).toEqual({ ...plain, beginToken: undefined, seconds: {} })
  })
})

test('a study and a comparison with the dense model begin their windows the same way', async () => {
  const { calibration, measures } = request
  const study: RunRequest = {
    ...{ model: request.model, seed: 0, backend: request.backend, amount: { sparsity: 0 } },
    method: 'l1_norm',
    options: { sparsities: [0.3], windows: 2 },
    calibration,
    measures: measures.slice(0, 1),
  }
  const studied = await executeStudy({ ...study, beginToken: 'always' }, hostOf(new Map()))
  expect([studied.calibration, ...studied.evaluation].map((used) => used?.beginToken)).toEqual([true, true])
  expect(studied.beginToken?.begins).toBe(true)
  const plan = (await executeRun({ ...request, recover: undefined, weights: undefined, measures: [] }, hostOf(new Map()))).plan
  const data = { source: at('b.txt'), sequenceLength: 32, windows: 2 }
  const inspected = {
    ...study,
    method: 'divergence',
    options: {},
    calibration: undefined,
    measures: [],
    inspect: { kind: 'divergence' as const, runs: ['a'], data },
  }
  const subjects = [{ run: { id: 'a', name: 'a', method: '2ssp', reached: 0.4 }, plan, fingerprint: null }]
  const done = new Map<string, StepResult>()
  const seen = await executeInspection({ ...inspected, beginToken: 'always' }, subjects, hostOf(done))
  expect(seen.evaluation[0]).toMatchObject({ beginToken: true, windows: 2 })
  const page = [...done].find(([name]) => labelOf(name).includes('page'))?.[1].value as { value: { texts: string[] } }
  expect(page.value.texts[0]).toBe('<s>')
  // The last token of a window predicts nothing.
  expect(seen.inspected.kind === 'divergence' && seen.inspected.divergence.tokens).toBe(2 * 31)
})

test('a model without a begin token cannot be asked to use one', async () => {
  const model = await referenceModel('mistral-tiny')
  const [preview] = await checkRequests([
    { ...request, model, beginToken: 'always', weights: undefined, repair: undefined, recover: undefined },
  ])
  expect(preview?.problems).toContainEqual({ field: 'beginToken', code: 'invalid', message: expect.stringContaining('no tokenizer.json') })
  const [fine] = await checkRequests([{ ...request, beginToken: 'always' }])
  expect(fine?.problems).toEqual([])
})
