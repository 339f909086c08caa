import { expect, test } from 'vitest'
import { z } from 'zod'
import { api, type CallName } from '#contract/api.ts'
import { innerSchemas, placesIn, readPlace, writePlace } from '#contract/places.ts'

const callNames = Object.keys(api) as CallName[]

/** Names of fields that hold a file or folder of this machine. */
const placeName = /path|folder|file|source|directory|cache|destination/i

/** Fields with such a name that are never opened. */
const noPlaces = new Set([
  // Only compared with the sources of the library's models.
  'runs.replay.description.model.source',
  'runs.foresee.description.model.source',
  // Tensor files are found by size and hash.
  'runs.replay.description.model.description.plan.tensors.*.file',
  'runs.foresee.description.model.description.plan.tensors.*.file',
])

/** Every text field of a schema, with its path and whether it is marked. */
function textFields(schema: z.ZodType, way: string, depth = 0): { way: string; marked: boolean }[] {
  if (depth > 12) return []
  if (schema.meta()?.place !== undefined) return [{ way, marked: true }]
  if (schema.def.type === 'string') return [{ way, marked: false }]
  return innerSchemas(schema).flatMap(([key, inner]) => textFields(inner, key === undefined ? way : `${way}.${key}`, depth + 1))
}

const fields = callNames.flatMap((name) => textFields(api[name].input, name))

test('every field of a call that names a file or folder goes through the gate', () => {
  const named = fields.filter(({ way }) =>
    way
      .split('.')
      .slice(2)
      .some((part) => placeName.test(part)),
  )
  expect(named.filter(({ way, marked }) => !marked && !noPlaces.has(way)).map(({ way }) => way)).toEqual([])
})

test('the fields that are known to name places are found, so that the walk reaches them', () => {
  const marked = new Set(fields.flatMap(({ way, marked }) => (marked ? [way] : [])))
  for (const way of [
    'models.check.path',
    'models.add.path',
    'files.browse.folder',
    'runs.save.folder',
    'runs.checkSave.folder',
    'runs.create.request.calibration.source',
    'runs.create.request.measures.*.data.source',
    'runs.create.request.measures.*.folder',
    'experiments.create.grid.localFolder',
    'settings.update.folders.exports',
    'clusters.save.cluster.folder',
  ])
    expect(marked, way).toContain(way)
})

test('places are found in values through lists, unions and defaults, and replaced there', () => {
  const schema = z.object({
    all: z.array(
      z.union([
        z.object({ kind: z.literal('a'), at: writePlace }),
        z.object({ kind: z.literal('b'), more: z.record(z.string(), readPlace) }),
      ]),
    ),
    one: readPlace.optional().default('x'),
  })
  const value = {
    all: [
      { kind: 'a', at: '/a' },
      { kind: 'b', more: { k: '/b' } },
    ],
    one: '/c',
  }
  const found = placesIn(schema, value)
  expect(found.map(({ use, path }) => [use, path])).toEqual([
    ['write', '/a'],
    ['read', '/b'],
    ['read', '/c'],
  ])
  found[0]?.replace('/elsewhere')
  expect(value.all[0]).toEqual({ kind: 'a', at: '/elsewhere' })
})
