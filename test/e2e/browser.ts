import { type Browser, chromium } from 'playwright-core'
import { findBrowser, installBrowser } from './install-browser.mjs'

/** A Chromium on this machine: one that is named, one that is installed, or Debian's where it may be installed. */
export async function launchBrowser(): Promise<Browser> {
  const executablePath = findBrowser() ?? installBrowser()
  if (!executablePath)
    throw new Error(
      'The tests of the screens need a Chromium, Chrome or Edge, and none was found. Install one (Debian: apt-get install chromium), or name one: ESPALIER_BROWSER=/path/to/chrome.',
    )
  return chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-dev-shm-usage', '--force-color-profile=srgb'] })
}
