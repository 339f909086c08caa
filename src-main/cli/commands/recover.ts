import { EspalierError } from '#contract/errors.ts'
import { defaultRecoveryData, defaultRecoveryTokens, type RecoveryRequest, trainedWeights } from '#contract/pruning/recovery.ts'
import type { RunDetail } from '#contract/runs/runs.ts'
import { oneOf, recoveryAmount, textFlag } from '../flags/flag-values.ts'
import { startChanged } from './output/follow-runs.ts'
import { commonFlags, commonHelp, readFlags } from './read-flags.ts'
import { command } from './run-command.ts'

const help = `espalier recover RUN [--amount AMOUNT] [--text TEXT] [--weights WEIGHTS] [--wait]

Trains the remaining weights of a run to predict what the dense model predicts. Creates a new run with the same removals, repair
and measures, which reuses the run's finished steps. The trained weights are kept only if they are better on text that was not trained on.

  --amount AMOUNT      minutes such as 10min, or tokens such as 262144 or 256k (default ${defaultRecoveryTokens})
  --text TEXT          the text to train on, or several as a.txt:0.5,b.txt:0.5 (default: half the run's calibration text, half
                       bundled mixed text); "self-written" is text that the dense model generates
  --weights WEIGHTS    all, or low-rank: only a rank-16 change to each weight, which takes less memory (default: all if they fit)
  --wait               wait for the run to end, even if a server computes it
${commonHelp}`

const flags = {
  ...commonFlags,
  amount: { type: 'string', default: String(defaultRecoveryTokens) },
  text: { type: 'string' },
  weights: { type: 'string' },
  wait: { type: 'boolean', default: false },
} as const

export const recover = command('recover', help, async (given) => {
  const { values, words } = readFlags(given, flags, { least: 1, most: 1, name: 'The run’s id' })
  const amount = recoveryAmount(values.amount, 'amount')
  if (amount === 'none') throw new EspalierError('usage', '--amount is "none"; it must be minutes such as 10min, or tokens such as 262144.')
  const trains = values.weights === undefined ? {} : { trains: oneOf(trainedWeights.options)(values.weights, 'weights') }
  const changesOf = (run: RunDetail) => ({ recover: { amount, text: textFor(run, values.text), ...trains } })
  return startChanged(words[0] as string, changesOf, values)
})

function textFor({ name, request }: RunDetail, text: string | undefined): RecoveryRequest['text'] {
  if (!request.calibration) throw new EspalierError('usage', `"${name}" removes nothing, so there is nothing to recover.`)
  const usual = defaultRecoveryData(request.calibration)
  return text ? { ...textFlag('text', text), sequenceLength: usual.sequenceLength } : usual
}
