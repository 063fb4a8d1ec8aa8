/**
 * The edge for request-level tests: `fairlead dev` over real sockets, with real backends.
 *
 * One edge for a test file (start it in `beforeAll`), as many manifests as the file needs:
 *
 *     const edge = await Edge.start({
 *       backends: { web: 2 },                       // Service `web` in `default`, port 80 `http`, two echoing pods
 *       manifests: ingress("web", { host: "a.example.com", annotations: { "enable-cors": "true" } }),
 *     });
 *     const reply = await edge.request({ host: "a.example.com", path: "/x", clientAddress: "203.0.113.9" });
 *     expect(reply.status).toBe(200);
 *     expect(reply.echo.headers["x-real-ip"]).toBe("203.0.113.9");
 *
 * `edge.apply(...)` changes manifests and returns when they are live. Give each test a host of its own, so that tests do not
 * meet. Host, path and headers go over the wire exactly as given.
 */

import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { Agent, request as httpRequest, type IncomingMessage } from "node:http";
import { Agent as HttpsAgent, request as httpsRequest } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { BackendUnderTest, type Echo, type Handler, serviceManifests } from "./backend.ts";
import { FairleadDev } from "./fairlead-dev.ts";

export interface EdgeOptions {
  /** By the name of the Service: how many echoing pods, or one pod with a handler of yours. */
  readonly backends?: Readonly<Record<string, number | Handler>>;
  /** YAML: one text, or texts by file name. */
  readonly manifests?: string | Readonly<Record<string, string>>;
  /** More arguments of `fairlead dev`. */
  readonly args?: readonly string[];
}

export interface EdgeRequest {
  /** `Host`, as it is sent; `null` sends none (only HTTP/1.0 clients may, so expect 400). */
  readonly host: string | null;
  /** The request target, as it is sent. Default `/`. */
  readonly path?: string;
  readonly method?: string;
  /** A list of values sends the header so many times. */
  readonly headers?: Readonly<Record<string, string | readonly string[]>>;
  readonly body?: string | Uint8Array | Readable;
  /** `CF-Connecting-IP`, as Cloudflare would set it. */
  readonly clientAddress?: string;
  readonly signal?: AbortSignal;
}

export interface Reply {
  readonly status: number;
  /** Names in lower case; of a header that came twice, all values joined with `, `. */
  readonly headers: Readonly<Record<string, string>>;
  /** Every `Set-Cookie`. */
  readonly cookies: readonly string[];
  readonly rawHeaders: readonly string[];
  readonly text: string;
  readonly bytes: Buffer;
  /** What the pod saw. Throws where the answer is not an echo. */
  readonly echo: Echo;
}

export class Edge {
  readonly dev: FairleadDev;
  readonly url: URL;
  /** By Service: its pods. */
  readonly backends: ReadonlyMap<string, readonly BackendUnderTest[]>;
  readonly folder: string;
  readonly #agent: Agent;
  #changes = 0;

  private constructor(
    dev: FairleadDev,
    url: URL,
    backends: ReadonlyMap<string, readonly BackendUnderTest[]>,
    folder: string,
  ) {
    this.dev = dev;
    this.url = url;
    this.backends = backends;
    this.folder = folder;
    this.#agent =
      url.protocol === "https:"
        ? new HttpsAgent({ keepAlive: true, maxSockets: 64, rejectUnauthorized: false })
        : new Agent({ keepAlive: true, maxSockets: 64 });
  }

