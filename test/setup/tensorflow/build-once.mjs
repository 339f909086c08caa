import { readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { argv } from 'node:process'
import { buildRuntime } from '../../../src-main/setup/tensorflow/build-runtime.mjs'
import { hashFile } from '../../../src-main/setup/tensorflow/wheels.mjs'

// What the kill test runs in a separate process: one build with the given programs, of the wheel next to them or, if a hash is given, of
// another one.
const [pip = '', compiler = '', node = '', hash] = argv.slice(2)
const folder = dirname(pip)
const wheel = readdirSync(folder).find((name) => name.endsWith('.whl')) ?? ''
const build = { kind: /** @type {const} */ ('cpu'), wheels: { [wheel]: hash ?? (await hashFile(join(folder, wheel))) }, bytes: 1e6 }
process.stdout.write(await buildRuntime(build, { pip: { command: pip, args: ['-m', 'pip'] }, compiler, node, strip: undefined }))
