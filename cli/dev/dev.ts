/**
 * `fairlead dev`: the whole edge on this machine. The steps, in order:
 *
 * ports → manifests → gateway and Worker in workerd → publish to the local KV → wait until the edge answers from it → the
 * socket for clients → `ready` → follow the files, until a signal comes.
 *
 * In: options, a place for lines, a signal to stop. Out: nothing, once everything has ended. Not here: how each part
 * works; the parts are the production ones (cluster, control/compile, control/kv, worker, gateway).
 */

import { randomBytes } from "node:crypto";
import { statSync } from "node:fs";
import { reasonOfSystemError } from "../../cluster/manifest-files.ts";
import type { ClusterModel, ObjectName } from "../../cluster/model.ts";
import { watchManifestFiles } from "../../cluster/watch-files.ts";
import type { CompileOptions } from "../../control/compile/options.ts";
import { createKvClient } from "../../control/kv/client.ts";
import { createPublisher, LOCAL_PACE, type PublisherEvent } from "../../control/kv/publisher.ts";
import type { EdgeConfig } from "../../edge-config/config.ts";
import { deriveConfigKeys } from "../../edge-config/config-keys.ts";
import { parseTokenKeys } from "../../edge-config/gateway-token.ts";
import { createAddressPolicy } from "../../gateway/allowed-addresses.ts";
import type { TlsSecret } from "../../gateway/dial.ts";
import { findPassthrough, type PassthroughHosts, passthroughHosts } from "../../gateway/passthrough.ts";
import { IDLE_TIMEOUT_MS, inTurn, type RelaySettings, relay } from "../../gateway/relay.ts";
import { startGateway } from "../../gateway/server.ts";
import { endsOf } from "../../gateway/tcp-service.ts";
import { CommandFailure } from "../failure.ts";
import { Certificates } from "./certificates.ts";
import { Changes } from "./changes.ts";
import { ClientDemands } from "./client-certificates.ts";
import { DiagnosticsPrinter } from "./diagnostics-printer.ts";
import { EdgeProbe } from "./edge-probe.ts";
import { type ExposedPortOptions, ExposedPorts } from "./exposed-ports.ts";
import { CLUSTER, startLocalControl } from "./local-control.ts";
import { type CompiledManifests, ManifestPipeline } from "./manifest-pipeline.ts";
import { findFreePort } from "./ports.ts";
import { startTcpFront } from "./tcp-front.ts";
import { startTlsFront } from "./tls-front.ts";
import { loadWorker } from "./worker-bundle.ts";
import { startWorkerRuntime } from "./worker-runtime.ts";

export interface DevOptions {
  readonly paths: readonly string[];
  /** 0: any free one, told by the `ready` line. */
  readonly port: number;
  readonly controlPort: number;
  readonly protocol: "http" | "https";
  /** Lines of the access log are notes. */
  readonly accessLog: boolean;
  readonly compile: CompileOptions;
  /** TCP and UDP ports beside those of HTTP. */
  readonly exposed: ExposedPortOptions;
}

export interface DevOutput {
  /** A line for programs: `ready …`. */
  readonly result: (line: string) => void;
  /** A line for people. */
  readonly note: (line: string) => void;
}

/** Endpoints on loopback are allowed here, so nobody but this machine may reach the edge. */
const HOST = "127.0.0.1";

/** Small, so that a saved file is live within two seconds even when nobody asks meanwhile. */
const REFRESH = { REFRESH_SECONDS: "0.2", MAX_STALE_SECONDS: "0.8" };

/** Any pod of the manifests may be dialled, those on this machine too. */
const RELAY: RelaySettings = {
  connectTimeoutMs: 5_000,
  idleTimeoutMs: IDLE_TIMEOUT_MS,
  allows: createAddressPolicy({ allowedCidrs: ["0.0.0.0/0", "::/0"], allowLoopback: true }),
};

