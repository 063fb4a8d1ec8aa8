/**
 * Long work in short turns, so that a process that also serves requests (`fairlead dev`) keeps serving them.
 *
 * Calls of the file system are synchronous in this folder: for thousands of small files that is ten times as quick as
 * promises, and between two turns everything else gets its chance.
 */

import { setImmediate as nextTurn } from "node:timers/promises";

const TURN_MILLISECONDS = 15;

export class Turns {
  readonly #turnMs: number;
  #began = performance.now();

  /** `turnMs`: how long a turn may last, in milliseconds. */
  constructor(turnMs = TURN_MILLISECONDS) {
    this.#turnMs = turnMs;
  }

  /** True once the present turn has lasted long enough; then `await next()`. */
  isOver(): boolean {
    return performance.now() - this.#began > this.#turnMs;
  }

  /** Does something with each item, in as many turns as it takes. */
  async each<T>(items: Iterable<T>, action: (item: T) => void): Promise<void> {
    for (const item of items) {
      if (this.isOver()) await this.next();
      action(item);
    }
  }

  async next(): Promise<void> {
    await nextTurn();
    this.#began = performance.now();
  }
}
