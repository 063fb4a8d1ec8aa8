/**
 * Fairlead as the tests meet it: the command line, run in the namespace of the node under test.
 */
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import type { Lab } from "./lab.ts";
import { NODE } from "./manifest.ts";
import { type Finished, run } from "./netns.ts";
import type { Backend } from "./table.ts";

const ROOT = join(import.meta.dirname, "..", "..");
/** The bundled command where somebody names it: in a virtual machine, whose processor takes many times longer over the sources, and in benchmarks. */
const commandPath = (): string => process.env.FAIRLEAD_COMMAND ?? join(ROOT, "bin", "fairlead.mjs");

/** The kernel interface behind the `iptables` command; each distribution has made its choice. */
export type IptablesVariant = "nft" | "legacy";

/** A way of programming a node. */
export interface Programmer {
  readonly backend: Backend;
  readonly variant?: IptablesVariant;
}

/** What belongs to one test file: a folder for manifests, and a PATH that decides which iptables is meant. */
export class AgentRunner {
  readonly folder: string;
  readonly #lab: Lab;
  readonly #programmer: Programmer;
  readonly #variables: NodeJS.ProcessEnv;

  /** `variables` of the environment stand beside or in place of this process' own. */
  constructor(lab: Lab, programmer: Programmer, variables: NodeJS.ProcessEnv = {}) {
    this.#lab = lab;
    this.#programmer = programmer;
    this.#variables = variables;
    this.folder = mkdtempSync(join(tmpdir(), "fairlead-kernel-"));
    if (programmer.variant !== undefined) {
      for (const name of ["iptables", "ip6tables"]) {
        for (const suffix of ["", "-restore", "-save"]) {
          // Both are one program that looks at the name that it was called by.
          const program = `/usr/sbin/${name}-${programmer.variant}${suffix}`;
          symlinkSync(program, join(this.folder, `${name}${suffix}`));
        }
      }
    }
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }

  file(name: string): string {
    return join(this.folder, name);
  }

  get environment(): NodeJS.ProcessEnv {
    const path = `${this.folder}${delimiter}${process.env.PATH ?? ""}`;
    return { ...process.env, ...this.#variables, PATH: path, NO_COLOR: "1" };
  }

  /** Programs the node once. A failure is an error with what the agent said. */
  async program(manifest: string, ...flags: readonly string[]): Promise<Finished> {
    const finished = await this.once(manifest, ...flags);
    if (finished.code !== 0) throw new Error(`the agent ended with ${finished.code}: ${finished.stderr}`);
    return finished;
  }

  once(manifest: string, ...flags: readonly string[]): Promise<Finished> {
    return this.agent("--once", "-f", manifest, ...flags);
  }

  /** `fairlead agent` with these flags, to its end. */
  agent(...flags: readonly string[]): Promise<Finished> {
    const [program = "", ...args] = this.command(...flags);
    return this.#lab.namespaces.run("node-a", program, args, { env: this.environment });
  }

  /** `fairlead agent explain --json` about a destination. */
  async explain(manifest: string, to: string): Promise<unknown> {
    const [program = "", command = ""] = this.command();
    const question = [
      "--node",
      NODE,
      "--backend",
      this.#programmer.backend,
      "-f",
      manifest,
      "--to",
      to,
      "--json",
    ];
    return JSON.parse(
      await this.#lab.namespaces.must("node-a", program, [command, "agent", "explain", ...question], {
        env: this.environment,
      }),
    );
  }

  /** The agent as it runs on a node, until it is ended. */
  start(...flags: readonly string[]): RunningAgent {
    const [program = "", ...args] = this.command(...flags);
    return new RunningAgent(
      this.#lab.namespaces.spawn("node-a", program, args, {
        env: this.environment,
        stdio: ["ignore", "pipe", "pipe"],
      }),
    );
  }

  /** The words of `fairlead agent` with these flags. */
  command(...flags: readonly string[]): readonly string[] {
    return [
      process.execPath,
      commandPath(),
      "agent",
      "--node",
      NODE,
      "--backend",
      this.#programmer.backend,
      ...flags,
    ];
  }

  /** `fairlead nat …`, outside of any namespace: it must not need the kernel. */
  nat(
    command: "render" | "trace",
    manifest: string,
    { input = "" }: { readonly input?: string },
    ...flags: readonly string[]
  ): Promise<Finished> {
    const args = [
      commandPath(),
      "nat",
      command,
      "-f",
      manifest,
      "--node",
      NODE,
      "--backend",
      this.#programmer.backend,
      ...flags,
    ];
    return run(process.execPath, args, { input, env: this.environment });
  }
}

export class RunningAgent {
  readonly #child: ChildProcess;
  output = "";

  constructor(child: ChildProcess) {
    this.#child = child;
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding("utf8").on("data", (text: string) => {
        this.output += text;
      });
    }
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  get hasEnded(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  async end(signal: "SIGTERM" | "SIGKILL"): Promise<void> {
    if (this.hasEnded) return;
    const ended = once(this.#child, "exit");
    this.#child.kill(signal);
    await ended;
  }
}
