import { z } from 'zod'
import type { Call } from '#contract/call.ts'
import { errorCodes } from '#contract/errors.ts'

type Json = Record<string, unknown>

/** Returns an OpenAPI 3.1 document of a contract's calls, each of which is `POST /api/<call>`. */
export function openApiDocument(calls: Readonly<Record<string, Call>>): Json {
  const paths = Object.entries(calls).map(([name, call]) => [`/api/${name}`, { post: describeCall(name, call) }])
  return {
    openapi: '3.1.0',
    info: {
      title: 'Espalier',
      version: '1',
      description:
        'Every call takes and returns JSON. Events arrive on the WebSocket /events as `{ name, data }`. See src-main/server/README.md.',
    },
    security: [{ token: [] }],
    paths: Object.fromEntries(paths),
    components: {
      securitySchemes: { token: { type: 'http', scheme: 'bearer' } },
      schemas: { Failure: failure },
      responses: { Failure: { description: 'What went wrong and what to do.', content: jsonOf({ $ref: '#/components/schemas/Failure' }) } },
    },
  }
}

const failure: Json = {
  type: 'object',
  required: ['code', 'message'],
  properties: { code: { enum: [...errorCodes, 'refused'] }, message: { type: 'string' }, details: { type: 'object' } },
}

function describeCall(name: string, call: Call): Json {
  const expected = ['invalid', ...call.errors, 'internal'].join(', ')
  return {
    operationId: name,
    tags: [name.slice(0, name.indexOf('.'))],
    summary: call.summary,
    requestBody: { required: true, content: jsonOf(schemaOf(call.input, 'input')) },
    responses: {
      200: { description: 'Done.', content: jsonOf(schemaOf(call.output, 'output')) },
      default: { $ref: '#/components/responses/Failure', description: `Codes: ${expected}.` },
    },
  }
}

function schemaOf(schema: z.ZodType, io: 'input' | 'output'): Json {
  const { $schema: _, ...described } = z.toJSONSchema(schema, { io, unrepresentable: 'any' })
  return described
}

function jsonOf(schema: Json): Json {
  return { 'application/json': { schema } }
}
