import { randomUUID } from 'node:crypto'
import { mkdir, rename, writeFile } from 'node:fs/promises'
import { extname, join } from 'node:path'
import { textLook } from '#contract/data/data-calls.ts'
import type { Calls } from '../context.ts'
import { askDesk } from '../machine/ask-desk.ts'
import { safeFileName } from '../models/folders.ts'
import { Service } from '../service.ts'

/** The user's own texts for calibration and evaluation. */
export class TextsService extends Service {
  readonly calls: Calls<'texts'> = {
    'texts.look': async ({ model, data, against }, signal) => {
      const { path } = this.parts.library.find(model)
      const question = { kind: 'look at text' as const, model: path, data, ...(against ? { against } : {}) }
      return textLook.parse(await askDesk(this.parts.desk, question, signal))
    },
    'texts.upload': async ({ name, content }) => {
      const folder = join(this.parts.folders.data, 'texts')
      await mkdir(folder, { recursive: true })
      const ending = extname(name)
      const file = join(folder, `${safeFileName(name.slice(0, name.length - ending.length))}-${randomUUID().slice(0, 8)}${ending}`)
      await writeFile(`${file}.part`, content, { mode: 0o600 })
      await rename(`${file}.part`, file)
      return { path: file }
    },
  }
}
