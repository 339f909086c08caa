import { once } from 'node:events'
import { symlink } from 'node:fs/promises'
import { request } from 'node:http'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import WebSocket from 'ws'
import { eventProtocols } from '#server/guard/token.ts'
import { makeFakeDoor } from './fake-door.ts'
import { type Running, runServer, type Sent, send, sendCall } from './running.ts'

let server: Running

beforeAll(async () => {
  server = await runServer(makeFakeDoor({ 'models.list': () => [] }), {
    patience: { headers: 1500, request: 3000 },
  })
  await symlink(server.folder, join(server.folder, 'pages', 'way-out'))
})
afterAll(() => server.stop())

/** Milliseconds of this process's processor time for honest calls, as the median of several, because this machine may have other work. */
async function timeCalls(times: number): Promise<number> {
  const taken: number[] = []
  for (let turn = 0; turn < times; turn++) {
    const start = process.cpuUsage()
    expect((await sendCall(server, 'models.list')).status).toBe(200)
    const { user, system } = process.cpuUsage(start)
    taken.push((user + system) / 1000)
  }
  return taken.sort((one, other) => one - other)[Math.floor(times / 2)] ?? 0
}

async function expectWell(): Promise<void> {
  expect(await timeCalls(3)).toBeLessThan(50)
}

async function expectRefused(sent: Sent, status: number): Promise<void> {
  const before = server.door.asked.length
  const got = await send(server, sent)
  expect([got.status, got.text]).toEqual([status, expect.not.stringContaining('secret')])
  expect(server.door.asked.length).toBe(before)
}

const json = { 'content-type': 'application/json' }
const post = (headers: Sent['headers'], body: Sent['body'] = '{}'): Sent => ({
  method: 'POST',
  path: '/api/models.list',
  headers: { ...json, ...headers },
  body,
})
const bearer = () => ({ authorization: `Bearer ${server.token}` })

describe('the token', () => {
  test.each(['/api/models.list', '/api/nothing', '/api/openapi.json', '/exports/abc'])('%s needs it', async (path) => {
    await expectRefused({ method: 'POST', path, headers: json }, 401)
    await expectRefused({ method: 'GET', path }, 401)
  })

  test.each(['', 'Bearer', 'Bearer wrong', 'Basic dXNlcjpwYXNz', 'Bearer undefined'])(
    '"%s" does not pass for it',
    async (authorization) => {
      await expectRefused(post({ authorization }), 401)
    },
  )

  test('a part of it, a longer one, or one in the address does not pass', async () => {
    await expectRefused(post({ authorization: `Bearer ${server.token.slice(0, -1)}` }), 401)
    await expectRefused(post({ authorization: `Bearer ${server.token}x` }), 401)
    await expectRefused({ ...post({}), path: `/api/models.list?token=${server.token}` }, 401)
    await expectRefused(post({ 'sec-websocket-protocol': eventProtocols(server.token).join(', ') }), 401)
  })
})

describe('foreign names and pages', () => {
  test.each(['evil.example', 'localhost', '127.0.0.1', '127.0.0.1:1', 'localhost.evil.example', '0.0.0.0'])(
    'host "%s" is not ours',
    async (host) => {
      await expectRefused(post({ ...bearer(), host }), 403)
      await expectRefused({ headers: { host } }, 403)
    },
  )

  test('our name with a foreign port is not ours', async () => {
    await expectRefused(post({ ...bearer(), host: `evil.example:${server.port}` }), 403)
  })

  test.each(['http://evil.example', 'null', 'https://127.0.0.1', 'http://localhost:1', 'file://'])(
    'origin %s is foreign, even with the token',
    async (origin) => {
      await expectRefused(post({ ...bearer(), origin }), 403)
      await expectRefused({ path: '/assets/main-4f2a.js', headers: { origin } }, 403)
    },
  )

  test('another of our own names is a foreign origin too', async () => {
    await expectRefused(post({ ...bearer(), origin: `http://localhost:${server.port}` }), 403)
  })

  test('what a browser marks as sent by another site is refused', async () => {
    await expectRefused(post({ ...bearer(), 'sec-fetch-site': 'cross-site' }), 403)
    await expectRefused({ headers: { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'iframe' } }, 403)
  })

  test('a preflight gets no permission', async () => {
    const got = await send(server, {
      method: 'OPTIONS',
      path: '/api/models.list',
      headers: { origin: 'http://evil.example', 'access-control-request-method': 'POST' },
    })
    expect(got.status).toBe(403)
    expect(Object.keys(got.headers).filter((name) => name.startsWith('access-control'))).toEqual([])
  })

  test('our own page may ask', async () => {
    const own = { origin: `http://127.0.0.1:${server.port}`, 'sec-fetch-site': 'same-origin' }
    expect((await sendCall(server, 'models.list', {}, { headers: own })).status).toBe(200)
  })
})

