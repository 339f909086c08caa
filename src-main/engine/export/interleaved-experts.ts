import { at } from '#contract/at.ts'
import { elementBytes } from '#engine/checkpoint/dtypes.ts'
import type { TensorToWrite } from '#engine/checkpoint/safetensors/write-safetensors.ts'
import { putColumns } from '#engine/checkpoint/turned.ts'

const part = /^(.*\.experts)\.(\d+)\.(gate|up|down)_proj\.(weight|bias)$/

/**
 * Joins the tensors of separate experts into gpt-oss's tensors for all experts, whose rows are inputs and in which gates and ups alternate.
 * Other tensors stay unchanged.
 */
export function interleaveExperts(tensors: readonly TensorToWrite[]): TensorToWrite[] {
  const own = tensors.filter(({ name }) => part.test(name))
  const joined = Map.groupBy(own, ({ name }) => {
    const [, mixture = '', , projection = '', kind = ''] = part.exec(name) ?? []
    return `${mixture}.${projection === 'down' ? 'down' : 'gate_up'}_proj${kind === 'bias' ? '_bias' : ''}`
  })
  return [...tensors.filter(({ name }) => !part.test(name)), ...[...joined].map(([name, parts]) => joinParts(name, parts))]
}

/** Joins parts into one tensor of all experts. A bias is treated as a matrix with one column. */
function joinParts(name: string, parts: readonly TensorToWrite[]): TensorToWrite {
  const { dtype, shape } = at(parts, 0)
  const [rows = 1, columns = 1] = shape
  const step = name.includes('gate_up_proj') ? 2 : 1
  const experts = parts.length / step
  const isBias = shape.length === 1
  const each = step * rows * columns * elementBytes(dtype)
  return {
    name,
    dtype,
    shape: isBias ? [experts, step * rows] : [experts, columns, step * rows],
    async bytes() {
      const all = new Uint8Array(experts * each)
      for (const tensor of parts) {
        const [, , expert, projection] = part.exec(tensor.name) ?? []
        const first = step === 2 && projection === 'up' ? 1 : 0
        putColumns(await tensor.bytes(), elementBytes(dtype), all, Number(expert) * each, { rows, columns, step, first })
      }
      return all
    },
  }
}
