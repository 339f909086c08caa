import { EspalierError } from '#contract/errors.ts'
import { isLoopback } from './guard/hosts.ts'

/** Where a server is and what opens it. `address` ends in a slash. */
export interface ServerAddress {
  address: string
  token: string
}

/** The one line to open in a browser. The token stands in the fragment: browsers send that to nobody. */
export function printedAddress({ address, token }: ServerAddress): string {
  return `${address}#token=${token}`
}

/** Reads an address as printed, or one without the fragment together with a token. */
export function parseAddress(text: string, token?: string): ServerAddress {
  const url = URL.parse(text.includes('://') ? text : `http://${text}`)
  if (!url || (url.protocol !== 'http:' && url.protocol !== 'https:') || url.username || url.password) {
    throw new EspalierError('usage', `"${text}" is not the address of a server. It looks like http://127.0.0.1:8600/#token=…`)
  }
  const given = token ?? new URLSearchParams(url.hash.slice(1)).get('token')
  if (!given) throw new EspalierError('usage', `The token for ${url.origin} is missing. Copy the whole line that "espalier serve" printed.`)
  return { address: `${url.origin}/`, token: given }
}

/** Whether what is sent to an address can be read on its way. */
export function isInClear(address: string): boolean {
  const url = new URL(address)
  return url.protocol === 'http:' && !isLoopback(url.hostname.replace(/^\[|\]$/g, ''))
}
