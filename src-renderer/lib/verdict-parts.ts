/** Splits a verdict into paragraphs, one for each kind of text, and each into its first sentence and the reasons. */
export function verdictParts(sentence: string): { lead: string; rest: string }[] {
  return sentence.split(/ (?=For other text \()/).map((part) => {
    const end = part.search(/\. (?=[A-Z])/)
    return end < 0 ? { lead: part, rest: '' } : { lead: part.slice(0, end + 1), rest: part.slice(end + 2) }
  })
}
