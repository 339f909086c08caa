import { existsSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { root } from './node24.mjs'
import { commandOf, runHere } from './tools.mjs'

/**
 * How many tests passed, failed and were not run on this machine.
 * @typedef {{ passed: number, failed: number, skipped: number }} Tally
 */

/**
 * What vitest's JSON reporter writes, as far as it is counted here.
 * @typedef {{ numPassedTests: number, numFailedTests: number, numPendingTests: number, numTodoTests: number, testResults: { status: string, assertionResults: { status: string }[] }[] }} VitestReport
 */

/** @param {boolean} hasPassed @returns {Tally} */
export const oneTest = (hasPassed) => ({ passed: hasPassed ? 1 : 0, failed: hasPassed ? 0 : 1, skipped: 0 })

/** @param {Tally} one @param {Tally} other @returns {Tally} */
export const addTallies = (one, other) => ({
  passed: one.passed + other.passed,
  failed: one.failed + other.failed,
  skipped: one.skipped + other.skipped,
})

/** @param {Tally} tally */
export const formatTally = ({ passed, failed, skipped }) => `${passed} passed, ${failed} failed, ${skipped} skipped`

/**
 * Runs vitest in this terminal and counts its tests from the report it writes beside.
 * @param {string} node
 * @param {string[]} given
 * @returns {Promise<Tally>}
 */
export async function runVitest(node, given) {
  const report = join(root, 'out', 'vitest.json')
  rmSync(report, { force: true })
  const args = [commandOf('vitest'), 'run', '--reporter=default', '--reporter=json', `--outputFile.json=${report}`, ...given]
  const code = await runHere(node, args)
  return existsSync(report) ? countTests(JSON.parse(readFileSync(report, 'utf8')), code) : oneTest(false)
}

/**
 * @param {VitestReport} report
 * @param {number} code vitest's exit code
 * @returns {Tally}
 */
export function countTests(report, code) {
  // A file that could not be loaded has no tests, but is a failure.
  const broken = report.testResults.filter(
    (file) => file.status === 'failed' && !file.assertionResults.some((one) => one.status === 'failed'),
  )
  const failed = report.numFailedTests + broken.length
  const skipped = report.numPendingTests + report.numTodoTests
  return { passed: report.numPassedTests, failed: failed === 0 && code !== 0 ? 1 : failed, skipped }
}
