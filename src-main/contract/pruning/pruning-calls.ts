import { call } from '../call.ts'
import { nothing } from '../identifiers.ts'
import { catalogue } from './methods.ts'

export const pruningCalls = {
  'methods.list': call('Methods with their options, data sets, tasks and export formats.', nothing, catalogue),
}