describe('the events', () => {
  const open = (protocols: string[], headers: Record<string, string> = {}, path = '/events') =>
    new Promise<number>((resolve) => {
      const socket = new WebSocket(`ws://127.0.0.1:${server.port}${path}`, protocols, { headers })
      socket.on('open', () => {
        resolve(101)
        socket.terminate()
      })
      socket.on('unexpected-response', (_, response) => resolve(response.statusCode ?? 0))
      socket.on('error', () => {})
    })

  test('are refused without the token, with a wrong one, to foreign pages, under a foreign name', async () => {
    const right = eventProtocols(server.token)
    expect(await open([])).toBe(401)
    expect(await open(eventProtocols('wrong'))).toBe(401)
    expect(await open([], {}, `/events?token=${server.token}`)).toBe(401)
    expect(await open(right, { origin: 'http://evil.example' })).toBe(403)
    expect(await open(right, { origin: 'null' })).toBe(403)
    expect(await open(right, { host: 'evil.example' })).toBe(403)
    expect(await open(right, {}, '/api/models.list')).toBe(404)
    expect(await open(right, { origin: `http://127.0.0.1:${server.port}` })).toBe(101)
  })

  test('a listener that reads nothing is disconnected, and one that floods is ignored; others get every event', async () => {
    const listen = () => new WebSocket(`ws://127.0.0.1:${server.port}/events`, eventProtocols(server.token))
    const [slow, honest, flooding] = [listen(), listen(), listen()]
    await Promise.all([slow, honest, flooding].map((socket) => new Promise((resolve) => socket.once('open', resolve))))
    let heard = 0
    honest.on('message', () => heard++)
    ;(slow as unknown as { _socket: Socket })._socket.pause()
    for (let count = 0; count < 20_000; count++) flooding.send('x'.repeat(100))
    const before = process.memoryUsage.rss()
    const text = 'y'.repeat(100_000)
    for (let count = 0; count < 600; count++) {
      server.door.tell({ name: 'model removed', data: { id: text } } as never)
      // The honest client is at most 2 MB behind, however few bytes a turn of this process moves.
      while (heard + 20 < count) await new Promise(setImmediate)
    }
    await expect.poll(() => heard).toBe(600)
    // 60 MB were sent; at most 16 MB of them are held for the slow client.
    expect(process.memoryUsage.rss() - before).toBeLessThan(200e6)
    ;(slow as unknown as { _socket: Socket })._socket.resume()
    expect(await new Promise((resolve) => slow.once('close', resolve))).toBe(1013)
    await expectWell()
    honest.terminate()
    flooding.terminate()
  })

  test('a big message from a listener ends its connection only', async () => {
    const socket = new WebSocket(`ws://127.0.0.1:${server.port}/events`, eventProtocols(server.token))
    socket.on('open', () => socket.send(Buffer.alloc(1 << 20)))
    const code = await new Promise((resolve) => socket.on('close', resolve))
    expect(code).toBe(1009)
    await expectWell()
  })
})

