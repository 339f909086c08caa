/**
 * The variables that a compute process may see, by name. Never a token, nor one that makes a library load another, such as LD_PRELOAD,
 * GGML_BACKEND_PATH or VK_LAYER_PATH.
 */
const allowed: ReadonlySet<string> = new Set([
  // The system, and where it keeps things.
  ...['PATH', 'HOME', 'USER', 'LOGNAME', 'SHELL', 'TZ', 'TMPDIR', 'TEMP', 'TMP'],
  ...['LANG', 'LC_ALL', 'LC_CTYPE', 'LC_COLLATE', 'LC_MESSAGES', 'LC_NUMERIC', 'LC_TIME'],
  ...['SYSTEMROOT', 'SYSTEMDRIVE', 'WINDIR', 'COMSPEC', 'PATHEXT', 'USERPROFILE', 'APPDATA', 'LOCALAPPDATA', 'PROGRAMDATA'],
  ...['XDG_CACHE_HOME', 'XDG_CONFIG_HOME', 'XDG_DATA_HOME', 'XDG_CONFIG_DIRS', 'XDG_DATA_DIRS', 'XDG_RUNTIME_DIR'],
  // Libraries of CUDA are often in folders of their own.
  ...['LD_LIBRARY_PATH', 'DYLD_LIBRARY_PATH'],
  ...['ESPALIER_HOME', 'ESPALIER_CACHE', 'ESPALIER_MEMORY', 'ESPALIER_VULKAN', 'ESPALIER_BACKEND', 'ESPALIER_DEBUG'],
  // Which kernels tests use, and which failures they simulate.
  ...['ESPALIER_TEST_CPU', 'ONEDNN_MAX_CPU_ISA', 'ESPALIER_TEST_FAILURE', 'ESPALIER_TEST_LOST'],
  ...['HF_HOME', 'HF_HUB_CACHE', 'HF_ENDPOINT', 'HF_HUB_OFFLINE', 'HTTP_PROXY', 'HTTPS_PROXY', 'NO_PROXY', 'ALL_PROXY'],
  ...['SSL_CERT_FILE', 'SSL_CERT_DIR', 'NODE_EXTRA_CA_CERTS', 'NODE_COMPILE_CACHE'],
  // Which processors and GPUs, and how.
  ...['TF_NUM_INTRAOP_THREADS', 'TF_NUM_INTEROP_THREADS', 'TF_ENABLE_ONEDNN_OPTS', 'TF_CPP_MIN_LOG_LEVEL', 'TF_CPP_MAX_VLOG_LEVEL'],
  ...['TF_FORCE_GPU_ALLOW_GROWTH', 'TF_GPU_ALLOCATOR', 'TF_GPU_THREAD_MODE', 'TF_GPU_THREAD_COUNT', 'TF_CUDNN_USE_AUTOTUNE'],
  ...['OMP_NUM_THREADS', 'OMP_PROC_BIND', 'OMP_PLACES', 'KMP_AFFINITY', 'KMP_BLOCKTIME', 'MKL_NUM_THREADS', 'OPENBLAS_NUM_THREADS'],
  ...['CUDA_VISIBLE_DEVICES', 'CUDA_DEVICE_ORDER', 'CUDA_HOME', 'CUDA_PATH', 'CUDA_MODULE_LOADING', 'CUDA_LAUNCH_BLOCKING'],
  ...['CUDA_CACHE_PATH', 'CUDA_CACHE_MAXSIZE', 'CUDA_CACHE_DISABLE', 'CUDA_MPS_PIPE_DIRECTORY', 'CUDA_MPS_LOG_DIRECTORY'],
  ...['NVIDIA_VISIBLE_DEVICES', 'NVIDIA_DRIVER_CAPABILITIES', 'NVIDIA_TF32_OVERRIDE'],
  ...['GGML_VK_VISIBLE_DEVICES', 'GGML_VK_DISABLE_F16', 'GGML_VK_DISABLE_COOPMAT', 'GGML_VK_DISABLE_COOPMAT2'],
  ...['VK_DRIVER_FILES', 'VK_ICD_FILENAMES', 'MESA_VK_DEVICE_SELECT', 'MESA_SHADER_CACHE_DIR', 'MESA_SHADER_CACHE_DISABLE', 'GALLIVM_PERF'],
])
/** Huge pages for large buffers: with pages of 4 KiB, finding addresses takes a tenth of a pass. Only glibc reads this. */
const hugePages = { GLIBC_TUNABLES: 'glibc.malloc.hugetlb=1' }

/** Returns the variables that a compute process gets: the allowed ones, and those that its device adds. */
export function hermeticEnvironment(environment: NodeJS.ProcessEnv, added: Record<string, string> = {}): Record<string, string> {
  const kept = Object.entries(environment).filter(([name]) => allowed.has(name.toUpperCase()))
  return { ...hugePages, ...Object.fromEntries(kept.map(([name, value]) => [name, value ?? ''])), ...added }
}