/** Runs until `stop` fires. Rejects with a `CommandFailure` where it cannot start. */
export async function runDev(options: DevOptions, output: DevOutput, stop: AbortSignal): Promise<void> {
  const closing = new AsyncDisposableStack();
  try {
    for (const path of options.paths) requirePath(path);
    // The Worker tells pods the port that clients reach, so it must be known before the Worker starts.
    const port = await findFreePort(HOST, options.port, "--port");
    const controlPort = await findFreePort(HOST, options.controlPort, "--control-port");

    // esbuild has a process of its own, so this goes on beside the manifests.
    const worker = loadWorker();
    worker.catch(() => {});
    const changes = new Changes();
    const watch = await watchManifestFiles(options.paths, () => changes.note());
    closing.defer(() => watch.close());
    const certificates = new Certificates();
    const demands = new ClientDemands();
    const printer = new DiagnosticsPrinter(output.note);
    const ports = new ExposedPorts(
      { host: HOST, ownPorts: [port, controlPort] },
      options.exposed,
      RELAY,
      output.note,
    );
    closing.defer(() => ports.close());
    const pipeline = new ManifestPipeline(options.paths, { ...options.compile, allowLocalAddresses: true });
    let current: CompiledManifests;
    let passthrough: PassthroughHosts = new Map();
    let turn = 0;
    const compile = async (): Promise<CompiledManifests> => {
      current = await pipeline.compile();
      passthrough = passthroughHosts(current.config);
      demands.update(current.config, current.model);
      const ofTls = options.protocol === "https" ? certificates.update(current.model) : [];
      printer.show([...current.diagnostics, ...ofTls, ...(await ports.update(current.model))]);
      return current;
    };
    current = await compile();
    if (stop.aborted) return;

    const gatewayKeys = `dev:${randomBytes(32).toString("base64")}`;
    const gateway = await startGateway({
      keys: parseTokenKeys(gatewayKeys),
      allowedCidrs: ["0.0.0.0/0", "::/0"],
      allowLoopback: true,
      tlsSecret: (name) => tlsSecret(current.model, name as ObjectName),
    });
    closing.defer(() => gateway.close());

    const configKey = randomBytes(32).toString("base64");
    const isTls = options.protocol === "https";
    const runtime = await startWorkerRuntime({
      ...(await worker),
      absoluteTargets: isTls,
      variables: {
        ...REFRESH,
        STATUS: "on",
        ACCESS_LOG: options.accessLog ? "on" : "off",
        ORIGIN_TRANSPORT: "gateway",
        GATEWAY_URL: gateway.url,
        FAIRLEAD_GATEWAY_KEYS: gatewayKeys,
        FAIRLEAD_CONFIG_KEY: configKey,
        LISTEN_PORT: String(port),
        DEFAULT_CLIENT_ADDRESS: HOST,
      },
      onLine: (line) => output.note(`worker: ${line}`),
    });
    closing.defer(() => runtime.close());

    let published: PublisherEvent | undefined;
    const publisher = createPublisher({
      client: createKvClient({ baseUrl: runtime.kvBaseUrl, namespaceId: runtime.kvNamespaceId }),
      keys: await deriveConfigKeys(configKey),
      pace: LOCAL_PACE,
      onEvent: (event) => {
        published = event;
        tellFailure(event, output.note);
      },
    });
    closing.defer(() => publisher.close());
    const probe = new EdgeProbe(HOST, runtime.port, isTls);
    closing.defer(() => probe.close());
    let ready = false;
    const control = await startLocalControl({
      host: HOST,
      port: controlPort,
      publisher,
      current: () => current,
      isReady: () => ready,
      onBug: (error) =>
        output.note(`the control API failed: ${error instanceof Error ? error.stack : error}`),
    });
    closing.defer(() => control.close());

    /** Publishes what the files say and waits until the edge answers from it. */
    const bring = async ({ config }: CompiledManifests, since: number): Promise<void> => {
      publisher.submit(config, { clusters: [CLUSTER] });
      await publisher.settled();
      const { generation } = publisher.status();
      if (generation === undefined || !(await probe.waitForGeneration(generation, stop))) return;
      output.note(
        published?.kind === "unchanged"
          ? "unchanged: the files were saved, and what they say stays the same"
          : summary(config, generation, performance.now() - since),
      );
    };
    // While all of this was starting, files may have changed: `ready` speaks of what they are now.
    await bring(changes.take() === undefined ? current : await compile(), performance.now());
    if (stop.aborted) return;
    // Only now, so that whoever tries early is refused a connection and not served an edge without configuration.
    const front = isTls
      ? await startTlsFront({
          host: HOST,
          port,
          workerPort: runtime.port,
          certificates,
          demands,
          passThrough: (client, head, serverName) => {
            const target = findPassthrough(passthrough, serverName);
            if (target === undefined) return false;
            const endpoints = inTurn(target.endpoints, turn++);
            void relay(client, head, endsOf(client), { endpoints }, RELAY);
            return true;
          },
        })
      : await startTcpFront(HOST, port, runtime.port);
    closing.defer(() => front.close());
    ready = true;
    output.note(`the control API is at ${control.url}`);
    output.result(`ready ${options.protocol}://${HOST}:${port}`);

    for (;;) {
      const since = await changes.next(stop);
      if (since === undefined) return;
      await bring(await compile(), since);
    }
  } finally {
    await closing.disposeAsync();
  }
}

/** A path that is missing at the start is a mistake in the command line; one that vanishes later is only told. */
function requirePath(path: string): void {
  try {
    statSync(path);
  } catch (error) {
    throw new CommandFailure(`${path} cannot be followed: ${reasonOfSystemError(error)}.`);
  }
}

/** Certificates towards pods (`proxy-ssl-secret`), from the manifests. */
function tlsSecret(model: ClusterModel, name: ObjectName): TlsSecret | undefined {
  const data = model.secrets.get(name)?.data;
  if (data === undefined) return undefined;
  const [ca, cert, key] = ["ca.crt", "tls.crt", "tls.key"].map((field) => {
    const bytes = data.get(field);
    return bytes === undefined ? undefined : Buffer.from(bytes).toString("utf8");
  });
  return {
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined ? {} : { cert }),
    ...(key === undefined ? {} : { key }),
  };
}

/** What went wrong on the way to the local KV. What went right is told once the edge answers from it. */
function tellFailure(event: PublisherEvent, note: (line: string) => void): void {
  if (event.kind === "failed") note(`publishing failed and is tried again: ${event.error.message}`);
  if (event.kind === "rejected") note(`the configuration cannot be published: ${event.error.message}`);
}

function summary(config: EdgeConfig, generation: number, milliseconds: number): string {
  const hosts = count(Object.keys(config.hosts).length, "host");
  const backends = Object.values(config.backends);
  const endpoints = count(
    backends.reduce((sum, backend) => sum + backend.endpoints.length, 0),
    "endpoint",
  );
  return `live: generation ${generation}, ${hosts}, ${endpoints}, after ${Math.round(milliseconds)} ms`;
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}
