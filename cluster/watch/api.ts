/**
 * Requests to a Kubernetes API server.
 *
 * In: a kubeconfig, or the service account of the Pod we run in. Out: answers as JSON, and watches as streams of
 * lines. `@kubernetes/client-node` reads the kubeconfig, runs credential plugins and knows about proxies and
 * certificates; requests themselves are made here, because a watch must tell its errors, hold one connection and be
 * read no faster than it is worked off.
 *
 * Not here: what to list and watch (`reflector.ts`), when to try again.
 */

import type { Readable } from "node:stream";
import { HttpMethod, KubeConfig, RequestContext } from "@kubernetes/client-node";
import { type Dispatcher, request as httpRequest } from "undici";
import { ApiError, describeError } from "./api-error.ts";

export interface ApiAccess {
  /** Absent: `KUBECONFIG`; in a Pod its service account; else `~/.kube/config`. */
  readonly kubeconfig?: string | undefined;
  /** Absent: the current context. */
  readonly context?: string | undefined;
}

export interface ApiRequest {
  readonly method?: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** `/apis/networking.k8s.io/v1/ingresses` */
  readonly path: string;
  readonly query?: Readonly<Record<string, string | undefined>>;
  readonly body?: unknown;
  /** Default `application/json`; a PATCH needs its own. */
  readonly contentType?: string;
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal | undefined;
}

export interface KubernetesApi {
  /** URL of the API server, for people. */
  readonly server: string;
  /** The answer's body. Rejects with an `ApiError`. */
  readonly request: (request: ApiRequest) => Promise<unknown>;
  /** First no lines, once the server has agreed; then lines as they come, until the server ends the answer. Rejects with an `ApiError`, at the start or on the way. */
  readonly lines: (request: ApiRequest) => AsyncIterable<readonly string[]>;
  /** When anything was last heard of the server, on the clock of `performance.now()`. */
  readonly lastHeardMs: () => number;
  /** Cuts every connection; requests under way fail. */
  readonly disconnect: () => void;
  readonly close: () => void;
}

/** Tokens and certificates rotate; whatever was loaded is loaded anew after this long. */
const CREDENTIALS_MAX_AGE_MS = 60_000;
const REQUEST_TIMEOUT_MS = 30_000;
/** A server sends a bookmark about every minute; a watch that is silent for longer has lost its peer. */
const SILENCE_MS = 150_000;
/** Longer lines than etcd lets objects be, by far. */
const MAX_LINE_LENGTH = 32 * 1024 * 1024;

interface Credentials {
  readonly headers: Readonly<Record<string, string>>;
  readonly dispatcher: Dispatcher | undefined;
  readonly loadedAtMs: number;
}

/** Rejects with one sentence when there is no cluster to talk to. */
export function connectKubernetes(access: ApiAccess): KubernetesApi {
  const config = loadConfig(access);
  const server = config.getCurrentCluster()?.server.replace(/\/+$/, "");
  if (server === undefined || URL.parse(server) === null) {
    throw new Error(
      `The kubeconfig has no cluster for the context ${JSON.stringify(config.currentContext)}.`,
    );
  }
  let credentials: Promise<Credentials> | undefined;
  let loadedAtMs = 0;
  let heardMs = performance.now();
  let connections = new AbortController();
  let closed = false;

  const load = async (before: Promise<Credentials> | undefined): Promise<Credentials> => {
    const context = new RequestContext(server, HttpMethod.GET);
    await config.applySecurityAuthentication(context);
    // Requests under way keep the old connections until they end.
    void before?.then(({ dispatcher }) => dispatcher?.close()).catch(() => {});
    return {
      headers: context.getHeaders(),
      dispatcher: context.getDispatcher(),
      loadedAtMs: performance.now(),
    };
  };
  const fresh = (): Promise<Credentials> => {
    if (credentials === undefined || performance.now() - loadedAtMs > CREDENTIALS_MAX_AGE_MS) {
      loadedAtMs = performance.now();
      credentials = load(credentials);
      credentials.catch(() => {
        credentials = undefined;
      });
    }
    return credentials;
  };

  const send = async (asked: ApiRequest, silenceMs: number): Promise<Dispatcher.ResponseData> => {
    const url = new URL(server + asked.path);
    for (const [name, value] of Object.entries(asked.query ?? {}))
      if (value !== undefined) url.searchParams.set(name, value);
    const signals = [connections.signal, ...(asked.signal === undefined ? [] : [asked.signal])];
    try {
      const { headers, dispatcher } = await fresh();
      const answer = await httpRequest(url, {
        method: asked.method ?? "GET",
        headers: {
          ...headers,
          accept: "application/json",
          "user-agent": "fairlead",
          ...(asked.body === undefined ? {} : { "content-type": asked.contentType ?? "application/json" }),
        },
        ...(asked.body === undefined ? {} : { body: JSON.stringify(asked.body) }),
        ...(dispatcher === undefined ? {} : { dispatcher }),
        headersTimeout: asked.timeoutMs ?? REQUEST_TIMEOUT_MS,
        bodyTimeout: silenceMs,
        signal: AbortSignal.any(signals),
      });
      heardMs = performance.now();
      if (answer.statusCode >= 200 && answer.statusCode < 300) return answer;
      if (answer.statusCode === 401) loadedAtMs = Number.NEGATIVE_INFINITY;
      throw await errorOf(answer, asked);
    } catch (error) {
      throw asApiError(error);
    }
  };

  return {
    server,
    request: async (asked) => {
      const answer = await send(asked, asked.timeoutMs ?? REQUEST_TIMEOUT_MS);
      try {
        const text = await answer.body.text();
        heardMs = performance.now();
        return text === "" ? undefined : JSON.parse(text);
      } catch (error) {
        throw asApiError(error);
      }
    },
    lines: async function* (asked) {
      const { body } = await send(asked, SILENCE_MS);
      try {
        yield [];
        for await (const lines of splitLines(body)) {
          heardMs = performance.now();
          yield lines;
        }
      } catch (error) {
        throw asApiError(error);
      } finally {
        body.destroy();
      }
    },
    lastHeardMs: () => heardMs,
    disconnect: () => {
      connections.abort(new ApiError("the connection was given up, since the server did not answer", 0));
      connections = new AbortController();
      // Connections that hang would be taken for new requests otherwise.
      void credentials?.then(({ dispatcher }) => dispatcher?.destroy()).catch(() => {});
      credentials = undefined;
      if (closed) connections.abort();
    },
    close: () => {
      closed = true;
      connections.abort(new ApiError("the client was closed", 0));
      void credentials?.then(({ dispatcher }) => dispatcher?.destroy()).catch(() => {});
    },
  };
}

