/** `1 block`, `3 blocks`. */
export const plural = (count: number, one: string, many = `${one}s`): string => `${count} ${count === 1 ? one : many}`

export const upperFirst = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1)
