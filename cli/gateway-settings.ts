/**
 * What `fairlead gateway render` and `follow` have in common: their flags, and the settings behind them.
 *
 * In: options as commander gives them, files that they name, and a cluster's objects for what is passed on as TCP. Out:
 * settings of `gateway/haproxy/`; a `UsageError` for what no option takes, diagnostics for what is wrong with objects.
 *
 * Keys come from a variable or a file only: a command line is readable by every process of the machine.
 */

import { readdir, readFile } from "node:fs/promises";
import { isIP } from "node:net";
import { join } from "node:path";
import { type Command, InvalidArgumentError, Option } from "commander";
import type { Diagnostic } from "../cluster/diagnostic.ts";
import { findExposedServices } from "../cluster/exposed-services.ts";
import type { ClusterModel, ObjectName } from "../cluster/model.ts";
import type { EdgeConfig } from "../edge-config/config.ts";
import { parseTokenKeys, type TokenKey } from "../edge-config/gateway-token.ts";
import type { TlsSecret } from "../gateway/dial.ts";
import type { HaproxySettings, TcpServiceSettings } from "../gateway/haproxy/settings.ts";
import { passthroughHosts } from "../gateway/passthrough.ts";
import type { ProxyVersion } from "../gateway/proxy-protocol.ts";
import { CommandFailure, UsageError } from "./failure.ts";
import { type CompilerFlags, configMapName } from "./manifest-input.ts";

/** As commander gives them. */
export interface GatewayFlags extends CompilerFlags {
  readonly out: string;
  readonly keysFile?: string;
  readonly allowedCidrs?: readonly string[];
  readonly allowLoopback?: true;
  readonly listen: string;
  readonly listenCertificate?: string;
  readonly healthListen: string;
  readonly tlsSecrets?: string;
  readonly nameservers: readonly string[];
  readonly connectTimeout: number;
  readonly drain: number;
  readonly maxConnections?: number;
  readonly maxHead: number;
  readonly adminSocket?: string;
  readonly passthroughListen?: string;
  readonly passthroughAcceptProxy?: true;
  readonly passthroughOtherwise?: string;
  readonly tcpServices?: ObjectName;
  readonly tcpServicesAddress?: string;
  readonly allTcpServices?: true;
  readonly proxyProtocol: ProxyVersion;
}

