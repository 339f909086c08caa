import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { env, pid } from 'node:process'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import { cacheFolder } from '../../src-main/runtime/places.mjs'
import { findPip } from '../../src-main/setup/tensorflow/python.mjs'
import { findOnPath, runTool } from '../../src-main/setup/tools.mjs'

/** The tools that exported models are tried with. */
export interface Tools {
  readonly python: string
  /** Environment of the Python programs. */
  readonly environment: NodeJS.ProcessEnv
}

const here = import.meta.dirname

/** Finds the tools in the user's cache folder, and installs the missing Python packages of a list beside this file with pip. */
export async function findTools(list = 'requirements.txt'): Promise<Tools> {
  const python = findOnPath('python3') ?? findOnPath('python')
  if (!python) throw new Error('The check needs Python 3 with pip. Install both and run it again.')
  // Packages are built for one version of Python.
  const { output: version } = await runTool(python, ['-VV'])
  const packages = await brought(list === 'requirements.txt' ? 'python' : 'vllm', [list], version, async (folder) => {
    const pip = await findPip()
    if (!pip) throw new Error('The check needs pip for Python 3. Install it and run the check again.')
    // Compiling everything in them takes longer than compiling what is loaded.
    const options = [
      'install',
      '--quiet',
      '--no-input',
      '--disable-pip-version-check',
      '--no-warn-script-location',
      '--no-cache-dir',
      '--no-compile',
    ]
    await must(pip.command, [...pip.args, ...options, '--target', folder, '--requirement', join(here, list)])
    // vLLM needs them for sound only, and they do not load beside a torch without CUDA.
    for (const name of ['torchaudio', 'torchcodec']) rmSync(join(folder, name), { recursive: true, force: true })
  })
  return {
    python,
    environment: {
      ...env,
      ...homeOfItsOwn(),
      PYTHONPATH: packages,
      PYTHONNOUSERSITE: '1',
      HF_HUB_OFFLINE: '1',
      TOKENIZERS_PARALLELISM: 'false',
    },
  }
}

/**
 * transformers copies a folder's code into the user's home, and Python compiles what it loads; here both use a folder that is deleted when
 * this process ends.
 */
function homeOfItsOwn(): NodeJS.ProcessEnv {
  const home = mkdtempSync(join(tmpdir(), 'espalier-interop-home-'))
  process.once('exit', () => rmSync(home, { recursive: true, force: true }))
  return {
    HOME: home,
    USERPROFILE: home,
    XDG_CACHE_HOME: join(home, 'cache'),
    HF_HOME: join(home, 'huggingface'),
    HF_MODULES_CACHE: undefined,
    PYTHONPYCACHEPREFIX: join(home, 'bytecode'),
  }
}

/** A cache folder that appears once it is complete; its name depends on the files that list its contents and on the version of Python. */
async function brought(name: string, files: readonly string[], fitting: string, fill: (folder: string) => Promise<void>): Promise<string> {
  const hash = createHash('sha256').update(fitting)
  for (const file of files) hash.update(readFileSync(join(here, file)))
  const parent = join(cacheFolder(), 'interop')
  const folder = join(parent, `${name}-${hash.digest('hex').slice(0, 12)}`)
  if (existsSync(folder)) return folder
  console.log(`Installing ${name} for the check, once …`)
  const temporary = `${folder}.new-${pid}`
  mkdirSync(temporary, { recursive: true })
  try {
    await fill(temporary)
    for (const other of readdirSync(parent)) {
      if (other.startsWith(`${name}-`) && !other.startsWith(`${folder.slice(parent.length + 1)}.`))
        rmSync(join(parent, other), { recursive: true, force: true })
    }
    renameSync(temporary, folder)
  } catch (error) {
    rmSync(temporary, { recursive: true, force: true })
    throw error
  }
  return folder
}

async function must(command: string, args: string[]): Promise<void> {
  const { code, output } = await runTool(command, args)
  if (code !== 0) throw new Error(`${command} ${args[0]} failed:\n${output.slice(-1000)}`)
}

/** Gives a Python program a job and reads its answer, the last line that it prints. Says what went wrong if there is none. */
export async function askPython<Answer>(
  tools: Tools,
  program: string,
  args: string[],
  job: unknown,
  folder: string,
  seconds = 600,
): Promise<Answer> {
  const file = join(folder, 'job.json')
  writeFileSync(file, JSON.stringify(job))
  const { code, output } = await runTool(tools.python, [join(here, program), ...args, file], { env: tools.environment, seconds })
  const answer = output
    .split('\n')
    .findLast((line) => line.startsWith('ANSWER '))
    ?.slice('ANSWER '.length)
  if (code !== 0 || answer === undefined) throw new Error(`ended with code ${code}: ${output.trim().split('\n').slice(-3).join(' | ')}`)
  return JSON.parse(answer) as Answer
}

interface Running {
  readonly child: ChildProcessByStdio<Writable, Readable, null>
  readonly lines: AsyncIterator<string>
}

/** A Python program that answers one job after another. If a job ends it, it is restarted for the next. */
export class Worker {
  readonly #start: () => Running
  #running: Running

  constructor(tools: Tools, program: string, args: string[] = []) {
    this.#start = () => {
      const child = spawn(tools.python, [join(here, program), ...args], { env: tools.environment, stdio: ['pipe', 'pipe', 'ignore'] })
      // The end of its output reports that it died.
      child.stdin.on('error', () => undefined)
      return { child, lines: createInterface({ input: child.stdout })[Symbol.asyncIterator]() }
    }
    this.#running = this.#start()
  }

  async ask<Answer>(job: unknown): Promise<Answer> {
    const { child, lines } = this.#running
    child.stdin.write(`${JSON.stringify(job)}\n`)
    for (;;) {
      const { value, done } = await lines.next()
      if (!done && value.startsWith('ANSWER ')) return JSON.parse(value.slice('ANSWER '.length)) as Answer
      if (!done) continue
      this.#running = this.#start()
      throw new Error(`The Python program ended with ${child.exitCode ?? child.signalCode}.`)
    }
  }

  end(): void {
    this.#running.child.stdin.end()
  }
}
