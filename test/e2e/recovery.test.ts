import { cp, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Page } from 'playwright-core'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import type { RunEntry } from '#contract/runs/runs.ts'
import { referenceModel } from '../fixtures/reference.ts'
import { scratchFolder } from '../fixtures/scratch.ts'
import { eventually } from './eventually.ts'
import { type Opened, openOnScreen } from './opened.ts'
import { go, type Screen } from './screens.ts'

vi.setConfig({ testTimeout: 400_000 })

const models = scratchFolder('models')
let opened: Opened
let workbench: Opened['workbench']
let page: Page
let screen: Screen

const runs = async () => (await workbench.call('runs.query', {})).rows

/** The runs once so many of them are done. */
const done = (count: number) => eventually(runs, (rows) => rows.filter(({ status }) => status === 'done').length === count, 350_000)

const detailOf = ({ id }: RunEntry) => workbench.call('runs.get', { id })

beforeAll(async () => {
  opened = await openOnScreen()
  ;({ workbench, screen } = opened)
  page = screen.page
}, 300_000)

afterAll(() => opened?.close())

test('an experiment is set up with and without recovery; its curves are live, and its panel says which weights were taken', async () => {
  // Two blocks, much smaller than the sample model: what is trained here is what takes the time.
  const folder = join(models, 'two-blocks')
  await cp(await referenceModel('stories260k'), folder, { recursive: true })
  const config = JSON.parse(await readFile(join(folder, 'config.json'), 'utf8'))
  await writeFile(join(folder, 'config.json'), JSON.stringify({ ...config, num_hidden_layers: 2 }))
  const { id } = await workbench.call('models.add', { path: folder })
  await go(page, `#/new?model=${id}`)
  // One method at one sparsity: each pair is a training.
  await page.getByRole('checkbox', { name: /^Gates/ }).uncheck()
  await page.getByRole('button', { name: 'Remove 25 %' }).click()
  await page.getByRole('checkbox', { name: /^Train/ }).check()
  await page.getByLabel('Training tokens').selectOption('32768')
  // The dense model may write the text.
  await expect.poll(() => page.getByLabel('Recovery text').locator('option').allTextContents()).toContain('Written by the dense model')
  await page.getByRole('textbox', { name: 'Name' }).fill('Recovered or not')
  const queue = page.getByRole('button', { name: 'Add to the queue' })
  await eventually(
    () => queue.isDisabled(),
    (disabled) => !disabled,
    60_000,
  )
  await queue.click()
  const all = await eventually(runs, (rows) => rows.some(({ name }) => name.includes('recovered')), 30_000)
  const recovered = all.find(({ name }) => name.includes('recovered')) as RunEntry
  expect(recovered.name).toContain('recovered with 32,768 tokens')
  const pruned = all.filter(({ method }) => method !== 'dense')
  expect(pruned.filter(({ name }) => name.includes('recovered')).length).toBe(pruned.length / 2)
  await eventually(
    () => detailOf(recovered),
    ({ recoveryPoints }) => recoveryPoints.length > 1,
    350_000,
  )
  await go(page, `#/run/${recovered.id}`)
  await page.getByRole('tab', { name: 'Recovery' }).click()
  await page.getByText('Divergence from the dense model').first().waitFor()
  await page
    .getByText(/^held out: /)
    .first()
    .waitFor()
  await done(all.length)
  await page.getByText('million parameters were trained in').waitFor()
  const { recovery } = await detailOf(recovered)
  const outcome = (recovery?.best ?? 0) > 0 ? 'The weights are those after' : 'weights are unchanged'
  await page.getByText(outcome).waitFor()
  expect(screen.faults).toEqual([])
})

test('a finished run is recovered from its page into a run of its own', async () => {
  const before = await runs()
  const pruned = before.find(({ method, name }) => method !== 'dense' && !name.includes('recovered')) as RunEntry
  await go(page, `#/run/${pruned.id}`)
  await page.getByRole('button', { name: 'Recover this run' }).click()
  const dialog = page.getByRole('dialog')
  await dialog.getByLabel('Training tokens').selectOption('32768')
  await dialog.getByText(/^Takes (about|under|\d)/).waitFor()
  await dialog.getByRole('button', { name: 'Recover', exact: true }).click()
  const rows = await done(before.length + 1)
  const made = rows.find(({ parent }) => parent === pruned.id) as RunEntry
  const { request, recovery, plan } = await detailOf(made)
  expect(request.recover?.amount).toEqual({ tokens: 32_768 })
  expect(recovery?.points.length).toBeGreaterThan(1)
  expect(plan?.finalNorm).toBe((recovery?.best ?? 0) > 0 ? 'replaced' : undefined)
  expect(screen.faults).toEqual([])
})
