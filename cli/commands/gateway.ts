/**
 * `fairlead gateway render`: HAProxy's configuration as the gateway of a cluster, from flags, variables, files and
 * manifests. What it says is in `gateway/haproxy/`; the contract it keeps is `gateway/README.md`.
 *
 * Keys come from a variable or a file only: a command line is readable by every process of the machine.
 */

import { readdir, readFile } from "node:fs/promises";
import { isIP } from "node:net";
import { join, resolve } from "node:path";
import { type Command, InvalidArgumentError, Option } from "commander";
import { type Diagnostic, formatDiagnostic } from "../../cluster/diagnostic.ts";
import { findExposedServices } from "../../cluster/exposed-services.ts";
import type { ClusterModel, ObjectName } from "../../cluster/model.ts";
import { parseTokenKeys, type TokenKey } from "../../edge-config/gateway-token.ts";
import type { TlsSecret } from "../../gateway/dial.ts";
import type { HaproxySettings, TcpServiceSettings } from "../../gateway/haproxy/settings.ts";
import type { PassthroughHosts } from "../../gateway/passthrough.ts";
import type { ProxyVersion } from "../../gateway/proxy-protocol.ts";
import { CommandFailure, UsageError } from "../failure.ts";
import {
  addCompilerOptions,
  addFileOption,
  compileOptions,
  configMapName,
  type FileFlags,
  readCluster,
} from "../manifest-input.ts";

interface RenderFlags extends FileFlags {
  readonly out: string;
  readonly installedAt?: string;
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

export function registerGateway(program: Command): void {
  const gateway = program
    .command("gateway")
    .summary("configure the gateway of a cluster")
    .description("The gateway inside a cluster: HAProxy with a configuration that this writes.");
  addCompilerOptions(addFileOption(gateway.command("render")))
    .summary("write HAProxy's configuration")
    .description(
      "Writes haproxy.cfg, its maps and certificates for Debian's HAProxy 2.6 or later, and names each file. " +
        "Manifests are needed for what HAProxy passes on as TCP: hosts with ssl-passthrough, and TCP services.",
    )
    .addOption(
      new Option("-o, --out <folder>", "where the files go")
        .makeOptionMandatory()
        .env("FAIRLEAD_GATEWAY_OUT"),
    )
    .addOption(
      new Option("--installed-at <folder>", "where HAProxy will find them (default: --out)")
        .argParser(path)
        .env("FAIRLEAD_GATEWAY_INSTALLED_AT"),
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
        .argParser(path)
        .env("FAIRLEAD_GATEWAY_ADMIN_SOCKET"),
    )
    .addOption(
      new Option(
        "--passthrough-listen <host:port>",
        "where TLS of hosts with ssl-passthrough goes to their pods (default: nowhere)",
      )
        .argParser(listenAddress)
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
        .argParser(listenAddress)
        .env("FAIRLEAD_GATEWAY_PASSTHROUGH_OTHERWISE"),
    )
    .addOption(
      new Option(
        "--tcp-services <namespace/name>",
        "ConfigMap of TCP services; those with PROXY are served here, plain ones by the node agent",
      )
        .argParser(configMapName)
        .env("FAIRLEAD_GATEWAY_TCP_SERVICES"),
    )
    .addOption(
      new Option("--all-tcp-services", "serve plain ones here too").env("FAIRLEAD_GATEWAY_ALL_TCP_SERVICES"),
    )
    .addOption(
      new Option("--tcp-services-address <ip>", "where TCP services listen (default: every address)")
        .argParser(ipAddress)
        .env("FAIRLEAD_GATEWAY_TCP_SERVICES_ADDRESS"),
    )
    .addOption(
      new Option("--proxy-protocol <version>", "of the PROXY headers that pods get")
        .choices(["v1", "v2"])
        .default("v1")
        .env("FAIRLEAD_GATEWAY_PROXY_PROTOCOL"),
    )
    .addHelpText(
      "after",
      `
From the environment only:
  FAIRLEAD_GATEWAY_KEYS  id:base64,...: every key that may have signed a token; the Worker has the same`,
    )
    .action(async (flags: RenderFlags) => {
      const { renderHaproxy } = await import("../../gateway/haproxy/render.ts");
      const { writeFiles } = await import("../../gateway/haproxy/write.ts");
      const settings = await readSettings(flags, process.env);
      const files = usage(() => renderHaproxy(settings));
      await writeFiles(flags.out, files);
      for (const { name } of files) process.stdout.write(`${join(flags.out, name)}\n`);
    });
}

async function readSettings(flags: RenderFlags, environment: NodeJS.ProcessEnv): Promise<HaproxySettings> {
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
    ...(flags.listenCertificate === undefined
      ? {}
      : { listenCertificate: await read(flags.listenCertificate) }),
    tlsSecrets: flags.tlsSecrets === undefined ? new Map() : await readTlsSecrets(flags.tlsSecrets),
    nameservers: flags.nameservers,
    connectTimeoutMs: Math.ceil(flags.connectTimeout * 1_000),
    drainSeconds: flags.drain,
    ...(flags.maxConnections === undefined ? {} : { maxConnections: flags.maxConnections }),
    maxHeadKibibytes: flags.maxHead,
    folder: flags.installedAt ?? path(resolve(flags.out)),
    ...(flags.adminSocket === undefined ? {} : { adminSocket: flags.adminSocket }),
    ...(await readTcpSettings(flags)),
  };
}

