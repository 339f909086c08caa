import type { TextLook } from '#contract/data/data-calls.ts'
import type { DataRequest } from '#contract/data/data-request.ts'
import { toErrorMessage } from '#contract/errors.ts'
import { call, choosePlace, hasSystemDialog } from '../../../api/api.ts'
import { debounce } from '../../../lib/schedule.ts'

/** The user's own text: its path, and a preview with the number of windows for the chosen model. */
export class OwnText {
  path = $state('')
  look = $state.raw<TextLook | null>(null)
  looking = $state(false)
  problem = $state('')
  /** A window has the system's own dialog. A page in a browser, and a window that uses another machine, upload the file instead. */
  readonly hasSystemDialog = hasSystemDialog()
  #turn = 0

  readonly #askSoon = debounce((model: string, data: DataRequest, against: DataRequest | null) => void this.#ask(model, data, against), 250)

  /** Requests a preview of the text. A newer request replaces it. */
  lookAt(model: string, data: DataRequest, against: DataRequest | null): void {
    this.#turn += 1
    this.look = null
    this.problem = ''
    this.looking = data.source !== ''
    if (data.source !== '') this.#askSoon(model, data, against)
  }

  async #ask(model: string, data: DataRequest, against: DataRequest | null): Promise<void> {
    const turn = this.#turn
    try {
      const look = await call('texts.look', { model, data, ...(against ? { against } : {}) })
      if (turn === this.#turn) this.look = look
    } catch (thrown) {
      if (turn === this.#turn) this.problem = toErrorMessage(thrown).message
    } finally {
      if (turn === this.#turn) this.looking = false
    }
  }

  async choose(kind: 'folder' | 'file'): Promise<string | null> {
    return choosePlace(kind)
  }

  /** Stores a file from the browser beside the history; null if it could not be stored. */
  async upload(file: File): Promise<string | null> {
    this.looking = true
    this.problem = ''
    try {
      return (await call('texts.upload', { name: file.name, content: await file.text() })).path
    } catch (thrown) {
      this.problem = toErrorMessage(thrown).message
      return null
    } finally {
      this.looking = false
    }
  }
}
