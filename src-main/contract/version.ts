import packageFile from '../../package.json' with { type: 'json' }

/** The version in package.json. */
export const version: string = packageFile.version

/** Set by the build; undefined when the source code runs as it is. */
declare const __COMMIT__: string | undefined

/** The commit that the program was built from; empty if it is not known. */
export const commit: string = typeof __COMMIT__ === 'undefined' ? '' : __COMMIT__
