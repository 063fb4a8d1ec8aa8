/**
 * `fairlead control`: the control service. Reads flags, variables and files into `ControlSettings`, and ends
 * on SIGINT or SIGTERM. What it does is in `control/main.ts`.
 *
 * Secrets come from variables only: a command line is readable by every process of the machine.
 */

import { readFile } from "node:fs/promises";
import { type Command, InvalidArgumentError, Option } from "commander";
import type { ListenAddress } from "../../control/listen.ts";
import type { ControlSettings } from "../../control/settings.ts";
import { addClusterOptions, type ClusterFlags, connectCluster } from "../cluster-control.ts";
import { CommandFailure, UsageError } from "../failure.ts";
import { addCompilerOptions, type CompilerFlags, compileOptions } from "../manifest-input.ts";
import { stopOnSignals } from "../stop-signal.ts";

interface ControlFlags extends CompilerFlags, ClusterFlags {
  readonly kvApi?: string;
  readonly account?: string;
  readonly kvNamespace?: string;
  readonly listen: ListenAddress;
  readonly maxBody: number;
  readonly debounce?: number;
  readonly pointerDistance?: number;
  readonly shardGrace?: number;
  readonly writeBudget?: number;
  readonly callBudget: number;
  readonly hostOwnership?: string;
  readonly dryRun?: true;
  readonly log: "json" | "pretty";
}

const CLOUDFLARE_API = "https://api.cloudflare.com/client/v4/accounts";

/** After this long what has not ended is left to the system. */
const LONGEST_FAREWELL_MS = 10_000;

export function registerControl(program: Command): void {
  const command = program
    .command("control")
    .summary("run the control service")
    .description(
      "Runs the control service: follows a cluster, takes the states of others, compiles them, publishes to Workers KV and serves an API.",
    );
  addClusterOptions(addCompilerOptions(command))
    .addOption(
      new Option("--account <id>", "Cloudflare account that owns the KV namespace").env("FAIRLEAD_ACCOUNT"),
    )
    .addOption(new Option("--kv-namespace <id>", "the KV namespace of the edge").env("FAIRLEAD_KV_NAMESPACE"))
    .addOption(
      new Option(
        "--kv-api <url>",
        "base URL of the KV API, account included (default: Cloudflare's); the local explorer of wrangler dev works too",
      ).env("FAIRLEAD_KV_API"),
    )
    .addOption(
      new Option("--listen <host:port>", "where the API listens; :PORT means every address")
        .argParser(listenAddress)
        .default({ host: "127.0.0.1", port: 8788 }, "127.0.0.1:8788")
        .env("FAIRLEAD_LISTEN"),
    )
    .addOption(
      new Option("--max-body <mebibytes>", "largest state that is taken")
        .argParser(positive)
        .default(128)
        .env("FAIRLEAD_MAX_BODY"),
    )
    .addOption(
      new Option("--debounce <seconds>", "how long changes are gathered (default: 2, local KV: 0)")
        .argParser(notNegative)
        .env("FAIRLEAD_DEBOUNCE"),
    )
    .addOption(
      new Option(
        "--pointer-distance <seconds>",
        "shortest time between two pointers (default: 1, local KV: 0)",
      )
        .argParser(notNegative)
        .env("FAIRLEAD_POINTER_DISTANCE"),
    )
    .addOption(
      new Option(
        "--shard-grace <seconds>",
        "how long replaced shards are kept (default: 3600, local KV: 600)",
      )
        .argParser(positive)
        .env("FAIRLEAD_SHARD_GRACE"),
    )
    .addOption(
      new Option(
        "--write-budget <keys>",
        "most KV writes a day (UTC); the free plan has 1000 (default: no limit)",
      )
        .argParser(positive)
        .env("FAIRLEAD_WRITE_BUDGET"),
    )
    .addOption(
      new Option("--call-budget <calls>", "API calls that the token's user may make in 5 minutes")
        .argParser(positive)
        .default(1_200)
        .env("FAIRLEAD_CALL_BUDGET"),
    )
    .addOption(
      new Option(
        "--host-ownership <file>",
        "YAML or JSON: which cluster or namespace may use which host",
      ).env("FAIRLEAD_HOST_OWNERSHIP"),
    )
    .addOption(
      new Option("--dry-run", "write nothing to KV, and tell what would be written").env("FAIRLEAD_DRY_RUN"),
    )
    .addOption(
      new Option("--log <format>", "log lines as json or pretty")
        .choices(["json", "pretty"])
        .default("pretty")
        .env("FAIRLEAD_LOG"),
    )
    .addHelpText(
      "after",
      `
Secrets, from the environment only:
  FAIRLEAD_KV_TOKEN       Cloudflare API token with "Workers KV Storage: Edit" (CLOUDFLARE_API_TOKEN serves too)
  FAIRLEAD_CONFIG_KEY     seals secrets and signs the pointer; the Worker has the same; at least 32 characters
  FAIRLEAD_CONTROL_TOKEN  bearer token of operators, for everything below /v1; at least 16 characters
  FAIRLEAD_PUSH_TOKENS    cluster=token,...: tokens that push one cluster's state and nothing else

Traces of publications (OTLP over HTTP, JSON), by OpenTelemetry's own variables:
  OTEL_EXPORTER_OTLP_ENDPOINT         base URL of a collector; without it (or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT) none are sent
  OTEL_EXPORTER_OTLP_HEADERS          name=value,...
  OTEL_SERVICE_NAME                   default: fairlead-control`,
    )
    .action(async (flags: ControlFlags) => {
      const settings = await readSettings(flags, process.env);
      await runUntilSignal(settings, flags);
    });
}

