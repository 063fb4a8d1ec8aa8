/**
 * What a benchmark is: a folder `bench/<name>/` whose `bench.ts` exports a `Bench`.
 *
 * Goals are ratios taken in one run on one machine, never absolute times: those belong to the machine.
 */

export interface Bench {
  /** What is measured beside what, in one sentence. */
  readonly title: string;
  readonly goals: readonly Goal[];
  readonly run: (context: BenchContext) => Promise<BenchOutcome>;
}

/** A bound for one of the measures of the outcome. */
export interface Goal {
  readonly what: string;
  readonly measure: string;
  readonly bound: { readonly atMost: number } | { readonly atLeast: number };
  /** Judged with `--full` only: what it is beside takes minutes. */
  readonly needsFull?: true;
}

export interface BenchContext {
  /** Interleaved rounds: every subject once, then all again. Results are medians over them. */
  readonly rounds: number;
  /** Whether what takes minutes is measured too. */
  readonly isFull: boolean;
  /** A line for whoever waits. */
  readonly note: (line: string) => void;
}

export interface BenchOutcome {
  /** First the names of the columns, then the rows, as they shall be printed. */
  readonly table: readonly (readonly string[])[];
  /** What goals and later readers refer to. */
  readonly measures: Readonly<Record<string, number>>;
  /** Names and versions of what was measured beside us. */
  readonly versions: Readonly<Record<string, string>>;
}
