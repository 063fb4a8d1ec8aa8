/**
 * Network namespaces by `ip netns`: names with a prefix of this process, so that no two runs meet, and commands in them.
 *
 * Nothing here touches the namespace that the tests themselves run in: links are made directly inside the namespaces.
 */
import { type ChildProcess, execFile, type SpawnOptions, spawn } from "node:child_process";
import { readdirSync } from "node:fs";

export interface Finished {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** How many times longer everything may take: an emulated machine is that much slower. */
export const PATIENCE = Number(process.env.FAIRLEAD_PATIENCE ?? 1);

/** Runs a program to its end. Its exit code is part of the answer, never an exception. */
export function run(
  program: string,
  args: readonly string[],
  options: { readonly input?: string; readonly env?: NodeJS.ProcessEnv; readonly seconds?: number } = {},
): Promise<Finished> {
  const seconds = (options.seconds ?? 60) * PATIENCE;
  return new Promise((resolve) => {
    const child = execFile(
      program,
      [...args],
      {
        maxBuffer: 1 << 28,
        timeout: seconds * 1000,
        ...(options.env && { env: options.env }),
      },
      (error, stdout, stderr) => {
        const code = error === null ? 0 : typeof error.code === "number" ? error.code : 1;
        const killed = error?.killed
          ? `\n(ended after ${seconds} s)`
          : error?.signal
            ? `\n(ended by ${error.signal})`
            : "";
        resolve({ code, stdout, stderr: `${stderr}${killed}` });
      },
    );
    // A program that ends without reading its input is judged by its exit code.
    child.stdin?.on("error", () => {});
    child.stdin?.end(options.input ?? "");
  });
}

/** As `run`, but a failure is an error that tells command, input and what the program said. */
export async function must(
  program: string,
  args: readonly string[],
  options: Parameters<typeof run>[2] = {},
): Promise<string> {
  const { code, stdout, stderr } = await run(program, args, options);
  if (code !== 0) {
    const said = `${stderr || stdout}\n${options.input ?? ""}`;
    throw new Error(`${program} ${args.join(" ")} ended with ${code}: ${said.slice(0, 4_000)}`);
  }
  return stdout;
}

/** The namespaces of one lab: short names to real ones. */
export class Namespaces {
  readonly #prefix: string;

  constructor(label: string) {
    this.#prefix = `flk${process.pid}-${label}-`;
  }

  real(name: string): string {
    return `${this.#prefix}${name}`;
  }

  async create(names: readonly string[]): Promise<void> {
    await must("ip", ["-batch", "-"], {
      input: names.map((name) => `netns add ${this.real(name)}\n`).join(""),
    });
  }

  /** Links between namespaces: `[namespace, interface, namespace, interface]`. */
  async connect(pairs: readonly (readonly [string, string, string, string])[]): Promise<void> {
    const lines = pairs.map(
      ([left, leftName, right, rightName]) =>
        `link add name ${leftName} netns ${this.real(left)} type veth peer name ${rightName} netns ${this.real(right)}\n`,
    );
    await must("ip", ["-batch", "-"], { input: lines.join("") });
  }

  /** Lines of `ip -batch`, inside. */
  async ip(name: string, lines: readonly string[]): Promise<void> {
    await must("ip", ["-n", this.real(name), "-batch", "-"], { input: `${lines.join("\n")}\n` });
  }

  /** Settings under `/proc/sys/net`, inside; those marked `?` may be missing in this kernel. */
  async sysctl(name: string, settings: Readonly<Record<string, string>>): Promise<void> {
    const lines = Object.entries(settings).map(([key, value]) => {
      const path = `/proc/sys/net/${key.replace("?", "")}`;
      const write = `printf '%s' '${value}' > ${path}`;
      return key.startsWith("?") ? `if [ -e ${path} ]; then ${write} || exit 1; fi` : `${write} || exit 1`;
    });
    await this.must(name, "sh", ["-c", lines.join("\n")]);
  }

  run(name: string, program: string, args: readonly string[], options: Parameters<typeof run>[2] = {}) {
    return run("ip", ["netns", "exec", this.real(name), program, ...args], options);
  }

  must(name: string, program: string, args: readonly string[], options: Parameters<typeof run>[2] = {}) {
    return must("ip", ["netns", "exec", this.real(name), program, ...args], options);
  }

  spawn(name: string, program: string, args: readonly string[], options: SpawnOptions): ChildProcess {
    return spawn("ip", ["netns", "exec", this.real(name), program, ...args], options);
  }

  async remove(): Promise<void> {
    await removeNamespaces((name) => name.startsWith(this.#prefix));
  }
}

/** Takes away what a killed run has left: namespaces of processes that are no more. */
export async function removeAbandoned(): Promise<void> {
  const running = new Set(readdirSync("/proc"));
  await removeNamespaces((name) => {
    const owner = /^flk(\d+)-/.exec(name)?.[1];
    return owner !== undefined && !running.has(owner);
  });
}

async function removeNamespaces(chosen: (name: string) => boolean): Promise<void> {
  const listed = await must("ip", ["-o", "netns", "list"]);
  const names = listed
    .split("\n")
    .map((line) => line.split(" ")[0] ?? "")
    .filter((name) => name !== "" && chosen(name));
  if (names.length > 0) {
    await must("ip", ["-batch", "-"], { input: names.map((name) => `netns del ${name}\n`).join("") });
  }
}
