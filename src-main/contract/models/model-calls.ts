import { z } from 'zod'
import { annotations, call, idInput, undoable } from '../call.ts'
import { name, nothing } from '../identifiers.ts'
import { readPlace } from '../places.ts'
import { foundModel, modelDescription, modelDetail, modelEntry, transfer } from './models.ts'

const path = readPlace.min(1)

export const modelCalls = {
  'models.list': call('All models in the library.', nothing, z.array(modelEntry)),
  'models.get': call('One model with its files and lineage.', idInput, modelDetail, 'not-found'),
  'models.check': call('Describe a checkpoint without adding it.', z.object({ path }), modelDescription, 'not-found'),
  'models.add': call(
    'Add a folder of safetensors or a gguf file. Copying reports progress as a transfer.',
    z.object({ path, mode: z.enum(['link', 'copy']).default('link'), name: name.optional() }),
    modelEntry,
    'not-found',
    'conflict',
    'disk',
    'cancelled',
  ),
  'models.measureBegin': call(
    'Measure whether a model predicts text better if it begins with the begin token. The result is in the model’s `beginFigures`.',
    idInput,
    transfer,
    'not-found',
    'invalid',
  ),
  'models.update': call(
    'Rename, annotate, tag or star a model. No two models have one name.',
    idInput.extend(annotations.shape),
    modelEntry,
    'not-found',
    'conflict',
  ),
  'models.remove': call(
    'Remove a model from the library. Also deletes its files if the library owns them and `files` is true. Can be undone until the returned time.',
    idInput.extend({ files: z.boolean().default(false) }),
    undoable,
    'not-found',
    'conflict',
  ),
  'models.restore': call('Undo the removal of a model.', idInput, modelEntry, 'not-found'),
  'models.found': call('Checkpoints that other programs store on this machine, and that can be added.', nothing, z.array(foundModel)),
  'models.download': call(
    'Download a model by its hub name.',
    z.object({ name, revision: name.optional() }),
    transfer,
    'usage',
    'unreachable',
    'disk',
    'conflict',
  ),

  'files.browse': call(
    'Folders, checkpoints and data files in a folder of this machine, for choosing one without a file dialog.',
    z.object({ folder: path.optional() }),
    z.object({
      folder: z.string(),
      parent: z.string().nullable(),
      entries: z.array(z.object({ name: z.string(), path: z.string(), kind: z.enum(['folder', 'model', 'data']) })),
    }),
    'not-found',
  ),

  'transfers.list': call('Current and recent downloads, copies, exports and measurements of files.', nothing, z.array(transfer)),
  'transfers.pause': call('Pause a download and keep the received part.', idInput, transfer, 'not-found', 'conflict'),
  'transfers.resume': call('Resume a paused or failed download.', idInput, transfer, 'not-found', 'conflict'),
  'transfers.cancel': call(
    'Cancel a transfer. Unfinished copies are deleted; the cache keeps the received part of a download.',
    idInput,
    transfer,
    'not-found',
    'conflict',
  ),
}
