/**
 * The driver of the prober (`prober/`, Rust): servers and probes in the namespaces of a lab.
 *
 * In: who asks whom. Out: what came of it, as the kernel showed it. What an outcome means is `replay.ts`'s.
 */
import { type ChildProcessByStdio, spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import type { Protocol } from "./addresses.ts";
import { must } from "./netns.ts";

export type Outcome =
  | {
      readonly kind: "answered";
      /** Address and port that the answering socket was reached at. */
      readonly endpoint: string;
      readonly endpointPort: number;
      /** The source that it saw. */
      readonly seen: string;
      readonly seenPort: number;
      /** The source that was sent with. */
      readonly local: string;
      readonly localPort: number;
      readonly micros: number;
    }
  | { readonly kind: "reset"; readonly micros: number }
  | {
      readonly kind: "icmp";
      readonly type: number;
      readonly code: number;
      readonly from: string;
      readonly micros: number;
    }
  | { readonly kind: "silent" }
  | { readonly kind: "closed" }
  | { readonly kind: "error"; readonly reason: string };

export interface Probe {
  /** Real name of the namespace. */
  readonly netns: string;
  readonly protocol: Protocol;
  readonly source?: string;
  readonly sourcePort?: number;
  readonly address: string;
  readonly port: number;
  readonly timeoutMs: number;
}

/** What a load has met; `endpoints` counts answers by `address:port`. */
export interface LoadCount {
  readonly answered: number;
  readonly refused: number;
  readonly silent: number;
  readonly errors: number;
  readonly micros: number;
  readonly endpoints: ReadonlyMap<string, number>;
}

export interface Load extends Probe {
  /** Probes at a time. */
  readonly concurrency: number;
  /** What each of them waits before the next; default none. */
  readonly pauseMs?: number;
  /** 0: until stopped. */
  readonly count: number;
}

const CRATE = join(import.meta.dirname, "prober");

/** Builds the program; quick when nothing has changed. */
export async function buildProber(): Promise<string> {
  // Inside a virtual machine there is no time for a compiler: whoever started it has built the program.
  if (process.env.FAIRLEAD_PROBER) return process.env.FAIRLEAD_PROBER;
  await must(
    "cargo",
    ["build", "--release", "--locked", "--quiet", "--manifest-path", join(CRATE, "Cargo.toml")],
    {
      env: process.env,
      seconds: 300,
    },
  );
  return join(CRATE, "target", "release", "prober");
}

export class Prober {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #waiting = new Map<
    string,
    { resolve: (words: readonly string[]) => void; reject: (error: Error) => void }
  >();
  #serial = 0;

  private constructor(child: ChildProcessByStdio<Writable, Readable, null>) {
    this.#child = child;
    createInterface({ input: child.stdout }).on("line", (line) => {
      const [id = "", ...words] = line.split(" ");
      const waiting = this.#waiting.get(id);
      this.#waiting.delete(id);
      waiting?.resolve(words);
    });
    child.on("exit", (code, signal) => {
      for (const { reject } of this.#waiting.values())
        reject(new Error(`the prober ended (${code ?? signal})`));
      this.#waiting.clear();
    });
    child.stdin.on("error", () => {}); // told by "exit"
  }

  static async start(): Promise<Prober> {
    const program = await buildProber();
    return new Prober(spawn(program, [], { stdio: ["pipe", "pipe", "inherit"] }));
  }

  stop(): void {
    this.#child.stdin.end();
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  async serve(netns: string, protocol: Protocol, address: string, port: number): Promise<string> {
    const id = this.#nextId();
    const words = await this.#ask(id, `serve ${id} ${netns} ${protocol} ${address} ${port}`);
    if (words[0] !== "ready") {
      throw new Error(`no ${protocol} server on ${address} port ${port} in ${netns}: ${words.join(" ")}`);
    }
    return id;
  }

  async probe(probe: Probe): Promise<Outcome> {
    const id = this.#nextId();
    return readOutcome(await this.#ask(id, probeLine(id, probe)));
  }

  /** Opens a connection that stays; for UDP, a socket that keeps its port. */
  async hold(probe: Probe): Promise<Held> {
    const id = this.#nextId();
    const first = readOutcome(await this.#ask(id, `${probeLine(id, probe)} keep`));
    return {
      first,
      say: async (timeoutMs) => readOutcome(await this.#ask(id, `say ${id} ${timeoutMs}`)),
      close: () => this.close(id),
    };
  }

  /** Starts a load; `stop` ends it, `done` tells its counts. */
  load(load: Load): RunningLoad {
    const id = this.#nextId();
    const { netns, protocol, source = "-", address, port, concurrency, pauseMs = 0, count, timeoutMs } = load;
    const line = `load ${id} ${netns} ${protocol} ${source} ${address} ${port} ${concurrency} ${pauseMs} ${count} ${timeoutMs}`;
    const done = this.#ask(id, line).then(readCount);
    // Whoever awaits it is told; a test that ended before has its own complaint.
    done.catch(() => {});
    return { done, stop: () => this.#send(`stop ${id}`) };
  }

  close(id: string): void {
    this.#send(`close ${id}`);
  }

  #nextId(): string {
    this.#serial++;
    return `p${this.#serial}`;
  }

  #send(line: string): void {
    this.#child.stdin.write(`${line}\n`);
  }

  #ask(id: string, line: string): Promise<readonly string[]> {
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#send(line);
    });
  }
}

export interface RunningLoad {
  readonly done: Promise<LoadCount>;
  readonly stop: () => void;
}

export interface Held {
  readonly first: Outcome;
  readonly say: (timeoutMs: number) => Promise<Outcome>;
  readonly close: () => void;
}

function probeLine(
  id: string,
  { netns, protocol, source = "-", sourcePort = 0, address, port, timeoutMs }: Probe,
): string {
  return `probe ${id} ${netns} ${protocol} ${source} ${sourcePort} ${address} ${port} ${timeoutMs}`;
}

function readOutcome(words: readonly string[]): Outcome {
  const [kind, ...rest] = words;
  const text = (index: number) => rest[index] ?? "";
  const number = (index: number) => Number(rest[index]);
  switch (kind) {
    case "answered":
      return {
        kind,
        endpoint: text(0),
        endpointPort: number(1),
        seen: text(2),
        seenPort: number(3),
        local: text(4),
        localPort: number(5),
        micros: number(6),
      };
    case "reset":
      return { kind, micros: number(0) };
    case "icmp":
      return { kind, type: number(0), code: number(1), from: text(2), micros: number(3) };
    case "silent":
    case "closed":
      return { kind };
    default:
      return { kind: "error", reason: rest.join(" ") };
  }
}

function readCount(words: readonly string[]): LoadCount {
  if (words[0] !== "loaded") throw new Error(`the load did not run: ${words.join(" ")}`);
  const [answered = 0, refused = 0, silent = 0, errors = 0, micros = 0] = words.slice(1, 6).map(Number);
  const endpoints = new Map(
    words.slice(6).map((word) => {
      const [endpoint = "", count = ""] = word.split("=");
      return [endpoint, Number(count)];
    }),
  );
  return { answered, refused, silent, errors, micros, endpoints };
}