async function runUntilSignal(settings: ControlSettings, flags: ControlFlags): Promise<void> {
  const { runControl } = await import("../../control/main.ts");
  const { createLog } = await import("../../control/log.ts");
  const stop = stopOnSignals(LONGEST_FAREWELL_MS);
  const log = createLog(flags.log, (line) => process.stderr.write(`${line}\n`));
  const cluster = await connectCluster(flags, settings.compile, log);
  try {
    await runControl({
      settings,
      ...(cluster ?? { sources: [] }),
      log,
      onListening: (url) => process.stdout.write(`ready ${url}\n`),
      stop: stop,
    });
  } finally {
    await cluster?.close();
  }
}

/** Throws a `UsageError` for what is missing or wrong. */
export async function readSettings(
  flags: ControlFlags,
  environment: NodeJS.ProcessEnv,
): Promise<ControlSettings> {
  const { CLOUDFLARE_PACE, LOCAL_PACE } = await import("../../control/kv/publisher.ts");
  const { MIN_TOKEN_LENGTH, readClusterTokens } = await import("../../control/access.ts");
  const { listen } = flags;
  // A variable that is set to nothing is not set.
  const [kvApi, kvNamespace, account] = [flags.kvApi, flags.kvNamespace, flags.account].map(
    (text) => text || undefined,
  );
  if (kvNamespace === undefined)
    throw new UsageError(
      "--kv-namespace (or FAIRLEAD_KV_NAMESPACE) is missing: the id of the KV namespace that the Worker reads.",
    );
  if (kvApi === undefined && account === undefined)
    throw new UsageError(
      "--account (or FAIRLEAD_ACCOUNT) is missing: the Cloudflare account, or --kv-api for another KV API.",
    );
  const baseUrl = kvApi ?? `${CLOUDFLARE_API}/${account}`;
  const api = URL.parse(baseUrl);
  if (api === null || !/^https?:$/.test(api.protocol))
    throw new UsageError(`--kv-api takes a URL, not ${JSON.stringify(baseUrl)}.`);
  const kvIsLocal = isLoopback(api.hostname);
  const token = environment.FAIRLEAD_KV_TOKEN || environment.CLOUDFLARE_API_TOKEN || undefined;
  if (token === undefined && !kvIsLocal)
    throw new UsageError("FAIRLEAD_KV_TOKEN is not set: an API token with `Workers KV Storage: Edit`.");
  if (token !== undefined && api.protocol === "http:" && !kvIsLocal)
    throw new UsageError("--kv-api must be https: the API token would travel in the clear.");

  const operator = environment.FAIRLEAD_CONTROL_TOKEN || undefined;
  if (operator !== undefined && operator.length < MIN_TOKEN_LENGTH) {
    throw new UsageError(
      `FAIRLEAD_CONTROL_TOKEN has ${operator.length} characters, at least ${MIN_TOKEN_LENGTH} are needed.`,
    );
  }
  const clusters = usage(() => readClusterTokens(environment.FAIRLEAD_PUSH_TOKENS ?? ""));
  const isOpen = operator === undefined && clusters.size === 0;
  if (isOpen && !isLoopback(listen.host)) {
    throw new UsageError(
      "FAIRLEAD_CONTROL_TOKEN is not set: without a token the API listens on loopback only (--listen 127.0.0.1:8788).",
    );
  }
  const base = kvIsLocal ? LOCAL_PACE : CLOUDFLARE_PACE;
  const milliseconds = (seconds: number | undefined, otherwise: number): number =>
    seconds === undefined ? otherwise : seconds * 1_000;
  return {
    kv: {
      baseUrl,
      namespaceId: kvNamespace,
      token,
      callsInFiveMinutes: kvIsLocal ? Number.POSITIVE_INFINITY : flags.callBudget,
      writesADay: flags.writeBudget,
    },
    configKey: environment.FAIRLEAD_CONFIG_KEY || undefined,
    pace: {
      ...base,
      debounceMs: milliseconds(flags.debounce, base.debounceMs),
      pointerDistanceMs: milliseconds(flags.pointerDistance, base.pointerDistanceMs),
      graceMs: milliseconds(flags.shardGrace, base.graceMs),
    },
    dryRun: flags.dryRun === true,
    compile: compileOptions(flags),
    ...(flags.hostOwnership === undefined ? {} : { hostOwnership: await readPolicy(flags.hostOwnership) }),
    ...traceSettings(environment),
    listen,
    api: { tokens: { operator, clusters }, maxBodyBytes: flags.maxBody * 1024 * 1024, loopbackOnly: isOpen },
  };
}

