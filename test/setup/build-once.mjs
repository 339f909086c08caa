import { argv } from 'node:process'
import { buildRuntime } from '../../src-main/setup/build-runtime.mjs'

// What the kill test runs in a process of its own: one build with the programs it is given.
const [pip = '', compiler = '', node = ''] = argv.slice(2)
const build = { kind: /** @type {const} */ ('cpu'), wheel: 'tensorflow-cpu', withCuda: false, bytes: 1e6 }
process.stdout.write(await buildRuntime(build, { pip: { command: pip, args: [] }, compiler, node, strip: undefined }))
