import { memory } from '@tensorflow/tfjs-core'
import { expect, test } from 'vitest'
import { logProbabilities } from '#engine/evaluation/generation/sampling.ts'
import { scoreContinuations } from '#engine/evaluation/tasks/score.ts'
import { likelihoodOf } from '#engine/evaluation/view-likelihood.ts'
import { openModel } from '#engine/model/model.ts'
import { denseView } from '#engine/model/views/view.ts'
import { referenceModel, referenceWindows } from '../../fixtures/reference.ts'
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

test('a model with DeltaNets gives a request the same score, whatever was scored before', async () => {
  const model = await openModel(await referenceModel('qwen3_5'))
  const view = denseView(model)
  const [window = new Int32Array(), other = new Int32Array()] = await referenceWindows('calibration')
  const requests = [
    { prefix: window.slice(0, 9), continuations: [window.slice(9, 14)] },
    { prefix: other.slice(0, 20), continuations: [other.slice(20, 22)] },
  ]
  const likelihood = likelihoodOf(view)
  const first = await likelihood.logProbabilities(requests, signal)
  const before = memory().numTensors
  expect(await likelihood.logProbabilities(requests, signal)).toEqual(first)
  expect(memory().numTensors, 'nothing is remembered').toBe(before)
  likelihood.dispose()
  await model.close()
})
