/**
 * `fairlead gateway follow`: keeps a running HAProxy at what a cluster says, beside it in its Pod.
 *
 * In: the flags of `render`, and manifests or an API server. Out: configurations that HAProxy has accepted, and a HAProxy
 * that has them; a health page and metrics. Files that flags name (keys, certificates) are read again every few seconds.
 * What cannot be read or is refused is told in one sentence, and the last good state stays.
 */

import { resolve } from "node:path";
import { type Command, Option } from "commander";
import type { Diagnostic } from "../../cluster/diagnostic.ts";
import { DEFAULT_CONFIG_MAP } from "../../control/compile/options.ts";
import type { FollowOutcome, FollowReport } from "../../gateway/haproxy/follower.ts";
import { Changes } from "../dev/changes.ts";
import { DiagnosticsPrinter } from "../dev/diagnostics-printer.ts";
import { asSentence, CommandFailure, UsageError } from "../failure.ts";
import {
  absolutePath,
  addGatewayOptions,
  type CompileHosts,
  flagThatNeedsObjects,
  type GatewayFlags,
  listenAddress,
  positive,
  readSettings,
  readTcpSettings,
} from "../gateway-settings.ts";
import {
  type GatewayModel,
  type GatewaySource,
  type OpenGatewaySource,
  openGatewaySource,
} from "../gateway-source.ts";
import { createGatewayStatus } from "../gateway-status.ts";
import { addKubernetesOptions, apiAccess, type KubernetesFlags } from "../kubernetes-input.ts";
import { addCompilerOptions, addFileOption, compileOptions } from "../manifest-input.ts";
import { stopOnSignals } from "../stop-signal.ts";

interface FollowFlags extends GatewayFlags, KubernetesFlags {
  readonly file?: readonly string[];
  readonly masterSocket: string;
  readonly haproxy: string;
  readonly reloadDistance: number;
  readonly statusListen: string;
}

/** Files that flags name are looked at this often: a mounted Secret changes without a notice. */
const LOOK_AGAIN_MS = 5_000;
/** HAProxy is not there yet, or starts anew. */
const HAPROXY_AGAIN_MS = 1_000;
const LONGEST_FAREWELL_MS = 4_000;

export function registerFollow(gateway: Command, environmentHelp: string): void {
  addKubernetesOptions(addGatewayOptions(addCompilerOptions(addFileOption(gateway.command("follow")))))
    .summary("keep a running HAProxy up to date")
    .description(
      "Writes HAProxy's configuration into --out and follows manifests or a cluster, and the files that flags name. Each " +
        "change is checked by `haproxy -c`; then servers change in place, and anything else by a reload without a refused " +
        "connection. Start HAProxy beside it: haproxy -W -S MASTER_SOCKET -f OUT/current/haproxy.cfg",
    )
    .addOption(
      new Option("--master-socket <path>", "Unix socket of HAProxy's master process (haproxy -W -S)")
        .argParser(absolutePath)
        .makeOptionMandatory()
        .env("FAIRLEAD_GATEWAY_MASTER_SOCKET"),
    )
    .addOption(
      new Option("--haproxy <program>", "checks configurations; of the version that runs")
        .default("haproxy")
        .env("FAIRLEAD_GATEWAY_HAPROXY"),
    )
    .addOption(
      new Option("--reload-distance <seconds>", "shortest time between two reloads")
        .argParser(positive)
        .default(2)
        .env("FAIRLEAD_GATEWAY_RELOAD_DISTANCE"),
    )
    .addOption(
      new Option("--status-listen <host:port>", "where this program's own /healthz, /readyz and /metrics are")
        .argParser(listenAddress)
        .default(":8082")
        .env("FAIRLEAD_GATEWAY_STATUS_LISTEN"),
    )
    .addHelpText("after", environmentHelp)
    .action(async (flags: FollowFlags) => {
      await follow(flags, process.env);
      // A client of the API may still hold a connection; nobody waits for it.
      process.exit(0);
    });
}

