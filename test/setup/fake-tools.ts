import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { makeWheel, python } from './make-wheel.ts'

/** Fakes of pip (in a Python that otherwise works normally), a compiler and Node's probe. They record each of their runs. */
export interface FakeTools {
  readonly folder: string
  readonly pip: string
  readonly compiler: string
  readonly node: string
  /** How often a program was run for its real purpose. */
  count(name: string): number
}

/** Writes the programs into `folder`. With `SLOW_COMPILER` in its environment the compiler never ends. */
export function makeFakeTools(folder: string): FakeTools {
  mkdirSync(folder, { recursive: true })
  makeWheel(join(folder, 'tensorflow_cpu-2.21.0-cp311-cp311-linux.whl'))
  const program = (name: string, lines: string[]) => {
    const path = join(folder, name)
    writeFileSync(path, ['#!/bin/sh', `log() { echo "$1" >> '${join(folder, 'log')}'; }`, ...lines, ''].join('\n'))
    chmodSync(path, 0o755)
    return path
  }
  const option = (name: string) => `while [ $# -gt 0 ]; do [ "$1" = ${name} ] && target=$2; shift; done`
  const pip = program('python3', [
    `[ "$1" = -m ] || PATH='${process.env.PATH}' exec '${python}' "$@"`,
    '[ "$3" = --version ] && exit 0',
    'log pip',
    option('--dest'),
    `cp '${folder}'/tensorflow_cpu*.whl "$target/"`,
  ])
  const compiler = program('g++', ['log compiler', option('-o'), '[ -n "$SLOW_COMPILER" ] && sleep 600', 'echo addon > "$target"'])
  const node = program('probe', ['log probe', `echo '{"usesGpu":false}'`])
  const count = (name: string) => {
    const log = join(folder, 'log')
    return existsSync(log)
      ? readFileSync(log, 'utf8')
          .split('\n')
          .filter((line) => line === name).length
      : 0
  }
  return { folder, pip, compiler, node, count }
}
