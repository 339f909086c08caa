import { expect, test } from 'vitest'
import { z } from 'zod'
import { api, type CallName, events, isCallName } from '#contract/api.ts'

const callNames = Object.keys(api) as CallName[]

test('every call and event can be described as JSON schema, for OpenAPI', () => {
  // As in `openapi.ts`: a list of token ids is checked as a whole, and its metadata describe it.
  const unrepresentable = 'any'
  for (const name of callNames) {
    expect(z.toJSONSchema(api[name].input, { io: 'input', unrepresentable }), name).toHaveProperty('type', 'object')
    z.toJSONSchema(api[name].output)
    expect(api[name].summary.endsWith('.'), name).toBe(true)
  }
  for (const schema of Object.values(events)) z.toJSONSchema(schema)
})

test('only own names are calls', () => {
  expect(['models.list', 'constructor', 'toString', '__proto__', ''].map(isCallName)).toEqual([true, false, false, false, false])
})

test('inputs with defaults may be left out', () => {
  expect(api['runs.query'].input.parse({})).toMatchObject({
    offset: 0,
    limit: 100,
    archived: 'no',
    sort: [{ field: 'createdAt', direction: 'descending' }],
  })
  expect(
    api['playground.start'].input.parse({ columns: [{ model: 'model-1' }], prompts: [{ text: 'x' }], settings: {} }).settings,
  ).toMatchObject({ seed: 0, template: 'raw', decoding: { kind: 'sampling' } })
})

test('a polluting key in options stays an option and touches no prototype', () => {
  const text =
    '{"model":"model-1","request":{"method":"2ssp","amount":{"sparsity":0.5},"options":{"__proto__":{"polluted":1},"constructor":2},"seed":0,"measures":[],"backend":"auto"}}'
  api['runs.create'].input.safeParse(JSON.parse(text))
  expect(({} as { polluted?: number }).polluted).toBeUndefined()
})
