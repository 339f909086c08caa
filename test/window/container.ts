import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, rename, rm } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { cacheFolder } from '#runtime/places.mjs'

/** A Debian of its own that has nothing but its base system. */
export interface Container {
  /** Its root folder, as this machine sees it. */
  root: string
  /** Runs a shell command in it, as root and with a network. Returns its output; throws if it fails. */
  run(script: string): Promise<string>
  /**
   * The command that starts a program in it, as the user `person`, without a network. The program's port 9222 can be reached over
   * `forward`, because nothing else reaches into its network.
   */
  command(program: string[]): string[]
  /** Opens a port of this machine that leads to port 9222 in the container. */
  forward(): Promise<number>
  close(): Promise<void>
}

/** Makes a Debian of this machine's release from its own package source, and keeps it in the cache folder for the next time. */
export async function openContainer(): Promise<Container> {
  const base = await ensureBase()
  const folder = await mkdtemp(join(tmpdir(), 'espalier-container-'))
  const root = join(folder, 'root')
  await shell(`cp -a --reflink=auto ${base} ${root}`)
  // The screen's socket, and the packages that an earlier test has downloaded.
  const kept = join(cacheFolder(), 'window', 'debian-packages')
  for (const path of [kept, join(root, 'tmp/.X11-unix')]) await mkdir(path, { recursive: true })
  await shell(`cp /etc/resolv.conf ${root}/etc/; cp -a /etc/apt/apt.conf ${root}/etc/apt/ 2>/dev/null || true`)
  const mounts = [
    `mount -t proc proc ${root}/proc`,
    `mount --rbind /dev ${root}/dev`,
    `mount --bind /tmp/.X11-unix ${root}/tmp/.X11-unix`,
    `mount --bind ${kept} ${root}/var/cache/apt/archives`,
  ].join(' && ')
  const socket = join(folder, 'forward')
  const run = (script: string) =>
    shell(`unshare --mount --propagation=private sh -c '${mounts} && exec chroot ${root} sh -ec "$1"' - "$1"`, script)
  await run('useradd --create-home person')
  const servers: ReturnType<typeof createServer>[] = []
  return {
    root,
    run,
    command: (program) => [
      '/usr/bin/unshare',
      '--mount',
      '--propagation=private',
      '--net',
      'sh',
      '-ec',
      // The relay ends with the program, whose input it watches.
      `ip link set lo up; ${mounts}; '${process.execPath}' -e '${relay}' ${socket} & trap "kill $!" EXIT
      chroot ${root} setpriv --reuid=person --regid=person --init-groups "$@"`,
      '-',
      ...program,
    ],
    async forward() {
      const server = createServer((inner) => {
        const outer = connect(socket)
        for (const one of [inner, outer]) one.on('error', () => one.destroy())
        inner.pipe(outer).pipe(inner)
      })
      servers.push(server)
      server.listen(0, '127.0.0.1')
      await once(server, 'listening')
      return (server.address() as { port: number }).port
    },
    async close() {
      for (const server of servers) server.close()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

/** Runs inside the container's network: passes what comes to a socket on to its port 9222. */
const relay = `const { createServer, connect } = require("node:net")
createServer((outer) => {
  const inner = connect(9222, "127.0.0.1")
  for (const one of [inner, outer]) one.on("error", () => one.destroy())
  outer.pipe(inner).pipe(outer)
}).listen(process.argv[1])`

async function ensureBase(): Promise<string> {
  const [mirror = '', release = ''] = (
    await shell(`apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' | head -n 1`)
  )
    .trim()
    .split(' ')
  const base = join(cacheFolder(), 'window', `debian-${release}`)
  if (existsSync(base)) return base
  const work = `${base}.part`
  await rm(work, { recursive: true, force: true })
  await shell(`debootstrap --variant=minbase ${release} ${work} ${mirror} && rm -f ${work}/var/cache/apt/archives/*.deb`)
  await rename(work, base)
  return base
}

async function shell(script: string, ...args: string[]): Promise<string> {
  const child = spawn('sh', ['-ec', script, '-', ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (text) => (output += text))
  const [code] = await once(child, 'close')
  if (code !== 0) throw new Error(`${args[0] ?? script} ended with ${code}: ${output.slice(-4000)}`)
  return output
}