  static async start(options: EdgeOptions = {}): Promise<Edge> {
    const folder = mkdtempSync(join(tmpdir(), "fairlead-e2e-"));
    const backends = new Map<string, readonly BackendUnderTest[]>();
    for (const [service, spec] of Object.entries(options.backends ?? {}))
      backends.set(service, await startPods(service, spec));
    for (const [service, pods] of backends)
      writeFileSync(join(folder, `service-${service}.yaml`), serviceManifests(service, pods));
    for (const [name, text] of filesOf(options.manifests ?? "")) writeFileSync(join(folder, name), text);
    const dev = new FairleadDev([
      "-f",
      folder,
      "--port",
      "0",
      "--control-port",
      "0",
      ...(options.args ?? []),
    ]);
    try {
      return new Edge(dev, await dev.ready(), backends, folder);
    } catch (error) {
      await Promise.all([...backends.values()].flat().map((pod) => pod.stop()));
      rmSync(folder, { recursive: true, force: true });
      throw error;
    }
  }

  /** The only pod of a Service. */
  backend(service: string): BackendUnderTest {
    const [pod] = this.backends.get(service) ?? [];
    if (pod === undefined) throw new Error(`the edge was started without a backend ${service}`);
    return pod;
  }

  /** Writes a manifest file as editors do (a new file renamed over the old one), and waits for nothing. */
  write(name: string, text: string): void {
    const path = join(this.folder, name);
    writeFileSync(join(this.folder, `.${name}.new`), text);
    renameSync(join(this.folder, `.${name}.new`), path);
  }

  remove(name: string): void {
    rmSync(join(this.folder, name));
  }

  /** Writes manifests and returns once the edge answers from them. */
  async apply(manifests: string | Readonly<Record<string, string>>): Promise<void> {
    await this.settled(() => {
      for (const [name, text] of filesOf(manifests)) this.write(name, text);
    });
  }

  /** Runs a change of files and returns once it is live, or is known to change nothing. */
  async settled(change: () => void): Promise<void> {
    change();
    // Earlier changes may still be on their way. A marker that is written after this one is read before it: its name is
    // the first, and an object of no known kind is told and means nothing.
    const marker = `change-${++this.#changes}`;
    this.write("0-marker.yaml", `{apiVersion: test/v1, kind: Marker, metadata: {name: ${marker}}}\n`);
    const read = await this.dev.indexOf(this.dev.stderr, new RegExp(`^info: Marker ${marker}: `));
    await this.dev.waitFor(this.dev.stderr, /^(live|unchanged): /, read);
  }

  /** Sends one request and reads the whole answer. */
  async request(options: EdgeRequest): Promise<Reply> {
    const answer = await this.open(options);
    const chunks: Buffer[] = [];
    for await (const chunk of answer as AsyncIterable<Buffer>) chunks.push(chunk);
    return replyOf(answer, Buffer.concat(chunks));
  }

  /** Sends one request and returns as soon as the head of the answer is there; the body is the caller's to read. */
  open(options: EdgeRequest): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const send = this.url.protocol === "https:" ? httpsRequest : httpRequest;
      const outgoing = send({
        host: this.url.hostname,
        port: this.url.port,
        agent: this.#agent,
        method: options.method ?? "GET",
        path: options.path ?? "/",
        headers: headersOf(options),
        setHost: false,
        ...(this.url.protocol === "https:" && options.host !== null
          ? { servername: options.host.split(":")[0] }
          : {}),
        ...(options.signal === undefined ? {} : { signal: options.signal }),
      });
      outgoing.on("response", resolve);
      outgoing.on("error", reject);
      if (
        options.body === undefined ||
        typeof options.body === "string" ||
        options.body instanceof Uint8Array
      )
        outgoing.end(options.body);
      else options.body.pipe(outgoing);
    });
  }

  async stop(): Promise<void> {
    this.#agent.destroy();
    await this.dev.end();
    await Promise.all([...this.backends.values()].flat().map((pod) => pod.stop()));
    rmSync(this.folder, { recursive: true, force: true });
  }
}

async function startPods(service: string, spec: number | Handler): Promise<readonly BackendUnderTest[]> {
  if (typeof spec === "function") return [await BackendUnderTest.start(`${service}-0`, spec)];
  return await Promise.all(
    Array.from({ length: spec }, (_, index) => BackendUnderTest.start(`${service}-${index}`)),
  );
}

