import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Browser, Page, Route } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { referenceModel } from '../fixtures/reference.ts'
import { findAccessibilityFaults } from './accessibility.ts'
import { launchBrowser } from './browser.ts'
import { eventually } from './eventually.ts'
import { go, intercept, openScreen } from './screens.ts'
import { timedMachine } from './timed-machine.ts'
import { startWorkbench, type Workbench } from './workbench.ts'

// A field that a person typed in is never changed by an answer that arrives later. Here, answers arrive when the test lets them.

let workbench: Workbench
let browser: Browser
let page: Page

beforeAll(async () => {
  workbench = await startWorkbench({ prepare: timedMachine })
  browser = await launchBrowser()
  await workbench.call('models.add', { path: await referenceModel('stories260k'), mode: 'link' })
  page = (await openScreen(browser, workbench)).page
})

afterAll(async () => {
  await browser?.close()
  await workbench?.close()
})

/** Holds every answer of a call. `release` lets them go, once one was asked for whose request has this text. */
async function hold(call: string) {
  const held: Route[] = []
  const stop = await intercept(page, call, (route) => void held.push(route))
  return {
    asked: (text = '') =>
      eventually(
        () => held.map((route) => route.request().postData() ?? '').filter((body) => body.includes(text)),
        (found) => found.length > 0,
        20_000,
      ),
    async release() {
      stop()
      const answered = page.waitForResponse((response) => response.url().endsWith(call))
      for (const route of held) await route.continue()
      await answered
    },
  }
}

const name = () => page.getByRole('textbox', { name: 'Name', exact: true })
const number = (label: string | RegExp) => page.getByRole('spinbutton', { name: label }).first()
const ready = () =>
  page
    .getByRole('complementary', { name: 'Preview' })
    .getByText(/^\d+ runs/)
    .waitFor()

test('the form can be filled in before the presets are known, and keeps what was typed', async () => {
  const presets = await hold('experiments.presets')
  await go(page, '#/new')
  await name().fill('My name')
  await page.getByRole('textbox', { name: 'Seeds' }).fill('3-5')
  await page.getByRole('checkbox', { name: 'Answers to the two prompts of the paper' }).check()
  await presets.asked()
  await expect.poll(() => page.getByRole('button', { name: 'Add to the queue' }).isDisabled()).toBe(true)
  await presets.release()
  await ready()
  await expect.poll(() => name().inputValue()).toBe('My name')
  await expect.poll(() => page.getByRole('textbox', { name: 'Seeds' }).inputValue()).toBe('3-5')
  await expect.poll(() => page.getByRole('checkbox', { name: 'Answers to the two prompts of the paper' }).isChecked()).toBe(true)
  await page.getByRole('complementary', { name: 'Preview' }).getByText('13 runs').waitFor()
})

test('another model’s texts arrive late and leave the typed lengths and numbers of windows alone', async () => {
  await page.getByRole('button', { name: 'Start over' }).click()
  const presets = await hold('experiments.presets')
  await page.getByRole('checkbox', { name: /^stories260k/ }).check()
  await presets.asked()
  await number('Window length').fill('96')
  await number(/^Windows/).fill('7')
  await number(/at most.*windows/).fill('3')
  // Typed but not yet left when the answer arrives.
  await number(/^Window.*tokens$/).fill('112')
  await presets.release()
  const text = page.getByRole('combobox', { name: 'Calibration data' })
  await eventually(
    () => text.locator('option:checked').textContent(),
    (title) => title === 'Mixed text',
    20_000,
  )
  const values = () =>
    Promise.all(['Window length', /^Windows/, /at most.*windows/, /^Window.*tokens$/].map((label) => number(label).inputValue()))
  expect(await values()).toEqual(['96', '7', '3', '112'])
  await number(/^Window.*tokens$/).blur()
  await ready()
  expect(await values()).toEqual(['96', '7', '3', '112'])
  await page.getByRole('button', { name: 'Start over' }).click()
})

test('a preset fills in the form and keeps the typed name', async () => {
  await name().fill('Mine')
  await page.getByRole('button', { name: 'Reproduce the paper' }).click()
  await expect.poll(() => name().inputValue()).toBe('Mine')
  await page.getByRole('button', { name: 'Start over' }).click()
})

test('a number can be typed character by character', async () => {
  await page.getByRole('button', { name: /^Options of 2SSP$/ }).click()
  const alpha = page.getByRole('textbox', { name: /alpha/i }).first()
  await alpha.fill('')
  await alpha.pressSequentially('15e-1')
  await expect.poll(() => alpha.inputValue()).toBe('15e-1')
  await alpha.blur()
  await expect.poll(() => alpha.inputValue()).toBe('1.5')
})