/** OpenTelemetry's variables (specification of the OTLP exporter); header values are percent-encoded there. */
function traceSettings(environment: NodeJS.ProcessEnv): Pick<ControlSettings, "traces"> {
  const base = environment.OTEL_EXPORTER_OTLP_ENDPOINT || undefined;
  const url =
    environment.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT ||
    (base === undefined ? undefined : `${base.replace(/\/+$/, "")}/v1/traces`);
  if (url === undefined || environment.OTEL_SDK_DISABLED === "true") return {};
  if (!/^https?:$/.test(URL.parse(url)?.protocol ?? ""))
    throw new UsageError(`OTEL_EXPORTER_OTLP_ENDPOINT takes a URL, not ${JSON.stringify(url)}.`);
  const pairs = (environment.OTEL_EXPORTER_OTLP_HEADERS ?? "")
    .split(",")
    .filter((pair) => pair.trim() !== "");
  const headers = Object.fromEntries(
    pairs.map((pair) => {
      const at = pair.indexOf("=");
      if (at <= 0) throw new UsageError("OTEL_EXPORTER_OTLP_HEADERS takes name=value pairs by commas.");
      return [pair.slice(0, at).trim(), decodeURIComponent(pair.slice(at + 1).trim())];
    }),
  );
  return { traces: { url, headers, serviceName: environment.OTEL_SERVICE_NAME || "fairlead-control" } };
}

async function readPolicy(path: string): Promise<unknown> {
  const { parse } = await import("yaml");
  try {
    return parse(await readFile(path, "utf8"));
  } catch (error) {
    throw new CommandFailure(
      `The host-ownership policy ${path} cannot be read: ${error instanceof Error ? error.message : String(error)}`,
    );
  }
}

function usage<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof RangeError) throw new UsageError(error.message);
    throw error;
  }
}

function isLoopback(host: string): boolean {
  return host === "localhost" || host === "[::1]" || host === "::1" || /^127\.\d+\.\d+\.\d+$/.test(host);
}

/** `127.0.0.1:8788`, `[::1]:8788`, `:8788` (every address) or `8788` (loopback). */
function listenAddress(text: string): ListenAddress {
  const parts = /^(?:(\[[0-9a-f:]+\]|[^:[\]]*):)?(\d{1,5})$/i.exec(text);
  const port = Number(parts?.[2]);
  if (parts === null || port > 65_535)
    throw new InvalidArgumentError("HOST:PORT is expected, such as 127.0.0.1:8788.");
  const host = parts[1];
  return { host: host === undefined ? "127.0.0.1" : host === "" ? "::" : host.replace(/^\[|\]$/g, ""), port };
}

function notNegative(text: string): number {
  const number = Number(text);
  if (text.trim() === "" || !Number.isFinite(number) || number < 0)
    throw new InvalidArgumentError("A number from 0 is expected.");
  return number;
}

function positive(text: string): number {
  const number = notNegative(text);
  if (number === 0) throw new InvalidArgumentError("A number above 0 is expected.");
  return number;
}