/** Every option that `readSettings` and `readTcpSettings` read, but those of the compiler. */
export function addGatewayOptions(command: Command): Command {
  return command
    .addOption(
      new Option("-o, --out <folder>", "where the files go")
        .makeOptionMandatory()
        .env("FAIRLEAD_GATEWAY_OUT"),
    )
    .addOption(
      new Option("--keys-file <file>", "id:base64, by commas or lines, instead of FAIRLEAD_GATEWAY_KEYS").env(
        "FAIRLEAD_GATEWAY_KEYS_FILE",
      ),
    )
    .addOption(
      new Option(
        "--allowed-cidrs <cidrs>",
        "networks of pods, and of Services that are dialled by ClusterIP, by commas",
      )
        .argParser(list)
        .env("FAIRLEAD_GATEWAY_ALLOWED_CIDRS"),
    )
    .addOption(
      new Option("--allow-loopback", "dial pods on 127.0.0.1 too; never in a cluster").env(
        "FAIRLEAD_GATEWAY_ALLOW_LOOPBACK",
      ),
    )
    .addOption(
      new Option("--listen <host:port>", "where the Worker or the tunnel reaches it; :PORT is every address")
        .argParser(listenAddress)
        .default(":8080")
        .env("FAIRLEAD_GATEWAY_LISTEN"),
    )
    .addOption(
      new Option(
        "--listen-certificate <file>",
        "PEM with certificate and key: listen with TLS (and HTTP/2)",
      ).env("FAIRLEAD_GATEWAY_LISTEN_CERTIFICATE"),
    )
    .addOption(
      new Option("--health-listen <host:port>", "where /healthz and /metrics are")
        .argParser(listenAddress)
        .default(":8081")
        .env("FAIRLEAD_GATEWAY_HEALTH_LISTEN"),
    )
    .addOption(
      new Option(
        "--tls-secrets <folder>",
        "NAMESPACE/NAME/{ca.crt,tls.crt,tls.key}: the Secrets of proxy-ssl-secret",
      ).env("FAIRLEAD_GATEWAY_TLS_SECRETS"),
    )
    .addOption(
      new Option("--nameservers <ip:port>", "DNS servers by commas (default: those of /etc/resolv.conf)")
        .argParser((text) => list(text).map(nameserver))
        .default([], "/etc/resolv.conf")
        .env("FAIRLEAD_GATEWAY_NAMESERVERS"),
    )
    .addOption(
      new Option("--connect-timeout <seconds>", "for a connection to a pod, TLS included")
        .argParser(positive)
        .default(5)
        .env("FAIRLEAD_GATEWAY_CONNECT_TIMEOUT"),
    )
    .addOption(
      new Option("--drain <seconds>", "how long a stopped HAProxy finishes what is under way")
        .argParser(positiveWhole)
        .default(50)
        .env("FAIRLEAD_GATEWAY_DRAIN"),
    )
    .addOption(
      new Option(
        "--max-connections <number>",
        "of clients at once (default: by the limit of open files, 25000 at most)",
      )
        .argParser(positiveWhole)
        .env("FAIRLEAD_GATEWAY_MAX_CONNECTIONS"),
    )
    .addOption(
      new Option("--max-head <kibibytes>", "largest head of a request, up to 128; larger ones are slower")
        .argParser(headSize)
        .default(32)
        .env("FAIRLEAD_GATEWAY_MAX_HEAD"),
    )
    .addOption(
      new Option("--admin-socket <path>", "Unix socket of HAProxy's runtime API, to change keys and CIDRs")
        .argParser(orNothing(absolutePath))
        .env("FAIRLEAD_GATEWAY_ADMIN_SOCKET"),
    )
    .addOption(
      new Option(
        "--passthrough-listen <host:port>",
        "where TLS of hosts with ssl-passthrough goes to their pods (default: nowhere)",
      )
        .argParser(orNothing(listenAddress))
        .env("FAIRLEAD_GATEWAY_PASSTHROUGH_LISTEN"),
    )
    .addOption(
      new Option("--passthrough-accept-proxy", "a balancer in front of that port sends PROXY headers").env(
        "FAIRLEAD_GATEWAY_PASSTHROUGH_ACCEPT_PROXY",
      ),
    )
    .addOption(
      new Option(
        "--passthrough-otherwise <ip:port>",
        "who gets TLS for every other name at that port (default: it is closed)",
      )
        .argParser(orNothing(listenAddress))
        .env("FAIRLEAD_GATEWAY_PASSTHROUGH_OTHERWISE"),
    )
    .addOption(
      new Option(
        "--tcp-services <namespace/name>",
        "ConfigMap of TCP services; those with PROXY are served here, plain ones by the node agent",
      )
        .argParser(orNothing(configMapName))
        .env("FAIRLEAD_GATEWAY_TCP_SERVICES"),
    )
    .addOption(
      new Option("--all-tcp-services", "serve plain ones here too").env("FAIRLEAD_GATEWAY_ALL_TCP_SERVICES"),
    )
    .addOption(
      new Option("--tcp-services-address <ip>", "where TCP services listen (default: every address)")
        .argParser(orNothing(ipAddress))
        .env("FAIRLEAD_GATEWAY_TCP_SERVICES_ADDRESS"),
    )
    .addOption(
      new Option("--proxy-protocol <version>", "of the PROXY headers that pods get")
        .choices(["v1", "v2"])
        .default("v1")
        .env("FAIRLEAD_GATEWAY_PROXY_PROTOCOL"),
    );
}

/** All but what comes from a cluster's objects. Throws a `UsageError` or `CommandFailure`. */
export async function readSettings(
  flags: GatewayFlags,
  environment: NodeJS.ProcessEnv,
): Promise<Omit<HaproxySettings, "folder">> {
  if (flags.allowedCidrs === undefined && flags.allowLoopback !== true) {
    throw new UsageError(
      "--allowed-cidrs (or FAIRLEAD_GATEWAY_ALLOWED_CIDRS) is missing: the networks of the cluster's pods, such as 10.244.0.0/16.",
    );
  }
  return {
    keys: await readKeys(flags.keysFile, environment.FAIRLEAD_GATEWAY_KEYS || undefined),
    allowedCidrs: flags.allowedCidrs ?? [],
    allowLoopback: flags.allowLoopback === true,
    listen: flags.listen,
    healthListen: flags.healthListen,
    ...(flags.listenCertificate ? { listenCertificate: await read(flags.listenCertificate) } : {}),
    tlsSecrets: flags.tlsSecrets ? await readTlsSecrets(flags.tlsSecrets) : new Map(),
    nameservers: flags.nameservers,
    connectTimeoutMs: Math.ceil(flags.connectTimeout * 1_000),
    drainSeconds: flags.drain,
    ...(flags.maxConnections === undefined ? {} : { maxConnections: flags.maxConnections }),
    maxHeadKibibytes: flags.maxHead,
    ...(flags.adminSocket === undefined ? {} : { adminSocket: flags.adminSocket }),
    tcpServices: [],
  };
}

