/** Objects that stay in memory for months, ten thousands of them, and how they are made. */

/** While it is made: fields that are not always there are assigned, since spreading them costs more than all the rest. */
export type Draft<T> = { -readonly [K in keyof T]: T[K] };

const EMPTY: readonly never[] = [];

/** The same list without the room that V8 leaves behind a pushed item, 16 further ones; those without items are one list. */
export function kept<T>(list: readonly T[]): readonly T[] {
  return list.length === 0 ? EMPTY : list.slice();
}
