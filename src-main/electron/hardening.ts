import { type App, type Event, type Session, shell, type WebContents } from 'electron'
import { appScheme, isOwnAddress } from './origin.ts'

/** Denies the page every permission, every device, and every request except for the application's own files. */
export function hardenSession(session: Session): void {
  session.setPermissionRequestHandler((_contents, _permission, decide) => decide(false))
  session.setPermissionCheckHandler(() => false)
  session.setDevicePermissionHandler(() => false)
  session.setDisplayMediaRequestHandler((_request, decide) => decide({}))
  session.webRequest.onBeforeRequest((request, decide) => decide({ cancel: !isOwnRequest(request.url) }))
}

/** Also allows blobs, which the page creates to save files, and the developer tools, which are Electron's own pages. */
function isOwnRequest(address: string): boolean {
  return (
    isOwnAddress(address) ||
    address.startsWith(`blob:${appScheme}://app/`) ||
    address.startsWith('data:image/') ||
    address.startsWith('devtools://')
  )
}

/** Hardens every page and session, not only this window's. */
export function hardenContents(app: App): void {
  app.on('web-contents-created', (_event, contents) => hardenPage(contents))
  app.on('session-created', hardenSession)
}

function hardenPage(contents: WebContents): void {
  const stay = (event: Event<{ url: string }>) => {
    if (!isOwnAddress(event.url)) event.preventDefault()
  }
  contents.on('will-navigate', stay)
  contents.on('will-frame-navigate', stay)
  contents.on('will-redirect', stay)
  contents.on('will-attach-webview', (event) => event.preventDefault())
  contents.setWindowOpenHandler(({ url }) => {
    openLink(url)
    return { action: 'deny' }
  })
}

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
