import { memory } from '@tensorflow/tfjs-core'
import { expect, test } from 'vitest'
import { logProbabilities } from '#engine/evaluation/generation/probabilities.ts'
import { scoreContinuations } from '#engine/evaluation/tasks/score.ts'
import { likelihoodOf } from '#engine/evaluation/view-likelihood.ts'
import { denseView } from '#engine/model/views/view.ts'
import { logitsOf } from '../model/logits.ts'
import { openReference } from '../pruning/running.ts'

const { signal } = new AbortController()
const open = openReference('mistral-window')

test('continuations score what whole passes over prefix and continuation give, and leave no tensors', async () => {
  const { model, calibration } = open()
  const view = denseView(model)
  const window = calibration[0] as Int32Array
  const other = calibration[1] as Int32Array
  // Prefixes of equal and different lengths; continuations of one token, of many, and of different lengths after the same prefix.
  const requests = [
    { prefix: window.slice(0, 9), continuations: [window.slice(9, 10), window.slice(9, 14), other.slice(0, 3)] },
    { prefix: other.slice(0, 9), continuations: [other.slice(9, 14)] },
    { prefix: window.slice(0, 1), continuations: [window.slice(1, 2)] },
    { prefix: other.slice(0, 70), continuations: [other.slice(70, 90), window.slice(0, 2)] },
  ]
  const expected: number[][] = []
  for (const { prefix, continuations } of requests) {
    const own: number[] = []
    for (const ids of continuations) {
      const logits = await logitsOf(view, Int32Array.from([...prefix, ...ids]))
      own.push([...ids].reduce((sum, id, i) => sum + (logProbabilities(logits[prefix.length - 1 + i] ?? [])[id] ?? Number.NaN), 0))
    }
    expected.push(own)
  }
  const before = memory().numTensors
  const likelihood = likelihoodOf(view)
  const scores = await scoreContinuations(likelihood, requests, signal)
  likelihood.dispose()
  expect(memory().numTensors, 'tensors left behind').toBe(before)
  expect(scores.map((row) => row.length)).toEqual([3, 1, 1, 2])
  for (const [index, row] of scores.entries()) {
    for (const [place, score] of row.entries()) expect(score).toBeCloseTo(expected[index]?.[place] ?? Number.NaN, 4)
  }
})
