import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { type IncomingHttpHeaders, request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { makeToken } from '#server/guard/token.ts'
import { type RunningServer, type ServerSettings, startServer } from '#server/server.ts'
import { type FakeDoor, makeFakeDoor } from './fake-door.ts'

export interface Running extends RunningServer {
  door: FakeDoor
  token: string
  folder: string
  stop(): Promise<void>
}

/** A real server on a free port, with a fake workbench and a folder of small pages; a secret file lies beside that folder. */
export async function runServer(door = makeFakeDoor(), changes: Partial<ServerSettings> = {}): Promise<Running> {
  const folder = await mkdtemp(join(tmpdir(), 'espalier-server-'))
  const pages = join(folder, 'pages')
  await mkdir(join(pages, 'assets'), { recursive: true })
  await writeFile(join(folder, 'secret.txt'), 'secret')
  await writeFile(join(pages, 'index.html'), `<!doctype html><title>Espalier</title>${'<p>leaf</p>'.repeat(300)}`)
  await writeFile(join(pages, 'assets', 'main-4f2a.js'), 'export {}\n')
  const token = makeToken()
  const server = await startServer({ door, pages, host: '127.0.0.1', port: 0, token, ...changes })
  const stop = async () => {
    await server.close()
    await rm(folder, { recursive: true })
  }
  return { ...server, door, token, folder, stop }
}

export interface Sent {
  method?: string
  path?: string
  headers?: Record<string, string | string[]>
  body?: string | Buffer
}

export interface Got {
  status: number
  headers: IncomingHttpHeaders
  body: Buffer
  text: string
}

/** One request exactly as written: the path is not normalised, any header can be set. */
export function send(server: { port: number }, { method = 'GET', path = '/', headers = {}, body }: Sent): Promise<Got> {
  return new Promise((resolve, reject) => {
    const sent = request({ host: '127.0.0.1', port: server.port, method, path, headers, agent: false }, (response) => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.on('error', reject)
      response.on('end', () => {
        const bytes = Buffer.concat(chunks)
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body: bytes, text: bytes.toString() })
        sent.destroy()
      })
    })
    sent.on('error', reject)
    sent.end(body)
  })
}

/** An honest call. */
export function sendCall(server: Running, name: string, input: unknown = {}, changes: Sent = {}): Promise<Got> {
  const headers = { 'content-type': 'application/json', authorization: `Bearer ${server.token}`, ...changes.headers }
  return send(server, { method: 'POST', path: `/api/${name}`, body: JSON.stringify(input), ...changes, headers })
}
