import { spawnSync } from 'node:child_process'
import { findOnPath } from '../../src-main/setup/tools.mjs'

/** The files of a TensorFlow wheel that set-up looks for, each with a few bytes, and one that it does not need. */
export const tensorflowFiles: Record<string, string> = {
  'tensorflow/libtensorflow_cc.so.2': 'library '.repeat(5000),
  'tensorflow/libtensorflow_framework.so.2': 'framework '.repeat(500),
  'tensorflow/include/tensorflow/c/c_api.h': '// the C API',
  'tensorflow/include/tensorflow/c/eager/c_api.h': '// eager',
  'tensorflow/include/tsl/platform/ctstring_internal.h': '// strings',
  'tensorflow/include/xla/tsl/c/tsl_status.h': '// status',
  'tensorflow/include/external/local_tsl/xla/tsl/c/tsl_status.h': '// its twin',
  'tensorflow/python/keras.py': 'not needed',
}

export const python = findOnPath('python3') ?? 'python3'

const script = `
import json, sys, zipfile
with zipfile.ZipFile(sys.argv[1], 'w', zipfile.ZIP_DEFLATED) as archive:
    for name, text in json.load(sys.stdin).items():
        archive.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_DEFLATED)
`

/** Writes a wheel, the same bytes for the same files. */
export function makeWheel(path: string, files: Record<string, string> = tensorflowFiles): void {
  const { status, stderr } = spawnSync(python, ['-c', script, path], { input: JSON.stringify(files), encoding: 'utf8' })
  if (status !== 0) throw new Error(stderr)
}
