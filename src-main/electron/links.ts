import { shell } from 'electron'

/** Hosts that the screens link to. Anything else would let a model card or a name send a person anywhere. */
const allowedHosts = new Set(['arxiv.org', 'doi.org', 'huggingface.co', 'github.com'])

export function isAllowedLink(address: string): boolean {
  const url = URL.parse(address)
  return url?.protocol === 'https:' && allowedHosts.has(url.host) && url.username === '' && url.password === ''
}

/** Opens an allowed address in the person's browser; tells whether it did. */
export function openLink(address: string): boolean {
  if (!isAllowedLink(address)) return false
  void shell.openExternal(new URL(address).href)
  return true
}
