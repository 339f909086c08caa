import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const sample = join(import.meta.dirname, '../../resources/sample-model')

/** What a person has before the workbench: a folder with a model, and two texts. */
export interface OwnFiles {
  model: string
  calibration: string
  test: string
  close(): Promise<void>
}

export async function makeOwnFiles(): Promise<OwnFiles> {
  const folder = await mkdtemp(join(tmpdir(), 'espalier-journey-'))
  const [model, calibration, test] = ['own-model', 'own-calibration.txt', 'own-test.txt'].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ]
  await cp(sample, model, { recursive: true })
  const beginning = async (name: string) => (await readFile(join(sample, name), 'utf8')).slice(0, 60_000)
  await writeFile(calibration, await beginning('calibration.txt'))
  await writeFile(test, await beginning('test.txt'))
  return { model, calibration, test, close: () => rm(folder, { recursive: true }) }
}
