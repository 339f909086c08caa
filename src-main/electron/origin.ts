export const appScheme = 'espalier'
/** The one origin that the window shows. */
export const appOrigin = `${appScheme}://app`

/** Whether an address belongs to the application's own pages; compared as parsed, never as text. */
export function isOwnAddress(address: string): boolean {
  const url = URL.parse(address)
  return url?.protocol === `${appScheme}:` && url.host === 'app' && url.username === '' && url.port === ''
}
