import { expect, test } from 'vitest'
import { RunStory } from '#jobs/run-log.ts'

test('the log names tasks by their titles, and gives its time in words', () => {
  let log = ''
  const story = new RunStory((text) => {
    log += text
  })
  story.begin(1)
  story.add({ type: 'measure', measure: { name: 'accuracy', dataset: 'arc_easy', value: 0.2, unit: 'share' } })
  expect(log).toMatch(/^--- attempt 1, \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC\n +0\.\d s {2}accuracy, ARC easy: 20 %\n$/)
})

test('the log has a line for each measurement of a recovery', () => {
  let log = ''
  const story = new RunStory((text) => {
    log += text
  })
  story.add({ type: 'recovery', point: { step: 0, tokens: 0, loss: null, heldOut: [1.05, 0.14, 0.48] } })
  story.add({ type: 'recovery', point: { step: 16, tokens: 32_768, loss: 0.612345, heldOut: [0.95, 0.16, 0.45] } })
  expect(log.replaceAll(/^ +\d+\.\d s {2}/gm, '')).toBe(
    [
      'recovery before training: divergence 1.05 on definitions, 0.14 on lists, 0.48 on technical nats a token\n',
      'recovery step 16, 32,768 tokens: loss 0.61235, divergence 0.95 on definitions, 0.16 on lists, 0.45 on technical nats a token\n',
    ].join(''),
  )
})

test('the log has a line for each step of gates', () => {
  let log = ''
  const story = new RunStory((text) => {
    log += text
  })
  story.add({
    type: 'gates',
    step: { step: 7, divergence: 1.234567, kept: [10, 20], attentionRemoved: [1], closed: 12, reopened: 9 },
  })
  expect(log).toMatch(/ s {2}step 7: divergence 1\.2346, 12 gates closed, 9 reopened\n$/)
})
