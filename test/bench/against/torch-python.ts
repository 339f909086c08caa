import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { cacheFolder } from '../../../src-main/runtime/places.mjs'
import { findOnPath, runTool } from '../../../src-main/setup/tools.mjs'

const hasTorch = async (python: string) => (await runTool(python, ['-c', 'import torch'], { seconds: 60 })).code === 0

/** A Python with torch: the given one, the user's, or one installed with pip in the cache folder. Throws with what to install. */
export async function findTorchPython(given: string | undefined): Promise<string> {
  const own = join(cacheFolder(), 'bench', 'python')
  const made = join(own, process.platform === 'win32' ? 'Scripts/python.exe' : 'bin/python')
  const user = findOnPath('python3') ?? findOnPath('python')
  for (const python of [given, user, existsSync(made) ? made : undefined]) if (python && (await hasTorch(python))) return python
  if (given) throw new Error(`${given} has no torch. Install it there, or leave --python out.`)
  if (!user) throw new Error('The comparison needs Python 3 with torch. Install both, or name one with --python.')
  console.log('Installing torch for the comparison (once) …')
  await must(user, ['-m', 'venv', own])
  await must(made, ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', 'torch', 'numpy'])
  return made
}

async function must(command: string, args: string[]): Promise<void> {
  const { code, output } = await runTool(command, args)
  if (code !== 0)
    throw new Error(`torch could not be installed. Install it yourself and name that Python with --python.\n${output.slice(-500)}`)
}