function filesOf(
  manifests: string | Readonly<Record<string, string>>,
): readonly (readonly [string, string])[] {
  return typeof manifests === "string" ? [["manifests.yaml", manifests]] : Object.entries(manifests);
}

/** A flat list keeps order, repetition and case. */
function headersOf({ host, headers = {}, clientAddress, body }: EdgeRequest): string[] {
  const list: string[] = [];
  if (host !== null) list.push("Host", host);
  if (clientAddress !== undefined) list.push("CF-Connecting-IP", clientAddress);
  for (const [name, value] of Object.entries(headers)) {
    for (const one of typeof value === "string" ? [value] : value) list.push(name, one);
  }
  const given = new Set(Object.keys(headers).map((name) => name.toLowerCase()));
  if (body === undefined || given.has("content-length") || given.has("transfer-encoding")) return list;
  if (typeof body === "string" || body instanceof Uint8Array)
    list.push("Content-Length", String(Buffer.byteLength(body)));
  else list.push("Transfer-Encoding", "chunked");
  return list;
}

export function replyOf(answer: IncomingMessage, bytes: Buffer): Reply {
  const headers: Record<string, string> = {};
  const cookies: string[] = [];
  for (let i = 0; i + 1 < answer.rawHeaders.length; i += 2) {
    const name = (answer.rawHeaders[i] ?? "").toLowerCase();
    const value = answer.rawHeaders[i + 1] ?? "";
    if (name === "set-cookie") cookies.push(value);
    headers[name] = headers[name] === undefined ? value : `${headers[name]}, ${value}`;
  }
  const text = bytes.toString("utf8");
  return {
    status: answer.statusCode ?? 0,
    headers,
    cookies,
    rawHeaders: answer.rawHeaders,
    text,
    bytes,
    get echo(): Echo {
      try {
        return JSON.parse(text) as Echo;
      } catch {
        throw new Error(`no pod answered, but ${answer.statusCode}: ${text}`);
      }
    },
  };
}

export interface IngressOptions {
  readonly name?: string;
  readonly namespace?: string;
  readonly host?: string;
  /** Paths with their types, all to the same Service. Default `{ "/": "Prefix" }`. */
  readonly paths?: Readonly<Record<string, "Exact" | "Prefix" | "ImplementationSpecific">>;
  readonly port?: number | string;
  /** Without prefix: `enable-cors`. A name with a slash is taken as it is. */
  readonly annotations?: Readonly<Record<string, string>>;
  readonly tls?: readonly { readonly hosts: readonly string[]; readonly secretName?: string }[];
}

/** The manifest of an Ingress (networking.k8s.io/v1) that sends paths of one host to one Service. */
export function ingress(service: string, options: IngressOptions = {}): string {
  const { namespace = "default", host, paths = { "/": "Prefix" }, port = 80, tls } = options;
  const name =
    options.name ?? `${service}-${(host ?? "any").replaceAll(/[^a-z0-9]+/g, "-")}`.replace(/-$/, "");
  const annotations = Object.fromEntries(
    Object.entries(options.annotations ?? {}).map(([key, value]) => [
      key.includes("/") ? key : `nginx.ingress.kubernetes.io/${key}`,
      value,
    ]),
  );
  const backend = {
    service: { name: service, port: typeof port === "number" ? { number: port } : { name: port } },
  };
  const manifest = {
    apiVersion: "networking.k8s.io/v1",
    kind: "Ingress",
    metadata: { name, namespace, annotations },
    spec: {
      ...(tls === undefined ? {} : { tls }),
      rules: [
        {
          ...(host === undefined ? {} : { host }),
          http: { paths: Object.entries(paths).map(([path, pathType]) => ({ path, pathType, backend })) },
        },
      ],
    },
  };
  // JSON is YAML: nothing to escape by hand.
  return `---\n${JSON.stringify(manifest)}\n`;
}
