import { z } from 'zod'

/** A type that a matrix may have: its bytes, and the divergence in nats per token that its errors are estimated to cause. */
const typeChoice = z.object({ type: z.string(), bytes: z.number(), price: z.number() })

/** What the types of a file were chosen by. The chosen types are in the plan. */
export const mixedTypes = z.object({
  /** The most bytes of the file. */
  bytes: z.number(),
  /** The estimated divergence from the unquantised model, in nats per token. */
  divergence: z.number(),
  /** The tokens that sensitivities were measured on. */
  tokens: z.number().int(),
  /** Each matrix, by llama.cpp's name of the tensor, with its choices by size. */
  tensors: z.array(z.object({ name: z.string(), shape: z.array(z.number().int()), choices: z.array(typeChoice) })),
})

export type MixedTypes = z.infer<typeof mixedTypes>
