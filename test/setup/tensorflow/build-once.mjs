import { readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { argv } from 'node:process'
import { buildRuntime } from '../../../src-main/setup/tensorflow/build-runtime.mjs'
import { hashFile } from '../../../src-main/setup/tensorflow/wheels.mjs'

// What the kill test runs in a process of its own: one build with the programs it is given, of the wheel beside them as it is now,
// or of another one when its hash is given.
const [pip = '', compiler = '', node = '', hash] = argv.slice(2)
const folder = dirname(pip)
const wheel = readdirSync(folder).find((name) => name.endsWith('.whl')) ?? ''
const build = { kind: /** @type {const} */ ('cpu'), wheels: { [wheel]: hash ?? (await hashFile(join(folder, wheel))) }, bytes: 1e6 }
process.stdout.write(await buildRuntime(build, { pip: { command: pip, args: ['-m', 'pip'] }, compiler, node, strip: undefined }))
