import { defaultRepairWindows } from '#contract/pruning/repair-kinds.ts'
import { ablationTitles, formatTitles, ggufTypeTitles, methodTitles, taskTitles } from '#contract/titles.ts'

const names = (titles: object) => Object.keys(titles).join(', ')

export const help = `espalier: prune a language model and see what it costs

  espalier --model MODEL --pruning_method METHOD --sparsity SHARE [flags]
  espalier --model MODEL --dense [flags]
  espalier methods [NAME] [--json]     what there is, with paper and options
  espalier serve                       the workbench in a browser
  espalier runs | models               the history and the library (see: espalier runs --help)
  espalier cluster                     Slurm clusters and what works there (see: espalier cluster --help)
  espalier run-request FILE            one run from a file, on any machine (see: espalier run-request --help)
  espalier report EXPERIMENT           all that is known of it as one HTML file, or Markdown
  espalier questions RUN OTHER         zero-shot questions that two runs answer differently
  espalier answer RUN… --prompts FILE  a set of prompts, unattended; espalier judge: votes on answers
  espalier repair RUN                  a finished run once more, repaired (see: espalier repair --help)

Model
  --model MODEL            a folder, a name on the hub (org/name), or "sample" for the bundled model
  --revision NAME          branch, tag or commit on the hub
  --cache_dir FOLDER       where downloads are kept (the Python library's cache by default)

Pruning
  --pruning_method NAME    ${names(methodTitles)}
                           (repeat it or use commas for several)
  --sparsity SHARE         share of the block stack's parameters to remove, 0 to 1
  --num_prune N            the same in blocks: N of the model's; -1 all possible, -2 about 25, 37.5 and 50 %
  --alpha X                2ssp: balance of its two stages in Eq. 5 (1.5)
  --option NAME=VALUE      any option of the method or ablation, lists as [1,2] (see: espalier methods NAME)
  --seed N[,N…]            draws the calibration windows, and EvoPress's search; 0 takes the text in order (0)
  --dense                  the model as it is, as a baseline
  --ablation NAME          ${names(ablationTitles)}, all;
                           --output FOLDER gets its table and its plot (./ablations)
  --save FOLDER            write the pruned model; --replace what is there
  --format NAME[,NAME…]    ${names(formatTitles)}; several have a folder each in FOLDER
  --gguf_type NAME[,NAME…] ${names(ggufTypeTitles)} (F16)

Data
  --calibration_data PATH  text, JSONL, Parquet or Arrow file or folder, or a JSON array of arrays of token ids
  --eval_data PATH         the same, to measure perplexity on (may be repeated)
  --sequence_length T      tokens per window (2048, or what the model was trained for)
  --calibration_samples N  windows to calibrate on
  A text is a path, a bundled text (mixed; prose, code and spanish to measure on) or a data set by name. Several are mixed by
  shares: --calibration_data a.txt:0.5,b.txt:0.25,mixed:0.25
  --local_datasets         read ./data/{wikitext-2,c4_train,c4_val,fineweb-edu} instead of downloading

Repair
  --repair KIND            replace projections in closed form: none, one-pass, or in-order (better, about twice the time)
  --repair_data TEXT       what it is fitted on (3/4 the calibration text, 1/4 the bundled mixed one)
  --repair_samples N       windows of it (${defaultRepairWindows})

Measures
  --evaluate_perplexity    on WikiText-2 (the bundled model: its own test text)
  --main_table_results     on WikiText-2, C4 and FineWeb-Edu, as a table; --output FOLDER writes CSV and LaTeX
  --evaluate_downstream    zero-shot tasks: ${names(taskTitles)}
  --tasks LIST             only these; --task_folder FOLDER, --task_limit N
  --evaluate_divergence    how far each pruned model is from the dense one, token by token, on the first --eval_data or the
                           text of the perplexity; --divergence_tokens N (10000)
  --evaluate_inference     time per pass, to the first token, tokens per second
  --evaluate_qualitative   the answers to two prompts, by beam search

Machine and output
  --executor CLUSTER       send the runs to a Slurm cluster (see: espalier cluster --help) and follow them; jobs go on when this command
                           is interrupted, and the same command follows them again
  --backend NAME           auto, tensorflow, wasm
  --precision NAME         float32 (as without it); mixed: candidates ranked with bfloat16 products, choices certified in float32, several
                           times as fast where the processor has AMX or AVX-512 BF16; bfloat16: all of it, for a first look; auto: mixed
                           where the processor can
  --memory SIZE            for weights and activations, such as 4GB; what is larger is streamed from the disk
  --json                   one JSON document on stdout, or an array of them
  --no_history             leave no trace in the history

Flags may be spelled with dashes. Progress goes to stderr, results to stdout.
Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted. A command that was killed goes on where it was.

Examples
  espalier --model=sample --pruning_method=2ssp --sparsity=0.5 --evaluate_perplexity
  espalier --model=./my-llama --pruning_method=2ssp,shortgpt --num_prune=-2 --main_table_results
  espalier --model=sample --pruning_method=2ssp --sparsity=0.375 --save=pruned --format=stock
  espalier --model=meta-llama/Llama-2-7b-hf --dense --evaluate_perplexity
`
