import { randomUUID } from 'node:crypto'
import { mkdir, rename, writeFile } from 'node:fs/promises'
import { extname, join } from 'node:path'
import { textLook } from '#contract/data/text-look.ts'
import type { Context, Service } from '../context.ts'
import { askDesk } from '../machine/ask-desk.ts'
import { safeFileName } from '../models/folders.ts'
import type { Library } from '../models/library.ts'

/** The user's own texts for calibration and evaluation. */
export function textsService(context: Context, library: Library): Service<'texts'> {
  return {
    async 'texts.look'({ model, data, against }, signal) {
      const { path } = library.find(model)
      return textLook.parse(
        await askDesk(context.desk, { kind: 'look at text', model: path, data, ...(against ? { against } : {}) }, signal),
      )
    },
    async 'texts.upload'({ name, content }) {
      const folder = join(context.folders.data, 'texts')
      await mkdir(folder, { recursive: true })
      const ending = extname(name)
      const file = join(folder, `${safeFileName(name.slice(0, name.length - ending.length))}-${randomUUID().slice(0, 8)}${ending}`)
      await writeFile(`${file}.part`, content, { mode: 0o600 })
      await rename(`${file}.part`, file)
      return { path: file }
    },
  }
}