/** The flag that makes a cluster's objects necessary; undefined: nothing is passed on as TCP. */
export function flagThatNeedsObjects(
  flags: GatewayFlags,
): "--passthrough-listen" | "--tcp-services" | undefined {
  if (flags.passthroughListen !== undefined) return "--passthrough-listen";
  return flags.tcpServices === undefined ? undefined : "--tcp-services";
}

export interface TcpSettings {
  readonly settings: Pick<HaproxySettings, "passthrough" | "tcpServices" | "tcpAddress">;
  /** Of the objects behind it. What is wrong with one costs itself only. */
  readonly diagnostics: readonly Diagnostic[];
}

/** Compiles hosts and their endpoints, for `ssl-passthrough`. */
export type CompileHosts = (model: ClusterModel) => {
  readonly config: Pick<EdgeConfig, "hosts" | "backends">;
  readonly diagnostics: readonly Diagnostic[];
};

/** What is passed on as TCP, from a cluster's objects. */
export function readTcpSettings(
  model: ClusterModel,
  flags: GatewayFlags,
  compile: CompileHosts,
): TcpSettings {
  const { passthroughListen: listen, passthroughOtherwise: otherwise, tcpServices: configMap } = flags;
  const diagnostics: Diagnostic[] = [];
  let passthrough: HaproxySettings["passthrough"];
  if (listen !== undefined) {
    const compiled = compile(model);
    diagnostics.push(
      ...compiled.diagnostics.filter(({ field }) => field?.endsWith("/ssl-passthrough") === true),
    );
    passthrough = {
      listen,
      acceptsProxy: flags.passthroughAcceptProxy === true,
      hosts: passthroughHosts(compiled.config),
      ...(otherwise === undefined ? {} : { otherwise }),
    };
  }
  const services = configMap === undefined ? undefined : readTcpServices(model, configMap, flags);
  diagnostics.push(...(services?.diagnostics ?? []));
  return {
    settings: {
      ...(passthrough === undefined ? {} : { passthrough }),
      tcpServices: services?.services ?? [],
      ...(flags.tcpServicesAddress === undefined ? {} : { tcpAddress: flags.tcpServicesAddress }),
    },
    diagnostics,
  };
}

function readTcpServices(
  model: ClusterModel,
  name: ObjectName,
  flags: GatewayFlags,
): { readonly services: readonly TcpServiceSettings[]; readonly diagnostics: readonly Diagnostic[] } {
  const { services, diagnostics } = findExposedServices(model, name, "TCP");
  const own = ownPorts(flags);
  const told = [...diagnostics];
  const served = services.flatMap(
    ({ exposed: { nodePort: port, service, port: servicePort, proxyProtocol }, endpoints }) => {
      if (proxyProtocol === undefined && flags.allTcpServices !== true) return [];
      const user = own.get(port);
      if (user !== undefined) {
        // HAProxy would take both and give each of them a part of the connections.
        const message = `port ${port} is that of the gateway's ${user}; the entry is ignored`;
        told.push({ severity: "error", kind: "ConfigMap", object: name, field: `data[${port}]`, message });
        return [];
      }
      return {
        port,
        name: `${service}:${servicePort}`,
        endpoints,
        acceptsProxy: proxyProtocol?.decode === true,
        ...(proxyProtocol?.encode === true ? { sendsProxy: flags.proxyProtocol } : {}),
      };
    },
  );
  return { services: served, diagnostics: told };
}

/** Ports that the gateway itself listens on, and by which flag. */
function ownPorts(flags: GatewayFlags): ReadonlyMap<number, string> {
  const { listen, healthListen, passthroughListen } = flags;
  return new Map(
    [
      ["--listen", listen] as const,
      ["--health-listen", healthListen] as const,
      ["--passthrough-listen", passthroughListen] as const,
    ].flatMap(([flag, address]) =>
      address === undefined ? [] : [[Number(address.slice(address.lastIndexOf(":") + 1)), flag]],
    ),
  );
}

