import { beforeAll, expect, test } from 'vitest'
import { openBackend } from '#engine/backend/backend.ts'
import { DecodingSession } from '#engine/model/decoding/session.ts'
import { openModel } from '#engine/model/model.ts'
import { denseView } from '#engine/model/views/view.ts'
import { referenceModel } from '../../../fixtures/reference.ts'
import { testedBackend } from '../../../fixtures/tested-backend.ts'
import { logitsOf, relativeError } from '../logits.ts'

beforeAll(() => openBackend(testedBackend))

// So many tokens that the cache grows twice, and weights take their smaller form on the way. gemma3 has two rotary embeddings.
test.each(['stories260k', 'gemma3'] as const)('tokens fed one by one have the logits of one pass: %s', async (name) => {
  const model = await openModel(await referenceModel(name))
  const view = denseView(model)
  const ids = Int32Array.from({ length: 140 }, (_, i) => 3 + ((i * i + 7 * i) % 250))
  const expected = await logitsOf(view, ids)
  const session = new DecodingSession(view)
  for (const [position, id] of ids.entries()) {
    // Two equal sequences for some tokens.
    const count = position >= 20 && position < 24 ? 2 : 1
    if (position === 20) session.select([0, 0])
    if (position === 24) session.select([1])
    for (const row of await session.feed(new Int32Array(count).fill(id), count))
      expect(relativeError([...row], expected[position] ?? []), `position ${position}`).toBeLessThan(1e-5)
  }
  session.dispose()
  view.dispose()
  await model.close()
})
