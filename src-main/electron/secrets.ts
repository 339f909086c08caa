import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { safeStorage } from 'electron'

export interface Secret {
  get(): Promise<string | undefined>
  set(value: string | undefined): Promise<void>
}

/** One secret in a file, encrypted with the user's key store. Without a key store it is kept in memory only. */
export function makeSecret(file: string): Secret {
  let kept: string | undefined
  return {
    async get() {
      kept ??= await decrypt(file)
      return kept
    },
    async set(value) {
      kept = value
      await rm(file, { force: true })
      if (value === undefined || !(await isStorageSafe())) return
      await mkdir(dirname(file), { recursive: true })
      await writeFile(`${file}.part`, await safeStorage.encryptStringAsync(value), { mode: 0o600 })
      await rename(`${file}.part`, file)
    },
  }
}

/** On Linux without a key ring, Electron encrypts with a fixed password, which protects nothing. */
async function isStorageSafe(): Promise<boolean> {
  if (process.platform === 'linux' && safeStorage.getSelectedStorageBackend() === 'basic_text') return false
  return safeStorage.isAsyncEncryptionAvailable()
}

async function decrypt(file: string): Promise<string | undefined> {
  try {
    if (!(await isStorageSafe())) return undefined
    return (await safeStorage.decryptStringAsync(await readFile(file))).result
  } catch {
    // The secret is missing, or encrypted with another key: the user has to enter it again.
    return undefined
  }
}
