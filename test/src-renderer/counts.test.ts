import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'

const root = join(import.meta.dirname, '../../src-renderer')
const counted =
  'blocks|heads|runs|neurons|experts|tokens|windows|steps|candidates|survivors|pairs|components|models|seeds|questions|votes|prompts|variants|experiments|columns'

test('what follows a number on a screen is written by formatPlural: no screen says 1 neurons', () => {
  const byHand = new RegExp(String.raw`\}(?:</\w+>)? (?!of )(?:[a-z]+ )?(?:${counted})\b(?![=:?]|\.\w)`, 'g')
  const files = readdirSync(root, { recursive: true, encoding: 'utf8' }).filter((file) => /\.(svelte|ts)$/.test(file))
  expect(files.length).toBeGreaterThan(200)
  const found = files.flatMap((file) =>
    [...readFileSync(join(root, file), 'utf8').matchAll(byHand)].map(({ 0: text }) => `${file}: ${text}`),
  )
  expect(found).toEqual([])
})
