import { ensureBundle } from '../../src-main/setup/screens.mjs'
import { installWindow } from './install.mjs'

/** Before the project `window`: the Electron for tests, and the built program. */
export async function setup(): Promise<void> {
  const missing = await installWindow()
  if (missing) throw new Error(missing)
  await ensureBundle(process.execPath, 'screens')
  await ensureBundle(process.execPath, 'window')
}