test('two tabs keep their own drafts', async () => {
  await name().fill('In the first tab')
  const other = await page.context().newPage()
  await other.goto(workbench.printed)
  await go(other, '#/new')
  await other.getByRole('textbox', { name: 'Name', exact: true }).fill('In the second tab')
  await page.reload()
  await expect.poll(() => name().inputValue()).toBe('In the first tab')
  await other.close()
  await page.getByRole('button', { name: 'Start over' }).click()
})

test('a typed size is asked for as it is, and kept over a reload', async () => {
  await go(page, '#/new')
  await page.reload()
  const size = page.getByRole('spinbutton', { name: 'File size in MB' })
  await page.getByText(/^\d+ runs, .* against \d unpruned file/).waitFor()
  const answers = await hold('experiments.quick')
  await size.fill('0.1')
  await size.blur()
  await answers.asked()
  await answers.release()
  await page.getByText('No file of 0.1 MB can be made.', { exact: false }).waitFor()
  expect(await size.inputValue()).toBe('0.1')
  await size.fill('5')
  await page.reload()
  await expect.poll(() => size.inputValue()).toBe('5')
  const later = await hold('experiments.quick')
  await size.fill('4')
  await page.getByRole('button', { name: 'Quick answer' }).click()
  // The question about the size before may be held too. Letting that go alone would race with this one.
  await later.asked('4000000')
  await later.release()
  await page.getByRole('heading', { level: 1, name: /^Sample model at 4 MB/ }).waitFor()
})

test('a refused number is named, also 0 and below, and what was previewed before it is not shown as its own', async () => {
  await go(page, '#/new')
  await ready()
  const size = page.getByRole('spinbutton', { name: 'File size in MB' })
  for (const megabytes of ['0', '-1', '999999999']) {
    await size.fill(megabytes)
    await size.blur()
    await page.getByText(new RegExp(`(No file of|smaller than) ${megabytes} MB`)).waitFor()
    expect(await size.inputValue()).toBe(megabytes)
  }
  await number(/^Windows/).fill('0')
  await number(/^Windows/).blur()
  const preview = page.getByRole('complementary', { name: 'Preview' })
  await preview.getByText('Windows of Calibration data is 0; it must be more than 0.').waitFor()
  await preview.getByText(/^\d+ runs/).waitFor({ state: 'detached' })
  await page.getByRole('button', { name: 'Start over' }).click()
  await ready()
})

test('a copy of an experiment that does not exist is refused once, and the form can be used, also under another address', async () => {
  await go(page, '#/new?from=nope')
  await page.getByText('There is no experiment nope.').waitFor()
  await ready()
  await go(page, '#/new')
  await page.getByText('There is no experiment nope.').waitFor({ state: 'detached' })
  await ready()
  await go(page, '#/nowhere')
  await page.getByRole('heading', { level: 1, name: 'Models' }).waitFor()
  expect(await page.title()).toBe('Models · Espalier')
})

test('a path is taken while it is typed, without leaving the field, and a folder is chosen by browsing', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'espalier-my code-'))
  await mkdir(join(folder, 'src'))
  await writeFile(join(folder, 'src', 'main.py'), 'def add(a, b):\n    return a + b\n'.repeat(400))
  await go(page, '#/new')
  await page.reload()
  const questions = page.getByRole('region', { name: 'Three questions' })
  await questions.getByText('Files of my own').click()
  const path = questions.getByRole('textbox', { name: 'Your files' })
  await questions.getByText('Name your files first').waitFor()
  await path.pressSequentially(`${folder} `)
  await questions.getByText('Name your files first').waitFor({ state: 'detached' })
  await questions.getByRole('blockquote').waitFor()
  expect(await path.inputValue(), 'the space of the next word').toBe(`${folder} `)
  // The browser starts in the user's own folder.
  const stop = await intercept(page, 'files.browse', (route) =>
    route.continue({ postData: JSON.stringify({ folder: route.request().postDataJSON().folder ?? folder }) }),
  )
  await questions.getByRole('button', { name: 'Browse …' }).click()
  const dialog = page.getByRole('dialog', { name: 'Your files' })
  await dialog.getByRole('button', { name: 'src' }).click()
  await dialog.getByRole('button', { name: 'main.py' }).waitFor()
  expect(await findAccessibilityFaults(page, ['light', 'dark'])).toEqual([])
  await dialog.getByRole('button', { name: 'Use this folder' }).click()
  await expect.poll(() => path.inputValue()).toBe(join(folder, 'src'))
  stop()
  await questions.getByText('General text').click()
  await rm(folder, { recursive: true, force: true })
})
