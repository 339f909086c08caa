import { spawn } from 'node:child_process'
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { beforeEach, describe, expect, it } from 'vitest'
import { writeFolderAtomically } from '#engine/checkpoint/write-folder.ts'
import { scratchOfTest } from '../../fixtures/scratch.ts'

let place = ''
beforeEach(() => {
  place = scratchOfTest('write-folder')
})

const fillWith = (text: string) => async (folder: string) => {
  await mkdir(join(folder, 'inner'))
  await writeFile(join(folder, 'inner', 'a.txt'), text)
}

const readBack = (folder: string) => readFile(join(folder, 'inner', 'a.txt'), 'utf8')

/** Runs a save in another process, kills it halfway, and returns what it left behind. */
async function killHalfWay(target: string, replace: boolean): Promise<string[]> {
  const source = fileURLToPath(import.meta.resolve('#engine/checkpoint/write-folder.ts'))
  const program = `
    const { writeFolderAtomically } = await import(${JSON.stringify(source)})
    const { writeFile } = await import('node:fs/promises')
    await writeFolderAtomically(${JSON.stringify(target)}, async (folder) => {
      await writeFile(folder + '/half.txt', 'half')
      console.log('half')
      await new Promise((resolve) => setTimeout(resolve, 60_000))
    }, { replace: ${replace} })`
  const child = spawn(process.execPath, ['--input-type=module', '--eval', program], {
    cwd: fileURLToPath(new URL('../../..', import.meta.url)),
  })
  await new Promise((resolve, reject) => {
    child.stdout.once('data', resolve)
    child.once('exit', () => reject(new Error('The save ended by itself.')))
  })
  const ended = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGKILL')
  await ended
  return readdir(place)
}

describe('writeFolderAtomically', () => {
  it('writes the whole folder under its name and leaves no other files', async () => {
    await writeFolderAtomically(join(place, 'deep', 'model'), fillWith('one'))
    expect(await readBack(join(place, 'deep', 'model'))).toBe('one')
    expect(await readdir(join(place, 'deep'))).toEqual(['model'])
  })

  it('shows nothing under the name before it is complete', async () => {
    await writeFolderAtomically(join(place, 'model'), async (folder) => {
      await fillWith('one')(folder)
      expect(await readdir(place)).toEqual([expect.stringMatching(/^\.model\.new-/)])
    })
  })

  it('leaves nothing when filling fails', async () => {
    const failing = async (folder: string) => {
      await fillWith('one')(folder)
      throw new Error('no space')
    }
    await expect(writeFolderAtomically(join(place, 'model'), failing)).rejects.toThrow('no space')
    expect(await readdir(place)).toEqual([])
  })

  it('cleans up after a killed process that had the same id, as in a container', async () => {
    await mkdir(join(place, `.model.new-${process.pid}-0badc0de-0`))
    await writeFolderAtomically(join(place, 'model'), fillWith('one'))
    expect(await readdir(place)).toEqual(['model'])
  })

  it('does not touch a running save of the same name in this process', async () => {
    await writeFolderAtomically(join(place, 'model'), async (folder) => {
      await fillWith('one')(folder)
      await writeFolderAtomically(join(place, 'model'), fillWith('two'))
      await rm(join(place, 'model'), { recursive: true })
    })
    expect(await readBack(join(place, 'model'))).toBe('one')
  })

  it('says in a sentence when the disk is full', async () => {
    const full = () => Promise.reject(Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' }))
    await expect(writeFolderAtomically(join(place, 'model'), full)).rejects.toMatchObject({
      code: 'disk',
      message: expect.stringMatching(/the disk is full/),
    })
  })

  it('accepts an empty folder, refuses a full one and a file', async () => {
    await mkdir(join(place, 'model'))
    await writeFolderAtomically(join(place, 'model'), fillWith('one'))
    await expect(writeFolderAtomically(join(place, 'model'), fillWith('two'))).rejects.toThrow(/exists and is not empty/)
    await writeFile(join(place, 'file'), '')
    await expect(writeFolderAtomically(join(place, 'file'), fillWith('two'), { replace: true })).rejects.toThrow(/is a file/)
    expect(await readBack(join(place, 'model'))).toBe('one')
  })

  it('replaces a full folder when asked to, and keeps the old one when filling fails', async () => {
    const target = join(place, 'model')
    await writeFolderAtomically(target, fillWith('one'))
    await expect(writeFolderAtomically(target, () => Promise.reject(new Error('lost')), { replace: true })).rejects.toThrow('lost')
    expect(await readBack(target)).toBe('one')
    await writeFolderAtomically(target, fillWith('two'), { replace: true })
    expect(await readBack(target)).toBe('two')
    expect(await readdir(place)).toEqual(['model'])
  })

  it('killed half way leaves nothing under the name, and the next save cleans up', async () => {
    expect(await killHalfWay(join(place, 'model'), false)).toEqual([expect.stringMatching(/^\.model\.new-/)])
    await writeFolderAtomically(join(place, 'model'), fillWith('one'))
    expect(await readdir(place)).toEqual(['model'])
  })

  it('killed half way while replacing leaves the old folder', async () => {
    await writeFolderAtomically(join(place, 'model'), fillWith('one'))
    expect(await killHalfWay(join(place, 'model'), true)).toContain('model')
    expect(await readBack(join(place, 'model'))).toBe('one')
  })

  it('brings back an old folder that was moved away by a process killed before the new one took its place', async () => {
    await fillWith('one')(await mkdir(join(place, '.model.old-4194399-ab-0')).then(() => join(place, '.model.old-4194399-ab-0')))
    await expect(writeFolderAtomically(join(place, 'model'), fillWith('two'))).rejects.toThrow(/not empty/)
    expect(await readBack(join(place, 'model'))).toBe('one')
  })
})