async function follow(flags: FollowFlags, environment: NodeJS.ProcessEnv): Promise<void> {
  const say = (line: string): void => void process.stderr.write(`fairlead: ${asSentence(line)}\n`);
  const source = sourceOf(flags);
  const compile = await createCompile(flags);
  await readSettings(flags, environment); // Whatever is wrong with it is told before anything begins.
  const { HaproxyFollower } = await import("../../gateway/haproxy/follower.ts");
  const follower = new HaproxyFollower({
    folder: absolutePath(resolve(flags.out)),
    masterSocket: flags.masterSocket,
    program: flags.haproxy,
    reloadDistanceMs: flags.reloadDistance * 1_000,
  });

  const stop = stopOnSignals(LONGEST_FAREWELL_MS);
  const changes = new Changes();
  const diagnostics = new DiagnosticsPrinter((line) => void process.stderr.write(`${line}\n`));
  const trouble = new LastTold(say);
  let newest: GatewayModel | undefined;
  let opened: OpenGatewaySource | undefined;
  let timer: NodeJS.Timeout | undefined;
  const status = await createGatewayStatus(flags.statusListen, () => opened?.problem());
  try {
    if (source !== undefined) {
      const interest = {
        ingresses: flags.passthroughListen !== undefined,
        configMaps: [
          ...(flags.passthroughListen === undefined
            ? []
            : [compileOptions(flags).configMap ?? DEFAULT_CONFIG_MAP]),
          ...(flags.tcpServices === undefined ? [] : [flags.tcpServices]),
        ],
      };
      const onModel = (model: GatewayModel): void => {
        newest = model;
        changes.note();
      };
      opened = await openGatewaySource(source, interest, onModel, say);
    }
    // Requests over HTTP need nothing of a cluster: they are served before it has answered. What a start before this one
    // installed stays until then.
    let isReady = await follower.isInstalled();
    if (source === undefined || newest !== undefined || !isReady) changes.note();
    if (isReady) ready();

    while ((await changes.next(stop)) !== undefined) {
      clearTimeout(timer);
      let againMs = LOOK_AGAIN_MS;
      try {
        const settings = await readSettings(flags, environment);
        if (source === undefined || newest !== undefined || !isReady) {
          const tcp = newest === undefined ? undefined : readTcpSettings(newest.model, flags, compile);
          const report = await follower.bring({ ...settings, ...tcp?.settings });
          diagnostics.show([
            ...(newest?.diagnostics ?? []),
            ...(tcp?.diagnostics ?? []),
            ...diagnosticsOf(report, flags),
          ]);
          status.brought(report.outcome);
          trouble.tell(sentenceOf(report.outcome));
          againMs = againAfter(report.outcome);
        }
        if (!isReady && (await follower.isInstalled())) {
          isReady = true;
          ready();
        }
      } catch (error) {
        const message = error instanceof Error ? error.message : String(error);
        if (!isReady)
          throw error instanceof RangeError ? new UsageError(message) : new CommandFailure(message);
        trouble.tell(`${message.replace(/\.$/, "")}; the last good state stays.`);
      }
      timer = setTimeout(() => changes.note(), againMs);
    }
  } finally {
    clearTimeout(timer);
    opened?.close();
    await status.close();
  }

  function ready(): void {
    status.ready();
    process.stdout.write("ready\n");
  }
}

function sourceOf(flags: FollowFlags): GatewaySource | undefined {
  const needy = flagThatNeedsObjects(flags);
  if (needy === undefined) return undefined;
  if (flags.file?.includes("-")) throw new UsageError("-f - cannot be followed: it takes files or folders.");
  if (flags.file !== undefined) return { kind: "files", paths: flags.file };
  const access = apiAccess(flags);
  if (access === undefined)
    throw new UsageError(`${needy} needs -f PATH or --kubernetes: the objects that it is about.`);
  return { kind: "kubernetes", access, namespaces: flags.namespaces };
}

/** Each compilation costs what has changed. */
async function createCompile(flags: FollowFlags): Promise<CompileHosts> {
  const { createCompiler } = await import("../../control/compile/compile.ts");
  const options = compileOptions(flags);
  const compiler = createCompiler({
    ...options,
    ...(flags.allowLoopback === true ? { allowLocalAddresses: true } : {}),
  });
  return (model) => compiler.compile(model);
}

function diagnosticsOf({ portsWithout }: FollowReport, { tcpServices }: FollowFlags): readonly Diagnostic[] {
  if (tcpServices === undefined) return [];
  return [...portsWithout].map(([port, reason]) => ({
    severity: "error",
    kind: "ConfigMap",
    object: tcpServices,
    field: `data[${port}]`,
    message: `port ${port} cannot be listened on (${reason}); the entry is not served until it can.`,
  }));
}

/** What a person shall know; undefined: nothing is wrong. */
function sentenceOf(outcome: FollowOutcome): string | undefined {
  switch (outcome.kind) {
    case "refused":
      return `HAProxy refuses the new configuration, and the last good one stays: ${outcome.reason}`;
    case "installed":
      return `the configuration is written, and HAProxy finds it when it starts: ${outcome.reason}`;
    case "unchanged":
    case "servers":
    case "reload":
    case "early":
      return undefined;
    default:
      return outcome satisfies never;
  }
}

function againAfter(outcome: FollowOutcome): number {
  if (outcome.kind === "early") return Math.min(LOOK_AGAIN_MS, Math.ceil(outcome.waitMs));
  return outcome.kind === "installed" ? HAPROXY_AGAIN_MS : LOOK_AGAIN_MS;
}

/** Tells what is wrong once, for as long as it stays the same. */
class LastTold {
  readonly #say: (line: string) => void;
  #told: string | undefined;

  constructor(say: (line: string) => void) {
    this.#say = say;
  }

  tell(sentence: string | undefined): void {
    if (sentence !== undefined && sentence !== this.#told) this.#say(sentence);
    this.#told = sentence;
  }
}
