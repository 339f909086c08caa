import type { Page } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { eventually } from './eventually.ts'
import { type FirstDay, openFirstDay } from './first-day.ts'
import { settle } from './screens.ts'

let day: FirstDay
let page: Page

beforeAll(async () => {
  day = await openFirstDay('dark')
  page = day.screen.page
  await page.setViewportSize({ width: 1024, height: 768 })
  await page.emulateMedia({ reducedMotion: 'no-preference' })
})

afterAll(() => day?.close())

/** Tabs until the focus is where it was looked for, as a person does; a trap or a lost focus ends it. */
async function tabTo(name: RegExp, most = 120): Promise<void> {
  const seen: string[] = []
  for (let step = 0; step < most; step += 1) {
    await page.keyboard.press('Tab')
    const focused = await page.evaluate(() => {
      const element = document.activeElement as HTMLElement | null
      const label = element?.id ? document.querySelector(`label[for="${element.id}"]`)?.textContent : element?.closest('label')?.textContent
      return (element?.getAttribute('aria-label') ?? label ?? element?.textContent ?? '').trim()
    })
    seen.push(focused.slice(0, 40))
    if (name.test(focused)) return
  }
  throw new Error(`Tab never came to ${name}; it came to ${JSON.stringify(seen)}`)
}

async function press(...keys: string[]): Promise<void> {
  for (const key of keys) await page.keyboard.press(key)
}

/** Tabs to a field and types over what stands there. */
async function typeInto(name: RegExp, text: string): Promise<void> {
  await tabTo(name)
  await press('Control+A')
  await page.keyboard.type(text)
}

/** Tabs to a box and ticks or unticks it. */
async function tick(name: RegExp, on: boolean): Promise<void> {
  await tabTo(name)
  const now = await page.evaluate(() => (document.activeElement as HTMLInputElement).checked)
  if (now !== on) await press('Space')
}

async function addOwnModel(): Promise<void> {
  await page.getByRole('heading', { level: 1, name: 'Models' }).waitFor()
  await tabTo(/^Add a model/)
  await press('Enter')
  await page.getByRole('dialog').waitFor()
  // The dialog opens with the focus in the field of the path.
  await page.keyboard.type(day.own.model)
  await press('Tab')
  await page
    .getByRole('dialog')
    .getByRole('status')
    .getByText(/^Llama, /)
    .waitFor()
  await tabTo(/^Add$/)
  await press('Enter')
  await page.getByRole('dialog').waitFor({ state: 'hidden' })
  await page.getByRole('link', { name: 'own-model' }).waitFor()
}

/** Three methods at two sparsities on the person's own model and texts. */
async function setUpExperiment(): Promise<void> {
  await tabTo(/^own-model$/)
  await press('Enter')
  await page.getByRole('heading', { level: 1, name: 'own-model' }).waitFor()
  // The focus after its link is gone.
  await eventually(
    () => page.evaluate(() => document.activeElement?.id),
    (id) => id === 'main',
    10_000,
  )
  await tabTo(/^Prune$/)
  await press('Enter')
  await page.getByRole('button', { name: /Quick look/ }).waitFor()
  await typeInto(/^Name$/, 'By keyboard')
  await tabTo(/^Quick look/)
  await tick(/^2SSP /, true)
  await tick(/^ShortGPT /, true)
  await tick(/^Window-based /, true)
  await tick(/^Gates /, false)
  await tabTo(/^Calibration data$/)
  await press('Home')
  await page.getByRole('textbox', { name: /^Your text/ }).waitFor()
  await typeInto(/^Windows$/, '4')
  await typeInto(/^Your text/, day.own.calibration)
  for (const box of await page.getByRole('group', { name: 'Perplexity on' }).getByRole('checkbox', { checked: true }).all()) {
    const title = ((await box.locator('xpath=..').textContent()) ?? '').trim()
    await tick(new RegExp(`^${title.slice(0, 12)}`), false)
  }
  await tabTo(/^Add your own text$/)
  await press('Enter')
  await page
    .getByRole('textbox', { name: /^Your text/ })
    .nth(1)
    .waitFor()
  await tabTo(/^Your text/)
  await tabTo(/^Your text/)
  await press('Control+A')
  await page.keyboard.type(day.own.test)
  await typeInto(/^at most/, '2')
  // Until the preview shows all that was typed, the answer about a path that was typed in part may still disable the button.
  await settle(page)
  expect(await page.getByRole('button', { name: 'Add to the queue' }).isEnabled()).toBe(true)
  await tabTo(/^Add to the queue$/)
  await press('Enter')
  await page.getByRole('heading', { level: 1, name: 'By keyboard' }).waitFor()
  await page
    .getByRole('status')
    .getByText(/^7 runs queued\. Experiments · Espalier/)
    .waitFor()
}

