import { expect, test } from 'vitest'
import { api, type CallName } from '#contract/api.ts'
import { openApiDocument } from '#server/openapi.ts'

const callNames = Object.keys(api) as CallName[]

type Json = { [key: string]: Json } & Json[]

const document = openApiDocument(api) as unknown as Json

test('every call of the contract is described, with its input, its output and its codes', () => {
  expect(Object.keys(document.paths ?? {})).toEqual(callNames.map((name) => `/api/${name}`))
  for (const name of callNames) {
    const call = document.paths?.[`/api/${name}`]?.post
    expect(call?.summary, name).toBeTruthy()
    expect(call?.requestBody?.content?.['application/json']?.schema?.type, name).toBe('object')
    expect(call?.responses?.['200']?.content?.['application/json']?.schema, name).toBeDefined()
  }
})

test('fields with a default may be left out of the input and are always in the output', () => {
  const create = document.paths?.['/api/experiments.create']?.post
  const input = create?.requestBody?.content?.['application/json']?.schema
  expect(input?.required).toContain('grid')
  expect(input?.required).not.toContain('start')
  expect(input?.properties?.start?.default).toBe('queue')
})

test('every reference leads somewhere and the document is plain JSON', () => {
  const text = JSON.stringify(document)
  const references = [...text.matchAll(/"\$ref":"#\/([^"]+)"/g)].map((match) => match[1] as string)
  for (const reference of references) {
    const target = reference.split('/').reduce<unknown>((value, key) => (value as Json | undefined)?.[key], document)
    expect(target, reference).toBeDefined()
  }
})
