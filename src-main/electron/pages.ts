import { protocol, type Session } from 'electron'
import { securityHeaders } from '#server/guard/content-policy.ts'
import { answerFor, Refusal } from '#server/guard/refusal.ts'
import { openPageFiles, type PageFiles } from '#server/page-files.ts'
import { appScheme, isOwnAddress } from './origin.ts'

/** Must run exactly once, before the application is ready. With `codeCache`, the second start compiles no script: 0.1 s less. */
export function registerScheme(): void {
  protocol.registerSchemesAsPrivileged([{ scheme: appScheme, privileges: { standard: true, secure: true, codeCache: true } }])
}

/** Serves only the built screens in `folder` to the window. */
export function servePages(session: Session, folder: string): void {
  const pages = openPageFiles(folder)
  session.protocol.handle(appScheme, (request) => answerPage(pages, request))
}

async function answerPage(pages: PageFiles, request: Request): Promise<Response> {
  try {
    if (!isOwnAddress(request.url)) throw new Refusal(403, 'This host has no pages.')
    if (request.method !== 'GET') throw new Refusal(405, 'Pages can only be read.')
    const file = await pages(new URL(request.url).pathname)
    return new Response(new Uint8Array(file.bytes), {
      headers: { ...securityHeaders, 'content-type': file.type, 'cache-control': 'no-cache' },
    })
  } catch (thrown) {
    const { status, body } = answerFor(thrown)
    return new Response(body.message, { status, headers: { ...securityHeaders, 'content-type': 'text/plain; charset=utf-8' } })
  }
}