async function readKeys(
  file: string | undefined,
  variable: string | undefined,
): Promise<readonly TokenKey[]> {
  const text =
    file === undefined
      ? variable
      : (await read(file))
          .trim()
          .split(/\s*[\n,]\s*/)
          .join(",");
  if (text === undefined) {
    throw new UsageError(
      "FAIRLEAD_GATEWAY_KEYS is not set, and there is no --keys-file: id:base64, as the Worker has it.",
    );
  }
  return usage(() => parseTokenKeys(text));
}

/** A name as Kubernetes takes it (RFC 1123); also keeps `..data` of mounted Secrets out. */
const OBJECT_NAME = /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/;

async function readTlsSecrets(folder: string): Promise<ReadonlyMap<string, TlsSecret>> {
  const secrets = new Map<string, TlsSecret>();
  for (const namespace of await namesIn(folder)) {
    for (const name of await namesIn(join(folder, namespace))) {
      const part = (file: string): Promise<string | undefined> =>
        readIfThere(join(folder, namespace, name, file));
      const [ca, cert, key] = await Promise.all([part("ca.crt"), part("tls.crt"), part("tls.key")]);
      if ((cert === undefined) !== (key === undefined)) {
        throw new CommandFailure(
          `${join(folder, namespace, name)} has one of tls.crt and tls.key; both or neither are needed.`,
        );
      }
      secrets.set(`${namespace}/${name}`, {
        ...(ca === undefined ? {} : { ca }),
        ...(cert === undefined || key === undefined ? {} : { cert, key }),
      });
    }
  }
  return secrets;
}

async function namesIn(folder: string): Promise<readonly string[]> {
  try {
    return (await readdir(folder)).filter((name) => OBJECT_NAME.test(name)).sort();
  } catch (error) {
    throw new CommandFailure(`could not list ${folder}: ${messageOf(error)}.`);
  }
}

async function read(file: string): Promise<string> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    throw new CommandFailure(`could not read ${file}: ${messageOf(error)}.`);
  }
}

async function readIfThere(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw new CommandFailure(`could not read ${file}: ${messageOf(error)}.`);
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** What the operator wrote is wrong, not the program. */
export function usage<T>(action: () => T): T {
  try {
    return action();
  } catch (error) {
    if (error instanceof RangeError) throw new UsageError(error.message);
    throw error;
  }
}

/** A variable that is set to nothing is not set. */
function orNothing<T>(parse: (text: string) => T): (text: string) => T | undefined {
  return (text) => (text === "" ? undefined : parse(text));
}

function list(text: string): readonly string[] {
  return text
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "");
}

export function listenAddress(text: string): string {
  const parts = /^(?:\[([^\]]*)\]|([^:]*)):(\d{1,5})$/.exec(text);
  const host = parts?.[1] ?? parts?.[2] ?? "";
  const port = Number(parts?.[3]);
  const isAddress = host === "" || host === "*" || isIP(host) === (text.startsWith("[") ? 6 : 4);
  if (parts === null || !isAddress || port < 1 || port > 65_535)
    throw new InvalidArgumentError("Expected is IP:PORT, [IPV6]:PORT or :PORT.");
  return text;
}

function nameserver(text: string): string {
  const whole = isIP(text) === 4 ? `${text}:53` : isIP(text) === 6 ? `[${text}]:53` : text;
  return listenAddress(whole);
}

function ipAddress(text: string): string {
  if (isIP(text) === 0) throw new InvalidArgumentError("Expected is an IP address.");
  return isIP(text) === 6 ? `[${text}]` : text;
}

/** Goes into the configuration as one word. */
export function absolutePath(text: string): string {
  if (!/^\/[\w./@%+:-]*$/.test(text))
    throw new InvalidArgumentError("Expected is an absolute path of letters, digits and ./_@%+:- signs.");
  return text;
}

export function positive(text: string): number {
  const value = Number(text);
  if (!(value > 0 && value <= 86_400)) throw new InvalidArgumentError("Expected is a number above 0.");
  return value;
}

function positiveWhole(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1 || value > 10_000_000)
    throw new InvalidArgumentError("Expected is a whole number above 0.");
  return value;
}

function headSize(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 8 || value > 128)
    throw new InvalidArgumentError("Expected is a whole number from 8 to 128.");
  return value;
}
