import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { z } from 'zod'

const bounds = z.object({ x: z.number().int(), y: z.number().int(), width: z.number().int().min(1), height: z.number().int().min(1) })

const windowState = z.object({
  bounds: bounds.nullable().catch(null).default(null),
  maximized: z.boolean().catch(false).default(false),
  theme: z.enum(['system', 'light', 'dark']).catch('system').default('system'),
  /** Where the last file was saved. */
  saveFolder: z.string().nullable().catch(null).default(null),
  /** Ids of the models that were looked at, latest first. */
  recentModels: z.array(z.string()).catch([]).default([]),
})

export type Bounds = z.infer<typeof bounds>
export type WindowState = z.infer<typeof windowState>

/** The size of the first window, and the least that every screen fits in. */
export const usualSize = { width: 1280, height: 860 }
export const leastSize = { width: 720, height: 480 }

/** At least this much of a window's upper edge must be on a screen, so that the window can be moved. */
const grip = { width: 120, height: 40 }

/**
 * Where a window opens: where it was, if enough of it is on a screen, and otherwise in the middle of the main screen, no larger than that.
 * @param screens the parts of the screens that windows may use, the main one first
 */
export function placeWindow(last: Bounds | null, screens: readonly Bounds[]): Bounds {
  const [main] = screens
  if (last && screens.some((screen) => holds(screen, last))) return last
  const { width, height } = last ?? usualSize
  if (!main) return { x: 0, y: 0, width, height }
  const size = { width: Math.min(width, main.width), height: Math.min(height, main.height) }
  return { x: main.x + Math.round((main.width - size.width) / 2), y: main.y + Math.round((main.height - size.height) / 2), ...size }
}

function holds(screen: Bounds, window: Bounds): boolean {
  const shared = Math.min(screen.x + screen.width, window.x + window.width) - Math.max(screen.x, window.x)
  const top = window.y - screen.y
  return shared >= grip.width && top >= 0 && top <= screen.height - grip.height
}

/** What the window remembers, in a file of this user. A file that is missing or damaged counts as empty. */
export class StoredState {
  readonly #file: string
  #state: WindowState

  constructor(file: string) {
    this.#file = file
    this.#state = windowState.parse(read(file))
  }

  get value(): Readonly<WindowState> {
    return this.#state
  }

  change(changes: Partial<WindowState>): void {
    this.#state = { ...this.#state, ...changes }
    try {
      mkdirSync(dirname(this.#file), { recursive: true })
      writeFileSync(`${this.#file}.part`, JSON.stringify(this.#state))
      renameSync(`${this.#file}.part`, this.#file)
    } catch (thrown) {
      // The next window opens in its usual place.
      console.error(thrown)
    }
  }
}

function read(file: string): object {
  try {
    const found: unknown = JSON.parse(readFileSync(file, 'utf8'))
    return typeof found === 'object' && found !== null ? found : {}
  } catch {
    return {}
  }
}
