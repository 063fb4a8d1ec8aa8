/**
 * `fairlead agent`: the node agent, on the network namespace that it runs in. Reads flags and variables; what it does is in
 * `agent/main.ts`.
 *
 * Standard output has one line, `ready`, when the rules are in the kernel for the first time (and the text of --dry-run);
 * everything else that it says is a line on standard error.
 */

import { type Command, InvalidArgumentError, Option } from "commander";
import type { AgentOptions } from "../../agent/options.ts";
import type { OutboundSettings } from "../../agent/outbound/outbound.ts";
import type { ListenAddress } from "../../agent/status-servers.ts";
import type { ConntrackSettings } from "../../agent/sysctls.ts";
import { addSourceOptions, type SourceFlags, sourceSettings } from "../agent-source.ts";
import { ignoreEmptyVariables } from "../empty-variables.ts";
import { asSentence, CommandFailure, UsageError } from "../failure.ts";
import { addNatOptions, type NatFlags, natSettings, rangeList } from "../nat-input.ts";
import { stopOnSignals } from "../stop-signal.ts";
import { registerAgentExplain } from "./agent-explain.ts";
import { registerAgentWatch } from "./agent-watch.ts";

interface AgentFlags extends NatFlags, SourceFlags {
  readonly once?: true;
  readonly dryRun?: true;
  readonly cleanup?: true;
  readonly cleanupOwn?: true;
  readonly initOnly?: true;
  readonly procSys: string;
  readonly healthzListen: ListenAddress | typeof NOWHERE;
  readonly metricsListen: ListenAddress | typeof NOWHERE;
  readonly nonMasqueradeCidrs?: readonly string[];
  readonly outboundPolicy?: string;
  /** `--no-snat-random-fully` makes it false. */
  readonly snatRandomFully: boolean;
  readonly hostPorts?: true;
  readonly conntrackMaxPerCore: number;
  readonly conntrackMin: number;
  readonly conntrackTcpTimeoutEstablished: number;
  readonly conntrackTcpTimeoutCloseWait: number;
  readonly conntrackUdpTimeout: number;
  readonly conntrackUdpTimeoutStream: number;
}

/** After this long what has not ended is left to the system. */
const LONGEST_FAREWELL_MS = 8_000;

export function registerAgent(program: Command): void {
  const command = program
    .command("agent")
    .summary("program this node's Services")
    .description(
      "Programs the Services of a cluster into this node's kernel and keeps them there: from manifests with -f, else from the cluster's API server.",
    )
    .argument("[paths...]", "more manifests")
    // What stands after `explain` or `watch` is theirs.
    .enablePositionalOptions();
  registerAgentExplain(command);
  registerAgentWatch(command);
  addConntrackOptions(addSourceOptions(addNatOptions(command)))
    .option("--once", "program the present state and end")
    .option("--dry-run", "print the transactions that would be applied, and apply nothing")
    .option("--cleanup", "remove the rules of every backend, kube-proxy's too, and end")
    .option(
      "--cleanup-own",
      "remove Fairlead's own rules, on the way back to a kube-proxy that runs, and end",
    )
    .option(
      "--init-only",
      "set the kernel's settings (sysctls), which needs more rights than rules do, and end",
    )
    .addOption(
      new Option("--proc-sys <folder>", "where the kernel's settings are")
        .default("/proc/sys")
        .env("FAIRLEAD_PROC_SYS"),
    )
    .addOption(
      new Option("--healthz-listen <host:port>", "where /healthz, /livez and /readyz are; none for nowhere")
        .argParser(listenAddress)
        .default({ host: "0.0.0.0", port: 10_256 }, "0.0.0.0:10256")
        .env("FAIRLEAD_HEALTHZ_LISTEN"),
    )
    .addOption(
      new Option("--metrics-listen <host:port>", "where /metrics and /proxyMode are; none for nowhere")
        .argParser(listenAddress)
        .default({ host: "127.0.0.1", port: 10_249 }, "127.0.0.1:10249")
        .env("FAIRLEAD_METRICS_LISTEN"),
    )
    .addOption(
      new Option(
        "--non-masquerade-cidrs <cidrs>",
        "masquerade what leaves this node for anywhere but these ranges, by commas (default: outbound traffic is left alone)",
      )
        .argParser(rangeList)
        .env("FAIRLEAD_NON_MASQUERADE_CIDRS"),
    )
    .addOption(
      new Option(
        "--outbound-policy <file>",
        "the same as a file in ip-masq-agent's format, with fixed source addresses for Pods; read again when it changes",
      ).env("FAIRLEAD_OUTBOUND_POLICY"),
    )
    .addOption(
      new Option("--no-snat-random-fully", "ports of outbound connections are kept where they can be").env(
        "FAIRLEAD_SNAT_RANDOM_FULLY",
      ),
    )
    .addOption(
      new Option("--host-ports", "serve hostPort of this node's Pods (where no CNI plug-in does)").env(
        "FAIRLEAD_HOST_PORTS",
      ),
    )
    .action(runAgentCommand);
  ignoreEmptyVariables(command);
}

