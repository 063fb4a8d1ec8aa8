/** The little statistics that rounds need. */

/** The middle value; of an even number the mean of the two in the middle. NaN for none. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((left, right) => left - right);
  const half = sorted.length >> 1;
  const upper = sorted[half] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[half - 1] ?? Number.NaN) + upper) / 2;
}

/**
 * Runs every subject once in each round, so that what else the machine does falls on all alike; every other
 * round in the reverse order. Results by subject, one for each round.
 */
export async function interleave<S extends string, R>(
  subjects: readonly S[],
  rounds: number,
  measure: (subject: S, round: number) => R | Promise<R>,
): Promise<Readonly<Record<S, readonly R[]>>> {
  const results = Object.fromEntries(subjects.map((subject) => [subject, [] as R[]])) as Record<S, R[]>;
  for (let round = 0; round < rounds; round++) {
    for (const subject of round % 2 === 0 ? subjects : [...subjects].reverse()) {
      results[subject].push(await measure(subject, round));
    }
  }
  return results;
}

/** Median over the rounds of `value` beside the same round's `base`. */
export function medianRatio(values: readonly number[], bases: readonly number[]): number {
  return median(values.map((value, round) => value / (bases[round] ?? Number.NaN)));
}
