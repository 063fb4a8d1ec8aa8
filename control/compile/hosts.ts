/**
 * One host: what all of its Ingresses ask for becomes routes in the order in which they match.
 *
 * In: the shares of a host, the oldest Ingress first. Out: the host's configuration, and who lost to whom.
 * Pure; depends on the shares, on the controller's settings and on what features look up.
 *
 * Rules (Ingress specification; ingress-nginx where that is silent, reference §2.1):
 * - Of equal path and type the oldest Ingress wins. Longest path first, Exact before Prefix.
 * - A path that no rule takes goes to the host's own default, never to the rules without a host: to the default
 *   backend of the oldest Ingress of the host that has one, else to a `/` without a backend, which has the
 *   annotations of the host's oldest Ingress and then answers 404.
 * - One path that asks for regular expressions turns every path of the host to them.
 */

import type { Diagnostic } from "../../cluster/diagnostic.ts";
import { ANY_HOST, type BackendName, type HostConfig, type Route } from "../../edge-config/config.ts";
import { compilePattern } from "../../edge-config/pattern/loaded.ts";
import { quote } from "../annotations/readers.ts";
import type { AddedHost } from "../features/feature.ts";
import { useRegex } from "../features/structure.ts";
import { type Answer, createLookup } from "./lookup.ts";
import { compareText } from "./order.ts";
import type { BackendUse, HostShare, IngressPlan, PathShare } from "./plan.ts";
import { asksForRegex, hostPolicies, routePolicies, type Workshop } from "./policies.ts";
import { findPassthrough } from "./ssl-passthrough.ts";

/** Everything that one host is made of. Equal shares (by identity) and answers give an equal host. */
export interface HostInput {
  readonly host: string;
  /** Of Ingresses that are no canaries; the oldest first. */
  readonly shares: readonly HostShare[];
  /** Of canaries; the oldest first. */
  readonly canaries: readonly HostShare[];
  /** For `ANY_HOST`: Ingresses that have a default backend and no rules; the oldest first. */
  readonly catchAll: readonly IngressPlan[];
  /** The operator's own default backend, if there is one. */
  readonly lastResort: BackendUse | undefined;
}

export interface HostResult {
  readonly config: HostConfig;
  /** Every backend that the host names. */
  readonly uses: ReadonlyMap<BackendName, BackendUse>;
  readonly added: readonly AddedHost[];
  readonly diagnostics: readonly Diagnostic[];
  readonly answers: readonly Answer[];
}

interface Claim {
  readonly plan: IngressPlan | undefined;
  readonly path: string;
  readonly pathType: "Exact" | "Prefix";
  readonly origin: "rule" | "host" | "catch-all";
  readonly use: BackendUse | undefined;
  /** Where a rule wrote it. */
  readonly field?: string;
  readonly canary?: { readonly plan: IngressPlan; readonly use: BackendUse };
}

export function compileHost(input: HostInput, tools: Omit<Workshop, "diagnostics" | "uses">): HostResult {
  const shop: Workshop = { ...tools, diagnostics: [], uses: new Map() };
  const claims = claimPaths(input, shop);
  const fallback = claims.some(({ path, pathType }) => path === "/" && pathType === "Prefix")
    ? undefined
    : hostDefault(input);
  const all = fallback === undefined ? claims : [...claims, fallback];

  const plans = [...new Set(input.shares.map(({ plan }) => plan))];
  const place = { host: input.host, tls: plans.some(({ ingress }) => ingress.tls.length > 0) };
  const regex = all.some((claim) => claim.plan !== undefined && isRegex(claim.plan, claim.path, shop));
  const routes = (regex ? all.filter((claim) => isUsableRegex(claim, shop)) : all).flatMap(
    (claim): readonly Route[] => {
      const outcome = routePolicies(claim.plan, { ...place, ...claim, regex, backend: claim.use }, shop);
      // The `/` that nobody wrote says something only if it guards, answers, or leads somewhere: 404 comes by itself.
      if (claim.use === undefined && outcome.policies === undefined && outcome.denied === undefined)
        return [];
      if (claim.use !== undefined) shop.uses.set(claim.use.name, claim.use);
      return [
        {
          path: claim.path,
          pathType: claim.pathType,
          ...(claim.plan === undefined ? {} : { ingress: claim.plan.name }),
          ...(claim.use === undefined ? {} : { backend: claim.use.name }),
          ...outcome,
        },
      ];
    },
  );
  const { added, ...hostOutcome } = hostPolicies(plans, place, shop);
  const passthrough = findPassthrough(input.host, plans, all, shop);
  if (passthrough !== undefined) shop.uses.set(passthrough.name, passthrough);
  return {
    config: {
      matching: regex ? "regex" : (tools.options.compat ?? "kubernetes"),
      routes: routes.sort(regex ? byRegexOrder : byMatchOrder),
      ...(passthrough === undefined ? {} : { sslPassthrough: { backend: passthrough.name } }),
      ...hostOutcome,
    },
    uses: shop.uses,
    added,
    diagnostics: shop.diagnostics,
    answers: tools.lookup.answers,
  };
}

