import { join } from 'node:path'
import { expect, it } from 'vitest'
import { openBackend } from '#engine/backend/backend.ts'
import { measureView } from '#engine/evaluation/measure.ts'
import { openModel } from '#engine/model/model.ts'
import { denseView } from '#engine/model/views/view.ts'
import type { StepRequest } from '#engine/steps/step-name.ts'
import { openTokenizer } from '#engine/tokenizer/tokenizer.ts'
import { resources } from '#runtime/resources.ts'

it('questions start with the begin token in families that need it, as steps of their own', async () => {
  await openBackend('auto')
  const path = join(resources, 'sample-model')
  const model = await openModel(path)
  const asked: StepRequest[] = []
  const scoresOf = async (spec: { contextLength: number; questionsBegin?: true }) => {
    const { questions } = await measureView(
      { kind: 'tasks', tasks: ['arc_easy'], folder: join(resources, 'questions'), limit: 2 },
      {
        view: async () => denseView(model),
        spec,
        tokenizer: await openTokenizer(path),
        signal: new AbortController().signal,
        progress: () => undefined,
        step: (request, compute) => {
          asked.push(request)
          return compute()
        },
        read: () => Promise.reject(new Error('No text is read.')),
      },
    )
    return questions[0]?.questions.map(({ scores }) => scores)
  }
  const { contextLength } = model.spec
  const [plain, begun] = [await scoresOf({ contextLength }), await scoresOf({ contextLength, questionsBegin: true })]
  expect(begun).not.toEqual(plain)
  expect(asked[1]?.on).toEqual(Object.assign({ begins: true }, asked[0]?.on))
  await model.close()
})
