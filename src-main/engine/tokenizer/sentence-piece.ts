import type { JsonObject } from '../checkpoint/json.ts'

/**
 * The tokens that are split off before text is encoded, in the form of tokenizer.json: those of ggml's token types 3 (control) and 4
 * (user-defined).
 */
export function addedTokens(tokens: readonly string[], typeOf: (id: number) => unknown): JsonObject[] {
  return tokens.flatMap((content, id) => {
    const type = typeOf(id)
    if (type !== 3 && type !== 4) return []
    return [{ id, content, special: type === 3, normalized: false, single_word: false, lstrip: false, rstrip: false }]
  })
}

/**
 * Makes the tokenizer.json of a SentencePiece model of the byte-pair kind from its pieces and their scores. Neighbouring pieces that form
 * another piece are merged, the best score first. Characters without a piece become bytes.
 */
export function makeSentencePiece(
  tokens: readonly string[],
  scores: readonly number[],
  typeOf: (id: number) => unknown,
  addsPrefix: boolean,
): JsonObject {
  const replace = { type: 'Replace', pattern: { String: ' ' }, content: '▁' }
  const unknown = tokens.findIndex((_, id) => typeOf(id) === 2)
  return {
    added_tokens: addedTokens(tokens, typeOf),
    normalizer: { type: 'Sequence', normalizers: [...(addsPrefix ? [{ type: 'Prepend', prepend: '▁' }] : []), replace] },
    pre_tokenizer: null,
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        ...(addsPrefix ? [{ type: 'Strip', content: ' ', start: 1, stop: 0 }] : []),
      ],
    },
    model: {
      type: 'BPE',
      unk_token: tokens[unknown] ?? null,
      fuse_unk: true,
      byte_fallback: true,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges: mergesOf(tokens, scores, typeOf),
    },
  }
}

/**
 * Every pair of pieces that together form a third piece, ordered by the score of the third, best first. Pairs that form the same piece are
 * ordered by the ids of their pieces.
 */
function mergesOf(tokens: readonly string[], scores: readonly number[], typeOf: (id: number) => unknown): [string, string][] {
  const ids = new Map(tokens.map((token, id) => [token, id]))
  const pairs: { left: number; right: number; score: number }[] = []
  for (const [id, token] of tokens.entries()) {
    // Control tokens and byte tokens are never the result of a merge.
    if (typeOf(id) === 3 || typeOf(id) === 6) continue
    for (let border = 1; border < token.length; border++) {
      const [left, right] = [ids.get(token.slice(0, border)), ids.get(token.slice(border))]
      if (left !== undefined && right !== undefined) pairs.push({ left, right, score: scores[id] ?? 0 })
    }
  }
  pairs.sort((a, b) => b.score - a.score || a.left - b.left || a.right - b.right)
  return pairs.map(({ left, right }) => [tokens[left] as string, tokens[right] as string])
}