describe('paths', () => {
  const outside = [
    '..%2fsecret.txt',
    '%2e%2e/secret.txt',
    '../secret.txt',
    'assets/../../secret.txt',
    '%2e%2e%2fsecret.txt',
    './../secret.txt',
  ]
  const malformed = [
    '..%5csecret.txt',
    '..\\secret.txt',
    'C:%5csecret.txt',
    'index.html%00.txt',
    '%',
    '%zz',
    '%252e%252e%252fsecret.txt',
    'index.html::$DATA',
    '%c0%ae%c0%ae/secret.txt',
  ]

  test.each(outside)('/%s leads out of the screens', (path) => expectRefused({ path: `/${path}` }, 403))
  test.each(malformed)('/%s is malformed', (path) => expectRefused({ path: `/${path}` }, 400))
  test.each(['/way-out/secret.txt', '/assets/../way-out/secret.txt'])('%s leads out through a link', (path) => expectRefused({ path }, 403))
  test.each(['/nothing.js', '/assets', '/assets/', '//etc/passwd', '/etc/passwd', '/.env', '/events'])('%s is not there', (path) =>
    expectRefused({ path }, 404),
  )

  test.each(['..', '..%2f..', 'A', 'a%00b', '__proto__', 'abc%2f..%2f..', 'abc/config.json'])('the export id %s is refused', (id) =>
    expectRefused({ path: `/exports/${id}`, headers: bearer() }, 400),
  )
  test.each(['constructor', '__proto__', 'toString', 'models.list/..', '../api/models.list', 'models.list%00', ''])(
    'the call "%s" does not exist',
    (name) => expectRefused({ ...post(bearer()), path: `/api/${name}` }, 404),
  )
  test('an address instead of a path is refused', () =>
    expectRefused({ path: 'http://evil.example/api/models.list', headers: bearer() }, 400))
})

describe('bodies', () => {
  const hundredMegabytes = Buffer.alloc(100 * 1024 * 1024, 32)

  test('100 MB announced are refused before they are sent', async () => {
    const status = await new Promise<number>((resolve, reject) => {
      const headers = { ...json, ...bearer(), 'content-length': hundredMegabytes.length }
      const sent = request({ port: server.port, host: '127.0.0.1', method: 'POST', path: '/api/models.list', headers }, (response) => {
        resolve(response.statusCode ?? 0)
        sent.destroy()
      })
      sent.on('error', reject)
      sent.flushHeaders()
    })
    expect(status).toBe(413)
    await expectWell()
  })

  test('100 MB sent anyway are refused, with and without the token, announced and in chunks', async () => {
    await expectRefused(post(bearer(), hundredMegabytes), 413)
    await expectRefused(post({}, hundredMegabytes), 401)
    await expectRefused(post({ ...bearer(), 'transfer-encoding': 'chunked' }, hundredMegabytes), 413)
    await expectRefused({ path: '/', headers: { 'content-length': `${hundredMegabytes.length}` }, body: hundredMegabytes }, 413)
    await expectRefused({ ...post(bearer(), hundredMegabytes), path: '/api/experiments.import' }, 413)
    await expectWell()
  })

  test('a client that waits to be invited is not', async () => {
    const status = await new Promise((resolve) => {
      const headers = { ...json, ...bearer(), expect: '100-continue', 'content-length': hundredMegabytes.length }
      const sent = request({ port: server.port, host: '127.0.0.1', method: 'POST', path: '/api/models.list', headers }, (response) => {
        resolve(response.statusCode)
        sent.destroy()
      })
      sent.on('continue', () => resolve('invited'))
      sent.on('error', () => {})
      sent.flushHeaders()
    })
    expect(status).toBe(413)
  })

  test.each(['{', '[1,', 'nonsense', "{'a':1}", '{"a":NaN}', '\u0000', '{}{}'])('broken JSON %j', (body) =>
    expectRefused(post(bearer(), body), 400),
  )
  test('bytes that are not UTF-8', () => expectRefused(post(bearer(), Buffer.from([0x22, 0xff, 0x22])), 400))
  test('a hundred thousand levels', () => expectRefused(post(bearer(), '['.repeat(100_000) + ']'.repeat(100_000)), 400))
  test.each(['{"__proto__":{"admin":true}}', '{"a":[{"constructor":{"prototype":{}}}]}', '{"\\u005f_proto__":1}', '{"prototype":1}'])(
    'the keys of %s',
    (body) => expectRefused(post(bearer(), body), 400),
  )
  test('nothing was left on the prototype of objects', () => expect(Object.keys(Object.prototype)).toEqual([]))

  test.each(['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data', '', 'application/jsonp', 'text/json'])(
    'content type "%s"',
    (type) => expectRefused(post({ ...bearer(), 'content-type': type }), 415),
  )
  test('a compressed body', () => expectRefused(post({ ...bearer(), 'content-encoding': 'gzip' }), 415))
  test.each(['GET', 'PUT', 'DELETE', 'PATCH'])('method %s', (method) => expectRefused({ ...post(bearer()), method, body: '' }, 405))
  test('posting to the page', () => expectRefused({ method: 'POST', path: '/', headers: json }, 405))
})