/** From manifests: what is passed on as TCP. What is wrong with them is told, and costs itself only. */
async function readTcpSettings(
  flags: RenderFlags,
): Promise<Pick<HaproxySettings, "passthrough" | "tcpServices" | "tcpAddress">> {
  const { file = [], passthroughListen: listen, tcpServices: configMap } = flags;
  if (listen === undefined && configMap === undefined) return { tcpServices: [] };
  if (file.length === 0) {
    throw new UsageError(
      `${listen === undefined ? "--tcp-services" : "--passthrough-listen"} needs -f PATH: the manifests that it is about.`,
    );
  }
  const { model, diagnostics } = await readCluster(file);
  const told = diagnostics.filter(({ severity }) => severity !== "info");
  const settings = {
    ...(listen === undefined
      ? {}
      : {
          passthrough: {
            listen,
            acceptsProxy: flags.passthroughAcceptProxy === true,
            hosts: await readPassthrough(model, flags, told),
            ...(flags.passthroughOtherwise === undefined ? {} : { otherwise: flags.passthroughOtherwise }),
          },
        }),
    tcpServices: configMap === undefined ? [] : readTcpServices(model, configMap, flags, told),
    ...(flags.tcpServicesAddress === undefined ? {} : { tcpAddress: flags.tcpServicesAddress }),
  };
  process.stderr.write(told.map((diagnostic) => `${formatDiagnostic(diagnostic)}\n`).join(""));
  return settings;
}

async function readPassthrough(
  model: ClusterModel,
  flags: RenderFlags,
  told: Diagnostic[],
): Promise<PassthroughHosts> {
  const { compile } = await import("../../control/compile/compile.ts");
  const { passthroughHosts } = await import("../../gateway/passthrough.ts");
  const options = compileOptions(flags);
  const { config, diagnostics } = compile(model, {
    ...options,
    ...(flags.allowLoopback === true ? { allowLocalAddresses: true } : {}),
  });
  told.push(...diagnostics.filter(({ field }) => field?.endsWith("/ssl-passthrough") === true));
  return passthroughHosts(config);
}

function readTcpServices(
  model: ClusterModel,
  name: ObjectName,
  { allTcpServices, proxyProtocol: version }: RenderFlags,
  told: Diagnostic[],
): readonly TcpServiceSettings[] {
  const { services, diagnostics } = findExposedServices(model, name, "TCP");
  told.push(...diagnostics);
  return services.flatMap(({ exposed: { nodePort, service, port, proxyProtocol }, endpoints }) =>
    proxyProtocol === undefined && allTcpServices !== true
      ? []
      : {
          port: nodePort,
          name: `${service}:${port}`,
          endpoints,
          acceptsProxy: proxyProtocol?.decode === true,
          ...(proxyProtocol?.encode === true ? { sendsProxy: version } : {}),
        },
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
function usage<T>(action: () => T): T {
  try {
    return action();
  } catch (error) {
    if (error instanceof RangeError) throw new UsageError(error.message);
    throw error;
  }
}

function list(text: string): readonly string[] {
  return text
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "");
}

function listenAddress(text: string): string {
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
function path(text: string): string {
  if (!/^\/[\w./@%+:-]*$/.test(text))
    throw new InvalidArgumentError("Expected is an absolute path of letters, digits and ./_@%+:- signs.");
  return text;
}

function positive(text: string): number {
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
