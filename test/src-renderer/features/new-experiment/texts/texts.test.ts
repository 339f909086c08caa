import { describe, expect, test } from 'vitest'
import { defaultRepairData } from '#contract/pruning/default-repair.ts'
import { emptyDraft } from '../../../../../src-renderer/features/new-experiment/grid.ts'
import { meaningOf, repairTextAfter, suitTexts } from '../../../../../src-renderer/features/new-experiment/texts/texts.ts'

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
