import { describe, expect, test } from 'vitest'
import { grid as gridSchema } from '#contract/experiments/experiments.ts'
import { usualRepetition } from '#contract/protocol.ts'
import { defaultRepairData } from '#contract/pruning/repair.ts'
import {
  emptyDraft,
  fromGrid,
  isUnfinished,
  presetOf,
  repairTextAfter,
  textsAfter,
  toGrid,
} from '../../../../../src-renderer/features/new-experiment/grid.ts'
import { meaningOf, suitTexts } from '../../../../../src-renderer/features/new-experiment/texts/texts.ts'

const text = (source: string, sequenceLength: number) => ({ source, sequenceLength })
const draftOf = (calibration: string, measured: string, length: number) => ({
  ...emptyDraft(),
  calibration: text(calibration, length),
  perplexity: [{ name: measured, data: text(measured, length) }],
  evaluation: { sequenceLength: length, windows: 8 },
})
const ofSample = draftOf('sample.txt', 'test.txt', 256)
const ofOthers = draftOf('mixed', 'prose', 2048)
const withheld = ['sample.txt', 'test.txt']

describe('a draft for another model', () => {
  test('gets that model’s usual texts, and back', () => {
    expect({ ...ofSample, ...suitTexts(ofSample, ofSample, ofOthers, withheld) }).toEqual(ofOthers)
    expect({ ...ofOthers, ...suitTexts(ofOthers, ofOthers, ofSample, []) }).toEqual(ofSample)
  })

  test('keeps texts that the user chose', () => {
    const own = { ...draftOf('mine.txt', 'my-test.txt', 128), repairData: text('mine.txt', 128) }
    expect({ ...own, ...suitTexts(own, ofSample, ofOthers, withheld) }).toEqual(own)
  })

  test('keeps the window length and number that the user typed, also for a text that replaces the one they were typed for', () => {
    const typed = { ...ofSample, calibration: { ...text('sample.txt', 96), windows: 7 }, evaluation: { sequenceLength: 256, windows: 3 } }
    const own = new Set(['calibration.sequenceLength', 'calibration.windows', 'evaluation.sequenceLength', 'evaluation.windows'])
    const suited = suitTexts(typed, ofSample, ofOthers, withheld, own)
    expect(suited.calibration).toEqual({ source: 'mixed', sequenceLength: 96, windows: 7 })
    expect(suited.evaluation).toEqual({ sequenceLength: 256, windows: 3 })
  })

  test('gets a repair text made of its own calibration text, in the amount that was chosen', () => {
    const repairing = (draft: typeof ofSample, windows: number) => ({
      ...draft,
      repairData: { ...defaultRepairData(draft.calibration), windows },
    })
    const suited = suitTexts(repairing(ofOthers, 48), ofOthers, draftOf('mine.txt', 'prose', 512), [])
    expect(suited.repairData).toEqual({ ...defaultRepairData(text('mine.txt', 512)), windows: 48 })
    expect(repairTextAfter(repairing(ofOthers, 48), null)).toBeNull()
    expect(repairTextAfter({ ...ofOthers, repairData: text('mine.txt', 64) }, text('other.txt', 64))).toEqual(text('mine.txt', 64))
  })

  test('keeps the choice of no text and of no measured text', () => {
    const none = { ...ofSample, calibration: null, perplexity: [] }
    expect({ ...none, ...suitTexts(none, ofSample, ofOthers, withheld) }).toMatchObject({ calibration: null, perplexity: [] })
  })

  test('loses the texts of the sample wherever they were chosen, alone or in a mix', () => {
    const mix = { ...text('', 128), mix: [{ source: 'sample.txt', share: 1 }] }
    const chosen = {
      ...draftOf('mixed', 'prose', 256),
      calibration: mix,
      repairData: mix,
      recoveryData: text('sample.txt', 128),
      perplexity: [...ofSample.perplexity, ...draftOf('', 'code', 256).perplexity],
    }
    const suited = suitTexts(chosen, ofSample, ofOthers, withheld)
    expect(suited).toMatchObject({ calibration: ofOthers.calibration, repairData: null, recoveryData: null })
    expect(suited.perplexity.map(({ name }) => name)).toEqual(['code'])
  })
})

test('every choice of a text says what it means', () => {
  const entry = { title: '', uses: ['calibration' as const], present: true, bytes: 1 }
  const datasets = [
    { ...entry, source: 'sample.txt', ofSample: true, summary: 'Definitions.' },
    { ...entry, source: 'mixed', ofSample: false, summary: 'Prose and code.' },
  ]
  const meanings = ['sample.txt', 'mixed', 'mine.txt'].map((source) => meaningOf(text(source, 128), datasets))
  expect(new Set([...meanings, meaningOf(null, datasets)]).size).toBe(4)
  expect(meanings[0]).toBe('Definitions.')
  expect(meanings[1]).toMatch(/^Prose and code\. .*your model will read/)
})

const choosing = { source: '/home/me/notes', sequenceLength: 512, split: { part: 'choosing', seed: 0 } } as const

test('a part of the user’s own text is measured first, under its name, with the seed of the split', () => {
  const draft = { ...emptyDraft(), models: ['m'], perplexity: [{ name: 'Prose', data: { source: 'prose', sequenceLength: 512 } }] }
  const changed = { ...draft, ...textsAfter(draft, { ...choosing, split: { ...choosing.split, seed: 3 } }) }
  expect(toGrid(changed).measures?.map((measure) => 'data' in measure && [measure.name, measure.data.source, measure.data.split])).toEqual([
    ['notes', '/home/me/notes', { part: 'deciding', seed: 3 }],
    ['Prose', 'prose', undefined],
  ])
  const whole = { ...changed, ...textsAfter(changed, { source: '/home/me/notes', sequenceLength: 512 }) }
  expect(whole.perplexity.map(({ name }) => name)).toEqual(['Prose'])
})

test('a preset for one’s own text waits for the text, is still that preset with it, and repairs and measures on its parts', () => {
  const own = { ...choosing, source: '' }
  const grid = {
    models: ['model-1'],
    methods: [{ method: 'gates', options: {} }],
    amounts: [{ sparsity: 0.5 }],
    calibration: own,
    repairs: ['in-order' as const],
    repairData: { ...defaultRepairData(own), windows: 48 },
    measures: [
      { kind: 'perplexity' as const, name: '', data: { ...own, split: { part: 'deciding' as const, seed: 0 }, windows: 16 } },
      usualRepetition({ source: '', split: { part: 'deciding', seed: 0 } }, '', 512),
    ],
  }
  const preset = { id: 'own-work', title: 'For my work', summary: '', grid: gridSchema.parse(grid) }
  const presets = [preset]
  const empty = fromGrid(preset.grid)
  expect(isUnfinished(empty)).toBe(true)
  const filled = { ...empty, ...textsAfter(empty, { ...choosing, source: '/home/me/notes' }) }
  expect(isUnfinished(filled)).toBe(false)
  expect(presetOf(filled, presets)?.id).toBe('own-work')
  expect(presetOf({ ...filled, amounts: [] }, presets)).toBeUndefined()
  const { measures, repairData } = toGrid(filled)
  expect(JSON.stringify([measures, repairData])).not.toContain('"source":""')
  expect(measures?.map((measure) => 'data' in measure && measure.data.split?.part)).toEqual(['deciding', 'deciding'])
  expect(repairData?.mix?.[0]).toMatchObject({ source: '/home/me/notes', split: { part: 'choosing' } })
})
