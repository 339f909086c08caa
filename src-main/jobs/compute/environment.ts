/** Variables that a compute process may see: where programs and caches are, which GPU, how many threads. Never a token. */
const allowed = [
  /^(PATH|HOME|USER|LOGNAME|LANG|TZ|TMPDIR|TEMP|TMP|SHELL)$/,
  /^(SYSTEMROOT|SYSTEMDRIVE|WINDIR|COMSPEC|PATHEXT|USERPROFILE|APPDATA|LOCALAPPDATA|PROGRAMDATA)$/,
  /^(LC|XDG|CUDA|NVIDIA|TF|XLA|OMP|MKL|OPENBLAS|KMP|GGML|VK|MESA|GALLIVM|ESPALIER)_/,
  /^(LD_LIBRARY_PATH|DYLD_LIBRARY_PATH|HF_HOME|HF_HUB_CACHE|HF_ENDPOINT|HF_HUB_OFFLINE)$/,
  /^(HTTPS?|NO|ALL)_PROXY$/,
  /^(SSL_CERT_FILE|SSL_CERT_DIR|NODE_EXTRA_CA_CERTS|NODE_COMPILE_CACHE)$/,
]
/** Huge pages for large buffers: with pages of 4 KiB, finding addresses takes a tenth of a pass. Only glibc reads this. */
const hugePages = { GLIBC_TUNABLES: 'glibc.malloc.hugetlb=1' }
const secret = /TOKEN|SECRET|PASSWORD|KEY$/

/** Returns the variables that a compute process gets: the allowed ones, and those that its device adds. */
export function hermeticEnvironment(environment: NodeJS.ProcessEnv, added: Record<string, string> = {}): Record<string, string> {
  const kept = Object.entries(environment).filter(([name]) => {
    const upper = name.toUpperCase()
    return allowed.some((pattern) => pattern.test(upper)) && !secret.test(upper)
  })
  return { ...hugePages, ...Object.fromEntries(kept.map(([name, value]) => [name, value ?? ''])), ...added }
}
