/**
 * The edge: one for each isolate. `answer` is the path of a request, step by step.
 *
 * In: a request. Out: an answer, always; the one thing that throws is a bug. Not here: what filters do
 * (`filters/`), how the configuration arrives (`config-store.ts`), how pods are reached (`origin/`).
 */

import { ANY_HOST } from "../edge-config/config.ts";
import type { LimitEnforcementPolicy } from "../edge-config/features/rate-limit.ts";
import { accessLogLine } from "./access-log.ts";
import { BackendPools } from "./balance/backend-pools.ts";
import { ConfigStore, type HostAnswer } from "./config-store.ts";
import { type Environment, readSettings, type Settings } from "./environment.ts";
import { errorPage, redirectPage } from "./error-page.ts";
import { Exchange } from "./exchange.ts";
import { createForwarding, type Forwarding } from "./forwarding.ts";
import type { HostTable } from "./host-table.ts";
import { createLimiter } from "./limits/create-limiter.ts";
import type { LimiterCounts, RequestLimiter } from "./limits/limiter.ts";
import { lingering } from "./lingering.ts";
import { createTransport } from "./origin/create-transport.ts";
import { clientResponse, untouchedResponse } from "./origin/headers.ts";
import { forward } from "./origin/origin.ts";
import type { Transport } from "./origin/transport.ts";
import { encodePath, normalisePath } from "./path.ts";
import {
  buildDefaultPipeline,
  type HostPipeline,
  type RoutePipeline,
  runRequestHooks,
  runResponseHooks,
} from "./pipeline.ts";
import { type RequestTarget, readRequestTarget } from "./request-target.ts";
import { peerAddress, Visit } from "./visit.ts";

/** An auth service of ours may itself be mirrored, say; nobody needs more. */
const MAX_DEPTH = 3;

const DEFAULT_ENFORCEMENT: LimitEnforcementPolicy = { mode: "global", ipv6PrefixLength: 64, headers: false };

export class Edge {
  readonly settings: Settings;
  readonly store: ConfigStore;
  readonly transport: Transport;
  readonly #limiters: Environment["LIMITER"];
  #forwarding: Forwarding | undefined;
  /** Of requests that the edge asks itself. */
  readonly #depths = new WeakMap<Request, number>();
  /** Of requests that the access log will tell of. */
  readonly #exchanges = new WeakMap<Request, Exchange>();
  #limiter: { readonly enforcement: LimitEnforcementPolicy; readonly limiter: RequestLimiter } | undefined;
  /** The first request of the isolate; before it the clock stands still. */
  readonly startedAt: number = Date.now();

  /** Throws `SettingError` where the environment cannot be used. */
  constructor(environment: Environment) {
    this.settings = readSettings(environment);
    this.transport = createTransport(this.settings.transport, environment.VPC);
    this.store = new ConfigStore(environment, this.settings, new BackendPools());
    this.#limiters = environment.LIMITER;
  }

  get limitEnforcement(): LimitEnforcementPolicy {
    return this.store.policies?.limitEnforcement ?? DEFAULT_ENFORCEMENT;
  }

  /** What limits have done here; `undefined` before the first of them. */
  get limitCounts(): LimiterCounts | undefined {
    return this.#limiter?.limiter.counts;
  }

  /** Absent where nobody in front of the edge is believed and pods are told what nginx tells by default. */
  get forwarding(): Forwarding | undefined {
    const policy = this.store.policies?.forwarding;
    if (this.#forwarding?.policy !== policy)
      this.#forwarding = policy === undefined ? undefined : createForwarding(policy);
    return this.#forwarding;
  }

  /** Made when the first route with a limit is asked for, and again when the mode changes. */
  get limiter(): RequestLimiter {
    const enforcement = this.limitEnforcement;
    if (this.#limiter?.enforcement.mode !== enforcement.mode) {
      this.#limiter = { enforcement, limiter: createLimiter(this.#limiters, enforcement) };
    }
    return this.#limiter.limiter;
  }

  /** Cloudflare writes `Server` and `Date` itself; elsewhere we do, as every server should (RFC 9110 §6.6.1, §10.2.4). */
  answer(request: Request, context: ExecutionContext): Response | Promise<Response> {
    const { serverHeader, logsAccess } = this.settings;
    return serverHeader === undefined && !logsAccess && !mayBeSending(request)
      ? this.#route(request, context)
      : this.#answerWithMore(request, context);
  }

  async #answerWithMore(request: Request, context: ExecutionContext): Promise<Response> {
    const { serverHeader, logsAccess } = this.settings;
    const startedAt = Date.now();
    const response = await this.#route(request, context);
    if (logsAccess) this.#log(request, response.status, startedAt);
    const shown = mayBeSending(request) ? lingering(request, response) : response;
    return serverHeader === undefined ? shown : withServer(shown, serverHeader);
  }

  /** Whether a host by this name (without a port) is one of ours; the catch-all makes no name ours. */
  async serves(name: string, context: ExecutionContext): Promise<boolean> {
    const host = await this.store.host(name, context);
    return host !== undefined && host !== "unavailable" && host.name !== ANY_HOST;
  }

