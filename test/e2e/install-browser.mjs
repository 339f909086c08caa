import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { env, getuid, platform } from 'node:process'
import { fileURLToPath } from 'node:url'

/** @type {Partial<Record<NodeJS.Platform, string[]>>} */
const places = {
  // The shell draws no windows, and takes 40 % less processor time than the whole browser.
  linux: [
    'chromium-headless-shell',
    'chromium',
    'chromium-browser',
    'google-chrome-stable',
    'google-chrome',
    'microsoft-edge-stable',
    'microsoft-edge',
  ].map((name) => `/usr/bin/${name}`),
  darwin: ['Google Chrome', 'Chromium', 'Microsoft Edge'].map((name) => `/Applications/${name}.app/Contents/MacOS/${name}`),
  win32: ['ProgramFiles', 'ProgramFiles(x86)', 'LOCALAPPDATA'].flatMap((folder) =>
    ['Google\\Chrome\\Application\\chrome.exe', 'Microsoft\\Edge\\Application\\msedge.exe'].map((path) => `${env[folder]}\\${path}`),
  ),
}

/** A browser of Chromium's kind: one that is named, or one that is installed. */
export function findBrowser() {
  return [env.ESPALIER_BROWSER, ...(places[platform] ?? [])].find((path) => path !== undefined && existsSync(path))
}

/**
 * Brings Debian's Chromium to a machine that has none and on which this user may install packages. Another installation is waited for.
 * @returns {string | undefined} its path
 */
export function installBrowser() {
  if (platform === 'linux' && getuid?.() === 0 && existsSync('/usr/bin/apt-get')) {
    console.log('Installing Chromium for the tests of the screens …')
    const apt = (/** @type {string[]} */ ...words) =>
      spawnSync('apt-get', ['-o', 'DPkg::Lock::Timeout=600', ...words], {
        stdio: ['ignore', 'ignore', 'inherit'],
        env: { ...env, DEBIAN_FRONTEND: 'noninteractive' },
      }).status === 0
    const install = () => ['chromium-headless-shell', 'chromium'].some((name) => apt('install', '--yes', '--no-install-recommends', name))
    if (!install() && apt('update')) install()
  }
  return findBrowser()
}

if (process.argv[1] === fileURLToPath(import.meta.url) && !findBrowser()) installBrowser()
