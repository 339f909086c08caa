const storageKey = 'espalier.token'

/** The token comes once in the address, is taken out of it before anything reads the route, and stays with this tab. */
export const token = typeof location === 'undefined' ? '' : takeToken()

// A printed address pasted over this page changes the fragment only: take its token with a fresh start.
if (typeof window !== 'undefined') {
  window.addEventListener('hashchange', () => {
    if (/[#&?]token=/.test(location.hash)) location.reload()
  })
}

function takeToken(): string {
  const match = /[#&?]token=([^&]+)/.exec(location.hash)
  if (match?.[1]) {
    sessionStorage.setItem(storageKey, decodeURIComponent(match[1]))
    history.replaceState(history.state, '', location.hash.replace(/#token=[^&]+&?/, '#').replace(/[&?]token=[^&]+/, ''))
  }
  return sessionStorage.getItem(storageKey) ?? ''
}
