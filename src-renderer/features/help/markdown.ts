import { lexer, type MarkedToken } from 'marked'

/** Parses a document. Comments are left out, and nothing becomes HTML. */
export function parseMarkdown(text: string): MarkedToken[] {
  return (lexer(text) as MarkedToken[]).filter((token) => token.type !== 'html' && token.type !== 'space')
}

/** Tokens inside another one, as `marked` nests them. */
export function tokensIn(token: MarkedToken): MarkedToken[] {
  return (('tokens' in token && token.tokens) || []) as MarkedToken[]
}

/** The anchor that links to a heading use. */
export function anchorOf(title: string): string {
  return title
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\s-]/gu, '')
    .trim()
    .replaceAll(/\s/g, '-')
}
