import { readFileSync } from 'node:fs'

/** The program's version, as package.json beside the sources says. */
export const version: string = (JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }).version
