import { cpSync, readFileSync, renameSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeEach, expect, test } from 'vitest'
import { modelContents, quickKeyOf } from '#engine/checkpoint/fingerprint.ts'
import { modelTexts } from '#engine/checkpoint/model-files.ts'
import { otherModel } from '../../fixtures/other-model.ts'
import { referenceModel } from '../../fixtures/reference.ts'
import { scratchOfTest } from '../../fixtures/scratch.ts'

let home: string
const at = (name: string) => join(home, name)
beforeEach(async () => {
  home = scratchOfTest('fingerprint')
  cpSync(await referenceModel('stories260k'), at('model'), { recursive: true })
})

test('a copy elsewhere has the same fingerprint and another quick key; other weights of the same size have another fingerprint', async () => {
  cpSync(at('model'), at('copy'), { recursive: true })
  otherModel(at('model'), at('other'))
  expect(await modelContents(at('copy'))).toBe(await modelContents(at('model')))
  expect(await quickKeyOf(at('copy'))).not.toBe(await quickKeyOf(at('model')))
  expect(await modelContents(at('other'))).not.toBe(await modelContents(at('model')))
  expect(await quickKeyOf(at('model'))).toBe(await quickKeyOf(at('model')))
})

test('the quick key changes when a file is written with its old size and time, moved away or added', async () => {
  const keys = [await quickKeyOf(at('model'))]
  const file = at('model/model.safetensors')
  const { atime, mtime } = statSync(file)
  writeFileSync(file, readFileSync(file))
  utimesSync(file, atime, mtime)
  keys.push(await quickKeyOf(at('model')))
  renameSync(file, at('model/away'))
  keys.push(await quickKeyOf(at('model')))
  writeFileSync(join(at('model'), modelTexts.chatTemplate), '{{ messages }}')
  keys.push(await quickKeyOf(at('model')))
  expect(new Set(keys).size).toBe(4)
})

test('files that no number depends on do not change a fingerprint', async () => {
  const before = [await quickKeyOf(at('model')), await modelContents(at('model'))]
  writeFileSync(at('model/README.md'), 'notes')
  writeFileSync(at('model/notes.json'), '{}')
  expect([await quickKeyOf(at('model')), await modelContents(at('model'))]).toEqual(before)
})

test('reading a model reports how far it is, can be stopped, and fails when the model is written meanwhile', async () => {
  const reported: [number, number][] = []
  await modelContents(at('model'), { progress: (done, total) => void reported.push([done, total]) })
  const [done, total] = reported.at(-1) as [number, number]
  expect(done).toBe(total)
  expect(total).toBeGreaterThan(statSync(at('model/model.safetensors')).size)
  await expect(modelContents(at('model'), { signal: AbortSignal.abort(new Error('stopped')) })).rejects.toThrow('stopped')
  const progress = () => writeFileSync(at('model/config.json'), readFileSync(at('model/config.json'), 'utf8').replace('{', '{ '))
  await expect(modelContents(at('model'), { progress })).rejects.toMatchObject({ code: 'conflict' })
})

test('there is no fingerprint where there is no model', async () => {
  await expect(quickKeyOf(at('gone'))).rejects.toMatchObject({ code: 'not-found' })
})
