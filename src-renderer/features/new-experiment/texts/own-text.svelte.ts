import type { TextLook } from '#contract/data/data-calls.ts'
import type { DataRequest } from '#contract/data/data-request.ts'
import { toErrorMessage } from '#contract/errors.ts'
import { call, choosePlace, hasSystemDialog } from '../../../api/api.ts'
import { readText } from '../../../lib/read-text.ts'
import { debounce } from '../../../lib/schedule.ts'

/** The user's own text: its path, and a preview with the number of windows for the chosen model. */
export class OwnText {
  look = $state.raw<TextLook | null>(null)
  looking = $state(false)
  /** What is in the field while the user types a path; null otherwise. */
  typed = $state<string | null>(null)
  problem = $state('')
  /** A window has the system's own dialog. A page in a browser, and a window that uses another machine, upload the file instead. */
  readonly hasSystemDialog = hasSystemDialog()
  #turn = 0

  readonly #passSoon = debounce((onchange: (path: string) => void) => this.#pass(onchange), 300)
  readonly #askSoon = debounce((model: string, data: DataRequest, against: DataRequest | null) => void this.#ask(model, data, against), 250)

  /** Passes a typed path on once the user pauses, without changing what is in the field. */
  type(path: string, onchange: (path: string) => void): void {
    this.typed = path
    this.#passSoon(onchange)
  }

  /** Passes a typed path on at once, when the user leaves the field. */
  settle(onchange: (path: string) => void): void {
    this.#pass(onchange)
    this.typed = null
  }

  #pass(onchange: (path: string) => void): void {
    if (this.typed !== null) onchange(this.typed.trim())
  }

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
      return (await call('texts.upload', { name: file.name, content: await readText(file) })).path
    } catch (thrown) {
      this.problem = toErrorMessage(thrown).message
      return null
    } finally {
      this.looking = false
    }
  }
}
