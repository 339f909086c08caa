import type { z } from 'zod'
import { EspalierError } from '#contract/errors.ts'
import { explainIssues, readWith } from '#contract/explain-issue.ts'

/**
 * Options with their defaults filled in. Throws `usage` with a sentence per field that is wrong, and the fields in the details.
 *
 * @param owner The title of the method or ablation.
 */
export function parseOptions<Schema extends z.ZodObject>(schema: Schema, options: unknown, owner: string): z.infer<Schema> {
  const parsed = readWith(schema.strict(), options)
  if (parsed.success) return parsed.data as z.infer<Schema>
  const known = Object.keys(schema.shape).join(', ')
  const issues = explainIssues(parsed.error, options, (name) => `${owner} has no option "${name}". It has: ${known}.`)
  throw new EspalierError('usage', issues.map(({ message }) => message).join(' '), { issues })
}
