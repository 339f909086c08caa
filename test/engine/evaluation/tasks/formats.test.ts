import { expect, test } from 'vitest'
import { tasks } from '#engine/evaluation/tasks/index.ts'

const where = 'Row 1'

test('WinoGrande scores what follows the gap after each option, with a space even before punctuation', () => {
  const row = { sentence: "Ann saw that _'s hat was gone; _ ran. \n", option1: 'Bob', option2: 'Cleo', answer: '2' }
  const continuations = [" 's hat was gone; _ ran."]
  expect(tasks.winogrande.ask(row, where)).toEqual({
    requests: [
      { context: 'Ann saw that Bob', continuations },
      { context: 'Ann saw that Cleo', continuations },
    ],
    gold: 1,
  })
})

test('WinoGrande with the gap at the end scores one space', () => {
  const question = tasks.winogrande.ask({ sentence: 'The end is _', option1: 'near', option2: 'far', answer: '1' }, where)
  expect(question.requests.map((request) => request.continuations)).toEqual([[' '], [' ']])
})

test('ARC leaves the choices unchanged, takes five of them and digits as labels', () => {
  const choices = { text: ['a', 'b ', 'c', 'd', '😀e'], label: ['1', '2', '3', '4', '5'] }
  expect(tasks.arc_challenge.ask({ question: '  Spaces? ', choices, answerKey: '5' }, where)).toEqual({
    requests: [{ context: 'Question:   Spaces? \nAnswer:', continuations: [' a', ' b ', ' c', ' d', ' 😀e'] }],
    gold: 4,
    lengths: [1, 2, 1, 1, 2],
  })
})

test('HellaSwag joins, capitalizes and cleans in this order', () => {
  const row = {
    activity_label: 'Home and Garden',
    ctx_a: '[header] How to do it [title] Take it. [step] Put  it   down.',
    ctx_b: 'the MAN Said NASA',
    endings: ['[substeps] one [title] two.', '  [x] both  edges [y] ', 'a[b\nc]d', 'naïve 😀'],
    label: '3',
  }
  const question = tasks.hellaswag.ask(row, where)
  expect(question.requests[0]?.context).toBe('Home and Garden: How to do it. Take it. Put it  down. The man said nasa')
  expect(question.requests[0]?.continuations).toEqual(['  one. two.', '  both edges ', ' a[b\nc]d', ' naïve 😀'])
  expect(question.lengths).toEqual([10, 12, 7, 7])
  expect(question.gold).toBe(3)
})

test('HellaSwag deletes the shortest bracket across a carriage return and keeps the rest of a nested one', () => {
  const row = {
    activity_label: 'X',
    ctx_a: 'Q [x]',
    ctx_b: '',
    endings: ['a\r[b\rc]d', 'b [[c] d]', '[]a', ' [title] x [title]'],
    label: 0,
  }
  const question = tasks.hellaswag.ask(row, where)
  expect(question.requests[0]?.context).toBe('X: Q ')
  expect(question.requests[0]?.continuations).toEqual([' a\rd', ' b d]', ' a', '  x. '])
})

test('PIQA takes both solutions unchanged', () => {
  expect(tasks.piqa.ask({ goal: 'how\tto\n', sol1: ' lead', sol2: 'trail ', label: 1 }, where)).toEqual({
    requests: [{ context: 'Question: how\tto\n\nAnswer:', continuations: ['  lead', ' trail '] }],
    gold: 1,
    lengths: [5, 6],
  })
})

test('MMLU describes the subject, strips the question but not the choices, and scores the letters', () => {
  const row = { question: ' \n Which of\n these?\n', subject: 'high_school_us_history', choices: [' a', 'b ', '', '\nd'], answer: 3 }
  expect(tasks.mmlu.ask(row, where)).toEqual({
    requests: [
      {
        context:
          'The following are multiple choice questions (with answers) about high school us history.\n\nWhich of\n these?\nA.  a\nB. b \nC. \nD. \nd\nAnswer:',
        continuations: [' A', ' B', ' C', ' D'],
      },
    ],
    gold: 3,
    subject: 'high_school_us_history',
  })
})

test('a row without an answer or without a column is refused with its place', () => {
  expect(() => tasks.piqa.ask({ goal: 'g', sol1: 'a', sol2: 'b', label: -1 }, 'Row 7 of f.jsonl')).toThrow(
    /Row 7 of f\.jsonl has no right answer/,
  )
  expect(() => tasks.hellaswag.ask({ activity_label: 'a', ctx_a: 'b', ctx_b: 'c', endings: ['d'], label: '' }, where)).toThrow(/label/)
  expect(() => tasks.winogrande.ask({ sentence: 'a _ b', option1: 'x', answer: '1' }, where)).toThrow(/option2/)
  expect(() => tasks.winogrande.ask({ sentence: 'no gap', option1: 'x', option2: 'y', answer: '1' }, where)).toThrow(/sentence/)
  const choices = { text: ['a'], label: ['A'] }
  expect(() => tasks.arc_easy.ask({ question: 'q', choices, answerKey: 'B' }, where)).toThrow(/no right answer/)
})
