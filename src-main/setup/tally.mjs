import { existsSync, readFileSync, rmSync } from 'node:fs'
import { join, relative } from 'node:path'
import { root } from '../runtime/node24.mjs'
import { commandOf } from './tools.mjs'

/**
 * How many tests passed, failed and were skipped. Each failure has the first line of its reason.
 * @typedef {{ passed: number, failed: number, skipped: number, failures: string[] }} Tally
 */

/**
 * The parts of vitest's JSON report that are counted.
 * @typedef {{ numPassedTests: number, numPendingTests: number, numTodoTests: number, testResults: { name: string, status: string, message?: string, assertionResults: { status: string, fullName: string, failureMessages: string[] }[] }[] }} VitestReport
 */

/** @param {boolean} hasPassed @param {string} title for its failure message @returns {Tally} */
export const oneTest = (hasPassed, title) => ({
  passed: hasPassed ? 1 : 0,
  failed: hasPassed ? 0 : 1,
  skipped: 0,
  failures: hasPassed ? [] : [title],
})

/** @type {Tally} */
export const noTest = { passed: 0, failed: 0, skipped: 0, failures: [] }

/** @param {Tally} one @param {Tally} other @returns {Tally} */
export const addTallies = (one, other) => ({
  passed: one.passed + other.passed,
  failed: one.failed + other.failed,
  skipped: one.skipped + other.skipped,
  failures: [...one.failures, ...other.failures],
})

/**
 * Formats the failures, one line each, and then the counts, so that they are visible at the end of a long output.
 * @param {Tally} tally
 */
export const formatTally = ({ passed, failed, skipped, failures }) =>
  [...failures.map((one) => `FAILED ${one}`), `${passed} passed, ${failed} failed, ${skipped} skipped`].join('\n')

/**
 * Runs vitest and counts its tests from its JSON report.
 * @param {(args: string[]) => Promise<number>} run runs Node with these arguments and returns its exit code
 * @param {string[]} given
 * @param {string} [name] of the report, if two run at the same time
 * @returns {Promise<Tally>}
 */
export async function runVitest(run, given, name = 'vitest') {
  const report = join(root, 'out', `${name}.json`)
  rmSync(report, { force: true })
  const code = await run([commandOf('vitest'), 'run', '--reporter=default', '--reporter=json', `--outputFile.json=${report}`, ...given])
  return existsSync(report)
    ? countTests(JSON.parse(readFileSync(report, 'utf8')), code)
    : oneTest(false, `vitest ended with ${code} before its report`)
}

/**
 * Runs the tests in a real window. Where what they need cannot be installed, the reason is printed and they count as skipped.
 * @param {(args: string[]) => Promise<number>} run runs Node with these arguments and returns its exit code
 * @param {string[]} [files] all of them if none is named
 * @returns {Promise<Tally>}
 */
export async function testWindow(run, files = []) {
  if ((await run([`${root}test/window/install.mjs`])) !== 0) return { passed: 0, failed: 0, skipped: 1, failures: [] }
  return runVitest(run, ['--project', 'window', ...files], 'window')
}

/**
 * @param {VitestReport} report
 * @param {number} code vitest's exit code
 * @returns {Tally}
 */
export function countTests(report, code) {
  const failures = report.testResults.flatMap(failuresOf)
  if (failures.length === 0 && code !== 0) failures.push(`vitest ended with ${code}, though no test failed`)
  const skipped = report.numPendingTests + report.numTodoTests
  return { passed: report.numPassedTests, failed: failures.length, skipped, failures }
}

/**
 * Returns the failures of a file. A file that could not be loaded has no tests, but counts as one failure.
 * @param {VitestReport['testResults'][number]} file
 */
function failuresOf(file) {
  const path = relative(root, file.name)
  const failed = file.assertionResults.filter((one) => one.status === 'failed')
  if (failed.length > 0) return failed.map((one) => `${path}: ${one.fullName}: ${firstLine(one.failureMessages[0])}`)
  return file.status === 'failed' ? [`${path}: ${firstLine(file.message)}`] : []
}

/** @param {string | undefined} text */
const firstLine = (text) => (text ?? '').split('\n', 1)[0]?.slice(0, 300) ?? ''
