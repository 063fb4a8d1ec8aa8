/** A running `fairlead dev`. */

import { FairleadProgram } from "./fairlead-program.ts";

export class FairleadDev extends FairleadProgram {
  constructor(args: readonly string[]) {
    super(["dev", ...args]);
  }

  /** The URL of the `ready` line. Rejects with what was printed when the program ends before. */
  async ready(): Promise<URL> {
    const line = await this.waitFor(this.stdout, /^ready /);
    return new URL(line.slice("ready ".length));
  }
}