/** The oldest Ingress gets a path; later ones are told. Then canaries find their main path. */
function claimPaths({ host, shares, canaries }: HostInput, shop: Workshop): readonly Claim[] {
  const claims = new Map<string, { readonly share: HostShare; readonly path: PathShare }>();
  for (const share of shares) {
    for (const path of share.paths) {
      const key = `${path.pathType} ${path.path}`;
      const owner = claims.get(key);
      if (owner === undefined) claims.set(key, { share, path });
      else shop.diagnostics.push(conflict(host, share, path, owner.share, owner.path));
    }
  }
  const alternatives = new Map<string, { readonly plan: IngressPlan; readonly use: BackendUse }>();
  for (const share of canaries) {
    for (const path of share.paths) {
      const key = `${path.pathType} ${path.path}`;
      const main = claims.get(key);
      const taken = alternatives.get(key);
      const message =
        main === undefined
          ? `is a canary, but no other Ingress has the path ${quote(path.path)} (${path.pathType}) of ${hostWords(host)}; it gets no requests.`
          : taken !== undefined
            ? `is a canary of Ingress ${main.share.plan.name}, which has one already: the older Ingress ${taken.plan.name}; it gets no requests.`
            : main.path.use.name === path.use.name
              ? `is a canary with the very backend of its main Ingress ${main.share.plan.name}; it changes nothing.`
              : undefined;
      if (message === undefined) alternatives.set(key, { plan: share.plan, use: path.use });
      else
        shop.diagnostics.push({
          severity: "error",
          kind: "Ingress",
          object: share.plan.name,
          field: path.field,
          message,
        });
    }
  }
  return Array.from(claims, ([key, { share, path }]): Claim => {
    const canary = alternatives.get(key);
    return {
      plan: share.plan,
      path: path.path,
      pathType: path.pathType,
      origin: "rule",
      use: path.use,
      field: `${path.field}.path`,
      ...(canary === undefined ? {} : { canary }),
    };
  });
}

function conflict(
  host: string,
  share: HostShare,
  path: PathShare,
  owner: HostShare,
  owned: PathShare,
): Diagnostic {
  const what = `the path ${quote(path.path)} (${path.pathType}) of ${hostWords(host)}`;
  const same = path.use.name === owned.use.name;
  const message =
    share.plan === owner.plan
      ? `repeats ${what}, which ${owned.field} has already; the first one counts.`
      : `asks for ${what}, which the older Ingress ${owner.plan.name} has (${owned.field}); ${
          same
            ? "both name the same backend, and the older one's annotations count"
            : "requests go to the older one's backend"
        }.`;
  return {
    severity: same ? "warning" : "error",
    kind: "Ingress",
    object: share.plan.name,
    field: path.field,
    message,
  };
}

export function hostWords(host: string): string {
  return host === ANY_HOST ? "every host" : `host ${quote(host)}`;
}

function hostDefault({ host, shares, catchAll, lastResort }: HostInput): Claim | undefined {
  const root = { path: "/", pathType: "Prefix" } as const;
  const [oldest] = catchAll;
  if (oldest?.defaultBackend !== undefined) {
    return { ...root, plan: oldest, origin: "catch-all", use: oldest.defaultBackend };
  }
  const owner = shares.find(({ plan }) => plan.defaultBackend !== undefined);
  if (owner !== undefined)
    return { ...root, plan: owner.plan, origin: "host", use: owner.plan.defaultBackend };
  if (host === ANY_HOST) {
    return lastResort === undefined
      ? undefined
      : { ...root, plan: undefined, origin: "catch-all", use: lastResort };
  }
  return { ...root, plan: shares[0]?.plan, origin: "host", use: lastResort };
}

function isRegex(plan: IngressPlan, path: string, { readings }: Workshop): boolean {
  const own = readings.of(plan);
  return (
    (own.touched.has(useRegex) && own.of(useRegex).annotations["use-regex"]) ||
    asksForRegex(plan, path, readings)
  );
}

function isUsableRegex({ plan, path, field = "spec.rules" }: Claim, shop: Workshop): boolean {
  const compiled = compilePattern(path, { ignoreCase: true });
  if (compiled.kind === "pattern") return true;
  if (plan !== undefined) {
    shop.diagnostics.push({
      severity: "error",
      kind: "Ingress",
      object: plan.name,
      field,
      message: `${quote(path)} was given; paths of this host are regular expressions, and the pattern ${compiled.reason}; the path is left out.`,
    });
  }
  return false;
}

/** Longest path first, Exact before Prefix: a request takes the first that matches. A Prefix ignores its last slash. */
export function byMatchOrder(a: Route, b: Route): number {
  return (
    matchLength(b) - matchLength(a) ||
    compareText(a.pathType, b.pathType) ||
    b.path.length - a.path.length ||
    compareText(a.path, b.path)
  );
}

function matchLength({ path, pathType }: Route): number {
  return pathType === "Prefix" && path.endsWith("/") ? path.length - 1 : path.length;
}

/** ingress-nginx's order of regular expressions: by length of the text, then backwards by the text itself. */
function byRegexOrder(a: Route, b: Route): number {
  return b.path.length - a.path.length || compareText(b.path, a.path) || compareText(a.pathType, b.pathType);
}

/** `createLookup` for each host, so that its answers are its own. */
export function hostTools(
  shop: Omit<Workshop, "diagnostics" | "uses" | "lookup">,
  model: Parameters<typeof createLookup>[0],
): Omit<Workshop, "diagnostics" | "uses"> {
  return { ...shop, lookup: createLookup(model) };
}
