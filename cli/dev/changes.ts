/** Changes of files that nobody has worked on yet. However many there are, they are one. */
export class Changes {
  #since: number | undefined;
  #wake: (() => void) | undefined;

  note(): void {
    this.#since ??= performance.now();
    this.#wake?.();
  }

  /** When the oldest change was noted (`performance.now()`); undefined where there is none. */
  take(): number | undefined {
    const since = this.#since;
    this.#since = undefined;
    return since;
  }

  /** Waits for a change and takes it; undefined once `stop` fires. */
  async next(stop: AbortSignal): Promise<number | undefined> {
    if (this.#since === undefined && !stop.aborted) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        stop.addEventListener("abort", () => resolve(), { once: true });
      });
      this.#wake = undefined;
    }
    return stop.aborted ? undefined : this.take();
  }
}