function loadConfig({ kubeconfig, context }: ApiAccess): KubeConfig {
  const config = new KubeConfig();
  const isInPod =
    kubeconfig === undefined &&
    context === undefined &&
    process.env.KUBERNETES_SERVICE_HOST !== undefined &&
    !process.env.KUBECONFIG;
  try {
    if (kubeconfig !== undefined) config.loadFromFile(kubeconfig);
    else if (isInPod) config.loadFromCluster();
    else config.loadFromDefault();
  } catch (error) {
    throw new Error(`The kubeconfig cannot be read: ${describeError(error)}`);
  }
  // A host that is a URL itself makes one with a path.
  if (isInPod && URL.parse(config.getCurrentCluster()?.server ?? "")?.pathname !== "/") {
    const { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port = "" } = process.env;
    throw new Error(
      `KUBERNETES_SERVICE_HOST ${JSON.stringify(host)} and KUBERNETES_SERVICE_PORT ${JSON.stringify(port)} are no address of an API server: set them to what kubelets dial, or name a kubeconfig with --kubeconfig.`,
    );
  }
  if (context !== undefined) {
    if (config.getContextObject(context) === null)
      throw new Error(`The kubeconfig has no context ${JSON.stringify(context)}.`);
    config.setCurrentContext(context);
  }
  // What the library falls back to when it finds nothing at all.
  if (config.currentContext === "loaded-context" && config.getCurrentUser()?.name === "user")
    throw new Error("There is no kubeconfig, and this is no Pod: --kubeconfig names one.");
  return config;
}

async function errorOf(
  answer: Dispatcher.ResponseData,
  { method = "GET", path }: ApiRequest,
): Promise<ApiError> {
  const text = await answer.body.text().catch(() => "");
  let status: { readonly message?: unknown; readonly reason?: unknown } = {};
  try {
    status = JSON.parse(text) as typeof status;
  } catch {
    // A proxy's page; its status says enough.
  }
  const said = typeof status.message === "string" ? status.message : `${method} ${path}`;
  const retryAfter = Number(answer.headers["retry-after"]);
  return new ApiError(
    `${answer.statusCode} ${said}`.trim(),
    answer.statusCode,
    typeof status.reason === "string" ? status.reason : "",
    Number.isFinite(retryAfter) && retryAfter > 0 ? retryAfter * 1_000 : undefined,
  );
}

function asApiError(error: unknown): ApiError {
  return error instanceof ApiError ? error : new ApiError(describeError(error), 0);
}

/** The whole lines of each piece that came. */
async function* splitLines(body: Readable): AsyncIterable<readonly string[]> {
  let rest = "";
  body.setEncoding("utf8");
  for await (const text of body as AsyncIterable<string>) {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    if (rest.length > MAX_LINE_LENGTH) throw new ApiError("the server sent a line that has no end", 0);
    if (lines.length > 0) yield lines;
  }
}
