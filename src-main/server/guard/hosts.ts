import { hostname, networkInterfaces } from 'node:os'

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
