/** `fairlead control` beside a cluster, as a person starts it: a process of its own, ended by signals. */

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { ApiServer } from "./api-server.ts";
import { CONFIG_KEY, type LocalEdge } from "./local-edge.ts";

const PROGRAM = fileURLToPath(new URL("../../../bin/fairlead.mjs", import.meta.url));
/** Signals must reach the program itself, which an older Node would start in a process of its own. */
const NODE =
  Number.parseInt(process.versions.node, 10) >= 24
    ? process.execPath
    : fileURLToPath(new URL("../../../node_modules/.bin/node", import.meta.url));

export class ControlProcess {
  readonly url: string;
  readonly log: string[];
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess, url: string, log: string[]) {
    this.#child = child;
    this.url = url;
    this.log = log;
  }

  static async start(
    server: Pick<ApiServer, "kubeconfig">,
    edge: LocalEdge,
    ...args: readonly string[]
  ): Promise<ControlProcess> {
    return await ControlProcess.startWith([], server, edge, ...args);
  }

  /** With flags for Node itself. */
  static async startWith(
    nodeFlags: readonly string[],
    server: Pick<ApiServer, "kubeconfig">,
    edge: LocalEdge,
    ...args: readonly string[]
  ): Promise<ControlProcess> {
    const child = spawn(
      NODE,
      [
        ...nodeFlags,
        PROGRAM,
        "control",
        ...["--kubeconfig", server.kubeconfig],
        ...["--kv-api", edge.kv.baseUrl, "--kv-namespace", edge.kvNamespaceId],
        ...["--listen", "127.0.0.1:0", "--log", "json"],
        ...args,
      ],
      { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, FAIRLEAD_CONFIG_KEY: CONFIG_KEY } },
    );
    const log: string[] = [];
    let rest = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      const lines = (rest + text).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        log.push(line);
        child.emit("log", line);
      }
    });
    const url = await new Promise<string>((resolve, reject) => {
      let output = "";
      child.stdout.setEncoding("utf8").on("data", (text: string) => {
        output += text;
        const ready = /^ready (\S+)$/m.exec(output)?.[1];
        if (ready !== undefined) resolve(ready);
      });
      child.once("exit", (code) =>
        reject(new Error(`fairlead control ended with ${code}:\n${log.join("\n")}`)),
      );
    });
    return new ControlProcess(child, url, log);
  }

  async json(path: string): Promise<unknown> {
    return await (await fetch(this.url + path)).json();
  }

  /** The value of a metric whose labels hold all of these texts; `undefined` where there is none. */
  async metric(name: string, ...labels: readonly string[]): Promise<number | undefined> {
    const lines = (await (await fetch(`${this.url}/metrics`)).text()).split("\n");
    const line = lines.find((one) => one.startsWith(name) && labels.every((label) => one.includes(label)));
    return line === undefined ? undefined : Number(line.slice(line.lastIndexOf(" ")));
  }

  get pid(): number {
    return this.#child.pid ?? -1;
  }

  /** When the next line comes that is right, on the clock of `performance.now()`. */
  nextLine(isRight: (line: string) => boolean): Promise<number> {
    return new Promise((resolve) => {
      const look = (line: string): void => {
        if (!isRight(line)) return;
        this.#child.off("log", look);
        resolve(performance.now());
      };
      this.#child.on("log", look);
    });
  }

  freeze(): void {
    this.#child.kill("SIGSTOP");
  }

  thaw(): void {
    this.#child.kill("SIGCONT");
  }

  async end(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, "exit");
    this.#child.kill("SIGCONT");
    this.#child.kill(signal);
    await ended;
  }
}
