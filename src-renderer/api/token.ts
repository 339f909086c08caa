const storageKey = 'espalier.token'
/** How long a new tab waits for another tab to hand over the token before it shows that it has none. */
const handOverMilliseconds = 300

/** Tabs exchange the token on this channel. The browser admits only pages of the same origin, and the port is part of the origin. */
const tabs = typeof window === 'undefined' ? null : new BroadcastChannel(storageKey)

type Message = { asks: true } | { token: string }

let token = typeof location === 'undefined' ? '' : takeToken()

export const readToken = (): string => token

// Pasting a printed address over this page changes only the fragment, so reload to read its token.
if (typeof window !== 'undefined') {
  window.addEventListener('hashchange', () => {
    if (/[#&?]token=/.test(location.hash)) location.reload()
  })
}

/** Moves a token from the address into this tab's storage before anything reads the route. Returns the stored token, or ''. */
function takeToken(): string {
  const match = /[#&?]token=([^&]+)/.exec(location.hash)
  if (match?.[1]) {
    sessionStorage.setItem(storageKey, decodeURIComponent(match[1]))
    history.replaceState(history.state, '', location.hash.replace(/#token=[^&]+&?/, '#').replace(/[&?]token=[^&]+/, ''))
  }
  return sessionStorage.getItem(storageKey) ?? ''
}

/** Gives the token to new tabs while this one is connected. */
export function answerTabs(isSignedIn: () => boolean): void {
  tabs?.addEventListener('message', ({ data }: MessageEvent<Message>) => {
    if ('asks' in data && isSignedIn()) tabs.postMessage({ token } satisfies Message)
  })
}

/** Asks the other tabs for their token, if this one has none. Resolves when one answers, or after 0.3 s. A later answer reloads the page. */
export async function askTabs(): Promise<void> {
  if (!tabs || token !== '') return
  const answered = new Promise<true>((resolve) => {
    tabs.addEventListener('message', ({ data }: MessageEvent<Message>) => {
      if (!('token' in data) || token !== '') return
      token = data.token
      sessionStorage.setItem(storageKey, token)
      resolve(true)
    })
  })
  tabs.postMessage({ asks: true } satisfies Message)
  const late = new Promise<false>((resolve) => setTimeout(() => resolve(false), handOverMilliseconds))
  if (!(await Promise.race([answered, late]))) void answered.then(() => location.reload())
}
