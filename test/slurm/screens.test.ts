import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { findAccessibilityFaults } from '../e2e/accessibility.ts'
import { launchBrowser } from '../e2e/browser.ts'
import { eventually } from '../e2e/eventually.ts'
import { go, openScreen, type Screen } from '../e2e/screens.ts'
import { timedMachine } from '../e2e/timed-machine.ts'
import { startWorkbench, type Workbench } from '../e2e/workbench.ts'
import { hasSlurm, type SlurmDaemons, startSlurm } from './slurm-daemons.ts'

describe.skipIf(!hasSlurm())('the screens over a real Slurm', () => {
  let slurm: SlurmDaemons
  let browser: Browser
  let workbench: Workbench
  let screen: Screen

  beforeAll(async () => {
    slurm = await startSlurm()
    Object.assign(process.env, slurm.environment)
    ;[browser, workbench] = await Promise.all([launchBrowser(), startWorkbench({ prepare: timedMachine })])
    screen = await openScreen(browser, workbench)
  })

  afterAll(async () => {
    await browser?.close()
    await workbench?.close()
    await slurm?.stop()
  })

  test('a cluster is added, shown as a batch script and checked, and an experiment is sent there, where the queue shows its jobs', async () => {
    const { page, faults } = screen
    await go(page, '#/settings')
    await page.getByRole('button', { name: 'Add cluster …' }).click()
    const dialog = page.getByRole('dialog', { name: 'Slurm cluster' })
    await dialog.getByLabel('Name').fill('lab; rm')
    await dialog.getByLabel('Shared folder').fill(slurm.shared)
    await dialog.getByRole('button', { name: 'Save' }).click()
    await dialog.getByText('lower-case letters, digits and dashes').last().waitFor()
    await dialog.getByLabel('Name').fill('lab')
    await dialog.getByRole('button', { name: 'Show batch script' }).click()
    await dialog.getByRole('region', { name: 'Batch script' }).waitFor()
    await expect.poll(() => dialog.getByRole('region', { name: 'Batch script' }).textContent()).toContain('#SBATCH --array=0-1')
    expect(await findAccessibilityFaults(page)).toEqual([])
    await dialog.getByRole('button', { name: 'Save' }).click()
    await page.getByRole('button', { name: 'Check lab' }).click()
    const findings = page.getByRole('table', { name: 'Checks of lab' })
    await findings.getByText('a node').waitFor()
    await expect.poll(() => findings.getByText('does not work').count()).toBe(0)

    await go(page, '#/new')
    // Searches of a few seconds each, so that the queue is read while jobs run and wait.
    for (const search of [0, 1])
      await page
        .getByRole('checkbox', { name: /^EvoPress/ })
        .nth(search)
        .check()
    await page.locator('summary', { hasText: 'Machine' }).click()
    await page.getByLabel('Where').selectOption('lab')
    await page.getByText('Times are for this machine. The speed of lab is unknown.').waitFor()
    await page.getByRole('button', { name: 'Add to the queue' }).click()
    await page.waitForURL(/#\/experiments\//)
    await go(page, '#/runs')
    await page
      .getByText(/lab, n[12], job \d+_\d+/)
      .first()
      .waitFor()
    // The grid has more runs than the cluster has nodes.
    await page
      .getByText(/lab, job \d+_\d+: (Resources|Priority)/)
      .first()
      .waitFor()
    const queue = await workbench.call('queue.get', {})
    expect(queue.runs.every(({ executor }) => executor === 'lab')).toBe(true)
    await workbench.call('runs.cancel', { ids: queue.runs.map(({ id }) => id) })
    await eventually(
      () => slurm.ask('squeue', '--noheader'),
      (text) => text.trim() === '',
      60_000,
    )
    expect(faults).toEqual([])
  })
})
