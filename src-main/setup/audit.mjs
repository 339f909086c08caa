import { root } from '../runtime/node24.mjs'
import { allShipped } from './shipped.mjs'
import { oneTest } from './tally.mjs'
import { say } from './terminal.mjs'
import { findNpm, runTool } from './tools.mjs'

/**
 * The parts of `npm audit --json` that are read here. `nodes` are the package's paths.
 * @typedef {{ vulnerabilities?: Record<string, { name: string, severity: string, nodes: string[], via: (string | { title: string })[] }>,
 *   message?: string }} AuditReport
 */

/**
 * Returns the known defects of shipped packages, one line each.
 * @param {AuditReport['vulnerabilities']} vulnerabilities
 * @param {ReadonlySet<string>} shipped package paths in the lock file
 * @returns {string[]}
 */
export function shippedDefects(vulnerabilities = {}, shipped) {
  const hits = Object.values(vulnerabilities).filter(({ nodes }) => nodes.some((path) => shipped.has(path)))
  return hits.map(
    ({ name, severity, via }) => `${name} (${severity}): ${via.map((one) => (typeof one === 'string' ? one : one.title)).join('; ')}`,
  )
}

/**
 * Parses npm's output. If the registry does not answer, the report has a message instead of a list, without the registry's address.
 * @param {string} output
 * @returns {AuditReport}
 */
export function readReport(output) {
  try {
    const { vulnerabilities, message } = JSON.parse(output.slice(output.indexOf('{'), output.lastIndexOf('}') + 1))
    return vulnerabilities ? { vulnerabilities } : { message: String(message ?? 'no list').replace(/ - .*|\w+:\/\/\S+/g, '') }
  } catch {
    return { message: 'npm wrote no report' }
  }
}

/**
 * Queries the registry for known defects of shipped packages. Skipped if it does not answer.
 * @returns {Promise<import('./tally.mjs').Tally>}
 */
export async function auditShipped() {
  const [command, first] = findNpm() ?? ['npm', []]
  const { output } = await runTool(command, [...first, 'audit', '--json'], { cwd: root, seconds: 60 })
  const { vulnerabilities, message } = readReport(output)
  if (!vulnerabilities) {
    say(`Skipped because the registry did not answer: ${message}`)
    return { passed: 0, failed: 0, skipped: 1, failures: [] }
  }
  const shipped = allShipped()
  const defects = shippedDefects(vulnerabilities, new Set(shipped.keys()))
  for (const defect of defects) say(defect)
  say(`${shipped.size} shipped packages, ${defects.length} with known defects.`)
  return oneTest(defects.length === 0, `audit: ${defects.join(', ')}`)
}
