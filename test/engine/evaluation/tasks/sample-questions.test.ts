import { join } from 'node:path'
import { expect, test } from 'vitest'
import { taskIds } from '#engine/evaluation/tasks/index.ts'
import { readQuestions } from '#engine/evaluation/tasks/questions.ts'

const folder = join(import.meta.dirname, '../../../../resources/questions')

test.each(taskIds)('%s has 40 to 60 sample questions, none twice, their right answers spread evenly', async (id) => {
  const questions = await readQuestions(id, { folder })
  expect(questions.length).toBeGreaterThanOrEqual(40)
  expect(questions.length).toBeLessThanOrEqual(60)
  expect(new Set(questions.map((question) => JSON.stringify(question.requests))).size).toBe(questions.length)
  const choices = Math.max(...questions.map((question) => question.requests.flatMap((request) => request.continuations).length))
  for (let gold = 0; gold < Math.min(choices, 4); gold++) {
    const share = questions.filter((question) => question.gold === gold).length / questions.length
    expect(share).toBeGreaterThan(0.7 / Math.min(choices, 4))
  }
  for (const question of questions) {
    const texts = question.requests.flatMap((request) => request.continuations.map((continuation) => request.context + continuation))
    expect(new Set(texts).size).toBe(texts.length)
    // Short enough for a context of 256 tokens at three characters a token.
    expect(Math.max(...texts.map((text) => text.length))).toBeLessThan(500)
  }
})
