import { expect, test } from 'vitest'
import { allShipped, lockedPackages, shippedPackages } from '../../src-main/setup/shipped.mjs'

test('what a shipped package needs is shipped too, from the place where Node finds it', () => {
  const locked = {
    'node_modules/a': { version: '1', dependencies: { b: '1' } },
    'node_modules/a/node_modules/b': { version: '1', dependencies: { c: '1' } },
    'node_modules/b': { version: '2' },
    'node_modules/c': { version: '3' },
  }
  expect([...shippedPackages(locked, ['a']).keys()]).toEqual(['node_modules/a', 'node_modules/a/node_modules/b', 'node_modules/c'])
})

test('a broken link is not shipped, and another link is shipped as its target', () => {
  const shim = { version: '4' }
  const locked = {
    'node_modules/a': { version: '1', dependencies: { tar: '6', tfjs: '4' } },
    'node_modules/tar': { version: '', link: true, resolved: 'src-main/setup/packages/nothing' },
    'node_modules/tfjs': { version: '', link: true, resolved: 'shim' },
    'src-main/setup/packages/nothing': { version: '1' },
    shim,
  }
  expect(shippedPackages(locked, ['a']).get('node_modules/tfjs')).toBe(shim)
  expect([...shippedPackages(locked, ['a']).keys()]).toEqual(['node_modules/a', 'node_modules/tfjs'])
})

test('neither the lock file nor what is shipped has the packages of an install script', () => {
  const old = ['tar', 'node-fetch', '@mapbox/node-pre-gyp', 'adm-zip', 'rimraf', 'https-proxy-agent', '@tensorflow/tfjs-layers', 'yargs']
  const installed = Object.entries(lockedPackages()).filter(([, { link }]) => !link)
  const names = new Set([...installed.map(([place]) => place), ...allShipped().keys()].map((place) => place.split('node_modules/').at(-1)))
  expect(old.filter((name) => names.has(name))).toEqual([])
})
