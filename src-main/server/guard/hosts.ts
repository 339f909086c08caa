import { hostname, networkInterfaces } from 'node:os'

const loopbackNames = ['127.0.0.1', 'localhost', '[::1]']

export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host)
}

/**
 * The names this server answers to, as `name:port`. On loopback: its three names. Beyond: this machine's name and addresses too,
 * never "whatever was asked for". `extra` are names given by hand (a tunnel's or a proxy's), with their port or ours.
 */
export function hostList(host: string, port: number, extra: readonly string[] = []): Set<string> {
  const names = isLoopback(host) ? loopbackNames : [...loopbackNames, hostname(), ...machineAddresses(), bracketed(host)]
  const own = names.map((name) => `${name}:${port}`)
  const given = extra.map((name) => (/:\d+$/.test(name) ? name : `${name}:${port}`))
  return new Set([...own, ...given].map((name) => name.toLowerCase()))
}

/** An IPv6 address as it stands in a URL. */
export function bracketed(host: string): string {
  return host.includes(':') && !host.startsWith('[') ? `[${host}]` : host
}

function machineAddresses(): string[] {
  return Object.values(networkInterfaces()).flatMap((entries) => (entries ?? []).map((entry) => bracketed(entry.address)))
}
