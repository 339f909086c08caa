import { expect, test } from 'vitest'
import { readArguments } from '../../src-main/electron/open-arguments.ts'

test.each([
  [['--no-sandbox'], undefined],
  [['--open=new'], { screen: ['new'] }],
  [['--open=models/model-1'], { screen: ['models', 'model-1'] }],
  [['--open=elsewhere'], undefined],
  [['espalier://run/run-7'], { screen: ['run', 'run-7'] }],
  [['espalier://run/..%2f..'], undefined],
  [['espalier://evil.example/'], undefined],
  [['--flag', 'small.GGUF'], { model: '/here/small.GGUF' }],
  [['/models/a/model.safetensors'], { model: '/models/a/model.safetensors' }],
  [['my.espalier.json'], { exported: '/here/my.espalier.json' }],
  [['package.json', 'notes.txt'], undefined],
])('%j asks for %j', (given, expected) => {
  expect(readArguments(given, '/here')).toEqual(expected)
})
