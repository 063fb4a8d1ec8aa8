/** A place for one value from a producer to a consumer that only ever wants the newest one. */

export interface Newest<T> {
  /** Replaces a value that nobody has taken yet. */
  readonly put: (value: T) => void;
  /** Ends the iteration once the value that waits was taken. */
  readonly end: () => void;
  /** For one consumer. */
  readonly values: AsyncIterable<T>;
}

export function createNewest<T>(): Newest<T> {
  let waiting: { readonly value: T } | undefined;
  let ended = false;
  let wake: () => void = () => {};
  return {
    put: (value) => {
      waiting = { value };
      wake();
    },
    end: () => {
      ended = true;
      wake();
    },
    values: {
      async *[Symbol.asyncIterator]() {
        for (;;) {
          if (waiting !== undefined) {
            const { value } = waiting;
            waiting = undefined;
            yield value;
          } else if (ended) return;
          else {
            await new Promise<void>((resolve) => {
              wake = resolve;
            });
          }
        }
      },
    },
  };
}
