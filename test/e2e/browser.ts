import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { env, getuid, platform } from 'node:process'
import { type Browser, chromium } from 'playwright-core'

const places: Partial<Record<NodeJS.Platform, string[]>> = {
  linux: ['chromium', 'chromium-browser', 'google-chrome-stable', 'google-chrome', 'microsoft-edge-stable', 'microsoft-edge'].map(
    (name) => `/usr/bin/${name}`,
  ),
  darwin: ['Google Chrome', 'Chromium', 'Microsoft Edge'].map((name) => `/Applications/${name}.app/Contents/MacOS/${name}`),
  win32: ['ProgramFiles', 'ProgramFiles(x86)', 'LOCALAPPDATA'].flatMap((folder) =>
    ['Google\\Chrome\\Application\\chrome.exe', 'Microsoft\\Edge\\Application\\msedge.exe'].map((path) => `${env[folder]}\\${path}`),
  ),
}

/** A Chromium on this machine: one that is named, one that is installed, or Debian's where it may be installed. */
export async function launchBrowser(): Promise<Browser> {
  const executablePath = findBrowser() ?? installBrowser()
  return chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-dev-shm-usage', '--force-color-profile=srgb'] })
}

function findBrowser(): string | undefined {
  return [env.ESPALIER_BROWSER, ...(places[platform] ?? [])].find((path) => path !== undefined && existsSync(path))
}

function installBrowser(): string {
  if (platform === 'linux' && getuid?.() === 0 && existsSync('/usr/bin/apt-get')) {
    const quiet = { stdio: 'ignore' as const, env: { ...env, DEBIAN_FRONTEND: 'noninteractive' } }
    execFileSync('apt-get', ['update'], quiet)
    execFileSync('apt-get', ['install', '-y', '--no-install-recommends', 'chromium'], quiet)
    const found = findBrowser()
    if (found) return found
  }
  throw new Error(
    'The tests of the screens need a Chromium, Chrome or Edge, and none was found. Install one (Debian: apt-get install chromium), or name one: ESPALIER_BROWSER=/path/to/chrome.',
  )
}
