import { afterEach, expect, test, vi } from 'vitest'
import { ModelState } from '../../../../src-renderer/features/models/model-state.svelte.ts'
import { eventually } from '../../../eventually.ts'

afterEach(() => vi.unstubAllGlobals())

test('the page shows a measurement of its model that began elsewhere, and none of another model', async () => {
  vi.stubGlobal('sessionStorage', { getItem: () => null, setItem: () => undefined, removeItem: () => undefined })
  const measurement = (id: string, about: string, status = 'running') => ({
    id,
    kind: 'bench',
    about,
    status,
    turns: { done: 1, total: 4 },
  })
  const listed = [measurement('t1', 'a', 'done'), measurement('t2', 'b'), measurement('t3', 'a')]
  vi.stubGlobal('fetch', async (address: string) => Response.json(address.endsWith('transfers.list') ? listed : {}))
  const [page, other] = [new ModelState('a'), new ModelState('c')]
  other.refresh()
  page.refresh()
  await eventually(() => page.measuring, 'the measurement')
  expect(page.transfer).toMatchObject({ id: 't3', turns: { done: 1, total: 4 } })
  expect([other.measuring, other.transfer]).toEqual([false, null])
  // It may end while the connection is lost.
  listed.splice(2, 1, measurement('t3', 'a', 'done'))
  page.refresh()
  await eventually(() => !page.measuring, 'the end of the measurement')
})
