import { createHash } from 'node:crypto'
import { makeZip } from './make-zip.ts'

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

/** What the wheel of 2.21 asks for, cut down. */
export const metadata = `Metadata-Version: 2.1
Name: tensorflow
Version: 2.21.0
Requires-Dist: numpy>=1.26.0
Requires-Dist: nvidia-cublas-cu12<13.0,>=12.5.3.2; extra == "and-cuda"
Requires-Dist: nvidia-cudnn-cu12 (<10.0,>=9.3.0.75) ; extra == 'and-cuda'
Requires-Dist: tensorflow-io-gcs-filesystem>=0.23.1; (sys_platform != "win32" and python_version < "3.13") and extra == "gcs-filesystem"
`

/** Writes a wheel whose RECORD names every file with its hash and size, and may lie about some. */
export function makeWheel(path: string, files: Record<string, string> = tensorflowFiles, lies: Record<string, string> = {}): void {
  const all: Record<string, string> = { ...files, 'tensorflow-2.21.0.dist-info/METADATA': metadata }
  const record = Object.entries(all).map(
    ([name, text]) =>
      `${name},sha256=${createHash('sha256')
        .update(lies[name] ?? text)
        .digest('base64url')},${text.length}`,
  )
  all['tensorflow-2.21.0.dist-info/RECORD'] = `${record.join('\n')}\ntensorflow-2.21.0.dist-info/RECORD,,\n`
  makeZip(
    path,
    Object.entries(all).map(([name, text]) => ({ name, data: Buffer.from(text) })),
  )
}
