import { expect, test } from 'vitest'
import { readReport, shippedDefects } from '../../src-main/setup/audit.mjs'

const report = {
  auditReportVersion: 2,
  vulnerabilities: {
    tar: { name: 'tar', severity: 'high', nodes: ['node_modules/tar'], via: [{ title: 'Files outside of the folder' }] },
    'tool-of-tests': { name: 'tool-of-tests', severity: 'critical', nodes: ['node_modules/tool-of-tests'], via: ['tar'] },
  },
}

test('a defect counts where the package is shipped, and a tool of the tests does not', () => {
  const { vulnerabilities } = readReport(`npm warn something\n${JSON.stringify(report)}\n`)
  expect(shippedDefects(vulnerabilities, new Set(['node_modules/tar', 'node_modules/zod']))).toEqual([
    'tar (high): Files outside of the folder',
  ])
  expect(shippedDefects(vulnerabilities, new Set(['node_modules/zod']))).toEqual([])
})

test('a registry that does not answer is a reason to skip, and its address is not repeated', () => {
  const refused = { message: '405 Method Not Allowed - POST https://registry.example/-/npm', error: { summary: '' } }
  expect(readReport(`${JSON.stringify(refused)}\nnpm error audit endpoint returned an error`)).toEqual({
    message: '405 Method Not Allowed',
  })
  expect(readReport('npm error offline')).toEqual({ message: 'npm wrote no report' })
})