  /**
   * Answers a request of our own making for one of our own hosts, on behalf of `visit`. `undefined` when it has come
   * too deep: an auth service behind a route that asks that very service would go on for ever.
   */
  async answerWithin(
    request: Request,
    { request: outer, client, context }: Visit,
  ): Promise<Response | undefined> {
    const depth = (this.#depths.get(outer) ?? 0) + 1;
    if (depth > MAX_DEPTH) return undefined;
    this.#depths.set(request, depth);
    if (client !== "") request.headers.set("CF-Connecting-IP", client);
    return this.answer(request, context);
  }

  /**
   * From the request to its host, path and route. What need not wait does not: a promise within a promise costs
   * every request, so these steps hand on the promise of the next.
   */
  #route(request: Request, context: ExecutionContext): Response | Promise<Response> {
    const target = readRequestTarget(request.url);
    const path = target && normalisePath(target.rawPath);
    if (target === undefined || path === undefined) return errorPage(400);
    const host = this.store.host(target.host, context);
    return host instanceof Promise
      ? host.then((found) => this.#enter(request, target, path, found, context))
      : this.#enter(request, target, path, host, context);
  }

  /** From the host to its path, and through the host's hooks. */
  #enter(
    request: Request,
    read: RequestTarget,
    path: string,
    host: HostAnswer,
    context: ExecutionContext,
  ): Response | Promise<Response> {
    if (host === "unavailable") return errorPage(503);
    if (host === undefined) return errorPage(404);
    if (host.config.denied !== undefined) return errorPage(403);
    const { forwarding } = this;
    const target =
      forwarding?.target(read, peerAddress(request) ?? this.settings.defaultClient, request.headers) ?? read;
    const { pipeline } = host;
    return pipeline === undefined
      ? this.#match(request, target, path, host, context)
      : this.#filterHost(new Visit(request, target, path, host, this, context), pipeline);
  }

  async #filterHost(visit: Visit, pipeline: HostPipeline): Promise<Response> {
    const { request, target, path, host, context } = visit;
    const answer =
      (await runRequestHooks(pipeline, visit)) ?? (await this.#match(request, target, path, host, context));
    return runResponseHooks(pipeline, answer, visit);
  }

  #log(request: Request, status: number, startedAt: number): void {
    const exchange = this.#exchanges.get(request);
    if (exchange?.isLogged === false) return;
    console.log(JSON.stringify(accessLogLine(request, status, startedAt, exchange)));
  }

  /** From the path to its route, and through the route's filters. */
  #match(
    request: Request,
    target: RequestTarget,
    path: string,
    host: HostTable,
    context: ExecutionContext,
  ): Response | Promise<Response> {
    const match = host.find(path);
    if (match === undefined) return errorPage(404);
    const { entry } = match;
    if (entry.route.denied !== undefined) return errorPage(503);
    if (match.kind === "trailingSlash") {
      const location = `${encodePath(path)}/${target.query}`;
      const isRelative = entry.route.policies?.redirect?.relative === true;
      return redirectPage(301, isRelative ? location : `${target.scheme}://${target.host}${location}`);
    }
    const exchange = new Exchange(request, target, path, host, entry, this, context);
    if (this.settings.logsAccess) this.#exchanges.set(request, exchange);
    if (host.pipeline !== undefined) for (const tell of host.pipeline.onRoute) tell(exchange);
    const pipeline =
      entry.pipeline ?? (exchange.body === null ? undefined : buildDefaultPipeline(host, entry));
    return pipeline === undefined ? this.#pass(exchange) : this.#filter(exchange, pipeline);
  }

  /** A route that asks for nothing: the answer is as it came, unless the host has hooks that may change it. */
  async #pass(exchange: Exchange): Promise<Response> {
    const answer = await forward(exchange, this.transport);
    if (exchange.answeredBy !== "origin") return answer;
    return exchange.host.pipeline === undefined ? untouchedResponse(answer) : clientResponse(answer);
  }

  #filter(exchange: Exchange, pipeline: RoutePipeline): Response | Promise<Response> {
    const answer = runRequestHooks(pipeline, exchange);
    if (answer instanceof Promise) return answer.then((settled) => this.#finish(exchange, pipeline, settled));
    return this.#finish(exchange, pipeline, answer);
  }

  /** To the pod, unless a filter has answered; then the way out. */
  #finish(
    exchange: Exchange,
    pipeline: RoutePipeline,
    answer: Response | undefined,
  ): Response | Promise<Response> {
    if (answer === undefined) {
      return forward(exchange, this.transport).then((sent) => {
        const mutable = exchange.answeredBy === "origin" ? clientResponse(sent) : sent;
        return runResponseHooks(pipeline, mutable, exchange);
      });
    }
    exchange.answeredBy = "filter";
    return runResponseHooks(pipeline, answer, exchange);
  }
}

/** The client may still send a body when the answer is made. */
function mayBeSending({ method }: Request): boolean {
  return method !== "GET" && method !== "HEAD";
}

function withServer(response: Response, server: string): Response {
  if (response.status === 101) return response;
  const answer = new Response(response.body, response); // The pod's own cannot be changed.
  answer.headers.set("Server", server);
  answer.headers.set("Date", new Date().toUTCString());
  return answer;
}
