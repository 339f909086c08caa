import type { IncomingMessage } from 'node:http'
import { hostname, networkInterfaces } from 'node:os'
import { Refusal } from './refusal.ts'

/** Host names that this server accepts, as `name:port` in lower case. */
export type HostList = ReadonlySet<string>

/** Refuses unknown host names. This defeats DNS rebinding, in which an attacker's domain name points at this machine. */
export function checkHost(request: IncomingMessage, hosts: HostList): void {
  const given = request.headersDistinct.host ?? []
  const host = given[0]?.toLowerCase()
  if (given.length !== 1 || host === undefined || !hosts.has(host)) throw new Refusal(403, 'This server does not accept that host name.')
}

/** Refuses pages of any other origin. Programs send no Origin and pass, but still need the token. */
export function checkOrigin(request: IncomingMessage): void {
  const origins = request.headersDistinct.origin ?? []
  const own = `http://${request.headers.host?.toLowerCase()}`
  if (origins.some((origin) => origin.toLowerCase() !== own)) throw new Refusal(403, 'Pages of another origin may not call this server.')
  const site = request.headers['sec-fetch-site']
  if (site === 'cross-site' || site === 'same-site') throw new Refusal(403, 'Pages of another origin may not call this server.')
}

/** Lets links from elsewhere open the screens, which hold no data, but lets no other page embed or fetch them. */
export function checkPageOrigin(request: IncomingMessage): void {
  const opensWindow = request.headers['sec-fetch-mode'] === 'navigate' && request.headers['sec-fetch-dest'] === 'document'
  if (!opensWindow) checkOrigin(request)
}

const loopbackNames = ['127.0.0.1', 'localhost', '[::1]']

export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host)
}

/**
 * Host names that this server accepts, as `name:port`. On loopback, its three names; otherwise also this machine's name and addresses,
 * never the requested name. `extra` are configured names (of a tunnel or proxy), with their own port or ours.
 */
export function hostList(host: string, port: number, extra: readonly string[] = []): Set<string> {
  const names = isLoopback(host) ? loopbackNames : [...loopbackNames, hostname(), ...machineAddresses(), bracketed(host)]
  const own = names.map((name) => `${name}:${port}`)
  const given = extra.map((name) => (/:\d+$/.test(name) ? name : `${name}:${port}`))
  return new Set([...own, ...given].map((name) => name.toLowerCase()))
}

/** Returns a host as written in a URL: an IPv6 address gets brackets. */
export function bracketed(host: string): string {
  return host.includes(':') && !host.startsWith('[') ? `[${host}]` : host
}

function machineAddresses(): string[] {
  return Object.values(networkInterfaces()).flatMap((entries) => (entries ?? []).map((entry) => bracketed(entry.address)))
}
