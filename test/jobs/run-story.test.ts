import { expect, test } from 'vitest'
import { RunStory } from '#jobs/run-story.ts'

test('the log names tasks by their titles, and gives its time in words', () => {
  let log = ''
  const story = new RunStory((text) => {
    log += text
  })
  story.begin(1)
  story.tell({ type: 'measure', measure: { name: 'accuracy', dataset: 'arc_easy', value: 0.2, unit: 'share' } })
  expect(log).toMatch(/^--- attempt 1, \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC\n +0\.\d s {2}accuracy, ARC easy: 20 %\n$/)
})
