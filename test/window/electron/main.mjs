// Takes the place of Electron's default application: starts the folder that the command line names.
import './compatible.mjs'
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { argv } from 'node:process'
import { pathToFileURL } from 'node:url'
import { app } from 'electron'

const folder = resolve(argv.slice(1).find((argument) => !argument.startsWith('-')) ?? '.')
const { name, version, main } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
/** Functions that Electron has for its default application only. */
const application = /** @type {{ setAppPath(folder: string): void, setVersion(version: string): void }} */ (/** @type {unknown} */ (app))
application.setAppPath(folder)
application.setVersion(version)
app.setName(name)
await import(pathToFileURL(join(folder, main)).href)
