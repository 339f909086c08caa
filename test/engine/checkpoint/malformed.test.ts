import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { EspalierError } from '#contract/errors.ts'
import { openCheckpoint } from '#engine/checkpoint/open-checkpoint.ts'
import { openModel } from '#engine/model/model.ts'
import { scratchFolder } from '../../fixtures/scratch.ts'
import { malformedCheckpoints, malformedModels } from './malformed.ts'
import { makeValidModel, writeModelFiles } from './valid-model.ts'

const place = scratchFolder('malformed')

describe('a malformed checkpoint', () => {
  it('is a damaged copy of a sound one, which opens', async () => {
    await writeModelFiles(join(place, 'valid'), makeValidModel())
    const checkpoint = await openCheckpoint(join(place, 'valid'))
    expect(checkpoint.tensors.size).toBe(Object.keys(makeValidModel().tensors).length)
    await checkpoint.close()
  })

  for (const [number, { name, make, says }] of malformedCheckpoints.entries()) {
    it(`gives one error that says what is wrong: ${name}`, async () => {
      const folder = join(place, `case-${number}`)
      await make(folder)
      const error = await openCheckpoint(folder).then(
        () => undefined,
        (thrown: unknown) => thrown,
      )
      expect(error).toBeInstanceOf(EspalierError)
      const { message } = error as EspalierError
      expect(message).toMatch(says)
      expect(message).toMatch(/\.$/)
      expect(message).not.toContain('\n')
    })
  }

  it('whose files are sound is left to the model', async () => {
    for (const [number, { make, says }] of malformedModels.entries()) {
      const folder = join(place, `model-${number}`)
      await make(folder)
      const checkpoint = await openCheckpoint(folder)
      expect(checkpoint.tensors.size).toBeGreaterThan(0)
      await checkpoint.close()
      await expect(openModel(folder)).rejects.toThrow(says)
    }
  })
})
