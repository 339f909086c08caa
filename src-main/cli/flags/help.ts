import { exitCodesHelp } from '../exit-codes.ts'
import { flagGroups, flagTable } from './flag-table.ts'

/** The column where the help texts of flags begin. */
const textColumn = 27
const lineWidth = 120

/** Wraps `text` after `first`. All lines except the first are indented to `column`. */
function wrapped(first: string, text: string, column = textColumn): string {
  const lines = [first.length + 2 > column ? `${first}\n${' '.repeat(column)}` : first.padEnd(column)]
  for (const word of text.split(' ')) {
    const last = lines.at(-1) ?? ''
    const length = last.length - last.lastIndexOf('\n')
    if (length + word.length > lineWidth) lines.push(`${' '.repeat(column)}${word} `)
    else lines[lines.length - 1] = `${last}${word} `
  }
  return lines.map((line) => line.trimEnd()).join('\n')
}

function groupHelp(group: string, note: string): string {
  const flags = Object.entries(flagTable).filter(([, flag]) => flag.group === group)
  const lines = flags.map(([name, { value, help }]) => wrapped(`  --${name} ${value}`, help))
  return [group, ...lines, ...(note ? [wrapped('', note, 2)] : [])].join('\n')
}

export const help = `espalier: prune a language model and see what it costs

  espalier --model MODEL --pruning_method METHOD --sparsity SHARE [flags]
  espalier --model MODEL --dense [flags]
  espalier methods [NAME] [--json]     list methods, with paper and options
  espalier serve                       serve the workbench to a browser
  espalier runs | models               manage the history and the library (see: espalier runs --help)
  espalier bench-file FILE             measure GGUF files in llama.cpp: speed, memory, perplexity
  espalier cluster                     add and check Slurm clusters (see: espalier cluster --help)
  espalier run-request FILE            compute the run that a file describes (see: espalier run-request --help)
  espalier report EXPERIMENT           write a report on an experiment as HTML or Markdown
  espalier worth EXPERIMENT            report for each pruned file whether pruning was worth it
  espalier questions RUN OTHER         compare two runs on zero-shot questions
  espalier answer RUN… --prompts FILE  generate answers to a set of prompts
  espalier judge                       show and export the results of blind judgings (see: espalier judge --help)
  espalier devices                     list devices and the backend that uses each
  espalier repair RUN                  repair a finished run (see: espalier repair --help)
  espalier recover RUN                 train a finished run towards the dense model (see: espalier recover --help)

${Object.entries(flagGroups)
  .map(([group, note]) => groupHelp(group, note))
  .join('\n\n')}

--num_prune may also be written --num-prune, and so on. Progress is written to stderr, results to stdout.
${exitCodesHelp} Rerun a killed command and it resumes where it stopped.

Examples
  espalier --model=sample --pruning_method=gates --sparsity=0.5 --evaluate_perplexity
  espalier --model=./my-llama --pruning_method=2ssp,shortgpt --num_prune=-2 --main_table_results
  espalier --model=sample --pruning_method=2ssp --sparsity=0.375 --save=pruned --format=stock
  espalier --model=meta-llama/Llama-2-7b-hf --dense --evaluate_perplexity
`
