export const appScheme = 'espalier'
/** The only origin that the window shows. */
export const appOrigin = `${appScheme}://app`

/** Whether an address is one of the application's pages. Compares parsed addresses, never text. */
export function isOwnAddress(address: string): boolean {
  const url = URL.parse(address)
  return url?.protocol === `${appScheme}:` && url.host === 'app' && url.username === '' && url.port === ''
}
