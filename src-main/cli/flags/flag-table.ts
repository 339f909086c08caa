import { beginChoice } from '#contract/data/begin-token.ts'
import { repairChoice } from '#contract/experiments/experiments.ts'
import { precisionName } from '#contract/pruning/precision.ts'
import { trainedWeights } from '#contract/pruning/recovery.ts'
import { defaultRepairWindows, fewestRepairWindows } from '#contract/pruning/repair.ts'
import { backendName } from '#contract/runs/run-request.ts'
import { ablationTitles, everyTaskTitle, formatTitles, ggufTypeTitles, methodTitles, taskTitles, writtenTitles } from '#contract/titles.ts'
import {
  anyText,
  assignment,
  budget,
  byteCount,
  decimal,
  expertShare,
  integer,
  keyOf,
  methodName,
  oneOf,
  type ReadValue,
  recoveryAmount,
  rowCount,
  share,
  weightName,
} from './flag-values.ts'

/** The groups of flags in the order of `espalier --help`, some with a sentence below the heading. */
export const flagGroups = {
  Model: '',
  Pruning: '',
  Data: 'A text is a path, a bundled text (mixed; prose, code and spanish to measure on) or a data set by name. Mix several by shares: --calibration_data a.txt:0.5,b.txt:0.25,mixed:0.25',
  Repair: '',
  Recovery: '',
  Measures: '',
  'Machine and output': '',
} as const

type Group = keyof typeof flagGroups

/** A flag without a value. */
function onOff(group: Group, help: string) {
  return { takes: 'nothing', group, help, value: '' } as const
}

/** A flag with one value. `value` names it in the help. */
function one<T>(group: Group, value: string, read: ReadValue<T>, help: string) {
  return { takes: 'one', group, help, value, read } as const
}

/** A flag that can be repeated, and whose values can be joined with commas. */
function list<T>(group: Group, value: string, read: ReadValue<T>, help: string) {
  return { takes: 'list', group, help, value: `${value}[,…]`, read } as const
}

/** A flag that can be repeated; a comma is part of its value. */
function repeated<T>(group: Group, value: string, read: ReadValue<T>, help: string) {
  return { takes: 'many', group, help, value, read } as const
}

const names = (titles: object) => Object.keys(titles).join(', ')

const writtenNames = Object.keys(writtenTitles).join(' and ')

