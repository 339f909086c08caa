import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { eventually } from '../eventually.ts'

/** A separate ssh server on this machine, and an `ssh` on the PATH whose user configuration knows it as its only host. */
export interface SshDoor {
  host: string
  /** The user's ssh configuration in these tests. */
  configuration: string
  stop(): Promise<void>
}

export function hasSshServer(): boolean {
  return process.platform === 'linux' && process.getuid?.() === 0 && ['/usr/sbin/sshd', '/usr/bin/ssh', '/usr/bin/rsync'].every(existsSync)
}

/** @param environment what sessions have besides */
export async function openSshDoor(environment: Record<string, string>): Promise<SshDoor> {
  const folder = mkdtempSync(join(tmpdir(), 'espalier-ssh-'))
  const at = (name: string) => join(folder, name)
  for (const key of ['host', 'user']) execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', at(key)])
  const port = 12_000 + Math.floor(Math.random() * 20_000)
  mkdirSync('/run/sshd', { recursive: true })
  writeFileSync(at('server'), serverConfiguration(folder, port, environment))
  const configuration = at('configuration')
  writeFileSync(configuration, userConfiguration(folder, port))
  mkdirSync(at('bin'))
  writeFileSync(join(at('bin'), 'ssh'), `#!/bin/sh\nexec /usr/bin/ssh -F '${configuration}' "$@"\n`)
  chmodSync(join(at('bin'), 'ssh'), 0o755)
  const path = process.env.PATH
  process.env.PATH = `${at('bin')}${delimiter}${path}`
  const server = spawn('/usr/sbin/sshd', ['-D', '-e', '-f', at('server')], { stdio: ['ignore', 'ignore', 'pipe'] })
  const said = collect(server)
  await eventually(() => answers(), 'the ssh server', 20_000).catch((thrown: Error) => {
    throw new Error(`${thrown.message} ${said()}`)
  })
  return {
    host: 'login-node',
    configuration,
    async stop() {
      process.env.PATH = path
      const ended = new Promise((resolve) => server.once('exit', resolve))
      server.kill('SIGTERM')
      await ended
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

function collect(server: ChildProcess): () => string {
  let text = ''
  server.stderr?.on('data', (chunk) => {
    text += chunk
  })
  return () => text.slice(-500)
}

function answers(): boolean {
  try {
    return execFileSync('ssh', ['-o', 'BatchMode=yes', 'login-node', 'echo', 'here'], { encoding: 'utf8', stdio: 'pipe' }) === 'here\n'
  } catch {
    return false
  }
}

const serverConfiguration = (folder: string, port: number, environment: Record<string, string>) => `ListenAddress 127.0.0.1
Port ${port}
HostKey ${folder}/host
PidFile ${folder}/server.pid
AuthorizedKeysFile ${folder}/user.pub
PermitRootLogin prohibit-password
PasswordAuthentication no
StrictModes no
UsePAM no
MaxStartups 100
SetEnv ${Object.entries(environment)
  .map(([name, value]) => `${name}=${value}`)
  .join(' ')}
`

const userConfiguration = (folder: string, port: number) => `Host login-node
  HostName 127.0.0.1
  Port ${port}
  User root
  IdentityFile ${folder}/user
  IdentitiesOnly yes
  UserKnownHostsFile ${writeKnownHost(folder, port)}
`

function writeKnownHost(folder: string, port: number): string {
  const file = join(folder, 'known')
  writeFileSync(file, `[127.0.0.1]:${port} ${readFileSync(join(folder, 'host.pub'), 'utf8')}`)
  return file
}