describe('floods', () => {
  const opened: Socket[] = []
  const openMany = (count: number, greeting?: string) =>
    Promise.all(
      Array.from({ length: count }, () => {
        const socket = connect(server.port, '127.0.0.1')
        opened.push(socket)
        socket.on('error', () => {})
        return new Promise<void>((resolve) =>
          socket.once('connect', () => {
            if (greeting) socket.write(greeting)
            resolve()
          }),
        )
      }),
    )
  const closeMany = () => {
    for (const socket of opened.splice(0)) socket.destroy()
  }

  test('1,000 connections held open: still answered within 50 ms of work, and a listener stays connected', async () => {
    const listener = new WebSocket(`ws://127.0.0.1:${server.port}/events`, eventProtocols(server.token))
    await new Promise((resolve) => listener.once('open', resolve))
    await openMany(1000)
    expect(await timeCalls(20)).toBeLessThan(50)
    expect(listener.readyState).toBe(WebSocket.OPEN)
    listener.terminate()
    closeMany()
  })

  test('1,000 half-sent requests: still answered within 50 ms of work, then answered with 408 and closed', async () => {
    await openMany(1000, 'POST /api/models.list HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow:')
    const last = opened.at(-1) as Socket
    let received = ''
    last.on('data', (data) => {
      received += data
    })
    // The connection may be reset while it is written to, which `once` would throw.
    const closed = new Promise((resolve) => last.on('close', resolve))
    expect(await timeCalls(20)).toBeLessThan(50)
    const drip = setInterval(() => last.write(' .'), 100)
    await closed
    clearInterval(drip)
    expect(received).toContain('408 Request Timeout')
    closeMany()
    await expectWell()
  })

  test('a body that drips in is cut off', async () => {
    const socket = connect(server.port, '127.0.0.1')
    socket.on('error', () => {})
    socket.write(
      `POST /api/models.list HTTP/1.1\r\nHost: 127.0.0.1:${server.port}\r\nAuthorization: Bearer ${server.token}\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n`,
    )
    const drip = setInterval(() => socket.write(' '), 100)
    await new Promise((resolve) => socket.on('close', resolve))
    clearInterval(drip)
    await expectWell()
  })

  test.each(['', 'Host:\r\n', 'Host: 127.0.0.1:PORT\r\nHost: 127.0.0.1:PORT\r\n'])(
    'a request with none, an empty or two host names (%j) is refused',
    async (lines) => {
      const socket = connect(server.port, '127.0.0.1')
      socket.write(`GET / HTTP/1.1\r\n${lines.replaceAll('PORT', `${server.port}`)}Connection: close\r\n\r\n`)
      const [answer] = (await once(socket, 'data')) as [Buffer]
      expect(answer.toString()).toMatch(/^HTTP\/1.1 (400|403) /)
      socket.destroy()
    },
  )

  test('endless headers get 431', async () => {
    const got = await send(server, { headers: { filler: 'x'.repeat(20_000) } })
    expect(got.status).toBe(431)
    await expectWell()
  })
})