/** Every flag of the pruning command, in underscore spelling. This is the only place that knows a flag's name, value and help. */
export const flagTable = {
  model: one('Model', 'MODEL', anyText, 'a folder, a name on the hub (org/name), or "sample" for the bundled model'),
  revision: one('Model', 'NAME', anyText, 'branch, tag or commit on the hub'),
  cache_dir: one('Model', 'FOLDER', anyText, "where downloads are kept (default: the cache of Python's huggingface_hub)"),

  pruning_method: list('Pruning', 'NAME', methodName, names(methodTitles)),
  sparsity: list('Pruning', 'SHARE', share, "share of the block stack's parameters to remove, 0 to 1; -1 and -2 as in --num_prune"),
  sparsity_rate: list('Pruning', 'SHARE', share, 'another name for --sparsity'),
  expert_share: list('Pruning', 'SHARE', expertShare, 'reap: share of the experts of each mixture to remove; short for --option share=X'),
  num_prune: list(
    'Pruning',
    'N',
    integer(-2),
    'amount to remove as a number of blocks; -1 for every possible number, -2 for about 25, 37.5 and 50 % of the blocks',
  ),
  fit: list(
    'Pruning',
    'BUDGET',
    budget,
    'remove enough to meet a budget: a file size (6GB = 6 x 1000^3, 6GiB = 6 x 1024^3 bytes), tokens per second (30tok/s), or milliseconds to the first token (200ms@2048 for a prompt of 2048 tokens). A speed is measured on a GGUF file in the type of --weights (default: F16). A size is that of the given --format, or of a GGUF file in the type of --weights or --gguf_type (default: F16). MIXED:900MB (gates) divides the bytes of a file between parts and bits: it removes what costs less than the bits that its bytes buy, and chooses the type of each matrix',
  ),
  vocabulary: one(
    'Pruning',
    'N',
    rowCount,
    'first keep only this many rows of the embedding and the head (32000), or this share of them (50%), ranked by the calibration text; the method then prunes, repairs and recovers what is left. With --dense, adds a run that only does this',
  ),
  alpha: one('Pruning', 'X', decimal, '2ssp: balance between its two stages (Eq. 5); short for --option alpha=X'),
  option: repeated(
    'Pruning',
    'NAME=VALUE',
    assignment,
    'any option of the method or ablation; write lists as [1,2] (see: espalier methods NAME)',
  ),
  seed: list(
    'Pruning',
    'N',
    integer(0),
    'seed of random searches and of the windows drawn for calibration, repair and recovery; 0 reads texts in order (default)',
  ),
  dense: onOff('Pruning', 'run the unpruned model, as a baseline'),
  ablation: one(
    'Pruning',
    'NAME',
    oneOf([...(Object.keys(ablationTitles) as (keyof typeof ablationTitles)[]), 'all']),
    `${names(ablationTitles)}, all; --output FOLDER receives its table and plot (default: ./ablations)`,
  ),
  save: one('Pruning', 'FOLDER', anyText, 'write the pruned model to this folder'),
  replace: onOff('Pruning', 'let --save replace an existing folder'),
  format: list(
    'Pruning',
    'NAME',
    keyOf(formatTitles),
    `${names(formatTitles)}; with several, each gets its own folder (default: exact, or gguf with --fit or --weights)`,
  ),
  weights: list(
    'Pruning',
    'NAME',
    weightName,
    'evaluate each model with its weights stored as in a GGUF file of this type (see --gguf_type); MIXED:900MB chooses the type of each matrix so that a file of this size keeps most; --save then writes this type; several types make a grid that includes the dense model in each; "computed" leaves the weights unchanged (default)',
  ),
  gguf_type: list('Pruning', 'NAME', keyOf(ggufTypeTitles), `${names(ggufTypeTitles)} (default: the type of --weights, else F16)`),

  for: one(
    'Data',
    'FOLDER',
    anyText,
    'prune for the text or source code in this file or folder: calibration, repair and recovery use it, except for a fifth of its documents, on which perplexity is measured, beside a bundled text',
  ),
  calibration_data: one('Data', 'TEXT', anyText, 'text, JSONL, Parquet or Arrow file or folder, or a JSON array of arrays of token ids'),
  calibration_samples: one('Data', 'N', integer(1), 'number of windows to calibrate on'),
  eval_data: repeated('Data', 'TEXT', anyText, 'text to measure perplexity on'),
  eval_samples: one('Data', 'N', integer(1), 'measure perplexity on at most this many windows of each text (default: all)'),
  sequence_length: one('Data', 'T', integer(2), "tokens per window (default: 2048, or the model's context length if that is less)"),
  begin_token: one(
    'Data',
    'NAME',
    oneOf(beginChoice.options),
    'whether each window begins with the begin token (BOS), as one of its tokens: reference (never, as the 2SSP reference), always, or auto: if that lowers the perplexity of a few windows of the bundled prose by more than a tenth (default)',
  ),
  local_datasets: onOff('Data', 'read ./data/{wikitext-2,c4_train,c4_val,fineweb-edu} instead of downloading'),

  repair: one(
    'Repair',
    'KIND',
    oneOf(repairChoice.options),
    'refit projections in closed form: none, one-pass, or in-order (better, takes about twice as long)',
  ),
  repair_data: one('Repair', 'TEXT', anyText, 'text to calibrate the repair on (default: 3/4 calibration text, 1/4 bundled mixed text)'),
  repair_samples: one('Repair', 'N', integer(fewestRepairWindows), `number of windows of that text (default: ${defaultRepairWindows})`),

  recover: one(
    'Recovery',
    'AMOUNT',
    recoveryAmount,
    'train the remaining weights to predict what the dense model predicts, for a number of minutes (10min) or tokens (262144, 256k), or none',
  ),
  recover_data: one(
    'Recovery',
    'TEXT',
    anyText,
    'text to train on; "self-written" is text that the dense model generates (default: 1/2 calibration text, 1/2 bundled mixed text)',
  ),

  recover_weights: one(
    'Recovery',
    'WEIGHTS',
    oneOf(trainedWeights.options),
    'all, or low-rank: train only a rank-16 change to each weight, which takes less memory (default: all if they fit)',
  ),

  evaluate_perplexity: onOff('Measures', 'perplexity and bits per byte on WikiText-2 (bundled model: its own test text)'),
  main_table_results: onOff('Measures', 'perplexity on WikiText-2, C4 and FineWeb-Edu as a table; --output FOLDER writes CSV and LaTeX'),
  evaluate_downstream: onOff('Measures', `zero-shot tasks: ${names(taskTitles)}`),
  tasks: list(
    'Measures',
    'NAME',
    keyOf(everyTaskTitle),
    `run only these tasks; also ${writtenNames}, whose answers the model writes out and a program checks`,
  ),
  apply_chat_template: onOff('Measures', `ask the questions of ${writtenNames} through the chat template`),
  task_folder: one('Measures', 'FOLDER', anyText, 'read the tasks from this folder instead of downloading'),
  task_limit: one('Measures', 'N', integer(1), 'at most this many questions per task'),
  evaluate_divergence: onOff(
    'Measures',
    'how far each pruned model is from the dense one, token by token, on the first text of --eval_data or else the perplexity text',
  ),
  divergence_tokens: one('Measures', 'N', integer(2), 'tokens to compare (default: 10000)'),
  evaluate_inference: onOff(
    'Measures',
    'time per pass, time to the first token, tokens per second; measured in llama.cpp if --weights names a GGUF type',
  ),
  evaluate_repetition: onOff(
    'Measures',
    'share of greedy answers that end in a loop, on the first text of --eval_data or else the perplexity text',
  ),
  evaluate_long_context: onOff(
    'Measures',
    "perplexity by position, and recall of numbers hidden in the text, in windows of 8,192 tokens (or --sequence_length) or the model's context if that is shorter, on the first text of --eval_data or else the perplexity text",
  ),
  evaluate_qualitative: onOff('Measures', 'answers to two prompts, by beam search'),

  executor: one(
    'Machine and output',
    'CLUSTER',
    anyText,
    'send the runs to a Slurm cluster (see: espalier cluster --help) and follow them; interrupting this command leaves the jobs running, and rerunning it follows them again',
  ),
  backend: one('Machine and output', 'NAME', oneOf(backendName.options), `${backendName.options.join(', ')} (default: auto)`),
  precision: one(
    'Machine and output',
    'NAME',
    oneOf(precisionName.options),
    'float32 (default); mixed: rank candidates with bfloat16 products and certify choices in float32, several times faster with AMX or AVX-512 BF16; bfloat16: use bfloat16 products for everything, for a first look; auto: mixed if the processor supports it',
  ),
  memory: one(
    'Machine and output',
    'SIZE',
    byteCount,
    'budget for weights and activations, such as 4GB; larger models are streamed from disk',
  ),
  output: one('Machine and output', 'FOLDER', anyText, 'where tables and plots are written'),
  json: onOff('Machine and output', 'one JSON document on stdout, or an array of them'),
  no_history: onOff('Machine and output', 'do not record the runs in the history'),
  logging: one(
    'Machine and output',
    'LEVEL',
    oneOf(['DEBUG', 'INFO', 'WARNING', 'ERROR', 'CRITICAL']),
    'accepted for scripts of the 2SSP reference; has no effect',
  ),
  help: onOff('Machine and output', 'show this help (also -h)'),
  version: onOff('Machine and output', 'show the version'),
} as const
