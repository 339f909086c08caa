import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { scratchFolder } from '../fixtures/scratch.ts'
import { run } from './espalier.ts'

const home = scratchFolder('save-fit')

const asked = ['--model=sample', '--pruning_method=shortgpt', '--calibration_samples=2', '--eval_samples=2', '--no_history']

test('a file that --fit sizes in the type of --weights is saved in that type, within the budget', async () => {
  const folder = join(home, 'fitted')
  const { code, stdout, stderr } = await run(home, [...asked, '--fit=1.6MB', '--weights=Q8_0', `--save=${folder}`])
  expect(code, stderr).toBe(0)
  expect(stdout).toMatch(/GGUF file Q8_0: 1\.\d+ MB of 1\.6 MB asked/)
  const files = (await readdir(folder)).filter((name) => name.endsWith('.gguf'))
  expect(files).toEqual(['sample-model-shortgpt-Q8_0.gguf'])
  expect((await stat(join(folder, files[0] as string))).size).toBeLessThanOrEqual(1.6e6)
})

test('a model measured in a type is saved in that type, and its card says what was measured', async () => {
  const folder = join(home, 'measured')
  const measured = ['--sparsity=0.2', '--weights=Q8_0', '--evaluate_perplexity']
  const { code, stderr } = await run(home, [...asked, ...measured, `--save=${folder}`])
  expect(code, stderr).toBe(0)
  expect((await readdir(folder)).filter((name) => name.endsWith('.gguf'))).toEqual(['sample-model-shortgpt-Q8_0.gguf'])
  expect(await readFile(join(folder, 'README.md'), 'utf8')).toMatch(/measured on the weights as stored in Q8_0:/)
  const other = await run(home, [...asked, ...measured, '--format=exact', `--save=${join(home, 'other')}`])
  expect(other.code).toBe(2)
  expect(other.stderr).toMatch(/--weights=Q8_0 measures a GGUF file, but --format=exact saves another/)
})
