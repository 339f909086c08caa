import { afterEach, expect, test } from 'vitest'
import type { ApiEvent } from '#contract/api.ts'
import { EspalierError } from '#contract/errors.ts'
import { isInClear, parseAddress, printedAddress } from '#server/address.ts'
import { connectWorkbench, type RemoteWorkbench } from '#server/client.ts'
import { makeFakeDoor } from './fake-door.ts'
import { type Running, runServer } from './running.ts'

let server: Running | undefined
let remote: RemoteWorkbench | undefined

afterEach(async () => {
  await remote?.close()
  await server?.stop()
  remote = server = undefined
})

const removed = (id: string): ApiEvent => ({ name: 'model removed', data: { id } })

test('a workbench elsewhere is used like one here: calls, errors, events', async () => {
  const failing = () => {
    throw new EspalierError('conflict', 'In use.', { runs: 3 })
  }
  const running = await runServer(makeFakeDoor({ 'models.list': () => [], 'models.remove': failing }))
  server = running
  remote = await connectWorkbench(parseAddress(printedAddress(running)))
  expect(await remote.call('models.list', {})).toEqual([])
  await expect(remote.call('models.remove', { id: 'abc' })).rejects.toMatchObject({
    code: 'conflict',
    message: 'In use.',
    details: { runs: 3 },
  })
  const reported: ApiEvent[] = []
  remote.subscribe((event) => reported.push(event))
  const count = () => {
    running.door.tell(removed('abc'))
    return reported.length
  }
  await expect.poll(count).toBeGreaterThan(0)
  expect(reported[0]).toEqual(removed('abc'))
})

test('after the server was started again the events come back by themselves', async () => {
  const first = await runServer()
  const reported: ApiEvent[] = []
  remote = await connectWorkbench(first)
  let connections = 0
  remote.subscribe(
    (event) => reported.push(event),
    () => {
      connections++
    },
  )
  /** Tells until the event arrives, because nothing says when the socket is open. */
  const arrives = (door: typeof first.door, id: string) =>
    expect.poll(() => {
      door.tell(removed(id))
      return reported.at(-1)
    })
  await arrives(first.door, 'before').toEqual(removed('before'))
  await first.stop()
  const second = await runServer(makeFakeDoor(), { port: first.port, token: first.token })
  server = second
  await arrives(second.door, 'again').toEqual(removed('again'))
  expect(connections).toBe(2)
})

test('a wrong token, a missing server and another protocol are distinguished from failures of a call', async () => {
  const other = await runServer(makeFakeDoor({ 'workbench.get': () => ({ version: '9.0.0', protocol: 99 }) }))
  server = other
  await expect(connectWorkbench({ address: other.address, token: 'wrong' })).rejects.toMatchObject({
    code: 'unreachable',
    message: expect.stringContaining('401'),
  })
  await expect(connectWorkbench({ address: 'http://127.0.0.1:1/', token: 'x' })).rejects.toThrow('does not answer')
  await expect(connectWorkbench(other)).rejects.toThrow('Espalier 9.0.0 with protocol 99')
})

test('addresses are read as printed, with a token beside, and refused when they are none', () => {
  expect(parseAddress('http://127.0.0.1:8600/#token=abc')).toEqual({ address: 'http://127.0.0.1:8600/', token: 'abc' })
  expect(parseAddress('box:8600', 'abc')).toEqual({ address: 'http://box:8600/', token: 'abc' })
  expect(() => parseAddress('http://box:8600/')).toThrow('token')
  expect(() => parseAddress('file:///etc/passwd', 'abc')).toThrow('not a server address')
  expect(() => parseAddress('http://user:pass@box/', 'abc')).toThrow('not a server address')
  expect(() => parseAddress('https://proxy/espalier/', 'abc')).toThrow('not a server address')
  expect([
    isInClear('http://box:8600/'),
    isInClear('https://box/'),
    isInClear('http://[::1]:1/'),
    isInClear('http://127.0.0.1:1/'),
  ]).toEqual([true, false, false, false])
})
