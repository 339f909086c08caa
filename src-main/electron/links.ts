import { shell } from 'electron'

/** Hosts that the screens link to. Without a list, a model card or a name could send the user anywhere. */
const allowedHosts = new Set(['arxiv.org', 'doi.org', 'huggingface.co', 'github.com'])

export function isAllowedLink(address: string): boolean {
  const url = URL.parse(address)
  return url?.protocol === 'https:' && allowedHosts.has(url.host) && url.username === '' && url.password === ''
}

/** Opens an allowed address in the user's browser; returns whether it did. */
export function openLink(address: string): boolean {
  if (!isAllowedLink(address)) return false
  void shell.openExternal(new URL(address).href)
  return true
}