async function runAgentCommand(morePaths: readonly string[], flags: AgentFlags): Promise<void> {
  const say = (line: string): void => void process.stderr.write(`fairlead: ${asSentence(line)}\n`);
  const agent = await import("../../agent/main.ts");
  const kinds = [flags.once, flags.cleanup, flags.cleanupOwn, flags.initOnly].filter((flag) => flag === true);
  if (kinds.length > 1)
    throw new UsageError("--once, --cleanup, --cleanup-own and --init-only exclude each other.");
  const cleanUp = flags.cleanup ? agent.cleanUp : flags.cleanupOwn ? agent.cleanUpOwn : undefined;
  if (cleanUp !== undefined && flags.dryRun)
    throw new UsageError(`--cleanup${flags.cleanupOwn ? "-own" : ""} knows no --dry-run.`);
  // Neither the cluster nor the node's name matters for taking rules away.
  if (cleanUp !== undefined) return failing(() => cleanUp({ say, procSys: flags.procSys }));

  const options: AgentOptions = {
    settings: natSettings(flags),
    source: sourceSettings(flags, morePaths),
    conntrack: conntrackSettings(flags),
    outbound: outboundSettings(flags),
    hostPorts: flags.hostPorts === true,
    healthListen: unlessNowhere(flags.healthzListen),
    metricsListen: unlessNowhere(flags.metricsListen),
    procSys: flags.procSys,
    say,
  };
  if (flags.initOnly) return failing(() => agent.initializeNode(options));
  if (flags.dryRun) {
    await failing(async () => void process.stdout.write(await agent.planOnce(options)));
    return;
  }
  if (flags.once) {
    await failing(() => agent.programOnce(options));
    return;
  }
  const stop = stopOnSignals(LONGEST_FAREWELL_MS);
  await failing(() =>
    agent.runAgent({
      ...options,
      onReady: () => void process.stdout.write("ready\n"),
      stop: stop,
    }),
  );
  // A client of the API may still hold a connection; nobody waits for it.
  process.exit(0);
}

/** What the agent gives up for is told as a failure, whatever it is. */
async function failing(run: () => Promise<void>): Promise<void> {
  try {
    await run();
  } catch (error) {
    if (error instanceof UsageError || process.env.FAIRLEAD_DEBUG === "1") throw error;
    throw new CommandFailure(error instanceof Error ? error.message : String(error));
  }
}

function outboundSettings(flags: AgentFlags): OutboundSettings | undefined {
  const { nonMasqueradeCidrs: cidrs, outboundPolicy: path, snatRandomFully: randomFully } = flags;
  if (cidrs !== undefined && path)
    throw new UsageError(
      "--non-masquerade-cidrs and --outbound-policy exclude each other: the file has such a list too.",
    );
  if (path) return { kind: "file", path, randomFully };
  return cidrs === undefined || cidrs.length === 0 ? undefined : { kind: "cidrs", cidrs, randomFully };
}

function addConntrackOptions(command: Command): Command {
  const number = (flag: string, what: string, otherwise: number): Option =>
    new Option(flag, what)
      .argParser(notNegativeWhole)
      .default(otherwise)
      .env(`FAIRLEAD_${(flag.split(" ")[0] ?? "").slice(2).replaceAll("-", "_").toUpperCase()}`);
  return command
    .addOption(
      number(
        "--conntrack-max-per-core <flows>",
        "largest connection table, by processor; 0 leaves the kernel's",
        32_768,
      ),
    )
    .addOption(
      number(
        "--conntrack-min <flows>",
        "largest connection table at least, however few processors there are",
        131_072,
      ),
    )
    .addOption(
      number(
        "--conntrack-tcp-timeout-established <seconds>",
        "idle TCP connections are forgotten; 0 leaves the kernel's",
        86_400,
      ),
    )
    .addOption(
      number(
        "--conntrack-tcp-timeout-close-wait <seconds>",
        "half-closed TCP connections are forgotten; 0 leaves the kernel's",
        3_600,
      ),
    )
    .addOption(
      number("--conntrack-udp-timeout <seconds>", "UDP flows of one direction; 0 leaves the kernel's", 0),
    )
    .addOption(
      number(
        "--conntrack-udp-timeout-stream <seconds>",
        "UDP flows of both directions; 0 leaves the kernel's",
        0,
      ),
    );
}

function conntrackSettings(flags: AgentFlags): ConntrackSettings {
  return {
    maxPerCore: flags.conntrackMaxPerCore,
    min: flags.conntrackMin,
    tcpEstablishedSeconds: flags.conntrackTcpTimeoutEstablished,
    tcpCloseWaitSeconds: flags.conntrackTcpTimeoutCloseWait,
    udpSeconds: flags.conntrackUdpTimeout,
    udpStreamSeconds: flags.conntrackUdpTimeoutStream,
    tcpBeLiberal: flags.conntrackTcpBeLiberal,
  };
}

/** A flag's value that is `undefined` would become an empty text. */
const NOWHERE = "none";

function unlessNowhere(listen: ListenAddress | typeof NOWHERE): ListenAddress | undefined {
  return listen === NOWHERE ? undefined : listen;
}

function listenAddress(text: string): ListenAddress | typeof NOWHERE {
  if (text === NOWHERE) return NOWHERE;
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([0-9.]*)):([0-9]{1,5})$/.exec(text);
  const port = Number(match?.[3] ?? Number.NaN);
  if (match === null || port > 65_535)
    throw new InvalidArgumentError(
      `${JSON.stringify(text)} is no address with a port, such as 127.0.0.1:10249.`,
    );
  return { host: match[1] ?? (match[2] || "0.0.0.0"), port };
}

function notNegativeWhole(text: string): number {
  if (!/^[0-9]{1,9}$/.test(text))
    throw new InvalidArgumentError(`${JSON.stringify(text)} is no whole number.`);
  return Number(text);
}