async function compareAll(): Promise<void> {
  const runs = page.getByRole('region', { name: 'Runs of this experiment' })
  await eventually(
    () => runs.getByText('done', { exact: true }).count(),
    (count) => count === 7,
    300_000,
  )
  await tabTo(/^Compare all$/)
  await press('Enter')
  await page.getByRole('region', { name: 'Comparison table' }).waitFor()
  await tabTo(/^Differences only/)
  await press('Space')
  await eventually(
    () => page.url(),
    (url) => url.includes('only=differences'),
    3000,
  )
}

/** To the dense model and a pruned one; a token's alternatives open and close, and the focus comes back. */
async function talk(): Promise<void> {
  await press('Control+k')
  await page.keyboard.type('playground')
  await press('Enter')
  // A letter chooses among the options that are there.
  const own = page.getByRole('combobox', { name: 'Model', exact: true }).getByRole('option', { name: /^own-model/ })
  await own.waitFor({ state: 'attached' })
  await tabTo(/^Model$/)
  await press('o')
  await eventually(
    () => own.evaluate((option) => (option as HTMLOptionElement).selected),
    (selected) => selected,
    10_000,
  )
  await tabTo(/^Add pruned models$/)
  await press('Enter')
  await page.getByRole('dialog').getByRole('checkbox').first().waitFor()
  await tick(/2SSP 50/, true)
  await tabTo(/^Add$/)
  await press('Enter')
  await typeInto(/^Prompt$/, 'What is a tree? ')
  await press('Control+Enter')
  const answers = page.getByRole('group', { name: /^Answer of/ })
  await eventually(
    () => answers.nth(1).locator('[data-token]').count(),
    (count) => count > 3,
    60_000,
  )
  await tabTo(/^Answer of/)
  await press('ArrowRight')
  await page.locator('.float').waitFor()
  await press('Enter')
  await page.getByRole('dialog', { name: 'Alternatives of this token' }).waitFor()
  await press('Escape')
  await eventually(
    () => page.evaluate(() => document.activeElement?.getAttribute('aria-label') ?? ''),
    (label) => label.startsWith('Answer of'),
    3000,
  )
}

/** The focused row after each of several keys that come faster than frames: all in one task of the page. */
function rowsBeforeNextFrame(key: string, times: number): Promise<(string | null | undefined)[]> {
  return page.evaluate(
    ({ key, times }) =>
      Array.from({ length: times }, () => {
        document.activeElement?.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true, cancelable: true }))
        return document.activeElement?.getAttribute('data-row')
      }),
    { key, times },
  )
}

/** From the history to a run, along its map, and to a saved model. */
async function save(): Promise<void> {
  await press('g', 'r')
  await page.locator('tr[data-row="1"]').waitFor()
  await tabTo(/^done [A-Za-z]/)
  expect(await rowsBeforeNextFrame('ArrowDown', 3)).toEqual(['1', '2', '3'])
  expect(await rowsBeforeNextFrame('ArrowUp', 3)).toEqual(['2', '1', '0'])
  expect(await rowsBeforeNextFrame('End', 1)).toEqual(['6'])
  expect(await rowsBeforeNextFrame('Home', 1)).toEqual(['0'])
  const names: string[] = []
  while (!names.at(-1)?.startsWith('2SSP 50') && names.length < 7) {
    await press('ArrowDown')
    names.push(await page.evaluate(() => document.activeElement?.querySelector('a')?.textContent ?? ''))
  }
  expect(names.at(-1)).toMatch(/^2SSP 50/)
  await press('Enter')
  await page.getByRole('listbox', { name: /Model map/ }).waitFor()
  await tabTo(/^Block \d+/)
  const first = await page.evaluate(() => document.activeElement?.getAttribute('data-block'))
  await press('ArrowUp')
  await expect.poll(() => page.evaluate(() => document.activeElement?.getAttribute('data-block'))).toBe(String(Number(first) + 1))
  await tabTo(/^Save the model/)
  await press('Enter')
  const dialog = page.getByRole('dialog', { name: 'Save the pruned model' })
  await dialog.getByRole('checkbox', { name: /Stock/ }).waitFor()
  await dialog
    .getByRole('status')
    .getByText(/^\d+ formats to choose from$/)
    .waitFor()
  await tick(/Stock/, true)
  await typeInto(/^Name$/, 'Without a mouse')
  await tabTo(/^Save$/)
  await press('Enter')
  await eventually(
    () => page.evaluate(() => document.activeElement?.textContent),
    (text) => text === 'Close',
    10_000,
  )
  await dialog.getByText('Saved, reopened and compared.').waitFor()
  await tabTo(/^Close$/)
  await press('Enter')
  await press('g', 'm')
  await page.getByRole('link', { name: 'Without a mouse stock' }).waitFor()
}

test('the whole journey goes without a mouse, at 1024 pixels in the dark: own model, own texts, set up, run, compare, talk, save', async () => {
  await addOwnModel()
  await setUpExperiment()
  await compareAll()
  await talk()
  await save()
  expect(day.screen.faults).toEqual([])
})
