import { chmodSync, mkdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { closeToOthers, findTrustProblem } from '#runtime/trusted.mjs'
import { scratchOfTest } from '../fixtures/scratch.ts'

/** A cache folder with a runtime, and a link to it as people make one whose home is small. */
function makeLinked() {
  const folder = scratchOfTest('trusted')
  const real = join(folder, 'large-disk')
  mkdirSync(join(real, 'runtime', 'tensorflow'), { recursive: true, mode: 0o700 })
  writeFileSync(join(real, 'runtime', 'tensorflow', 'library.so'), '')
  symlinkSync(real, join(folder, 'cache'))
  return { real, runtime: join(folder, 'cache', 'runtime', 'tensorflow') }
}

// On Windows, links and modes differ.
test.skipIf(!process.getuid)('a cache folder that is a link is as safe as what it leads to', () => {
  const { real, runtime } = makeLinked()
  expect(findTrustProblem(runtime)).toBeUndefined()
  chmodSync(real, 0o777)
  expect(findTrustProblem(runtime)).toContain(`${real} can be written by other users`)
  chmodSync(real, 0o700)
  chmodSync(join(real, 'runtime', 'tensorflow', 'library.so'), 0o666)
  expect(findTrustProblem(runtime)).toContain('library.so can be written by other users')
})

test.skipIf(!process.getuid)('closing a linked folder to others changes no more than that', () => {
  const { real, runtime } = makeLinked()
  chmodSync(join(real, 'runtime', 'tensorflow', 'library.so'), 0o666)
  closeToOthers(runtime)
  expect(statSync(real).mode & 0o777).toBe(0o700)
  expect(statSync(join(runtime, 'library.so')).mode & 0o777).toBe(0o644)
})
