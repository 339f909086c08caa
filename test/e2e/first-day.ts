import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { referenceModel } from '../fixtures/reference.ts'
import { type Opened, openOnScreen } from './opened.ts'
import type { Theme } from './screens.ts'

const sample = join(import.meta.dirname, '../../resources/sample-model')

/** What a person has before the workbench: a folder with a model, and two texts. */
interface OwnFiles {
  model: string
  calibration: string
  test: string
  close(): Promise<void>
}

async function makeOwnFiles(): Promise<OwnFiles> {
  const folder = await mkdtemp(join(tmpdir(), 'espalier-journey-'))
  const [model, calibration, test] = ['own-model', 'own-calibration.txt', 'own-test.txt'].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ]
  // A tenth of the sample's size.
  await cp(await referenceModel('stories260k'), model, { recursive: true })
  const beginning = async (name: string) => (await readFile(join(sample, name), 'utf8')).slice(0, 60_000)
  await writeFile(calibration, await beginning('calibration.txt'))
  await writeFile(test, await beginning('test.txt'))
  return { model, calibration, test, close: () => rm(folder, { recursive: true }) }
}

/** A workbench that was never used, on the screen of somebody with files of their own. */
export interface FirstDay extends Pick<Opened, 'workbench' | 'screen' | 'close'> {
  own: OwnFiles
}

export async function openFirstDay(theme: Theme = 'light'): Promise<FirstDay> {
  const [opened, own] = await Promise.all([openOnScreen(theme), makeOwnFiles()])
  return {
    workbench: opened.workbench,
    screen: opened.screen,
    own,
    async close() {
      await opened.close()
      await own.close()
    },
  }
}
