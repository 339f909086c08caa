import { expect, test } from 'vitest'
import { grid } from '#contract/experiments/experiments.ts'
import { explainIssues } from '#contract/explain-issue.ts'
import { nameField } from '../../../../src-renderer/features/new-experiment/problem-text.ts'

const optionOf = (entry: number, option: string) => `Label of ${option} in ${entry}`
const valid = { models: ['model'], methods: [], amounts: [] }

/** What the form shows of a grid that the contract refuses. */
function shown(changes: Record<string, unknown>): string[] {
  const value = { grid: { ...valid, ...changes } }
  const { error } = grid.safeParse(value.grid)
  const issues = error?.issues.map((issue) => ({ ...issue, path: ['grid', ...issue.path] })) ?? []
  return explainIssues({ issues } as never, value).map((issue) => nameField(issue, optionOf))
}

const text = { source: '/tmp/text', sequenceLength: 256 }

test.each([
  [{ calibration: { ...text, windows: 0 } }, 'Windows of Calibration data is 0; it must be more than 0.'],
  [{ repairData: { ...text, sequenceLength: null } }, 'Window length of Repair text is empty; it must be a number.'],
  [{ memoryBytes: -3 }, 'Memory budget is -3; it must be more than 0.'],
  [{ seeds: [-1] }, 'Seeds is -1; it must be at least 0.'],
  [{ amounts: [{ sparsity: 2 }] }, 'Sparsity of Amount is 2; it must be at most 1.'],
  [{ recoveries: [{ tokens: -1 }] }, 'Training tokens is -1; it must be more than 0.'],
])('the form names the field of %j as on the screen', (changes, message) => {
  expect(shown(changes)).toEqual([message])
})

test('no field of a grid is shown by its internal name', () => {
  for (const field of Object.keys(grid.shape)) {
    const messages = shown({ [field]: { wrong: true } })
    expect(messages.length, field).toBeGreaterThan(0)
    for (const message of messages) expect(message, field).not.toMatch(/\bgrid\b|[a-z][A-Z]|^This /)
  }
})

test('an option has its label and method; a message that names no field is unchanged', () => {
  const problem = { field: 'methods.1.options.alpha', message: 'alpha is -1; it must be more than 0.' }
  expect(nameField(problem, optionOf)).toBe('Label of alpha in 1 is -1; it must be more than 0.')
  expect(nameField({ field: 'repair', message: 'Repair is not possible.' }, optionOf)).toBe('Repair is not possible.')
})
