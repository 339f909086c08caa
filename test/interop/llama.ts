import { LlamaProcess } from '#engine/llama/llama-process.ts'

/** A question to llama.cpp about a file. */
export interface LlamaQuestion {
  readonly file: string
  readonly windows?: readonly Int32Array[]
  readonly prompt?: readonly number[]
  /** Tokens of the answer to the prompt. */
  readonly tokens?: number
  readonly texts?: readonly string[]
  readonly threads?: number
}

export interface LlamaAnswer {
  readonly perplexity: number
  /** After each token of the first window. */
  readonly logits: Float32Array
  readonly greedy: readonly number[]
  readonly tokensPerSecond: number
  readonly ids: readonly (readonly number[])[] | undefined
}

/** llama.cpp with keys and values in float32 and plain attention. If a file ends its process, the next question starts a new one. */
export class Llama {
  #process = new LlamaProcess()

  async ask(question: LlamaQuestion): Promise<LlamaAnswer> {
    try {
      return await this.#answer(question)
    } catch (thrown) {
      this.end()
      this.#process = new LlamaProcess()
      throw thrown
    }
  }

  async #answer({ file, windows = [], prompt = [], tokens = 0, texts, threads = 1 }: LlamaQuestion): Promise<LlamaAnswer> {
    const llama = this.#process
    const context = Math.max(64, prompt.length + tokens, ...windows.map(({ length }) => length))
    await llama.ask('open', file, { context, threads, device: 'CPU', exact: true })
    let [loss, count] = [0, 0]
    for (const window of windows) {
      loss += await llama.ask('loss', window)
      count += window.length - 1
    }
    const [first] = windows
    const { ids: greedy, tokensPerSecond } =
      tokens > 0 ? await llama.ask('answer', Int32Array.from(prompt), tokens) : { ids: [], tokensPerSecond: 0 }
    return {
      perplexity: Math.exp(loss / count),
      logits: first ? await llama.ask('logits', first) : new Float32Array(),
      greedy,
      tokensPerSecond,
      ids: texts && (await llama.ask('tokenize', texts)),
    }
  }

  quantize(from: string, to: string, fileType: number): Promise<void> {
    return this.#process.ask('quantize', from, to, fileType, 1)
  }

  end(): void {
    this.#process.end()
  }
}
