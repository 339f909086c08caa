import { afterEach, expect, test, vi } from 'vitest'
import { FolderPlace } from '../../../src-renderer/lib/folder-place.svelte.ts'

afterEach(() => vi.unstubAllGlobals())

test('browsing starts at the folder of a path, at that of a file, and otherwise at the user’s own', async () => {
  vi.stubGlobal('sessionStorage', { getItem: () => null, setItem: () => undefined, removeItem: () => undefined })
  vi.stubGlobal('fetch', async (_: string, { body }: { body: string }) => {
    const { folder = '/home/me' } = JSON.parse(body)
    return ['/home/me', '/code', '/code/src'].includes(folder)
      ? Response.json({ folder, parent: null, entries: [] })
      : Response.json({ code: 'not-found', message: 'It does not exist.' }, { status: 404 })
  })
  const startAt = async (path: string) => {
    const place = new FolderPlace()
    await place.start(path)
    return [place.found?.folder, place.problem]
  }
  expect(await startAt('')).toEqual(['/home/me', ''])
  expect(await startAt('/code/src')).toEqual(['/code/src', ''])
  expect(await startAt('/code/src/main.py')).toEqual(['/code/src', ''])
  expect(await startAt('/no/such/folder')).toEqual(['/home/me', ''])
})
