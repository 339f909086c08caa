import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { clusterProfile } from '#contract/clusters/clusters.ts'
import { checkCluster } from '#jobs/cluster/check-cluster.ts'
import { scratchFolder } from '../../fixtures/scratch.ts'

const folder = scratchFolder('check')
const path = process.env.PATH ?? ''

/** An `ssh` that runs commands on this machine, except that it reads no files. */
const sshWithoutCat = `#!/bin/sh
while [ "\${1#-}" != "$1" ]; do
  case "$1" in -o | -l) shift ;; esac
  shift
done
shift
case "$*" in cat*) exit 1 ;; esac
exec sh -c "$*"
`

beforeAll(() => {
  writeFileSync(join(folder, 'ssh'), sshWithoutCat, { mode: 0o755 })
  process.env.PATH = `${folder}${delimiter}${path}`
})
afterAll(() => (process.env.PATH = path))

const hasRsync = (): boolean => {
  try {
    return execFileSync('rsync', ['--version'], { encoding: 'utf8' }).includes('version 3')
  } catch {
    return false
  }
}

test.skipIf(!hasRsync())('a copied file that the cluster cannot read is not called a file that this machine wrote', async () => {
  const shared = join(folder, 'shared')
  const choices = { partition: '', account: '', time: '', gpus: 0, cpus: 1, memory: '', lines: '' }
  const profile = clusterProfile.parse({ ...choices, name: 'box', host: 'login', folder: shared, copies: true, program: '/opt/espalier' })
  const findings = await checkCluster(profile, ['/opt/espalier'])
  expect(findings.find(({ what }) => what === 'rsync')).toMatchObject({ works: true })
  expect(findings.find(({ what }) => what === 'shared folder')).toEqual({
    what: 'shared folder',
    works: false,
    found: `A file that this machine copied to ${shared} cannot be read on login.`,
  })
})
