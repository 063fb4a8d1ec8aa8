/**
 * The `fairlead` program: its commands, its exit codes and how it gives up.
 *
 * In: the arguments after `fairlead`. Out: what the command prints; exit code 0, 1 for failure, 2 for wrong usage;
 * one sentence on stderr for each error (the stack too with `FAIRLEAD_DEBUG=1`).
 * Not here: anything a command does. Each file of `commands/` registers one, and loads what is heavy (wrangler, WASM)
 * in its action, so that `fairlead --version` stays quick.
 */
import { readFileSync } from "node:fs";
import { Command, CommanderError } from "commander";
import { registerAgent } from "./commands/agent.ts";
import { registerCompile } from "./commands/compile.ts";
import { registerControl } from "./commands/control.ts";
import { registerDev } from "./commands/dev.ts";
import { registerExplain } from "./commands/explain.ts";
import { registerGateway } from "./commands/gateway.ts";
import { registerGenerations } from "./commands/generations.ts";
import { registerLint } from "./commands/lint.ts";
import { registerNat } from "./commands/nat.ts";
import { registerPush } from "./commands/push.ts";
import { registerTls } from "./commands/tls.ts";
import { asSentence, describeError, exitCodeOf, UsageError } from "./failure.ts";
import { readSwitchVariables } from "./switches.ts";

/** In the order in which `fairlead --help` lists them. */
const REGISTER_COMMANDS: readonly ((program: Command) => void)[] = [
  // One line a command, in the order of the README.
  registerDev,
  registerCompile,
  registerLint,
  registerExplain,
  registerControl,
  registerPush,
  registerGenerations,
  registerGateway,
  registerTls,
  registerAgent,
  registerNat,
];

export function buildProgram(): Command {
  const program = new Command("fairlead")
    .description(
      "Ingress at Cloudflare's edge and Service NAT on the nodes, from the Kubernetes manifests you have.",
    )
    .version(packageVersion(), "-V, --version")
    // What stands after a command's name is that command's: `agent explain --node` is not an option of `agent`.
    .enablePositionalOptions()
    .helpCommand("help [command]", "Show help for a command")
    .configureHelp({ showGlobalOptions: false });
  for (const register of REGISTER_COMMANDS) register(program);
  for (const command of withSubcommands(program)) {
    throwInsteadOfExit(command);
    readSwitchVariables(command);
  }
  return program;
}

/** Runs the program. Never rejects: what went wrong is on stderr and in `process.exitCode`. */
export async function main(argumentsAfterName: readonly string[]): Promise<void> {
  endQuietlyWithoutReader();
  for (const event of ["uncaughtException", "unhandledRejection"] as const) {
    process.on(event, (error: unknown) => {
      process.stderr.write(describeError(error));
      process.exit(exitCodeOf(error));
    });
  }
  try {
    await buildProgram().parseAsync(argumentsAfterName, { from: "user" });
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return; // --help, --version
    process.stderr.write(describeError(error));
    process.exitCode = exitCodeOf(error);
  }
}

function* withSubcommands(command: Command): Generator<Command> {
  yield command;
  for (const child of command.commands) yield* withSubcommands(child);
}

/** Commander prints its own errors and exits with 1; ours are printed in one place and wrong usage exits with 2. */
function throwInsteadOfExit(command: Command): void {
  command.configureOutput({ outputError: () => {} });
  command.exitOverride((error) => {
    if (error.exitCode === 0) throw error;
    // `commander.help` is what a command group without a subcommand ends in; its help is on stderr by then.
    if (error.code === "commander.help")
      throw new UsageError("a command is missing; the list above names them.");
    throw new UsageError(`${asSentence(error.message).replace(/\.$/u, "")}; see \`${helpOf(command)}\`.`);
  });
}

function helpOf(command: Command): string {
  const names: string[] = [];
  for (let at: Command | null = command; at !== null; at = at.parent) names.unshift(at.name());
  return `${names.join(" ")} --help`;
}

/**
 * `fairlead compile … | head` closes our standard output early, which is not an error.
 * A command that runs until it is told to stop (it listens to SIGTERM) goes on without its reader, unless it says otherwise.
 */
function endQuietlyWithoutReader(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code !== "EPIPE") throw error;
      if (process.listenerCount("SIGTERM") === 0) process.exit(process.exitCode ?? 0);
    });
  }
}

/** `../package.json` is beside us both in the checkout (`cli/main.ts`) and in the package (`dist/fairlead.js`). */
function packageVersion(): string {
  const manifest: unknown = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"));
  if (typeof manifest === "object" && manifest !== null && "version" in manifest)
    return String(manifest.version);
  throw new Error("package.json names no version");
}

// Run as `node cli/main.ts`; `bin/fairlead.mjs` calls `main` itself.
if (import.meta.main) await main(process.argv.slice(2));
