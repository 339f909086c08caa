import { EspalierError } from '#contract/errors.ts'
import { isLoopback } from './guard/hosts.ts'

/** A server's address and access token. `address` ends in a slash. */
export interface ServerAddress {
  address: string
  token: string
}

/** Returns the line to open in a browser. The token is in the fragment, which browsers never send. */
export function printedAddress({ address, token }: ServerAddress): string {
  return `${address}#token=${token}`
}

/** Parses an address as printed, or one without the fragment plus a separate token. */
export function parseAddress(text: string, token?: string): ServerAddress {
  const url = URL.parse(text.includes('://') ? text : `http://${text}`)
  const isPlain = url && !url.username && !url.password && url.pathname === '/' && url.search === ''
  if (!isPlain || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
    throw new EspalierError('usage', `"${text}" is not a server address. Expected something like http://127.0.0.1:8600/#token=…`)
  }
  const given = token ?? new URLSearchParams(url.hash.slice(1)).get('token')
  if (!given)
    throw new EspalierError(
      'usage',
      `The token for ${url.origin} is missing. Put it into ESPALIER_TOKEN, or into a file for --token-file. "espalier serve" printed it after #token=.`,
    )
  return { address: `${url.origin}/`, token: given }
}

/** Whether traffic to an address is unencrypted on the network. */
export function isInClear(address: string): boolean {
  const url = new URL(address)
  return url.protocol === 'http:' && !isLoopback(url.hostname.replace(/^\[|\]$/g, ''))
}
